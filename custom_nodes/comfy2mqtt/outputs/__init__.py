"""The output nodes: what leaves the graph, to the bridge.

The bytes take ComfyUI's own socket, so they arrive in order with the node's events and without a
file on disk; they stay held until the bridge confirms them. Whatever cannot be encoded or held
raises, and so fails the job.
"""
