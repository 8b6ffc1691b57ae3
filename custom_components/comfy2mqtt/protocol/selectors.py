"""A workflow's inputs as Home Assistant's selectors, and what is chosen there as inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .definitions import Input, Workflow

Selector = dict[str, Any]
Choices = Mapping[str, Sequence[str]]

_FINEST_STEP = 0.001


def selector(each: Input, choices: Choices | None = None) -> Selector:
    """Return the selector of an input; `choices` are the lists that definitions only name."""
    if each.is_media:
        return {"media": {"accept": [each.accepts]}}
    options = each.options or dict.fromkeys((choices or {}).get(each.choices, ()))
    if options:
        return {"select": {"options": [*options], "mode": "dropdown", "custom_value": False}}
    match each.kind:
        case "integer" | "float" | "seed":
            return {"number": _number(each)}
        case "boolean":
            return {"boolean": {}}
        case "json":
            return {"object": {}}
        case _:
            return {"text": {"multiline": each.is_multiline}}


def _number(each: Input) -> dict[str, Any]:
    step = each.step or (None if each.kind == "float" else 1)
    found = {"min": each.minimum, "max": each.maximum}
    return {
        "mode": "box",
        "step": "any" if step is None else max(step, _FINEST_STEP),
        **{name: limit for name, limit in found.items() if limit is not None},
    }


def field(each: Input, choices: Choices | None = None) -> dict[str, Any]:
    """Return the field of an action that sets an input."""
    found: dict[str, Any] = {
        "name": each.title,
        "required": each.required,
        "selector": selector(each, choices),
    }
    if each.description:
        found["description"] = each.description
    if each.default is not None:
        found["example"] = each.default
    return found


def as_integers(workflow: Workflow, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values as the workflow takes them: whole numbers for what selectors give as floats.

    What a name or value is wrong, the bridge says best: nothing is refused here.
    """
    return {name: _as_integer(workflow.find(name), value) for name, value in values.items()}


def _as_integer(each: Input | None, value: Any) -> Any:
    whole = each is not None and each.kind in ("integer", "seed")
    return int(value) if whole and isinstance(value, float) and value.is_integer() else value
