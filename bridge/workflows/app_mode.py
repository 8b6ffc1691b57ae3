"""The inputs and outputs that a file's author has chosen, in the App Mode of ComfyUI's page.

`extra.linearData` has `inputs`, a list of `[node, widget]`, and `outputs`, a list of nodes. A node
is given by its id, even if it is inside a subgraph, or as `<graph>:<node>:<widget>`. A widget of
a subgraph node is one that it shows of a node inside.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import Struct

from bridge.workflows.conversion.document import MAX_PER_NODE, Document, node_id
from bridge.workflows.conversion.document import read as document_of
from bridge.workflows.conversion.promotion import PRIMITIVE
from bridge.workflows.graph import Graph, NodeInput

# Of `<graph>:<node>:<widget>`.
_COLONS = 2


class AppMode(Struct, frozen=True):
    """The places of the inputs and the ids of the output nodes in the converted graph, in order.

    `also` are more places of an input, by the first: what a widget or a primitive node feeds.
    """

    inputs: tuple[NodeInput, ...] = ()
    outputs: tuple[str, ...] = ()
    also: Mapping[NodeInput, tuple[NodeInput, ...]] = {}


def read(file: Mapping[str, Any], graph: Graph) -> AppMode:
    """Return the declarations of a page's file, as far as the converted graph has them.

    Raises ConversionError for a file that cannot be read.
    """
    match file:
        case {"extra": {"linearData": {**declared}}}:
            document = document_of(file)
        case _:
            return AppMode()
    inputs: dict[NodeInput, tuple[NodeInput, ...]] = {}
    for entry in _list(declared.get("inputs")):
        match entry:
            case [node, str(widget), *_]:
                found = list(dict.fromkeys(_places(document, graph, _node(node), widget)))
                if found:
                    inputs.setdefault(found[0], tuple(found[1:]))
    outputs: dict[str, None] = {}
    for node in _list(declared.get("outputs")):
        outputs.update(dict.fromkeys(_ids(graph, _node(node))))
    also = {place: others for place, others in inputs.items() if others}
    return AppMode(tuple(inputs), tuple(outputs), also)


def _node(raw: Any) -> str:
    """Return the id of a node, without the graph and the widget that may stand with it."""
    if isinstance(raw, str) and raw.count(":") >= _COLONS:
        raw = raw.split(":")[1]
    return node_id(raw) or ""


def _ids(graph: Graph, node: str) -> list[str]:
    """Return the ids of a node in the converted graph: of the root's, else of those inside."""
    if node in graph.nodes:
        return [node]
    return [each for each in graph.nodes if each.endswith(f":{node}")] if node else []


def _places(document: Document, graph: Graph, node: str, widget: str) -> Iterator[NodeInput]:
    """Yield the places of a widget that can be given: its own, or those that a host shows."""
    candidates = [NodeInput(each, widget) for each in _ids(graph, node)]
    candidates += [
        NodeInput(f"{node}:{inner}", name) for inner, name in _shown(document, node, widget)
    ]
    candidates += [
        NodeInput(each, name) for inner, name in _fed(document, node) for each in _ids(graph, inner)
    ]
    for place in candidates:
        found = graph.nodes.get(place.node)
        if found is not None and place.input in dict(found.literals()):
            yield place


def _shown(document: Document, host: str, widget: str) -> Iterator[tuple[str, str]]:
    """Yield inner node and input of a widget that a subgraph node of the root shows."""
    found = next((each for each in document.root.nodes if each.id == host), None)
    if found is None:
        return
    for entry in _list(found.properties.get("proxyWidgets")):
        match entry:
            case [inner, str(name), *_] if name == widget and node_id(inner) is not None:
                yield str(inner), name
    for inside in document.subgraphs:
        if inside.id != found.type:
            continue
        inputs = {node.id: node.inputs for node in inside.nodes}
        links = {link.id: link for link in inside.links}
        shown = [link for slot in inside.inputs if slot.name == widget for link in slot.links]
        for link in (links[each] for each in shown if each in links):
            slots = inputs.get(link.target, ())
            if 0 <= link.target_slot < len(slots):
                yield link.target, slots[link.target_slot].name


def _fed(document: Document, primitive: str) -> Iterator[tuple[str, str]]:
    """Yield node and input of what a primitive node feeds: it is not in the converted graph."""
    for drawn in (document.root, *document.subgraphs):
        leaving = {
            link
            for node in drawn.nodes
            if node.id == primitive and node.type == PRIMITIVE
            for output in node.outputs
            for link in output.links
        }
        for target in drawn.nodes if leaving else ():
            for slot in target.inputs:
                if slot.link in leaving:
                    yield target.id, slot.name


def _list(value: Any) -> list[Any]:
    return value[:MAX_PER_NODE] if isinstance(value, list) else []
