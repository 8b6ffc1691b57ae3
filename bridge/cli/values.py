"""Kinds of values that flags take, each with an error that says what was expected. Pure."""

from __future__ import annotations

import math
from typing import Any

import click

_LAST_PORT = 65_535


class _Seconds(click.ParamType[float]):
    """A number of seconds above 0."""

    name = "seconds"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the number; what is none ends the command."""
        try:
            seconds = float(value)
        except ValueError:
            seconds = math.nan
        if not 0 < seconds < math.inf:
            self.fail(f"{value!r}: expected a number of seconds above 0", param, ctx)
        return seconds


class _Port(click.ParamType[int]):
    """A port."""

    name = "port"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number; what is none ends the command."""
        text = str(value)
        if not (text.isascii() and text.isdigit() and 0 < int(text) <= _LAST_PORT):
            self.fail(f"{value!r}: expected a port, 1 to {_LAST_PORT}", param, ctx)
        return int(text)


SECONDS = _Seconds()
PORT = _Port()
