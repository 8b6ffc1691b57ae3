"""Where an input's link comes from in the end.

A link is followed up through subgraph nodes' outsides and insides, reroutes, and bypassed nodes,
until it reaches a node that the server runs, a value that a subgraph node shows, or nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeAlias

from bridge.workflows.conversion.document import INPUT_NODE
from bridge.workflows.conversion.live import Graph, Mode, Node, Slot
from bridge.workflows.conversion.types import fits, input_type, output_type

ANY = frozenset({"*", ""})


@dataclass(frozen=True, slots=True)
class Place:
    """A node in one particular subgraph node, which may be one of several that show its graph."""

    node: Node
    graph: Graph
    # The place of the subgraph node that the node is in; None in the root.
    host: Place | None = None

    @property
    def path(self) -> str:
        """The ids of the subgraph nodes that lead here: `58` or `58:43`, empty in the root."""
        return self.host.id if self.host is not None else ""

    @property
    def id(self) -> str:
        """The id of the node in the prompt."""
        return f"{self.path}:{self.node.id}" if self.host is not None else self.node.id

    def beside(self, node: Node) -> Place:
        """Return another node of the same graph, in the same subgraph node."""
        return Place(node, self.graph, self.host)


@dataclass(frozen=True, slots=True)
class Origin:
    """An output of a node that the server runs."""

    node: str
    slot: int


@dataclass(frozen=True, slots=True)
class Shown:
    """A value that a subgraph node shows."""

    value: Any


Source: TypeAlias = Origin | Shown | None

# One step: an input or output of a place.
_Step: TypeAlias = tuple[str, str, int]


@dataclass(slots=True)
class _Walk:
    """One walk upstream. Each step is taken once: a link that comes back to itself has no end."""

    seen: set[_Step] = field(default_factory=set)

    def enter(self, place: Place, side: str, slot: int) -> None:
        step = (place.id, side, slot)
        if step in self.seen:
            raise place.node.error(
                "cyclic_link", "the link leads back to itself", path=place.path
            )
        self.seen.add(step)


def source(place: Place, slot: int) -> Source:
    """Return where the input comes from; None where nothing is linked to it.

    Raises ConversionError: `broken_link` or `cyclic_link`.
    """
    walk = _Walk()
    at: tuple[str, Place, int, str | None] | Source = ("in", place, slot, None)
    while isinstance(at, tuple):
        side, where, index, kind = at
        walk.enter(where, side, index)
        at = _up_input(where, index, kind) if side == "in" else _up_output(where, index, kind or "*")
    return at


_Next: TypeAlias = tuple[str, Place, int, str | None] | Source


def _up_input(place: Place, index: int, kind: str | None) -> _Next:
    """Take one step from an input to what is linked to it."""
    slot = _input(place, index)
    if slot.link is None:
        return None
    link = place.graph.links.get(slot.link)
    if link is None:
        raise place.node.error(
            "broken_link", f"input {slot.name!r} has a link that is not there", path=place.path
        )
    if place.host is not None and link.origin == INPUT_NODE:
        return _up_boundary(place.host, link.origin_slot, slot)
    origin = place.graph.nodes.get(link.origin)
    if origin is None:
        raise place.node.error(
            "broken_link",
            f"input {slot.name!r} is linked to node {link.origin}, which is not there",
            path=place.path,
        )
    wanted = kind if kind is not None else input_type(place.graph, place.node, slot)
    return "out", place.beside(origin), link.origin_slot, wanted


def _up_boundary(host: Place, index: int, inner: Slot) -> _Next:
    """Leave a subgraph by one of its inputs."""
    if not 0 <= index < len(host.node.inputs):
        raise host.node.error(
            "broken_link", f"{inner.name!r} inside is linked to an input that is not there",
            path=host.path,
        )
    outer = host.node.inputs[index]
    if outer.link is not None:
        return "in", host, index, None
    return Shown(outer.shown.value) if outer.shown is not None else None


def _up_output(place: Place, index: int, kind: str) -> _Next:
    """Take one step from an output to what stands behind it."""
    node = place.node
    if node.mode == Mode.MUTED:
        return None
    if node.mode == Mode.BYPASSED:
        passed = _passed_on(place, index, kind)
        return None if passed is None else ("in", place, passed, None)
    if node.inner is not None:
        return _down(place, node.inner, index, kind)
    if node.virtual:
        # A reroute, or a page-only node that has nothing to give.
        return ("in", place, index, kind) if index < len(node.inputs) else None
    return Origin(place.id, index)


def _down(place: Place, inner: Graph, index: int, kind: str) -> _Next:
    """Enter a subgraph by one of its outputs."""
    if not 0 <= index < len(inner.outputs):
        raise place.node.error(
            "broken_link", "a link leaves by an output that is not there", path=place.path
        )
    link = next(
        (inner.links[each] for each in inner.outputs[index].links if each in inner.links), None
    )
    if link is None:
        return None
    if link.origin == INPUT_NODE:
        return _through(place, link.origin_slot)
    origin = inner.nodes.get(link.origin)
    if origin is None:
        raise place.node.error(
            "broken_link", f"output {index} comes from node {link.origin}, which is not there",
            path=place.path,
        )
    return "out", Place(origin, inner, place), link.origin_slot, kind


def _through(place: Place, index: int) -> _Next:
    """Pass a subgraph whose input goes straight to its output."""
    if not 0 <= index < len(place.node.inputs):
        raise place.node.error(
            "broken_link", "an output comes from an input that is not there", path=place.path
        )
    return "in", place, index, None


def _passed_on(place: Place, index: int, kind: str) -> int | None:
    """Return the input that a bypassed node passes on in place of an output."""
    node, graph = place.node, place.graph
    if not 0 <= index < len(node.outputs):
        raise node.error("broken_link", f"it has no output {index}", path=place.path)
    if kind in ANY:
        if not node.inputs:
            raise node.error("broken_link", "it is bypassed and has no input", path=place.path)
        return index if index < len(node.inputs) else 0
    own = output_type(graph, node, index)
    types = [input_type(graph, node, slot) for slot in node.inputs]

    def suits(found: str) -> bool:
        return fits(found, own) and fits(found, kind)

    if index < len(types) and suits(types[index]):
        return index
    exact = next((place for place, found in enumerate(types) if found == kind), None)
    if exact is not None:
        return exact
    return next((place for place, found in enumerate(types) if suits(found)), None)


def _input(place: Place, index: int) -> Slot:
    if not 0 <= index < len(place.node.inputs):
        raise place.node.error("broken_link", f"it has no input {index}", path=place.path)
    return place.node.inputs[index]
