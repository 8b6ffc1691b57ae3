"""Widgets that a subgraph shows on its outside.

A subgraph node shows a widget for each of its inputs that ends at a widget inside; the value shown
is sent in place of the inner one. Files list such values by position, or, from before, name the
inner node and widget (`proxyWidgets`). The earlier front end treats the latter as windows to the
inner value; the later one makes real inputs of them when it loads the file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from bridge.workflows.conversion.frontend import FrontEnd
from bridge.workflows.conversion.live import MISSING, Boundary, Graph, Link, Node, Slot, Widget
from bridge.workflows.conversion.document import INPUT_NODE

# Inner node, widget name and, in the newest form, a third word that tells twins apart.
_Entry: TypeAlias = tuple[str, str, str | None]

# The subgraph's own side in an entry: the widget of one of its inputs.
_OWN = "-1"
_PREFIX = re.compile(r"^\s*(\d+)\s*:\s*(.+)$", re.DOTALL)
_PRIMITIVE = "PrimitiveNode"


def show(host: Node, front_end: FrontEnd) -> None:
    """Give a new subgraph node the values that it shows, as the file has them."""
    for slot in host.inputs:
        boundary = _boundary(host, slot.name)
        if boundary is not None:
            _bind(host, slot, boundary, by_place=not front_end.host_values)
    values = host.source.values
    listed: Sequence[Any] = values if isinstance(values, tuple) else ()
    shown = [slot.shown for slot in host.inputs if slot.shown is not None]
    kept = _set_aside(host) if front_end.host_values else {}
    for widget, value in zip(shown, listed, strict=False):
        widget.value = value
    for slot in host.inputs:
        if slot.shown is not None and slot.name in kept:
            slot.shown.value = kept[slot.name]
    if not front_end.host_values:
        _narrow(host, listed)


def _narrow(host: Node, values: Sequence[Any]) -> None:
    """Apply `proxyWidgets` as windows: only entries of the node's own side carry values."""
    entries = list(_entries(host.properties.get("proxyWidgets")))
    if not entries:
        return
    own = {name for node, name, _ in entries if node == _OWN}
    windows = {name for node, name, _ in entries if node != _OWN}
    for slot in host.inputs:
        # A window of the same name takes the place of the widget.
        if slot.shown is not None and slot.name in windows and slot.name not in own:
            slot.shown = None
    for (node, name, _), value in zip(entries, values, strict=False):
        slot = host.slot_named(name)
        if node == _OWN and value is not None and slot is not None and slot.shown is not None:
            slot.shown.value = value


def migrate(host: Node) -> None:
    """Make inputs of what `proxyWidgets` names, and give them the values that the file lists."""
    values = host.source.values
    listed: Sequence[Any] = values if isinstance(values, tuple) else ()
    entries = [_resolved(host, entry) for entry in _entries(host.properties.get("proxyWidgets"))]
    # What becomes of an entry is decided for all of them before anything changes.
    plans = [(_linked_input(host, entry), entry) for entry in entries]
    primitives: dict[str, Any] = {}
    for index, (linked, entry) in enumerate(plans):
        value = listed[index] if index < len(listed) and listed[index] is not None else MISSING
        node, name, _ = entry
        if linked is not None:
            _give(host, linked, value)
        elif node == _OWN:
            _give(host, name, value)
        elif (inner := _inner(host).nodes.get(node)) is None:
            continue
        elif inner.type == _PRIMITIVE:
            if primitives.get(node, MISSING) is MISSING:
                primitives[node] = value
        else:
            _promote(host, inner, entry, value)
    for node, value in primitives.items():
        _replace_primitive(host, _inner(host).nodes[node], value)


def _give(host: Node, name: str, value: Any) -> None:
    slot = host.slot_named(name)
    if slot is not None and slot.shown is not None and value is not MISSING:
        slot.shown.value = value


def _promote(host: Node, inner: Node, entry: _Entry, value: Any) -> None:
    """Make an input of the subgraph for an inner widget."""
    slot = _source_slot(inner, entry)
    if slot is None or inner.widget_of(slot) is None:
        return
    boundary = _add_input(_inner(host), entry[1], slot.type, [(inner, slot)])
    _give(host, boundary.name, value)


def _replace_primitive(host: Node, primitive: Node, value: Any) -> None:
    """Make an input of the subgraph for what a primitive node feeds, and cut the node off.

    The targets are taken by the places that the links name. The front end does so before it has
    corrected them, so that an input can be made for the wrong widget; what it sends is followed.
    """
    graph = _inner(host)
    output = primitive.outputs[0] if primitive.outputs else None
    if output is None:
        return
    targets: list[tuple[Node, Slot]] = []
    for identity in output.links:
        link = graph.links.get(identity)
        node = graph.nodes.get(link.target) if link is not None else None
        if link is None or node is None or not 0 <= link.target_slot < len(node.inputs):
            return
        slot = node.inputs[link.target_slot]
        if slot.type != output.type and "*" not in (slot.type, output.type):
            return
        targets.append((node, slot))
    if not targets:
        return
    for _, slot in targets:
        _cut(graph, slot)
    boundary = _add_input(graph, primitive.title or _PRIMITIVE, output.type, targets)
    _give(host, boundary.name, value)


