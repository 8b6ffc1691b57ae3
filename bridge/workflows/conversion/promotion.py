"""Widgets that a subgraph shows on its outside.

A subgraph node shows a widget for each of its inputs that ends at a widget inside; the value shown
is sent in place of the inner one. Files list such values by position, or, from before, name the
inner node and widget (`proxyWidgets`). The earlier front end treats the latter as windows to the
inner value; the later one makes real inputs of them when it loads the file.

A subgraph node's inputs always stand in the order of the subgraph's own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import msgspec

from bridge.workflows.conversion.document import INPUT_NODE, MAX_PER_NODE
from bridge.workflows.conversion.errors import Budget
from bridge.workflows.conversion.frontend import FrontEnd
from bridge.workflows.conversion.model import (
    MISSING,
    Boundary,
    InputSlot,
    LiveGraph,
    LiveNode,
    Widget,
)
from bridge.workflows.conversion.values import SavedValues
from bridge.workflows.conversion.widgets import enter

PRIMITIVE = "PrimitiveNode"

# Inner node, widget name and, in the newest form, a third word that distinguishes twins.
_Entry: TypeAlias = tuple[str, str, str | None]

# The subgraph's own side in an entry: the widget of one of its inputs.
_OWN = "-1"
_PREFIX = re.compile(r"\s*(\d+)\s*:\s*(.+)", re.DOTALL)
_MAX_NAME = 1_000


class Promotion:
    """Finds what subgraph nodes show, as one generation of the front end does."""

    def __init__(self, front_end: FrontEnd, budget: Budget) -> None:
        self._front_end = front_end
        self._budget = budget

    def show(self, host: LiveNode, inner: LiveGraph) -> None:
        """Set the values that a new subgraph node shows, as the file has them."""
        for slot, boundary in zip(host.inputs, inner.inputs, strict=True):
            self._bind(slot, inner, boundary, by_place=not self._front_end.host_values)
        values = _listed(host)
        saved = SavedValues(host.source, values)
        shown = [slot.shown for slot in host.inputs if slot.shown is not None]
        for place, widget in enumerate(shown):
            value = saved.value(place, widget.name)
            if value is not MISSING:
                enter(widget, value, self._front_end)
        if self._front_end.host_values:
            for name, value in _set_aside(host).items():
                self._give(host, name, value)
        else:
            self._look_through(host, values)

    def migrate(self, host: LiveNode, inner: LiveGraph) -> None:
        """Make inputs of what `proxyWidgets` names, with the values that the file lists."""
        listed = _entries(host)
        self._budget.spend(len(listed))
        entries = [self._resolved(inner, each) for each in listed]
        # What becomes of an entry is decided for all of them before anything changes.
        linked = self._linked(host, inner) if entries else {}
        plans = [(linked.get(entry[:2]), entry) for entry in entries]
        values = _listed(host)
        primitives: dict[str, Any] = {}
        for index, (name, entry) in enumerate(plans):
            value = values[index] if index < len(values) and values[index] is not None else MISSING
            source = inner.nodes.get(entry[0])
            if name is not None or entry[0] == _OWN:
                self._give(host, entry[1] if name is None else name, value)
            elif source is not None and source.type == PRIMITIVE:
                if primitives.get(source.id, MISSING) is MISSING:
                    primitives[source.id] = value
            elif source is not None:
                self._promote(host, inner, entry, value)
        for node, value in primitives.items():
            self._replace_primitive(host, inner, inner.nodes[node], value)

    def _look_through(self, host: LiveNode, values: Sequence[Any]) -> None:
        """Apply `proxyWidgets` as windows: only entries of the node's own side carry values."""
        entries = _entries(host)
        self._budget.spend(len(entries))
        own = {name for node, name, _ in entries if node == _OWN}
        windows = {name for node, name, _ in entries if node != _OWN}
        for slot in host.inputs:
            # A window of the same name takes the place of the widget.
            if slot.shown is not None and slot.name in windows and slot.name not in own:
                slot.shown = None
        for (node, name, _), value in zip(entries, values, strict=False):
            if node == _OWN and value is not None:
                self._give(host, name, value)

    def _give(self, host: LiveNode, name: str, value: Any) -> None:
        slot = host.slot_named(name)
        if slot is not None and slot.shown is not None and value is not MISSING:
            enter(slot.shown, value, self._front_end)

    def _promote(self, host: LiveNode, inner: LiveGraph, entry: _Entry, value: Any) -> None:
        """Make an input of the subgraph for an inner widget."""
        node = inner.nodes[entry[0]]
        slot = self._source_slot(node, entry)
        widget = node.widget_of(slot) if slot is not None else None
        # Previews and buttons are shown, too; they have no value to send.
        if slot is not None and widget is not None and widget.sent:
            boundary = self._add_input(inner, entry[1], slot.type, [(node, slot)])
            self._give(host, boundary.name, value)

    def _replace_primitive(
        self, host: LiveNode, inner: LiveGraph, primitive: LiveNode, value: Any
    ) -> None:
        """Make an input of the subgraph for what a primitive node feeds, and cut the node off.

        The targets are taken by the places that the links name. The front end does so before it
        has corrected these, so that the input can be made for another widget than the one that
        was fed; what it sends then is followed here.
        """
        output = primitive.outputs[0] if primitive.outputs else None
        if output is None:
            return
        targets: list[tuple[LiveNode, InputSlot]] = []
        for identity in output.links:
            link = inner.links.get(identity)
            node = inner.nodes.get(link.target) if link is not None else None
            if link is None or node is None or not 0 <= link.target_slot < len(node.inputs):
                return
            slot = node.slot_linked(identity) or node.inputs[link.target_slot]
            if slot.type != output.type and "*" not in (slot.type, output.type):
                return
            targets.append((node, slot))
        if targets:
            for _, slot in targets:
                _cut(inner, slot)
            boundary = self._add_input(inner, primitive.title or PRIMITIVE, output.type, targets)
            self._give(host, boundary.name, value)

    def _add_input(
        self, graph: LiveGraph, name: str, kind: str, targets: Sequence[tuple[LiveNode, InputSlot]]
    ) -> Boundary:
        """Add an input to a subgraph, and with it to all subgraph nodes that show it."""
        self._budget.spend(len(graph.inputs) + len(targets) + len(graph.hosts))
        taken = {each.name for each in graph.inputs}
        unique, count = name, 0
        while unique in taken:
            count += 1
            unique = f"{name}_{count}"
        boundary = Boundary(unique, kind)
        graph.inputs.append(boundary)
        for node, slot in targets:
            link = graph.add_link(INPUT_NODE, len(graph.inputs) - 1, node, slot)
            boundary.links.append(link.id)
        for host in graph.hosts:
            # One that is not laid out yet takes all inputs when it is.
            if len(host.inputs) == len(graph.inputs) - 1:
                added = InputSlot(unique, kind)
                host.inputs.append(added)
                self._bind(added, graph, boundary, by_place=False)
        return boundary

    def _bind(
        self, slot: InputSlot, inner: LiveGraph, boundary: Boundary, *, by_place: bool
    ) -> None:
        """Bind a subgraph node's input to the first widget that it ends at."""
        for _, _, widget in self._ends(inner, boundary, by_place=by_place):
            if widget is not None:
                slot.widget = boundary.name
                slot.shown = replace(widget, name=boundary.name, dynamic_prompt=False)
                return

    def _ends(
        self, graph: LiveGraph, boundary: Boundary, *, by_place: bool
    ) -> Iterator[tuple[LiveNode, InputSlot, Widget | None]]:
        """Yield the inner slots that an input ends at, with their widgets.

        `by_place` uses the place that the link names, which is that in the file and not always
        that on the live node, as the earlier front end does.
        """
        for identity in boundary.links:
            link = graph.links.get(identity)
            node = graph.nodes.get(link.target) if link is not None else None
            if link is None or node is None:
                continue
            self._budget.spend(1 + len(node.inputs))
            slot = node.slot_linked(identity)
            if by_place:
                found = 0 <= link.target_slot < len(node.inputs)
                slot = node.inputs[link.target_slot] if found else None
            if slot is not None:
                yield node, slot, node.widget_of(slot)

    def _source(self, graph: LiveGraph, boundary: Boundary) -> tuple[str, str] | None:
        """Return inner node and widget name that an input stands for."""
        for node, slot, widget in self._ends(graph, boundary, by_place=False):
            if node.inner is not None:
                return node.id, slot.name
            if widget is not None:
                return node.id, widget.name
        return None

    def _linked(self, host: LiveNode, inner: LiveGraph) -> dict[tuple[str, str], str]:
        """Return the names of the inputs by the inner widgets that they stand for."""
        found: dict[tuple[str, str], str] = {}
        for slot, boundary in zip(host.inputs, inner.inputs, strict=True):
            source = self._source(inner, boundary)
            if source is not None:
                found.setdefault(source, slot.name)
        return found

    def _source_slot(self, node: LiveNode, entry: _Entry) -> InputSlot | None:
        """Return the slot of an inner node that stands for the entry's widget."""
        _, name, twin = entry
        if node.inner is None:
            widget = node.widget(name)
            return node.slot_of(widget) if widget is not None else None
        for slot, boundary in zip(node.inputs, node.inner.inputs, strict=True):
            target = self._source(node.inner, boundary)
            if target == (twin, name) if twin is not None else slot.name == name:
                return slot
            if twin is None and target is not None and target[1] == name:
                return slot
        return None

    def _resolved(self, inner: LiveGraph, entry: _Entry) -> _Entry:
        """Return the entry without the prefixes of older files before a nested widget's name."""
        node, name, twin = entry
        found = inner.nodes.get(node)
        if found is not None and self._leads_to_widget(found, name):
            return entry
        while (match := _PREFIX.fullmatch(name)) is not None:
            twin, name = match[1], match[2]
        return node, name, twin

    def _leads_to_widget(self, node: LiveNode, name: str) -> bool:
        while node.inner is not None:
            boundary = next((each for each in node.inner.inputs if each.name == name), None)
            target = self._source(node.inner, boundary) if boundary is not None else None
            if target is None:
                return False
            node, name = node.inner.nodes[target[0]], target[1]
        return node.widget(name) is not None


