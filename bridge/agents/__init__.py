"""Workflows as tools of agents, by the Model Context Protocol.

`tools` says what a workflow looks like as a tool, and what a job gives as its result; it is pure.
`server` answers agents, and needs the SDK: `pip install '.[mcp]'`. It speaks to the bridge
as any client does, by `bridge.client`.
"""
