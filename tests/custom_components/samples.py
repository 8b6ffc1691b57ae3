"""Messages of the bridge that tests of the integration read."""

from __future__ import annotations

from typing import Any

from bridge.contract.messages import OutputInfo, Result, Timings
from bridge.contract.retained import Definition, OutputDefinition


def definition(**changes: Any) -> Definition:
    properties = {
        "prompt": {"x-kind": "text", "type": "string", "title": "Prompt", "x-multiline": True},
        "steps": {"x-kind": "integer", "minimum": 1, "maximum": 50, "x-step": 2, "default": 20},
        "cfg": {"x-kind": "float", "minimum": 0.5},
        "seed": {"x-kind": "seed", "minimum": 0, "maximum": 2**32},
        "style": {"x-kind": "choice", "enum": ["oil", "ink", 7]},
        "model": {"x-kind": "choice", "x-choices": "checkpoints", "description": "Which."},
        "fast": {"x-kind": "boolean"},
        "more": {"x-kind": "json", "type": "object"},
        "image": {"x-kind": "image", "contentMediaType": "image/*"},
        "4.denoise": {"x-kind": "float", "x-place": "KSampler"},
    }
    fields: dict[str, Any] = {
        "name": "demo",
        "title": "Demo",
        "version": "abc",
        "inputs": {"type": "object", "properties": properties, "required": ["image"]},
        "outputs": [OutputDefinition(name="picture", kind="image", node="9")],
    }
    return Definition(**{**fields, **changes})


def result(**changes: Any) -> Result:
    output = OutputInfo(
        index=0,
        name="picture",
        kind="image",
        content_type="image/png",
        size=3,
        sha256="ab",
        width=8,
    )
    fields: dict[str, Any] = {
        "job_id": "ha-1",
        "workflow": "demo",
        "n": 5,
        "state": "succeeded",
        "outputs": [output],
        "inputs": {"prompt": "x"},
        "workflow_version": "abc",
        "timings": Timings(queued_s=0, load_s=0, run_s=1, deliver_s=0),
        "attempts": 1,
    }
    return Result(**{**fields, **changes})