def _cut(graph: LiveGraph, slot: InputSlot) -> None:
    """Take the link away that ends at a slot."""
    link = graph.links.pop(slot.link, None) if slot.link is not None else None
    slot.link = None
    origin = graph.nodes.get(link.origin) if link is not None else None
    if link is not None and origin is not None and 0 <= link.origin_slot < len(origin.outputs):
        links = origin.outputs[link.origin_slot].links
        links[:] = [each for each in links if each != link.id]


def _listed(host: LiveNode) -> Sequence[Any]:
    values = host.source.values
    return values if isinstance(values, tuple) else ()


def _set_aside(host: LiveNode) -> dict[str, Any]:
    """Return values by input that the front end could not place before, and kept in the file."""
    found: dict[str, Any] = {}
    kept = host.properties.get("proxyWidgetErrorQuarantine")
    for each in kept if isinstance(kept, list) else []:
        match each:
            case {"originalEntry": [str(node), str(name), *_], "hostValue": value}:
                if node == _OWN and value is not None:
                    found.setdefault(name, value)
    return found


def _entries(host: LiveNode) -> list[_Entry]:
    """Return the entries of `proxyWidgets`; a list with anything else in it counts as none."""
    raw = host.properties.get("proxyWidgets")
    if isinstance(raw, str):
        try:
            raw = msgspec.json.decode(raw)
        except (msgspec.DecodeError, RecursionError):
            return []
    if not isinstance(raw, list) or len(raw) > MAX_PER_NODE:
        return []
    found: list[_Entry] = []
    for each in raw:
        match each:
            case [str(node), str(name)] if len(name) <= _MAX_NAME:
                found.append((node, name, None))
            case [str(node), str(name), str(twin)] if len(name) <= _MAX_NAME:
                found.append((node, name, twin))
            case _:
                return []
    return found
