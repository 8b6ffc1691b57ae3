"""The sources of settings: the line, the variable or the flag that an error names. Pure."""

from __future__ import annotations

import tomllib
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

from msgspec import Struct


class ConfigError(ValueError):
    """A setting is wrong; the text is one line for the user.

    `place` says which: the setting, the name or number of its table, and the field there.
    """

    def __init__(self, problem: str, *place: str | int) -> None:
        super().__init__(f"{_dotted(place)}: {problem}" if place else problem)
        self.problem = problem
        self.place = place


class SettingSources(Struct, frozen=True):
    """The places where settings were given.

    `elsewhere` holds variables and flags by setting. All others are in the `text` of `file`, or
    have their defaults.
    """

    file: str = ""
    text: str = ""
    elsewhere: Mapping[str, str] = {}

    def __eq__(self, other: object) -> bool:
        """Settings that are the same are equal, wherever they were given."""
        return isinstance(other, SettingSources)

    def __hash__(self) -> int:
        """Return the hash that all share."""
        return hash(SettingSources)

    def explain(self, error: ConfigError) -> str:
        """Return an error's text with where its setting was given."""
        if not error.place:
            return str(error)
        setting, *inner = error.place
        given = self.elsewhere.get(str(setting))
        if given is not None:
            place = f"{given}: {_dotted(error.place)}" if inner else given
            return f"{place}: {error.problem}"
        line = line_of(self.text, error.place)
        return str(error) if line is None else f"{self.file}, line {line}: {error}"


def line_of(text: str, place: Sequence[str | int]) -> int | None:
    """Return the line of a TOML text on which a value begins, counted from 1.

    Of a field that is not there, that of its table. None if nothing of it is there.
    """
    lines = text.replace("\r\n", "\n").split("\n")
    for length in range(len(place), 0, -1):
        line = _first_line(lines, place[:length])
        if line is not None:
            return line
    return None


def _first_line(lines: Sequence[str], place: Sequence[str | int]) -> int | None:
    """Return the first line of the statement after which a value is there."""

    def is_there(count: int) -> bool:
        _, tree = _statements(lines, count)
        return _holds(tree, place)

    last = bisect_left(range(len(lines) + 1), x=True, key=is_there)
    return None if last > len(lines) else _statements(lines, last - 1)[0] + 1


def _statements(lines: Sequence[str], count: int) -> tuple[int, dict[str, Any]]:
    """Return how many of the first lines are whole statements, and what they say."""
    while count:
        try:
            return count, tomllib.loads("\n".join(lines[:count]))
        except (ValueError, RecursionError):
            count -= 1
    return 0, {}


def _holds(found: Any, place: Sequence[str | int]) -> bool:
    """Return whether there is a value at a place; the tables of a list have numbers or names."""
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


def _dotted(place: Sequence[str | int]) -> str:
    """Return a place as `display.kitchen.width`, or `sink[0].put`."""
    return "".join(
        f"[{step}]" if isinstance(step, int) else f".{step}" for step in place
    ).removeprefix(".")
