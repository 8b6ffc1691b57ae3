"""The input nodes: what a request may set.

The value in the graph is the default; the bridge sets another by overwriting it. `values` holds
what fits into a graph as it is; of everything else a graph holds the SHA-256, and the bytes are
put here before.

ComfyUI calls every method by keyword; what a node declares only for the bridge and for people
(title, description, ...) is taken as `**_about`.
"""
