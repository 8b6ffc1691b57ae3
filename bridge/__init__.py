"""comfy2mqtt: ComfyUI on the message bus."""

__version__ = "0.1.0"
