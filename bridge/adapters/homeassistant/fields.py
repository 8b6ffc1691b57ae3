"""A workflow's inputs in Home Assistant, and the translation of values both ways. Pure.

    a text                  text, and notify for more than 255 characters
    a number                number
    a seed                  number; -1 is one that is drawn again each time
    a choice, up to 500     select; of more, text that takes these alone, and names them
    a boolean               switch
    a picture and the like  text: a URL, or a topic that the client may name

What a graph has besides, by its place or as JSON, is not shown.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any, Literal, TypeAlias

import msgspec
from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import replace

from bridge.contract.retained import Definition
from bridge.text import clip, nearest

Platform: TypeAlias = Literal["text", "number", "select", "switch"]

# What a state, and so a text, can have there at most.
LONGEST_STATE = 255
MOST_OPTIONS = 500
# A number is a float there: beyond, whole numbers get lost.
_LARGEST = 2**53
LARGEST_SEED = 2**32 - 1
DRAWN_ANEW = -1
# The smallest step that it takes.
_FINEST_STEP = 0.001
ON, OFF, NONE = "ON", "OFF", "None"
# Home Assistant records no attributes of more than 16384 bytes of JSON; an entity has others too.
_MOST_BYTES = 12 * 1024
# A refusal names so many choices, and so many characters of what was refused: a state is short.
_NAMED = 5
_QUOTED = 60

_MEDIA = frozenset({"image", "mask", "audio", "video", "file"})
_NO_ID = re.compile(r"[^A-Za-z0-9_-]")
_LONGEST_ID = 64

Value: TypeAlias = str | int | float | bool
Choices: TypeAlias = Mapping[str, Sequence[Any]]


class Field(Struct, frozen=True, kw_only=True):
    """An input as Home Assistant has it. `key` is its name as an id."""

    key: str
    name: str
    kind: str
    platform: Platform
    title: str
    default: Any = None
    minimum: float = 0
    maximum: float = 0
    step: float = 1
    max_length: int | None = None
    options: tuple[str, ...] = ()

    @property
    def is_media(self) -> bool:
        """True if its text says where bytes come from."""
        return self.kind in _MEDIA

    @property
    def is_searched(self) -> bool:
        """True if its choices are too many for a select: it is a text that takes one of them."""
        return self.platform == "text" and bool(self.options)

    def allowed(self, like: str | None = None) -> dict[str, Any]:
        """Return the choices of one that `is_searched`, as attributes can have them.

        Those that fit, in their order: of all, or of those that are `like` a text.
        """
        found = nearest(like, self.options, len(self.options)) if like else self.options
        sizes = accumulate(len(msgspec.json.encode(each)) + 1 for each in found)
        shown = found[: sum(size <= _MOST_BYTES for size in sizes)]
        search = {"like": clip(like, LONGEST_STATE, "…")} if like else {}
        return {**search, "choices": len(self.options), "found": len(found), "allowed": list(shown)}

    def refusal(self, text: str) -> str:
        """Return why a command's value is not taken, and what is."""
        return f"{self.title} cannot be {clip(text, _QUOTED, '…')!r}: {self._wanted(text)}"

    def _wanted(self, text: str) -> str:
        if len(self.options) > _NAMED:
            like = nearest(text, self.options, _NAMED)
            named = f"; like it are {', '.join(like)}" if like else ""
            return f"it takes one of {len(self.options)} choices{named}"
        match self.platform:
            case "select" | "text" if self.options:
                return f"it takes {', '.join(self.options)}"
            case "switch":
                return f"it takes {ON} or {OFF}"
            case "number":
                whole = "" if self.kind == "float" else "whole "
                return f"it takes a {whole}number from {self.minimum:.12g} to {self.maximum:.12g}"
            case _:
                return f"it takes {self.max_length} characters at most"

    def read(self, text: str) -> Value | None:
        """Return the value that a command sets; None for one that it cannot have."""
        match self.platform:
            case "switch":
                return {ON: True, OFF: False}.get(text)
            case "select":
                return text if text in self.options else None
            case "number":
                return self._number(text)
            case "text":
                too_long = self.max_length is not None and len(text) > self.max_length
                is_none_of_them = bool(self.options) and text not in self.options
                return None if too_long or is_none_of_them else text

    def takes(self, value: Any) -> bool:
        """True if a value that was set once can still be: limits and choices may have changed."""
        match self.platform:
            case "switch":
                return isinstance(value, bool)
            case "number":
                return isinstance(value, int | float) and self.read(str(value)) is not None
            case _:
                return isinstance(value, str) and self.read(value) is not None

    def shown(self, value: Any) -> Any:
        """Return the state that shows a value."""
        match self.platform:
            case "switch":
                return NONE if value is None else ON if value else OFF
            case "select":
                return str(value) if str(value) in self.options else NONE
            case "number":
                return NONE if value is None else str(value)
            case "text":
                # As JSON: an empty text would clear what is retained.
                text = "" if value is None else str(value)
                return {"value": clip(text, LONGEST_STATE, "…")}

    def given(self, value: Value) -> Any | UnsetType:
        """Return a job's input for a value; UNSET to leave it out."""
        if self.kind == "seed" and value == DRAWN_ANEW:
            return UNSET
        if not self.is_media:
            return value
        text = str(value).strip()
        if not text:
            return UNSET
        return {"url": text} if "://" in text else {"topic": text}

    def _number(self, text: str) -> int | float | None:
        try:
            number = float(text)
        except ValueError:
            return None
        if not (math.isfinite(number) and self.minimum <= number <= self.maximum):
            return None
        if self.kind == "float":
            return number
        return int(number) if number.is_integer() else None


