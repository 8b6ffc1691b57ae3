"""Graphs and an `/object_info` for tests."""

from __future__ import annotations

from typing import Any

from bridge.workflows import definition, graph
from bridge.workflows.objectinfo import ObjectInfo
from bridge.workflows.workflow import Workflow

INT = ["INT", {"default": 20, "min": 1, "max": 100, "tooltip": "How many."}]

INFO = ObjectInfo(
    {
        "Sampler": {
            "input": {
                "required": {
                    "seed": ["INT", {"default": 0, "min": 0, "max": 2**64 - 1}],
                    "steps": INT,
                    "cfg": ["FLOAT", {"default": 8.0, "min": 0.0, "max": 30.0}],
                    "sampler": [["euler", "ddim"]],
                    "tiled": ["BOOLEAN", {"default": False}],
                    "model": ["MODEL"],
                }
            },
            "output": ["IMAGE"],
        },
        "Loader": {
            "input": {"required": {"ckpt": ["COMBO", {"options": ["a.safetensors", "b"]}]}},
            "output": ["MODEL"],
        },
        "LoadImage": {
            "input": {"required": {"image": [["there.png"], {"image_upload": True}]}},
            "output": ["IMAGE", "MASK"],
        },
        "Text": {
            "input": {"required": {"text": ["STRING", {"multiline": True}]}},
            "output": ["STRING"],
        },
        "SaveImage": {
            "input": {"required": {"images": ["IMAGE"], "filename_prefix": ["STRING", {}]}},
            "output": [],
            "output_node": True,
        },
        "OtherSave": {"input": {"required": {"any": ["*"]}}, "output": [], "output_node": True},
        "SaveAndPass": {
            "input": {"required": {"images": ["IMAGE"]}},
            "output": ["IMAGE"],
            "output_node": True,
        },
        **{
            f"Comfy2MQTT{kind}Input": {"input": {}, "output": ["*"]}
            for kind in ("Text", "Integer", "Float", "Boolean", "Seed", "Image")
        },
        "Comfy2MQTTImageOutput": {"input": {}, "output": [], "output_node": True},
    }
)

PLAIN: dict[str, Any] = {
    "1": {"class_type": "Loader", "inputs": {"ckpt": "a.safetensors"}},
    "2": {
        "class_type": "Sampler",
        "inputs": {
            "seed": 5,
            "steps": 20,
            "cfg": 7.5,
            "sampler": "euler",
            "tiled": False,
            "model": ["1", 0],
        },
        "_meta": {"title": "The sampler"},
    },
    "3": {"class_type": "LoadImage", "inputs": {"image": "there.png"}},
    "58:4": {
        "class_type": "SaveImage",
        "inputs": {"images": ["2", 0], "filename_prefix": "some/where/pic"},
    },
}

NAMED: dict[str, Any] = {
    "1": {
        "class_type": "Comfy2MQTTTextInput",
        "inputs": {"name": "prompt", "value": "a barn", "max_length": 20, "title": "Prompt"},
    },
    "2": {"class_type": "Comfy2MQTTSeedInput", "inputs": {"name": "seed", "value": 7}},
    "3": {
        "class_type": "Comfy2MQTTIntegerInput",
        "inputs": {"name": "steps", "value": 20, "minimum": 5, "maximum": 1000},
    },
    "4": {"class_type": "Comfy2MQTTFloatInput", "inputs": {"name": "cfg", "value": 7.0}},
    "5": {"class_type": "Comfy2MQTTBooleanInput", "inputs": {"name": "tiled", "value": True}},
    "6": {"class_type": "Comfy2MQTTImageInput", "inputs": {"name": "picture", "image": ""}},
    "7": {
        "class_type": "Comfy2MQTTImageInput",
        "inputs": {"name": "style", "image": "", "example": ["6", 0]},
    },
    "8": {
        "class_type": "Sampler",
        "inputs": {
            "seed": ["2", 0],
            "steps": ["3", 0],
            "cfg": ["4", 0],
            "sampler": "euler",
            "tiled": ["5", 0],
            "model": ["6", 0],
        },
    },
    "9": {
        "class_type": "Comfy2MQTTImageOutput",
        "inputs": {"images": ["8", 0], "name": "result", "format": "PNG"},
    },
}


def workflow(
    document: dict[str, Any], info: ObjectInfo | None = INFO, name: str = "demo"
) -> Workflow:
    return definition.build(name, "v1", graph.parse(document), info)
