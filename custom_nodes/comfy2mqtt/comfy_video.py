"""ComfyUI's VIDEO, wherever this version of it keeps it. ImportError where there is none."""

try:
    from comfy_api.latest import InputImpl
except ImportError:
    from comfy_api import input_impl as InputImpl  # noqa: N812 - a class there, a module here

VideoFromFile = InputImpl.VideoFromFile

__all__ = ["VideoFromFile"]
