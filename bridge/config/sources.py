"""The sources of settings: the line, the variable or the flag that an error names. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct

from bridge.toml import line_of


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


def _dotted(place: Sequence[str | int]) -> str:
    """Return a place as `display.kitchen.width`, or `sink[0].put`."""
    return "".join(
        f"[{step}]" if isinstance(step, int) else f".{step}" for step in place
    ).removeprefix(".")
