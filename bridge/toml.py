"""TOML beyond what Python reads: the line of a value, and values as text. Pure."""

from __future__ import annotations

import json
import re
import tomllib
from bisect import bisect_left
from collections.abc import Sequence
from itertools import chain
from typing import Any

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def line_of(text: str, place: Sequence[str | int]) -> int | None:
    """Return the line of a valid text on which a value begins, counted from 1.

    `place` has the keys of the tables that lead to it, of a list's tables their numbers or names.
    Of a field that is not there, that of its table. None if nothing of it is there.
    """
    lines = text.replace("\r\n", "\n").split("\n")
    ends = _ends(lines)
    for length in range(len(place), 0, -1):
        line = _first_line(lines, ends, place[:length])
        if line is not None:
            return line
    return None


def _ends(lines: Sequence[str]) -> list[int]:
    """Return after how many lines each statement is whole."""
    ends, begin = [], 0
    for number in range(1, len(lines) + 1):
        try:
            tomllib.loads("\n".join(lines[begin:number]))
        except (ValueError, RecursionError):
            continue
        ends.append(number)
        begin = number
    return ends


def _first_line(
    lines: Sequence[str], ends: Sequence[int], place: Sequence[str | int]
) -> int | None:
    """Return the first line of the statement after which a value is there."""

    def is_there(end: int) -> bool:
        return _holds(tomllib.loads("\n".join(lines[:end])), place)

    found = bisect_left(ends, x=True, key=is_there)
    return None if found == len(ends) else (0, *ends)[found] + 1


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
