"""Node classes that the server has replaced, in a file of the page: the new in place of the old.

A file's values have positions, which the server names by the old class's widgets. Where it does
not, values stay as they are: the new class has the same ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from bridge.workflows.conversion.document import Document, FileGraph, FileInput, FileNode
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
