"""The bridge as a whole: its parts, its start, and the messages about itself.

app            runs a bridge from its settings, until SIGINT or SIGTERM
instances      the configuration of each ComfyUI, installed first if it has to be
bridge         the composition root: makes the parts, connects them, runs their tasks
descriptions   what workflows there are and what ComfyUIs have, published as it changes
bridge_info    the bridge's own messages: info and health
retention      deletes what is kept no longer
public_urls    the HTTP addresses of outputs and displays
"""

from bridge.service.app import serve
from bridge.service.bridge import Bridge

__all__ = ["Bridge", "serve"]
