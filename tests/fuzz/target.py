"""A decoder that is fuzzed, and how a case is chosen by its first byte."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from msgspec import Struct


class Target(Struct, frozen=True):
    """A decoder: `decoders` are the functions whose branches are counted, by module."""

    run: Callable[[bytes], None]
    seeds: tuple[bytes, ...]
    decoders: Mapping[str, tuple[str, ...]]


def choice(data: bytes, choices: list[Any]) -> tuple[Any, bytes]:
    """Let the first byte choose, and return the rest."""
    return choices[(data[0] if data else 0) % len(choices)], data[1:]


def chosen(choices: list[Any], choice: Any, rest: bytes | dict[str, Any]) -> bytes:
    if isinstance(rest, dict):
        rest = json.dumps(rest).encode()
    return bytes([choices.index(choice)]) + rest


# What every case of the broker's answers shares: a loop is made once.
@cache
def loop() -> asyncio.AbstractEventLoop:
    return asyncio.new_event_loop()
