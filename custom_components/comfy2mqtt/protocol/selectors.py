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
    schema = each.schema
    if each.is_media:
        return {"media": {"accept": [each.accepts]}}
    options = schema.get("enum") or (choices or {}).get(schema.get("x-choices", ""), ())
    if options:
        unique = list(dict.fromkeys(str(option) for option in options))
        return {"select": {"options": unique, "mode": "dropdown", "custom_value": False}}
    match each.kind:
        case "integer" | "float" | "seed":
            return {"number": _number(each)}
        case "boolean":
            return {"boolean": {}}
        case "json":
            return {"object": {}}
        case _:
            return {"text": {"multiline": bool(schema.get("x-multiline"))}}


def _number(each: Input) -> dict[str, Any]:
    schema, whole = each.schema, each.kind != "float"
    step = schema.get("x-step") or (1 if whole else "any")
    found: dict[str, Any] = {
        "mode": "box",
        "step": step if step == "any" else max(step, _FINEST_STEP),
    }
    for name, limit in (("min", "minimum"), ("max", "maximum")):
        if limit in schema:
            found[name] = schema[limit]
    return found


def field(each: Input, choices: Choices | None = None) -> dict[str, Any]:
    """Return the field of an action that sets an input."""
    found: dict[str, Any] = {
        "name": each.title,
        "required": each.required,
        "selector": selector(each, choices),
    }
    if each.schema.get("description"):
        found["description"] = str(each.schema["description"])
    if "default" in each.schema:
        found["example"] = each.schema["default"]
    return found


def given(workflow: Workflow, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values as the workflow takes them: whole numbers for what selectors give as floats.

    What a name or value is wrong, the bridge says best: nothing is refused here.
    """
    return {name: _given(workflow.find(name), value) for name, value in values.items()}


def _given(each: Input | None, value: Any) -> Any:
    whole = each is not None and each.kind in ("integer", "seed")
    return int(value) if whole and isinstance(value, float) and value.is_integer() else value
