"""Reading a payload as a Struct, or saying which field is wrong and what is allowed there."""

from __future__ import annotations

import json
import math
import re
from typing import Any, Final, Generic, TypeVar

import msgspec
from msgspec import Struct, inspect

from bridge.contract.errors import BadRequest
from bridge.contract.topics import ID_RULE
from bridge.text import as_utf8, did_you_mean, json_problem, plain_problem

T = TypeVar("T")

# What reading JSON from outside raises; the last one at a depth that depends on who reads it.
UNREADABLE: Final = (msgspec.MsgspecError, UnicodeError, RecursionError)
# How deep lists and objects may lie in one another in what comes from outside. Not even values as
# deep as ComfyUI takes them, in subgraphs within subgraphs, are that deep.
DEEPEST = 300
# One tuple: `dict | list` would make a type for each value that is looked at.
_NESTING = (dict, list)
# Of a pattern: a set of characters, how many of them, and what is in the set.
_CHARACTERS = re.compile(r"\[(?P<set>[^]]+)\]\{(?:(?P<least>\d+),)?(?P<most>\d+)\}")
_RANGE = re.compile(r"\w-\w|.")


def text_of(payload: bytes) -> str:
    """Return a payload's text. Raises BadRequest."""
    try:
        return as_utf8(payload).decode()
    except UnicodeDecodeError:
        raise BadRequest("the payload is neither JSON nor text in UTF-8") from None


def decoded(decoder: msgspec.json.Decoder[Any], payload: bytes, kind: type[Struct]) -> Any:
    """Decode a payload as a `kind`. Raises BadRequest."""
    try:
        return decoder.decode(as_utf8(payload))
    except msgspec.ValidationError as error:
        raise unfit(error, kind) from None
    except RecursionError:
        raise BadRequest("the JSON is nested too deeply") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"the payload is not valid JSON: {json_problem(error)}") from None


def strict_json(text: str | bytes) -> bytes:
    """Return Python's idea of JSON as JSON that anybody reads.

    NaN and infinities become null. Halves of surrogate pairs, by which Python names a file whose
    name is not UTF-8, and JavaScript a text that was cut within an emoji, become `?`.

    Raises ValueError (json.JSONDecodeError is one) or RecursionError.
    """
    value = json.loads(text, parse_float=_finite, parse_constant=lambda _: None)
    return json.dumps(value, ensure_ascii=False).encode(errors="replace")


class LenientDecoder(Generic[T]):
    """A typed JSON decoder that also reads what Python's json writes, by `strict_json`."""

    def __init__(self, kind: type[T]) -> None:
        self._decoder = msgspec.json.Decoder(kind)

    def decode(self, body: bytes | str) -> T:
        """Return the typed value. Raises what is UNREADABLE."""
        try:
            return self._decoder.decode(body)
        except msgspec.ValidationError:
            raise
        except msgspec.DecodeError:
            try:
                body = strict_json(body)
            except (ValueError, RecursionError) as error:
                raise msgspec.DecodeError(str(error)) from error
            return self._decoder.decode(body)


def _finite(text: str) -> float | None:
    number = float(text)
    return number if math.isfinite(number) else None


def is_deeper(value: Any, most: int) -> bool:
    """True if lists and objects of a decoded JSON lie in one another more than `most` deep.

    Every decoder and encoder stops at some depth, which is less the more functions have called one
    another: what one call has read another one may not write, or not read once more.
    """
    level = [value] if isinstance(value, _NESTING) else []
    for _ in range(most):
        level = [
            below
            for each in level
            for below in (each.values() if isinstance(each, dict) else each)
            if isinstance(below, _NESTING)
        ]
        if not level:
            return False
    return True


def unfit(error: msgspec.ValidationError, kind: type[Struct]) -> BadRequest:
    """Turn msgspec's sentence, `<problem> - at `$.<field>``, into an error with the field apart."""
    problem, _, where = str(error).partition(" - at ")
    field = where.strip("`").removeprefix("$").removeprefix(".")
    if "matching regex" in problem:
        problem = f"expected {_text_rule(problem)}"
    of_field = _type_of(kind, field)
    allowed: list[Any] | None = None
    meant = ""
    if isinstance(of_field, inspect.LiteralType):
        allowed = list(of_field.values)
        if "enum value" in problem:
            meant = did_you_mean(problem.partition("'")[2].rstrip("'"), map(str, allowed))
    if isinstance(of_field, inspect.IntType | inspect.FloatType):
        problem = _range(of_field) or problem
    if not field and "field `" in problem:
        field = problem.split("`")[1]
        allowed = sorted(kind.__struct_fields__)
        unknown = f"unknown field{did_you_mean(field, allowed)}"
        problem = "required" if "missing" in problem else unknown
    problem = plain_problem(problem) + meant
    message = f"{field}: {problem}" if field else problem
    return BadRequest(message, field=field or None, allowed=allowed)


def _text_rule(problem: str) -> str:
    """Return what a text may be, by the pattern in msgspec's sentence."""
    found = _CHARACTERS.search(problem)
    if found is None:
        return ID_RULE
    least, most = found["least"], found["most"]
    count = most if least is None else f"{least} to {most}"
    return f"{count} of the characters {' '.join(_RANGE.findall(found['set']))}"


def _range(number: inspect.IntType | inspect.FloatType) -> str | None:
    """Return what a number with two limits may be; a problem names the one that was passed."""
    if number.ge is None or number.le is None:
        return None
    noun = "a whole number" if isinstance(number, inspect.IntType) else "a number"
    return f"expected {noun} from {number.ge} to {number.le}"


def _type_of(kind: type[Struct], field: str) -> inspect.Type:
    """Return the type of a field; `field` is a path."""
    found: inspect.Type = inspect.type_info(kind)
    for name in field.split("."):
        fields = found.fields if isinstance(found, inspect.StructType) else ()
        by_name = {each.name: each.type for each in fields}
        found = _without_unset(by_name.get(name.partition("[")[0], inspect.AnyType()))
    return found


def _without_unset(found: inspect.Type) -> inspect.Type:
    """Return a field's type: of a choice with UNSET the other, of a list its members'."""
    if isinstance(found, inspect.UnionType):
        found = found.types[0]
    return found.item_type if isinstance(found, inspect.ListType) else found
