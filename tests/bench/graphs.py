"""The graphs that both sides run, in ComfyUI's own nodes and our output node."""

from __future__ import annotations

from tests.support.comfyui import Graph

# The seeds of `photo`, by the bridge's names: left out, each job would have new ones.
SEEDS = {"1.seed": 1, "3.seed": 2}
# The input that makes each trivial picture another, by the bridge's name for it.
COLOUR = "1.color"


def trivial(colour: int, output: Graph) -> Graph:
    """64 px of one colour."""
    inputs = {"width": 64, "height": 64, "batch_size": 1, "color": colour}
    return {"1": {"class_type": "EmptyImage", "inputs": inputs}, **output}


def to_bridge(node: str, source: str = "1") -> Graph:
    """End in our output node, as node `node`."""
    inputs = {"images": [source, 0], "name": "image", "format": "PNG", "quality": 90}
    return {node: {"class_type": "Comfy2MQTTImageOutput", "inputs": inputs}}


def to_disk(node: str, source: str = "1", prefix: str = "bench") -> Graph:
    """End in SaveImage, as node `node`."""
    inputs = {"images": [source, 0], "filename_prefix": prefix}
    return {node: {"class_type": "SaveImage", "inputs": inputs}}


def photo(size: int) -> Graph:
    """Nodes 1 to 4: smooth shapes with a grain, whose PNG is as large as a photograph's.

    Always the same, so that ComfyUI makes it once and what is measured is the way out.
    """
    return {
        "1": _noise(size // 16, seed=SEEDS["1.seed"]),
        "2": {
            "class_type": "ImageScale",
            "inputs": {
                "image": ["1", 0],
                "upscale_method": "bicubic",
                "width": size,
                "height": size,
                "crop": "disabled",
            },
        },
        "3": _noise(size, seed=SEEDS["3.seed"]),
        "4": {
            "class_type": "ImageBlend",
            "inputs": {
                "image1": ["2", 0],
                "image2": ["3", 0],
                "blend_factor": 0.05,
                "blend_mode": "normal",
            },
        },
    }


def noise(size: int) -> Graph:
    """Node 1: nothing but noise, which no compression makes smaller: 3 bytes a pixel."""
    return {"1": _noise(size, seed=3)}


def echo() -> Graph:
    """A picture in, the same picture out."""
    inputs = {"name": "picture", "image": ""}
    return {"1": {"class_type": "Comfy2MQTTImageInput", "inputs": inputs}, **to_bridge("2")}


def _noise(size: int, *, seed: int) -> dict[str, object]:
    inputs = {"width": size, "height": size, "channels": 3, "count": 1, "kind": "noise"}
    return {"class_type": "TestImage", "inputs": {**inputs, "seed": seed}}
