"""A workflow's definition, for tests that need one and no ComfyUI."""

from __future__ import annotations

from typing import Any

from bridge.contract.retained import Definition, OutputDefinition
from tests.media.images import encoded, photo

PNG = encoded(photo(8, 8))
PROPERTIES: dict[str, Any] = {
    "prompt": {"x-kind": "text", "type": "string", "maxLength": 20, "description": "What to draw"},
    "steps": {"x-kind": "integer", "type": "integer", "minimum": 1, "default": 20},
    "sampler": {"x-kind": "choice", "enum": ["euler", "ddim"]},
    "model": {"x-kind": "choice", "x-choices": "checkpoints"},
    "picture": {"x-kind": "image", "type": "object", "contentMediaType": "image/*"},
}


def definition(name: str, **changes: Any) -> Definition:
    values: dict[str, Any] = {
        "title": f"The {name}",
        "version": "1",
        "inputs": {"type": "object", "properties": PROPERTIES, "required": ["prompt"]},
        "outputs": [OutputDefinition(name="image", kind="image", node="9")],
        "runnable": True,
    }
    return Definition(name=name, **{**values, **changes})