def fields(definition: Definition, choices: Choices | None = None) -> list[Field]:
    """Return the inputs of a workflow that can be set from Home Assistant.

    `choices` are the lists that definitions only name.
    """
    found: dict[str, Field] = {}
    for name, schema in definition.inputs["properties"].items():
        if "x-place" not in schema and schema["x-kind"] != "json":
            key = _key(name, found)
            found[key] = _field(key, name, schema, choices or {})
    return list(found.values())


def _field(key: str, name: str, schema: Mapping[str, Any], choices: Choices) -> Field:
    kind = schema["x-kind"]
    allowed = schema.get("enum") or choices.get(schema.get("x-choices", ""), ())
    options = tuple(dict.fromkeys(map(str, allowed)))
    field = Field(
        key=key,
        name=name,
        kind=kind,
        platform="text",
        title=schema.get("title", name),
        default=schema.get("default"),
        max_length=schema.get("maxLength"),
        options=options,
    )
    if options:
        return replace(field, platform="select" if len(options) <= MOST_OPTIONS else "text")
    match kind:
        case "boolean":
            return replace(field, platform="switch")
        case "seed":
            most = min(schema.get("maximum", LARGEST_SEED), LARGEST_SEED)
            return replace(
                field, platform="number", default=DRAWN_ANEW, minimum=DRAWN_ANEW, maximum=most
            )
        case "integer" | "float":
            whole = kind == "integer"
            return replace(
                field,
                platform="number",
                minimum=max(schema.get("minimum", -_LARGEST), -_LARGEST),
                maximum=min(schema.get("maximum", _LARGEST), _LARGEST),
                step=max(schema.get("x-step", 1 if whole else 0.01), _FINEST_STEP),
            )
    return field


def _key(name: str, taken: Iterable[str]) -> str:
    """Return a name as an id, another than those that are taken."""
    key = _NO_ID.sub("_", name)[:_LONGEST_ID] or "_"
    number = 1
    unique = key
    while unique in taken:
        number += 1
        unique = f"{key[: _LONGEST_ID - 5]}_{number}"
    return unique
