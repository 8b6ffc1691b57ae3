"""Draws a graph in API format as ComfyUI's page would save it, for nodes that read the workflow.

A graph in API format has no such file, and node classes of packs that read it (`EXTRA_PNGINFO`)
often rely on it. Values and links are those of the graph; positions are made up.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

from bridge.workflows.conversion import frontend
from bridge.workflows.conversion.document import FileNode
from bridge.workflows.conversion.model import MISSING, LiveNode, Mode, WidgetKind
from bridge.workflows.conversion.widgets import Layout
from bridge.workflows.graph import VALUE, Graph, Node, link
from bridge.workflows.objectinfo import NodeClass, ObjectInfo, ObjectInfoError

_HIDDEN = "EXTRA_PNGINFO"
_PACKS = "custom_nodes."
_OURS = "Comfy2MQTT"
_WIDTH, _HEIGHT, _COLUMNS = 300, 200, 8
# Ids of ComfyUI's page are numbers with at most this many digits.
_MAX_DIGITS = 10


def reads_workflow(graph: Graph, info: ObjectInfo) -> bool:
    """True if a node of a pack asks for the workflow; ComfyUI's own nodes only store it."""
    for node in graph.nodes.values():
        found = _declared(node, info)
        if found is None or not found.module.startswith(_PACKS):
            continue
        ours = node.class_type.startswith(_OURS)
        if not ours and any(each.type == _HIDDEN for each in found.hidden):
            return True
    return False


def draw(graph: Graph, info: ObjectInfo) -> dict[str, Any]:
    """Return a file of ComfyUI's Save, version 0.4, that stands for the graph."""
    return _Drawing(graph, info).document()


class _Drawing:
    """One graph while it is drawn."""

    def __init__(self, graph: Graph, info: ObjectInfo) -> None:
        self._graph = graph
        self._info = info
        self._layout = Layout(frontend.of(info))
        self._links: list[list[Any]] = []
        # The page knows ids such as `58:4` inside subgraphs only.
        numbers = count(1 + max((int(each) for each in graph.nodes if _is_number(each)), default=0))
        self._ids = {each: int(each) if _is_number(each) else next(numbers) for each in graph.nodes}

    def document(self) -> dict[str, Any]:
        """Return the file."""
        nodes = [self._node(place, node) for place, node in enumerate(self._graph.nodes.values())]
        for identity, origin, slot, *_ in self._links:
            outputs = next(node for node in nodes if node["id"] == origin)["outputs"]
            while len(outputs) <= slot:
                outputs.append({"name": "*", "type": "*", "links": []})
            outputs[slot]["links"].append(identity)
        return {
            "last_node_id": max(self._ids.values(), default=0),
            "last_link_id": len(self._links),
            "nodes": nodes,
            "links": self._links,
            "groups": [],
            "config": {},
            "extra": {},
            "version": 0.4,
        }

    def _node(self, place: int, node: Node) -> dict[str, Any]:
        declared = _declared(node, self._info)
        live = self._laid_out(node, declared)
        outputs = () if declared is None else declared.outputs
        drawn: dict[str, Any] = {
            "id": self._ids[node.id],
            "type": node.class_type,
            "pos": [place % _COLUMNS * _WIDTH, place // _COLUMNS * _HEIGHT],
            "size": [_WIDTH - 50, _HEIGHT - 50],
            "flags": {},
            "order": place,
            "mode": Mode.ACTIVE.value,
            "inputs": list(self._inputs(node, live)),
            "outputs": [{"name": each.name, "type": each.type, "links": []} for each in outputs],
            "properties": {"Node name for S&R": node.class_type},
            "widgets_values": list(_values(node, live)),
        }
        if node.title is not None:
            drawn["title"] = node.title
        return drawn

    def _laid_out(self, node: Node, declared: NodeClass | None) -> LiveNode:
        """Return the slots and widgets that the page gives to a node."""
        file = FileNode(node.id, node.class_type)
        live = LiveNode(node.id, node.class_type, Mode.ACTIVE, node.title, file, declared)
        if declared is None:
            return live
        self._layout.lay_out(live, declared)
        place = 0
        # A choice brings further widgets right after it: the list is walked while it grows.
        while place < len(live.widgets):
            widget = live.widgets[place]
            if widget.kind is WidgetKind.DYNAMIC and link(node.inputs.get(widget.name)) is None:
                self._layout.choose(live, widget, node.inputs.get(widget.name))
            place += 1
        return live

    def _inputs(self, node: Node, live: LiveNode) -> Iterator[dict[str, Any]]:
        slots = {slot.name: slot for slot in live.inputs}
        names = dict.fromkeys((*slots, *(name for name, _ in node.links())))
        for place, name in enumerate(names):
            slot = slots.get(name)
            kind = "*" if slot is None else slot.type
            drawn: dict[str, Any] = {"name": name, "type": kind, "link": None}
            if slot is not None and slot.widget is not None:
                drawn["widget"] = {"name": slot.widget}
            taken = link(node.inputs.get(name))
            if taken is not None:
                drawn["link"] = len(self._links) + 1
                ends = [self._ids[taken.node], taken.output, self._ids[node.id], place]
                self._links.append([drawn["link"], *ends, kind])
            yield drawn


def _values(node: Node, live: LiveNode) -> Iterator[Any]:
    for widget in live.widgets:
        if not widget.saved:
            continue
        value = node.inputs.get(widget.name, widget.value)
        if not widget.sent or value is MISSING or link(value) is not None:
            value = "fixed" if widget.name.startswith("control_after") else None
        yield value[VALUE] if isinstance(value, dict) and VALUE in value else value


def _declared(node: Node, info: ObjectInfo) -> NodeClass | None:
    try:
        return info.get(node.class_type)
    except ObjectInfoError:
        return None


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < _MAX_DIGITS
