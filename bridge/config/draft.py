"""The draft of a comfy2mqtt.toml: what was chosen, and every other setting as a comment. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bridge.config.about import GROUPS, meaning
from bridge.config.settings import Config

_TABLES = {
    "comfyui": "[[comfyui]]",
    "clients": '[clients."*"]',
    "hook": "[[hook]]",
    "display": "[[display]]",
    "trigger": "[[trigger]]",
}


def draft(chosen: Mapping[str, Any]) -> str:
    """Return the text of a settings file with these settings by name."""
    return "\n".join(_lines(chosen)) + "\n"


def _lines(chosen: Mapping[str, Any]) -> Iterator[str]:
    yield "# Settings of comfy2mqtt. Remove the # before a line, and change its value, to set it."
    yield "# docs/settings.md says more about each; `comfy2mqtt doctor` tries them."
    defaults = Config()
    for group, settings in GROUPS.items():
        yield ""
        yield f"# {group}"
        for name in settings:
            if name in _TABLES:
                continue
            yield ""
            yield f"# {meaning(name)}"
            if name in chosen:
                yield f"{name} = {_value(chosen[name])}"
            else:
                yield f"# {name} = {_value(getattr(defaults, name))}"
    yield ""
    yield "# Tables are at the end of the file: docs/settings.md has examples."
    for name, header in _TABLES.items():
        yield ""
        yield f"# {meaning(name)}"
        yield f"# {header}"


def _value(value: Any) -> str:
    match value:
        case None:
            return '""'
        case bool():
            return "true" if value else "false"
        case int() | float():
            return str(value)
        case tuple() | list():
            return f"[{', '.join(map(_value, value))}]"
        case Path():
            return _value(str(value))
    # JSON's escapes are TOML's; only DEL stands for itself in JSON and must not in TOML.
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
