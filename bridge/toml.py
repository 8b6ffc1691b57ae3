"""TOML beyond what Python reads: the line of a value, and values as text. Pure."""

from __future__ import annotations

import json
import re
import tomllib
from bisect import bisect_left
from collections.abc import Sequence
from contextlib import suppress
from itertools import chain
from typing import Any

_BARE = re.compile(r"[A-Za-z0-9_-]+")
# Texts, of which those of several lines may have two quotes more at their end, comments, and what
# begins and ends a statement or a part of it.
_PARTS = re.compile(
    r""""{3}(?:\\.|[^\\])*?"{3,5}|'{3}.*?'{3,5}|"(?:\\.|[^"\\])*"|'[^']*'|\#[^\n]*|[][{}\n]""",
    re.DOTALL,
)
_OPENING, _CLOSING = frozenset("[{"), frozenset("]}")


def line_of(text: str, place: Sequence[str | int]) -> int | None:
    """Return the line of a valid text on which a value begins, counted from 1.

    `place` has the keys of the tables that lead to it, of a list's tables their numbers or names.
    Of a field that is not there, that of its table. None if nothing of it is there.
    """
    with suppress(RecursionError):  # who read the text had more of the stack left
        whole = tomllib.loads(text)
        for length in range(len(place), 0, -1):
            if _holds(whole, place[:length]):
                return _first_line(text.replace("\r\n", "\n"), place[:length])
    return None


def _first_line(text: str, place: Sequence[str | int]) -> int:
    """Return the first line of the statement after which a value is there."""
    ends = _ends(text)

    def is_there(end: int) -> bool:
        return _holds(tomllib.loads(text[:end]), place)

    begin = (0, *ends)[bisect_left(ends, x=True, key=is_there)]
    return text.count("\n", 0, begin) + 1


def _ends(text: str) -> list[int]:
    """Return where each statement of a valid text ends: each line that nothing keeps open."""
    ends, depth = [], 0
    for found in _PARTS.finditer(text):
        part = found[0]
        depth += (part in _OPENING) - (part in _CLOSING)
        if part == "\n" and not depth:
            ends.append(found.end())
    return [*ends, len(text)]


def _holds(found: Any, place: Sequence[str | int]) -> bool:
    """Return whether there is a value at a place."""
    for step in place:
        if isinstance(found, list):
            named = (each for each in found if isinstance(each, dict) and each.get("name") == step)
            numbered = found[step : step + 1] if isinstance(step, int) else []
            found = next(chain(numbered, named), None)
        else:
            found = found.get(step) if isinstance(found, dict) else None
        if found is None:
            return False
    return True


def written(value: Any) -> str:
    """Return a value as TOML writes it; what is no value of TOML's as its text, None as none."""
    match value:
        case None:
            return '""'
        case bool():
            return "true" if value else "false"
        case int() | float():
            return repr(value)
        case list() | tuple():
            return f"[{', '.join(map(written, value))}]"
        case dict():
            inner = ", ".join(f"{key(name)} = {written(each)}" for name, each in value.items())
            return f"{{ {inner} }}" if inner else "{}"
    # JSON's escapes are TOML's; only DEL stands for itself in JSON and must not in TOML.
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")


def key(name: str) -> str:
    """Return a key as TOML writes it: in quotes where it has to be."""
    return name if _BARE.fullmatch(name) else written(name)
