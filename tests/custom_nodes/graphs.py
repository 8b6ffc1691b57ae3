"""Small graphs to run the nodes in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.custom_nodes.comfyui import Graph


def node(class_type: str, /, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def noise(**inputs: Any) -> dict[str, Any]:
    """TestImage: by default one 64 px RGB image of noise."""
    defaults = {"width": 64, "height": 64, "channels": 3, "count": 1, "seed": 0, "kind": "noise"}
    return node("TestImage", **{**defaults, **inputs})


def output(source: str, **inputs: Any) -> dict[str, Any]:
    """Our image output, on the first output of the node `source`."""
    defaults = {"name": "image", "format": "PNG", "quality": 90}
    return node("Comfy2MQTTImageOutput", images=[source, 0], **{**defaults, **inputs})


def image_graph(source: dict[str, Any], **inputs: Any) -> Graph:
    """From one source straight to our output, node 2."""
    return {"1": source, "2": output("1", **inputs)}


def deliver(kind: str, **inputs: Any) -> dict[str, Any]:
    """One of our output nodes, with the page's own values where no others are given."""
    defaults: dict[str, dict[str, Any]] = {
        "Animation": {"format": "WebP", "fps": 12.0, "quality": 85, "loop": True},
        "Audio": {"format": "FLAC", "bit_depth": "16", "bit_rate": 192},
        "Video": {"format": "MP4", "quality": 60},
    }
    values = {"name": kind.lower(), **defaults.get(kind, {}), **inputs}
    return node(f"Comfy2MQTT{kind}Output", **values)


def value_graph(kind: str, **inputs: Any) -> Graph:
    """One of our value inputs, shown by ComfyUI's own node for looking at values, node 2."""
    inputs.setdefault("name", "wanted")
    return {
        "1": node(f"Comfy2MQTT{kind}Input", **inputs),
        "2": node("PreviewAny", source=["1", 0]),
    }