def _cut(graph: Graph, slot: Slot) -> None:
    """Take the link away that ends at a slot."""
    link = graph.links.pop(slot.link, None) if slot.link is not None else None
    slot.link = None
    origin = graph.nodes.get(link.origin) if link is not None else None
    if link is not None and origin is not None and 0 <= link.origin_slot < len(origin.outputs):
        links = origin.outputs[link.origin_slot].links
        links[:] = [each for each in links if each != link.id]


def _add_input(
    graph: Graph, name: str, kind: str, targets: Sequence[tuple[Node, Slot]]
) -> Boundary:
    taken = {each.name for each in graph.inputs}
    unique, count = name, 0
    while unique in taken:
        count += 1
        unique = f"{name}_{count}"
    boundary = Boundary(unique, kind)
    graph.inputs.append(boundary)
    for node, slot in targets:
        link = Link(
            id=graph.new_link_id(),
            origin=INPUT_NODE,
            origin_slot=len(graph.inputs) - 1,
            target=node.id,
            target_slot=node.inputs.index(slot),
        )
        graph.links[link.id] = link
        boundary.links.append(link.id)
        slot.link = link.id
    for host in graph.hosts:
        slot = Slot(unique, kind)
        host.inputs.append(slot)
        _bind(host, slot, boundary, by_place=False)
    return boundary


def _bind(host: Node, slot: Slot, boundary: Boundary, *, by_place: bool) -> None:
    """Let a subgraph node's input show the first widget that it ends at."""
    for _, _, widget in _ends(_inner(host), boundary, by_place=by_place):
        if widget is not None:
            slot.widget = boundary.name
            slot.shown = replace(widget, name=boundary.name, dynamic_prompt=False)
            return


def _ends(
    graph: Graph, boundary: Boundary, *, by_place: bool
) -> Iterator[tuple[Node, Slot, Widget | None]]:
    """Give the inner slots that an input ends at, with their widgets.

    `by_place` goes by the position that the link names, which is that of the file and not always
    that of the live node: so does the earlier front end.
    """
    for identity in boundary.links:
        link = graph.links.get(identity)
        node = graph.nodes.get(link.target) if link is not None else None
        if link is None or node is None:
            continue
        slot: Slot | None
        if by_place:
            found = 0 <= link.target_slot < len(node.inputs)
            slot = node.inputs[link.target_slot] if found else None
        else:
            slot = node.slot_linked(identity)
        if slot is not None:
            yield node, slot, node.widget_of(slot)


def _linked_input(host: Node, entry: _Entry) -> str | None:
    """Return the subgraph node's input that ends at the entry's widget, if one does."""
    for slot in host.inputs:
        boundary = _boundary(host, slot.name)
        if boundary is not None and _source(_inner(host), boundary) == entry[:2]:
            return slot.name
    return None


def _source(graph: Graph, boundary: Boundary) -> tuple[str, str] | None:
    for node, slot, widget in _ends(graph, boundary, by_place=False):
        if node.inner is not None:
            return node.id, slot.name
        if widget is not None:
            return node.id, widget.name
    return None


def _source_slot(inner: Node, entry: _Entry) -> Slot | None:
    """Return the slot of an inner node that stands for the entry's widget."""
    _, name, twin = entry
    if inner.inner is not None:
        for slot in inner.inputs:
            boundary = _boundary(inner, slot.name)
            target = _source(inner.inner, boundary) if boundary is not None else None
            if twin is not None:
                if target == (twin, name):
                    return slot
            elif slot.name == name or (target is not None and target[1] == name):
                return slot
        return None
    widget = inner.widget(name)
    return inner.slot_of(widget) if widget is not None else None


def _resolved(host: Node, entry: _Entry) -> _Entry:
    """Return the entry without the prefixes that older files put before a nested widget's name."""
    node, name, twin = entry
    inner = _inner(host).nodes.get(node)
    if inner is not None and _leads_to_widget(inner, name):
        return entry
    while (match := _PREFIX.match(name)) is not None:
        twin, name = match[1], match[2]
    return node, name, twin


def _leads_to_widget(node: Node, name: str) -> bool:
    while node.inner is not None:
        boundary = _boundary(node, name)
        target = _source(node.inner, boundary) if boundary is not None else None
        if target is None:
            return False
        node, name = node.inner.nodes[target[0]], target[1]
    return node.widget(name) is not None


def _set_aside(host: Node) -> dict[str, Any]:
    """Return values by input that the front end could not place before, and kept in the file."""
    found: dict[str, Any] = {}
    kept = host.properties.get("proxyWidgetErrorQuarantine")
    for each in reversed(kept if isinstance(kept, list) else []):
        match each:
            case {"originalEntry": [str(node), str(name), *_], "hostValue": value}:
                if node == _OWN and value is not None:
                    found[name] = value
    return found


def _entries(raw: Any) -> Iterator[_Entry]:
    """Give the entries of `proxyWidgets`; a list with anything else in it counts as none."""
    if not isinstance(raw, list):
        return
    found: list[_Entry] = []
    for each in raw:
        match each:
            case [str(node), str(name)]:
                found.append((node, name, None))
            case [str(node), str(name), str(twin)]:
                found.append((node, name, twin))
            case _:
                return
    yield from found


def _boundary(host: Node, name: str) -> Boundary | None:
    return next((each for each in _inner(host).inputs if each.name == name), None)


def _inner(host: Node) -> Graph:
    if host.inner is None:
        raise TypeError(f"node {host.id} shows no subgraph")
    return host.inner
