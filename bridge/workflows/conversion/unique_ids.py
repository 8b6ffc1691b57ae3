"""Node ids that are unique in the whole file, as newer front ends make them.

A subgraph made by copying keeps the ids of its origin. Since the values of widgets are kept by
node id, the front end gives every such node a new id when it loads the file, and these new ids are
what the prompt has. The root keeps its ids; subgraphs are looked through in their order.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from msgspec.structs import replace

from bridge.workflows.conversion.document import MAX_ID, Document, FileGraph, FileNode, node_id

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
