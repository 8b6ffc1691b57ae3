"""One ComfyUI: its frames as typed events, its HTTP and WebSocket client, its supervisor.

`Instance` is what the rest of the bridge uses: it supervises a ComfyUI or attaches to one, stays
connected, and follows each prompt to exactly one end.
"""
