"""The settings for readers and for editors: a page, a JSON Schema, and the draft of a file."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from bridge.config.about import GROUPS, meaning
from bridge.config.settings import PREFIX, TABLES, TYPES, Config
from bridge.toml import written

_WORDS = {"minimum": "at least", "maximum": "at most", "exclusiveMinimum": "more than"}


def schema() -> dict[str, Any]:
    """Return the JSON Schema of comfy2mqtt.toml, as editors of TOML use it."""
    # The same fields, the paths' defaults as the texts that they are in the file.
    fields = [
        (name, kind, str(default) if isinstance(default, Path) else default)
        for name, kind in TYPES.items()
        for default in (getattr(Config(), name),)
    ]
    tables = msgspec.defstruct("Config", fields, kw_only=True, forbid_unknown_fields=True)
    found: dict[str, Any] = msgspec.json.schema(tables, schema_hook=_path)
    for table in found["$defs"].values():
        if "description" in table:
            # From Python 3.13 on docstrings lose their indentation when they are compiled.
            table["description"] = inspect.cleandoc(table["description"])
    text = json.dumps(found).replace(r"\\A", "^").replace(r"\\Z", "$")  # as JSON Schema writes them
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **json.loads(text)}


def page() -> str:
    """Return a page with every setting: what it may be, its default, its variable."""
    return "\n".join(_page()) + "\n"


def _page() -> Iterator[str]:
    definitions: dict[str, Any] = schema()["$defs"]
    yield "# Settings: reference"
    yield ""
    yield "Drawn from the code by `make documents`, as is the JSON Schema beside it,"
    yield "[settings.schema.json](settings.schema.json), with which editors of TOML complete and"
    yield "check `comfy2mqtt.toml`. [settings.md](settings.md) says what they mean."
    yield ""
    yield "| setting | may be | default | variable |"
    yield "|---|---|---|---|"
    for name, field in definitions["Config"]["properties"].items():
        variable = f"`{PREFIX}{name.upper()}`"
        yield f"| `{name}` | {_kind(field)} | {_default(field)} | {variable} |"
    for table, declared in definitions.items():
        if table == "Config":
            continue
        yield ""
        yield f"## {table}"
        yield ""
        yield "| field | may be | default |"
        yield "|---|---|---|"
        for name, field in declared["properties"].items():
            needed = "needed" if name in declared.get("required", ()) else _default(field)
            yield f"| `{name}` | {_kind(field)} | {needed} |"


def _kind(field: Mapping[str, Any]) -> str:
    """Return a field's values, in words."""
    if "anyOf" in field:
        others = [each for each in field["anyOf"] if each != {"type": "null"}]
        return " or ".join(_kind(each) for each in others)
    if "enum" in field:
        return " or ".join(f"`{each}`" for each in field["enum"] if each is not None)
    if "$ref" in field:
        name = field["$ref"].rpartition("/")[2]
        return f"a table [{name}](#{name.lower()})"
    if field.get("type") == "array":
        return f"a list: {_kind(field['items'])}"
    if field.get("type") == "object":
        return f"by name: {_kind(field.get('additionalProperties') or {})}"
    return ", ".join(_scalar(field))


def _scalar(field: Mapping[str, Any]) -> Iterator[str]:
    kind = field.get("type", "anything")
    yield {"string": "text", "integer": "a whole number", "number": "a number"}.get(kind, kind)
    for key, word in _WORDS.items():
        if key in field:
            yield f"{word} {field[key]:,}"
    if "pattern" in field:
        yield "like `{}`".format(field["pattern"].replace("|", "\\|"))


def _default(field: Mapping[str, Any]) -> str:
    value = field.get("default")
    if value in (None, "", [], {}):
        return ""
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"


def _path(kind: type) -> dict[str, Any]:
    if kind is Path:
        return {"type": "string", "format": "path"}
    raise NotImplementedError


def draft(chosen: Mapping[str, Any]) -> str:
    """Return the text of a settings file: these settings by name, all others as comments."""
    return "\n".join(_draft(chosen)) + "\n"


def _draft(chosen: Mapping[str, Any]) -> Iterator[str]:
    yield "# Settings of comfy2mqtt. Remove the # before a line, and change its value, to set it."
    yield "# docs/settings.md says more about each; `comfy2mqtt doctor` tries them."
    defaults = Config()
    for group, settings in GROUPS.items():
        yield ""
        yield f"# {group}"
        for name in settings:
            if name in TABLES:
                continue
            yield ""
            yield f"# {meaning(name)}"
            if name in chosen:
                yield f"{name} = {written(chosen[name])}"
            else:
                yield f"# {name} = {written(getattr(defaults, name))}"
    yield ""
    yield "# Tables are at the end of the file: docs/settings.md has examples."
    for name in TABLES:
        yield ""
        yield f"# {meaning(name)}"
        yield '# [clients."*"]' if name == "clients" else f"# [[{name}]]"
