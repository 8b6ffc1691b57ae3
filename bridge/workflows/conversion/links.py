"""Resolves links: where an input's value comes from.

A link is followed up through subgraph nodes' outsides and insides, reroutes, and bypassed nodes,
until it reaches a node that the server runs, a value that a subgraph node shows, or nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from bridge.workflows.conversion.document import INPUT_NODE
from bridge.workflows.conversion.errors import Budget
from bridge.workflows.conversion.frontend import FrontEnd
from bridge.workflows.conversion.model import ANY, InputSlot, LiveGraph, LiveNode, Mode, Types, fits

# Nodes of extensions that take what another node was given under a name, and those others.
GETTERS: Final = {"GetNode": "SetNode", "easy getNode": "easy setNode"}


@dataclass(frozen=True, slots=True)
class Place:
    """A node in one particular subgraph node, which may be one of several that show its graph."""

    node: LiveNode
    graph: LiveGraph
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


@dataclass(frozen=True, slots=True)
class Origin:
    """An output of a node that the server runs."""

    node: str
    slot: int


@dataclass(frozen=True, slots=True)
class HostValue:
    """A value that a subgraph node shows."""

    value: Any


Resolved: TypeAlias = Origin | HostValue | None


@dataclass(frozen=True, slots=True)
class _Input:
    """At an input. `wanted` is the type that is asked for, if it is not the input's own."""

    place: Place
    slot: int
    wanted: str | None = None


@dataclass(frozen=True, slots=True)
class _Output:
    """At an output, asked for a type."""

    place: Place
    slot: int
    wanted: str


_At: TypeAlias = _Input | _Output | Resolved
# Kind of slot, node, slot and type asked for.
_Step: TypeAlias = tuple[type, str, int, str | None]


class LinkResolver:
    """Finds where inputs come from. What was found along one way is known for the next."""

    def __init__(self, places: Iterable[Place], front_end: FrontEnd, budget: Budget) -> None:
        """`places` are all nodes of the file."""
        self._setters: dict[tuple[str, str], list[Place]] = {}
        for place in places:
            if place.node.virtual and place.node.type in GETTERS.values():
                key = (place.node.type, _constant(place.node))
                self._setters.setdefault(key, []).append(place)
        self._front_end = front_end
        self._budget = budget
        self._types = Types()
        self._known: dict[_Step, Resolved] = {}

    def find(self, place: Place, slot: int) -> Resolved:
        """Return the input's origin; None if nothing is linked to it.

        Raises ConversionError: `broken_link` or `cyclic_link`.
        """
        at: _At = _Input(place, slot)
        way: dict[_Step, None] = {}
        while isinstance(at, _Input | _Output):
            self._budget.spend()
            step = (type(at), at.place.id, at.slot, at.wanted)
            if step in self._known:
                at = self._known[step]
                break
            if step in way:
                raise at.place.node.error(
                    "cyclic_link", "the link leads back to itself", path=at.place.path
                )
            way[step] = None
            at = self._behind_input(at) if isinstance(at, _Input) else self._behind_output(at)
        self._known.update(dict.fromkeys(way, at))
        return at

    def _behind_input(self, at: _Input) -> _At:
        """Take one step from an input to what is linked to it."""
        place = at.place
        slot = _slot(at)
        if slot.link is None:
            return None
        link = place.graph.links.get(slot.link)
        if link is None:
            raise _broken(place, f"input {slot.name!r} has a link that is not there")
        if place.host is not None and link.origin == INPUT_NODE:
            return _outside(place.host, link.origin_slot, slot)
        origin = place.graph.nodes.get(link.origin)
        if origin is None:
            reason = f"input {slot.name!r} is linked to node {link.origin}, which is not there"
            raise _broken(place, reason)
        wanted = at.wanted
        if wanted is None:
            wanted = self._types.input(place.graph, place.node, slot)
        return _Output(Place(origin, place.graph, place.host), link.origin_slot, wanted)

    def _behind_output(self, at: _Output) -> _At:
        """Take one step from an output to what stands behind it."""
        place, node = at.place, at.place.node
        if node.mode == Mode.MUTED and self._front_end.stops_at_muted:
            return None
        if node.mode == Mode.BYPASSED:
            passed = self._passed_on(at)
            return None if passed is None else _Input(place, passed)
        if node.inner is not None:
            return _inside(at, node.inner)
        if node.virtual and node.type in GETTERS:
            setter = self._setter(place)
            return None if setter is None else _Input(setter, 0, at.wanted)
        if node.virtual:
            # A reroute, or a page-only node that has nothing to give.
            return _Input(place, at.slot, at.wanted) if at.slot < len(node.inputs) else None
        return Origin(place.id, at.slot)

    def _setter(self, getter: Place) -> Place | None:
        """Return the node that sets a getter's name: of its own graph, an outer one, or any."""
        name = _constant(getter.node)
        found = self._setters.get((GETTERS[getter.node.type], name), []) if name else []
        around: Place | None = getter
        while around is not None:
            for setter in found:
                if setter.path == around.path and setter.node.inputs:
                    return setter
            around = around.host
        return next((setter for setter in found if setter.node.inputs), None)

    def _passed_on(self, at: _Output) -> int | None:
        """Return the input that a bypassed node passes on in place of an output."""
        node, graph = at.place.node, at.place.graph
        if not 0 <= at.slot < len(node.outputs):
            raise _broken(at.place, f"it has no output {at.slot}")
        if at.wanted in ANY:
            if not node.inputs:
                raise _broken(at.place, "it is bypassed and has no input to pass on")
            return at.slot if at.slot < len(node.inputs) else 0
        own = self._types.output(graph, node, at.slot)
        types = [self._types.input(graph, node, slot) for slot in node.inputs]
        suiting = [place for place, found in enumerate(types) if fits(found, own, at.wanted)]
        if at.slot in suiting:
            return at.slot
        exact = [place for place, found in enumerate(types) if found == at.wanted]
        return next(iter(exact or suiting), None)


