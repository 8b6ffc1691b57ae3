"""Words for a wrong value: the value as it may be shown, and what is allowed in its place. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import Any, Literal, get_args, get_origin, get_type_hints

from msgspec import Struct

from bridge.config.settings import TYPES, Bytes
from bridge.text import in_quotes, plain_problem, quoted, without_password

# The largest number that databases and messages hold.
LARGEST = 2**63 - 1
# Settings and fields of tables of which nothing is shown.
_SECRETS = frozenset(
    {
        *("comfyui_secret", "comfyui_api_key", "secret", "api_key", "environment"),
        *("headers", "json", "payload", "expect", "command"),
    }
)
# Those of which passwords are not shown; others end in `url`.
_ADDRESSES = frozenset({"journal", "blobs", "s3_endpoint", "s3_public_endpoint", "put", "webhook"})
_STEP = re.compile(r"\.([A-Za-z0-9_]+)|\[(\d+)\]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_NO_TEXT = re.compile("[\0\ud800-\udfff]")
# By a part of the pattern that a text does not match: what does.
_PATTERNS = {
    ":[0-9]": "expected host:port, such as 127.0.0.1:8090",
    "[:-]": "expected a network card's address, such as 00:11:22:33:44:55",
    "^+#": "expected the beginning of topics: 1 to 200 characters without + and #",
    r"(\\*|": "expected * or 1 to 64 of the characters A-Z a-z 0-9 _ -",
    "matching regex": "expected 1 to 64 of the characters A-Z a-z 0-9 _ -",
}

# A table's fields and their types. Python evaluates every annotation each time that it is asked.
types_of = cache(get_type_hints)


def place_of(problem: str) -> tuple[str | int, ...]:
    """Return the place within a value that msgspec's sentence names."""
    where = problem.partition(" - at `$")[2]
    return tuple(name or int(number) for name, number in _STEP.findall(where))


def shown(place: Sequence[str | int], inner: Sequence[str | int], value: Any) -> str:
    """Return a wrong value for an error, with a colon after it; secrets are left out.

    `place` is that of all of `value`, and `inner` where it is wrong.
    """
    names = [each for each in (*place, *inner) if isinstance(each, str)]
    if not _SECRETS.isdisjoint(names):
        return "(not shown): "
    for step in inner:
        value = value[step]
    if isinstance(value, str):
        is_address = names[-1].endswith("url") or names[-1] in _ADDRESSES
        return f"{in_quotes(without_password(value) if is_address else value)}: "
    if isinstance(value, int) and abs(value) > LARGEST:
        return "a larger number: "
    if isinstance(value, bool | int | float):
        return f"{value!r}: "
    return "" if isinstance(value, dict) else f"{quoted(value)}: "


def allowed(kind: Any, inner: Sequence[str | int], setting: str, problem: str) -> str:
    """Return what was wrong with a value, and what is allowed, from msgspec's sentence."""
    problem = problem.partition(" - at ")[0]
    for part, words in _PATTERNS.items():
        if "matching regex" in problem and part in problem:
            return words
    choices = list(_choices(_kind_of(kind, inner)))
    if "Invalid enum value" in problem and choices:
        return f"expected one of {', '.join(map(str, choices))}"
    sentence = plain_problem(problem).replace("an object", "a table")  # as TOML calls it
    unit = _unit(setting) if not inner else ""
    return f"{sentence} ({unit})" if unit and "number" in sentence else sentence


def _unit(setting: str) -> str:
    if TYPES[setting] in (Bytes, Bytes | None):
        return "bytes"
    return "seconds" if setting.endswith("_s") else ""


def _kind_of(kind: Any, inner: Sequence[str | int]) -> Any:
    """Return the type of the value at a place."""
    for step in inner:
        tables = [each for each in (kind, *get_args(kind)) if _is_table(each)]
        if tables and isinstance(step, str):
            kind = types_of(tables[0]).get(step)
        else:
            kind = next(iter(get_args(kind)), None)
    return kind


def _is_table(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Struct)


def _choices(kind: Any) -> Iterator[Any]:
    """Yield the values of a type that lists them."""
    if get_origin(kind) is Literal:
        yield from get_args(kind)
        return
    for each in get_args(kind):
        yield from _choices(each)


def faults(value: Any, *, is_table: bool) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Yield what no value may have, whatever its type, and where.

    A table may hold texts for others, of several lines.
    """
    inside: Iterable[tuple[str | int, Any]] = ()
    match value:
        case dict():
            if any(_NO_TEXT.search(str(name)) for name in value):
                yield (), "expected names in UTF-8, without the character NUL"
            inside = value.items()
        case list() | tuple():
            inside = enumerate(value)
        case _:
            problem = _fault_of(value, is_table=is_table)
            if problem is not None:
                yield (), problem
    for step, each in inside:
        for inner, problem in faults(each, is_table=is_table):
            yield (step, *inner), problem


def _fault_of(value: Any, *, is_table: bool) -> str | None:
    match value:
        case str() if _NO_TEXT.search(value):
            return "expected text in UTF-8, without the character NUL"
        case str() if _CONTROL.search(value) and not is_table:
            return "expected text in one line, without control characters"
        case int() if abs(value) > LARGEST:
            return f"expected a whole number of at most {LARGEST}"
        case float() if not math.isfinite(value):
            return "expected a finite number"
    return None
