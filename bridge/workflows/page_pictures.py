"""Inputs whose value is a picture that ComfyUI's page takes, of its 3D view or with a camera. Pure.

Nobody but a browser can take it. A request or a sidecar gives one in its place: an image, of which
the 3D view's colours, mask and normals are taken.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from bridge.workflows.objectinfo import InputSpec

MEANT: Final = "a picture that ComfyUI's page takes, which has to be given here"
# The value of a 3D view, but for where its camera stands.
SCENE: Final[Mapping[str, str]] = {"image": "", "mask": "", "normal": "", "recording": ""}
# Where the page's camera stands as long as nobody has moved it.
CAMERA: Final[Mapping[str, Any]] = {
    "position": {"x": 10, "y": 10, "z": 10},
    "target": {"x": 0, "y": 0, "z": 0},
    "zoom": 1,
    "cameraType": "perspective",
    "quaternion": {
        "x": -0.2798481423331213,
        "y": 0.3647051996310008,
        "z": 0.11591689595929511,
        "w": 0.8804762392171493,
    },
    "fov": 35,
    "aspect": 1,
    "near": 0.01,
    "far": 10000,
    "frustum": {"left": -5, "right": 5, "top": 5, "bottom": -5},
}

_TYPES = frozenset(("LOAD_3D", "WEBCAM"))
# A 3D preview's input of the same type that only says how the page shows it.
_VIEWPORT = "viewport_state"
_PICTURES = ("image", "mask", "normal")


def is_page_picture(spec: InputSpec | None) -> bool:
    """True if an input's value is a picture of the page."""
    return spec is not None and spec.widget_type in _TYPES and spec.name != _VIEWPORT


def is_taken(value: Any) -> bool:
    """True if a file has the picture: one that the page sent itself."""
    return bool(value.get("image") if isinstance(value, Mapping) else value)


def with_file(value: Any, file: str) -> Any:
    """Return the value with a file of ComfyUI's input folder for its picture."""
    if not isinstance(value, Mapping) or "image" not in value:
        return file
    return {**value, **dict.fromkeys(_PICTURES, file)}
