"""What may be given to an input, by what takes its value further on.

ComfyUI checks a literal against the limits of its own node, but not what comes through a link: a
value node's input is as narrow as the narrowest of its consumers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from hashlib import sha256

from msgspec import Struct

from bridge.contract.topics import ID
from bridge.workflows.declarations import Declarations
from bridge.workflows.graph import Node
from bridge.workflows.objectinfo import InputSpec

Number = int | float
Consumers = Iterable[tuple[Node, str]]

_MAX_ID = 64
_HASH = 8
_NOT_IN_ID = re.compile(r"[^A-Za-z0-9_-]")


class Choices(Struct, frozen=True):
    """The words that an input can be given, and the name under which they are published."""

    values: tuple[str | int | float | bool, ...]
    name: str


def lowest(values: Iterable[Number | None]) -> Number | None:
    """Return the largest of some minima."""
    return max((value for value in values if value is not None), default=None)


def highest(values: Iterable[Number | None]) -> Number | None:
    """Return the smallest of some maxima."""
    return min((value for value in values if value is not None), default=None)


def numbers_taken(consumers: Consumers, declared: Declarations) -> Iterator[InputSpec]:
    """Give the declared numbers that take a node's output."""
    for node, name in consumers:
        spec = declared.input(node, name)
        if spec is not None and spec.type in ("INT", "FLOAT"):
            yield spec


def choices_taken(consumers: Consumers, declared: Declarations) -> Choices | None:
    """Return the choices of the first combo that takes a node's output."""
    for node, name in consumers:
        found = choices_of(node, declared.input(node, name))
        if found is not None:
            return found
    return None


def choices_of(node: Node, spec: InputSpec | None) -> Choices | None:
    """Return the choices of a declared input, where it has some and takes one at a time."""
    if spec is None or not spec.choices or spec.multi_select:
        return None
    return Choices(spec.choices, list_name(node.class_type, spec.name))


def list_name(owner: str, name: str) -> str:
    """Return the name of a list of choices, fit for a topic.

    It goes by where the list is declared, not by what is in it: a new model changes the list and
    not the definitions that name it.
    """
    plain = f"{owner}-{name}"
    if ID.fullmatch(plain):
        return plain
    mark = sha256(plain.encode()).hexdigest()[:_HASH]
    return f"{_NOT_IN_ID.sub('_', plain)[: _MAX_ID - _HASH - 1]}-{mark}"