def _constant(node: LiveNode) -> str:
    """Return the name that a node sets or gets: the value of its only widget."""
    values = node.source.values
    listed = list(values.values()) if isinstance(values, Mapping) else values
    return listed[0] if listed and isinstance(listed[0], str) else ""


def _outside(host: Place, index: int, inner: InputSlot) -> _At:
    """Leave a subgraph by one of its inputs."""
    if not 0 <= index < len(host.node.inputs):
        raise _broken(host, f"{inner.name!r} inside is linked to an input that is not there")
    outer = host.node.inputs[index]
    if outer.link is not None:
        return _Input(host, index)
    return HostValue(outer.shown.value) if outer.shown is not None else None


def _inside(at: _Output, inner: LiveGraph) -> _At:
    """Enter a subgraph by one of its outputs."""
    if not 0 <= at.slot < len(inner.outputs):
        raise _broken(at.place, "a link leaves by an output that is not there")
    links = inner.outputs[at.slot].links
    link = next((inner.links[each] for each in links if each in inner.links), None)
    if link is None:
        return None
    if link.origin == INPUT_NODE:
        # An input that goes straight through to the output.
        return _Input(at.place, link.origin_slot)
    origin = inner.nodes.get(link.origin)
    if origin is None:
        reason = f"output {at.slot} comes from node {link.origin}, which is not there"
        raise _broken(at.place, reason)
    return _Output(Place(origin, inner, at.place), link.origin_slot, at.wanted)


def _slot(at: _Input) -> InputSlot:
    inputs = at.place.node.inputs
    if not 0 <= at.slot < len(inputs):
        raise _broken(at.place, f"it has no input {at.slot}")
    return inputs[at.slot]


def _broken(place: Place, reason: str) -> Exception:
    return place.node.error("broken_link", reason, path=place.path)
