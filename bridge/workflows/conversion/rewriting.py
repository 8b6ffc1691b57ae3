"""Changes a file before it is loaded: node classes that were replaced, and ids used twice.

Where the server has replaced a class, the new one takes the place of the old. A file's values have
positions, which the server names by the old class's widgets. Where it does not, values stay as they
are: the new class has the same ones.

A subgraph made by copying keeps the node ids of its origin. Since the values of widgets are kept by
node id, newer front ends give every such node a new id when they load the file, and these new ids
are what the prompt has. The root keeps its ids; subgraphs are looked through in their order.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from msgspec.structs import replace

from bridge.workflows.conversion.document import (
    MAX_ID,
    Document,
    FileGraph,
    FileInput,
    FileNode,
    node_id,
)
from bridge.workflows.objectinfo import ObjectInfo
from bridge.workflows.replacements import Replacement


def with_new_classes(document: Document, object_info: ObjectInfo) -> Document:
    """Return a file with new classes in place of those that the server does not have."""
    if not object_info.replacements:
        return document
    return replace(
        document,
        root=_graph(document.root, object_info),
        subgraphs=tuple(_graph(each, object_info) for each in document.subgraphs),
    )


def _graph(graph: FileGraph, info: ObjectInfo) -> FileGraph:
    found = {
        node.id: each
        for node in graph.nodes
        if (each := info.replacements.find(node.type, info)) is not None
    }
    if not found:
        return graph
    links = tuple(
        replace(link, origin_slot=found[link.origin].output(link.origin_slot))
        if link.origin in found
        else link
        for link in graph.links
    )
    nodes = tuple(_node(each, found[each.id]) if each.id in found else each for each in graph.nodes)
    return replace(graph, nodes=nodes, links=links)


def _node(node: FileNode, new: Replacement) -> FileNode:
    named = _named(node, new)
    fixed = new.inputs(named)
    outputs = list(node.outputs)
    for old, output in enumerate(node.outputs):
        place = new.output(old)
        if place < len(outputs):
            outputs[place] = output
    return replace(
        node,
        type=new.new_node_id,
        inputs=tuple(each for slot in node.inputs if (each := _input(slot, new)) is not None),
        outputs=tuple(outputs),
        values=node.values if new.input_mapping is None and not named else fixed,
        named={},
    )


def _named(node: FileNode, new: Replacement) -> Mapping[str, Any]:
    """Return the node's values by the old class's names for them."""
    if isinstance(node.values, Mapping):
        return node.values
    if new.old_widget_ids is not None:
        return dict(zip(new.old_widget_ids, node.values or (), strict=False))
    return node.named


def _input(slot: FileInput, new: Replacement) -> FileInput | None:
    name = new.new_name(slot.name)
    if name is None:
        return None
    return replace(slot, name=name, widget=name if slot.widget is not None else None)


# Old id to new id, of one subgraph.
_Changes: TypeAlias = dict[str, str]


def with_unique_ids(document: Document) -> Document:
    """Return the file with new ids for nodes of subgraphs whose id is taken."""
    taken = {node.id for node in document.root.nodes}
    last = document.last_node_id
    changes: dict[str, _Changes] = {}
    subgraphs: list[FileGraph] = []
    for graph in document.subgraphs:
        nodes = []
        for node in graph.nodes:
            identity = node.id
            if identity in taken:
                last = _next(last, taken)
                identity = changes.setdefault(graph.id, {})[node.id] = str(last)
            else:
                last = max(last, _number(identity))
            taken.add(identity)
            nodes.append(replace(node, id=identity))
        subgraphs.append(replace(graph, nodes=tuple(nodes)))
    if not changes:
        return document
    return replace(
        document,
        root=_patched(document.root, {}, changes),
        subgraphs=tuple(_patched(graph, changes.get(graph.id, {}), changes) for graph in subgraphs),
    )


def _next(last: int, taken: set[str]) -> int:
    last += 1
    while str(last) in taken:
        last += 1
    return last


def _number(identity: str) -> int:
    if identity.isascii() and identity.isdigit() and len(identity) < len(str(MAX_ID)):
        return int(identity)
    return 0


def _patched(graph: FileGraph, own: _Changes, changes: Mapping[str, _Changes]) -> FileGraph:
    """Return the graph with the new ids in its links and in what its subgraph nodes refer to."""
    return replace(
        graph,
        nodes=tuple(_with_new_references(node, changes.get(node.type)) for node in graph.nodes),
        links=tuple(
            replace(
                link,
                origin=own.get(link.origin, link.origin),
                target=own.get(link.target, link.target),
            )
            for link in graph.links
        ),
    )


def _with_new_references(node: FileNode, inner: _Changes | None) -> FileNode:
    shown = node.properties.get("proxyWidgets")
    if not inner or not isinstance(shown, list):
        return node
    patched: list[Any] = []
    for entry in shown:
        old = node_id(entry[0]) if isinstance(entry, list) and entry else None
        patched.append([inner[old], *entry[1:]] if old in inner else entry)
    return replace(node, properties={**node.properties, "proxyWidgets": patched})
