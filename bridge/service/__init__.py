"""The bridge as a whole: its parts, its start, and the messages about itself.

app            runs a bridge from its settings, until SIGINT or SIGTERM
instances      the configuration of each ComfyUI, installed first if it has to be
parts          the composition root: makes all parts and connects them
shared         makes the parts that nearly every other part uses
group, media, jobs, sinks, requests, sets, commands, homeassistant, metrics, connections
               each make the parts of one concern, for `parts`
bridge         starts, runs and stops them
descriptions   publishes the workflows and the nodes of the ComfyUIs, as they change
bridge_info    the bridge's own messages: info and health
retention      deletes results, outputs and uploads whose time is over
public_urls    the HTTP addresses of outputs and displays
"""

from bridge.service.app import serve
from bridge.service.bridge import Bridge

__all__ = ["Bridge", "serve"]
