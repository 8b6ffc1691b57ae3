"""The bridge as a whole: what it is made of, how it starts, and what it tells of itself.

serving        from settings to a bridge that runs, until it is told to stop
comfyuis       how to get at each ComfyUI, installed first where it has to be
bridge         the composition root: makes the parts, connects them, runs their tasks
descriptions   what workflows there are and what ComfyUIs have, told as it changes
presence       who the bridge is and how it fares
sweeping       letting go of what is kept no longer
"""

from bridge.service.bridge import Bridge
from bridge.service.serving import serve

__all__ = ["Bridge", "serve"]
