"""Node classes that a server has replaced, as it tells at `/node_replacements`. Pure.

A file from before names the old class. ComfyUI puts the new one in its place where the old one is
not installed, and so does this module, so that a definition says what will run. Of several
replacements of one class the first is taken whose new class is there.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType

from bridge.contract.reading import UNREADABLE
from bridge.workflows.graph import Graph, NodeLink, link, misreading


class InputMapping(Struct, frozen=True):
    """An input of the new class: an old one's value or link, or a fixed value."""

    new_id: str
    old_id: str | None = None
    set_value: Any | UnsetType = UNSET


class OutputMapping(Struct, frozen=True):
    """An output of the new class in place of one of the old, by position."""

    new_idx: int
    old_idx: int


class Replacement(Struct, frozen=True):
    """One class in place of another. What is not mapped keeps its name, or its position.

    `old_widget_ids` are the names of the old class's widgets in the order of a file's values.
    """

    new_node_id: str
    old_node_id: str = ""
    old_widget_ids: tuple[str, ...] | None = None
    input_mapping: tuple[InputMapping, ...] | None = None
    output_mapping: tuple[OutputMapping, ...] | None = None

    def inputs(self, old: Mapping[str, Any]) -> dict[str, Any]:
        """Return the inputs of the new class for those of the old."""
        if self.input_mapping is None:
            return dict(old)
        found: dict[str, Any] = {}
        for mapping in self.input_mapping:
            if mapping.set_value is not UNSET:
                found[mapping.new_id] = mapping.set_value
            elif mapping.old_id is not None and mapping.old_id in old:
                found[mapping.new_id] = old[mapping.old_id]
        return found

    def new_name(self, old: str) -> str | None:
        """Return the new name of an input, None if it has none any more."""
        if self.input_mapping is None:
            return old
        return next((each.new_id for each in self.input_mapping if each.old_id == old), None)

    def output(self, old: int) -> int:
        """Return the new position of an output."""
        mapped = self.output_mapping or ()
        return next((each.new_idx for each in mapped if each.old_idx == old), old)


class Replacements:
    """The replacements that a server knows, by old class."""

    def __init__(self, known: Mapping[str, Iterable[Replacement]] | None = None) -> None:
        self._known = {old: tuple(each) for old, each in (known or {}).items()}

    @classmethod
    def decode(cls, data: bytes) -> Replacements:
        """Read the body of `/node_replacements`; what cannot be read of it counts as not there."""
        try:
            raw = msgspec.json.decode(data)
        except UNREADABLE:
            return cls()
        found = raw.items() if isinstance(raw, dict) else ()
        return cls({old: list(_readable(each)) for old, each in found})

    def __or__(self, other: Replacements) -> Replacements:
        return Replacements({**other._known, **self._known})

    def __bool__(self) -> bool:
        return bool(self._known)

    def find(self, class_type: str, installed: Container[str]) -> Replacement | None:
        """Return what replaces a class; None for one that is installed, or has no replacement."""
        if class_type in installed:
            return None
        for each in self._known.get(class_type, ()):
            if each.new_node_id in installed:
                return each
        return None


def replaced(graph: Graph, known: Replacements, installed: Container[str]) -> Graph:
    """Return a graph with new classes in place of those that are not installed."""
    found = {
        node.id: each
        for node in graph.nodes.values()
        if (each := known.find(node.class_type, installed)) is not None
    }
    if not found:
        return graph

    def followed(value: Any) -> Any:
        taken: NodeLink | None = link(value)
        if taken is None or taken.node not in found:
            return value
        return [taken.node, found[taken.node].output(taken.output)]

    nodes = {}
    for node in graph.nodes.values():
        inputs, class_type = node.inputs, node.class_type
        if node.id in found:
            inputs, class_type = found[node.id].inputs(inputs), found[node.id].new_node_id
        inputs = {name: followed(value) for name, value in inputs.items()}
        nodes[node.id] = msgspec.structs.replace(node, class_type=class_type, inputs=inputs)
    return Graph(nodes)


def _readable(raw: Any) -> Iterator[Replacement]:
    for each in raw if isinstance(raw, list) else ():
        try:
            found = msgspec.convert(each, Replacement)
        except msgspec.ValidationError:
            continue
        values = [mapping.set_value for mapping in found.input_mapping or ()]
        # A server's own value must not be read as a link either.
        if not any(misreading(value) for value in values if value is not UNSET):
            yield found
