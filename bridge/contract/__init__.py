"""The wire format: topics, messages and errors, shared by the bridge and its clients.

Everything here is pure: bytes and names in, typed values out. Nothing here knows of a broker,
a clock or a disk.
"""
