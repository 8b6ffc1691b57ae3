"""The bridge's contract as a client has it: topics, messages, definitions. Pure.

Nothing here knows Home Assistant, a loop, a clock or a disk, so that it is tested by itself. The
contract is docs/contract.md of comfy2mqtt; fields that are not known here are passed over.
"""
