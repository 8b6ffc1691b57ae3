"""Workflows as they are described, for Home Assistant's parts."""

from __future__ import annotations

from typing import Any

from bridge.contract.retained import Definition


def definition(name: str = "demo", /, **inputs: dict[str, Any]) -> Definition:
    return Definition(
        name=name,
        title=name.title(),
        version="0123456789ab",
        inputs={"type": "object", "properties": inputs, "required": []},
        outputs=[],
    )


PROMPT = {"x-kind": "text", "type": "string", "title": "Prompt", "default": "a red barn"}
STEPS = {"x-kind": "integer", "minimum": 1, "maximum": 100, "x-step": 1, "default": 20}
CFG = {"x-kind": "float", "minimum": 0.0, "default": 7.0}
SEED = {"x-kind": "seed", "minimum": 0, "maximum": 2**64 - 1}
STYLE = {"x-kind": "choice", "enum": ["oil", "ink"], "default": "oil"}
UPSCALE = {"x-kind": "boolean", "default": False}
PICTURE = {"x-kind": "image", "contentMediaType": "image/*"}
