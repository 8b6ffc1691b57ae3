"""Workflows for the end-to-end tests, small enough to run in milliseconds."""

from __future__ import annotations

from pathlib import Path

from tests.support.comfyui import Graph, image, our_output, then


def colour(value: int = 0) -> Graph:
    """A 64 px image of one colour, by our nodes: inputs `colour` and `size`."""
    return {
        "1": {
            "class_type": "Comfy2MQTTIntegerInput",
            "inputs": {"name": "colour", "value": value, "minimum": 0, "maximum": 0xFFFFFF},
        },
        "2": {
            "class_type": "Comfy2MQTTIntegerInput",
            "inputs": {"name": "size", "value": 64, "minimum": 16, "maximum": 4096},
        },
        "3": {
            "class_type": "EmptyImage",
            "inputs": {"width": ["2", 0], "height": ["2", 0], "batch_size": 1, "color": ["1", 0]},
        },
        "4": {
            "class_type": "Comfy2MQTTImageOutput",
            "inputs": {"images": ["3", 0], "name": "picture", "format": "PNG", "quality": 90},
        },
    }


def plain() -> Graph:
    """ComfyUI's own nodes alone: EmptyImage (1) to SaveImage (2)."""
    return {
        "1": {
            "class_type": "EmptyImage",
            "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 255},
        },
        "2": {
            "class_type": "SaveImage",
            "inputs": {"images": ["1", 0], "filename_prefix": "plain"},
        },
    }


def echo() -> Graph:
    """An image in, the same image out: input `picture`, and `text` that changes nothing."""
    return {
        "1": {"class_type": "Comfy2MQTTImageInput", "inputs": {"name": "picture", "image": ""}},
        "2": {
            "class_type": "Comfy2MQTTImageOutput",
            "inputs": {"images": ["1", 0], "name": "picture", "format": "PNG", "quality": 90},
        },
    }


def slow(seconds: float) -> Graph:
    """Takes its time, in steps of 0.05 s, and then gives an image; input `seed`."""
    graph = our_output(then(image(size=64), "TestSleep", seconds=seconds, step=0.05))
    graph["9"] = {"class_type": "Comfy2MQTTSeedInput", "inputs": {"name": "seed", "value": 0}}
    graph["1"]["inputs"]["seed"] = ["9", 0]
    return graph


def tallied(file: Path) -> Graph:
    """Writes a line into a file of ComfyUI's disk, and then gives an image."""
    return our_output(then(image(size=64), "TestTally", file=str(file), tag="x"))
