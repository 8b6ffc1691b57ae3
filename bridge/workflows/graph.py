"""A workflow's graph in ComfyUI's API format: nodes by id, each with a class and inputs.

An input is a literal or a link, `[node id, output index]`. A graph is read once and never changed:
binding makes a new prompt for each job, so that two jobs cannot see each other's inputs.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from typing import Any

import msgspec

# ComfyUI writes node ids such as `58:43` (subgraphs) and `406.0.0.428` (expansion).
MAX_NODES = 10_000


class WorkflowError(ValueError):
    """A file or graph that is no workflow.

    `node` is the id of the node at fault, or `line` the file's line (from 1), if one is.
    """

    def __init__(self, reason: str, *, node: str | None = None, line: int | None = None) -> None:
        super().__init__(f"node {node}: {reason}" if node is not None else reason)
        self.reason = reason
        self.node = node
        self.line = line


class NodeInput(msgspec.Struct, frozen=True):
    """A place in a graph: an input of a node."""

    node: str
    input: str

    def __str__(self) -> str:
        return f"{self.node}.{self.input}"


class NodeOutput(msgspec.Struct, frozen=True):
    """An input that takes another node's output."""

    node: str
    output: int


class Node(msgspec.Struct, frozen=True):
    """One node: its inputs are literals, or links in ComfyUI's own form."""

    id: str
    class_type: str
    inputs: Mapping[str, Any]
    title: str | None = None

    def literals(self) -> Iterator[tuple[str, Any]]:
        """Give each input that is a literal."""
        return ((name, value) for name, value in self.inputs.items() if link(value) is None)

    def links(self) -> Iterator[tuple[str, NodeOutput]]:
        """Give each input that is a link."""
        for name, value in self.inputs.items():
            found = link(value)
            if found is not None:
                yield name, found


class Graph(msgspec.Struct, frozen=True):
    """All nodes of a workflow, in the order of the file."""

    nodes: Mapping[str, Node]

    def consumers(self) -> dict[str, list[tuple[Node, str]]]:
        """Return for each node that is linked to, which nodes and inputs take its outputs."""
        found: dict[str, list[tuple[Node, str]]] = {}
        for node in self.nodes.values():
            for name, taken in node.links():
                found.setdefault(taken.node, []).append((node, name))
        return found

    def without(self, nodes: Container[str]) -> Graph:
        """Return a graph that lacks some nodes, which nothing may link to."""
        return Graph({key: node for key, node in self.nodes.items() if key not in nodes})

    def changed(self, values: Mapping[NodeInput, Any]) -> Graph:
        """Return a graph with other literals at some places."""
        nodes = dict(self.nodes)
        for target, value in values.items():
            node = nodes[target.node]
            inputs = {**node.inputs, target.input: value}
            nodes[target.node] = msgspec.structs.replace(node, inputs=inputs)
        return Graph(nodes)

    def prompt(self) -> dict[str, dict[str, Any]]:
        """Return a new prompt, as ComfyUI takes it, that shares no dict with the graph."""
        return {
            node.id: {"class_type": node.class_type, "inputs": dict(node.inputs)}
            for node in self.nodes.values()
        }


def link(value: Any) -> NodeOutput | None:
    """Return the link that an input's value is, or None for a literal."""
    match value:
        case [str(node), int(output)] if not isinstance(output, bool):
            return NodeOutput(node, output)
    return None


def parse(document: Any) -> Graph:
    """Read a graph in API format.

    Raises WorkflowError, naming the node, for what ComfyUI could not run: no class, inputs that
    are no object, a link to a node that is not there.
    """
    if not isinstance(document, Mapping):
        raise WorkflowError("not a workflow: expected an object of nodes by id")
    # Some tools wrap the graph as they would send it.
    if isinstance(document.get("prompt"), Mapping):
        document = document["prompt"]
    if not document:
        raise WorkflowError("the workflow has no nodes")
    if len(document) > MAX_NODES:
        raise WorkflowError(f"the workflow has more than {MAX_NODES} nodes")
    nodes = {str(key): _node(str(key), value) for key, value in document.items()}
    for node in nodes.values():
        for name, found in node.links():
            if found.node not in nodes:
                raise WorkflowError(
                    f"input {name!r} links to node {found.node}, which is not there", node=node.id
                )
    return Graph(nodes)


def _node(key: str, value: Any) -> Node:
    match value:
        case {"class_type": str(class_type), "inputs": dict(inputs)}:
            meta = value.get("_meta")
            title = meta.get("title") if isinstance(meta, Mapping) else None
            return Node(key, class_type, inputs, title if isinstance(title, str) else None)
        case {"class_type": str()}:
            raise WorkflowError("`inputs` is missing or no object", node=key)
    raise WorkflowError("not a node in API format: `class_type` is missing", node=key)
