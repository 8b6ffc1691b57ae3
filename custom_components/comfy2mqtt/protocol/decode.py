"""Reading what comes over the bus: whatever is wrong with it is one kind of error.

Everybody who may publish at the broker can send anything here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any, ParamSpec, TypeAlias, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
Payload: TypeAlias = bytes | bytearray | str

# What Home Assistant can write as JSON: whole numbers of 64 bits, and so many levels.
_NUMBERS = range(-(2**63), 2**64)
_LEVELS = 100


class MalformedError(ValueError):
    """A message that is not what the contract says."""


def decoder(what: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Have a function raise MalformedError alone, whatever it is given to read."""

    def decorate(read: Callable[P, T]) -> Callable[P, T]:
        @wraps(read)
        def decode(*args: P.args, **kwargs: P.kwargs) -> T:
            try:
                return read(*args, **kwargs)
            except MalformedError:
                raise
            except (AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
                raise MalformedError(f"not {what}: {error!r}") from None

        return decode

    return decorate


@decoder("JSON")
def read_object(payload: Payload) -> dict[str, Any]:
    """Return a JSON object. Raises MalformedError."""
    found = json.loads(payload)
    _check(found, _LEVELS)
    return an_object(found)


def _check(found: Any, levels: int) -> None:
    parts: Iterable[Any] = ()
    match found:
        case str():
            found.encode()
        case int() if found not in _NUMBERS:
            raise MalformedError("a whole number of more than 64 bits")
        case float() if not math.isfinite(found):
            raise MalformedError("a number that is not finite")
        case dict():
            parts = (*found, *found.values())
        case list():
            parts = found
    if levels == 0:
        raise MalformedError("too many levels")
    for each in parts:
        _check(each, levels - 1)


def an_object(found: Any) -> dict[str, Any]:
    """Return a JSON object. Raises MalformedError for anything else."""
    if not isinstance(found, dict):
        raise MalformedError("not a JSON object")
    return found


def a_list(found: Any) -> list[Any]:
    """Return a list. Raises MalformedError for anything else."""
    if not isinstance(found, list):
        raise MalformedError("not a list")
    return found


def whole(found: Any) -> int:
    """Return a whole number. Raises MalformedError for anything else."""
    if not isinstance(found, int) or isinstance(found, bool):
        raise MalformedError("not a whole number")
    return found


def number(found: Any) -> float:
    """Return a number; a whole one stays one. Raises MalformedError for anything else."""
    return found if isinstance(found, float) else whole(found)


def optional(read: Callable[[Any], T], found: Any) -> T | None:
    """Return the decoded value; None stays None."""
    return None if found is None else read(found)
