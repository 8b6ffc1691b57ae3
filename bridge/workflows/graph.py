"""A workflow's graph in ComfyUI's API format: nodes by id, each with a class and inputs.

An input is a literal or a link, `[node id, output index]`. A graph is read once and never changed:
binding makes a new prompt for each job, so that two jobs cannot see each other's inputs.
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Mapping
from typing import Any

import msgspec

# ComfyUI writes node ids such as `58:43` (subgraphs) and `406.0.0.428` (expansion).
MAX_NODES = 10_000
MAX_OUTPUTS = 1_000
# ComfyUI walks a chain of links, and the lists and objects in a value, by recursion, also in nodes
# that no output needs. Python's limit of 1,000 frames then ends its worker thread, and with it the
# jobs of everybody: a chain of 1,000 nodes does it, as does an object nested a thousand deep.
MAX_CHAIN = 400
MAX_NESTING = 50
# What 64 bits hold, signed or not: ComfyUI's nodes and JSON readers take no more.
MIN_INTEGER, MAX_INTEGER = -(2**63), 2**64 - 1
# Values that are no link, without a closer look.
_SCALARS = (str, int, float)
_LISTS = (list, tuple)
# The key under which a list stands in a prompt as a value. ComfyUI replaces any object that has it
# by what is under it, and takes the outcome for a link where it looks like one.
VALUE = "__value__"


class WorkflowError(ValueError):
    """A file or graph that is no workflow.

    `node` is the id of the node at fault, or `line` the file's line (from 1), if one is.
    """

    def __init__(self, reason: str, *, node: str | None = None, line: int | None = None) -> None:
        super().__init__(f"node {node}: {reason}" if node is not None else reason)
        self.reason = reason
        self.node = node
        self.line = line


class NodeInput(msgspec.Struct, frozen=True, gc=False):
    """A place in a graph: an input of a node."""

    node: str
    input: str

    def __str__(self) -> str:
        return f"{self.node}.{self.input}"


class NodeLink(msgspec.Struct, frozen=True, gc=False):
    """An input that takes another node's output."""

    node: str
    output: int


class Node(msgspec.Struct, frozen=True):
    """One node: its inputs are literals, or links in ComfyUI's own form.

    `unknown` are names and types of inputs that its file has, and its class is too old for.
    """

    id: str
    class_type: str
    inputs: Mapping[str, Any]
    title: str | None = None
    unknown: Mapping[str, str] = {}

    def entry(self) -> dict[str, Any]:
        """Return the node as it stands in a prompt; its title is kept for nodes that read it."""
        entry: dict[str, Any] = {"class_type": self.class_type, "inputs": dict(self.inputs)}
        if self.title is not None:
            entry["_meta"] = {"title": self.title}
        return entry

    def literals(self) -> list[tuple[str, Any]]:
        """Return each input that is a literal."""
        return [
            (name, value)
            for name, value in self.inputs.items()
            if isinstance(value, _SCALARS) or link(value) is None
        ]

    def links(self) -> list[tuple[str, NodeLink]]:
        """Return each input that is a link."""
        return [
            (name, found)
            for name, value in self.inputs.items()
            if not isinstance(value, _SCALARS) and (found := link(value)) is not None
        ]


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

    def needed(self, ends: Iterable[str]) -> set[str]:
        """Return some nodes with all that they depend on."""
        waiting, found = list(ends), set[str]()
        while waiting:
            here = waiting.pop()
            if here not in found:
                found.add(here)
                waiting.extend(taken.node for _, taken in self.nodes[here].links())
        return found

    def check_chains(self, outputs: Iterable[str]) -> None:
        """Check the chains of links. `outputs` are the ids of the output nodes.

        Raises WorkflowError for a chain that is longer than ComfyUI can follow, and for an output
        that depends on a cycle.
        """
        levels, looped = self._levels()
        if max(levels.values(), default=0) + len(looped) > MAX_CHAIN:
            raise WorkflowError(f"more than {MAX_CHAIN} nodes follow one another")
        for output in outputs:
            if output in looped:
                cycle = self._cycle(output, looped)
                raise WorkflowError(
                    f"its input depends on its own output: {' -> '.join(cycle)}", node=cycle[0]
                )

    def _cycle(self, start: str, looped: Container[str]) -> list[str]:
        """Return a cycle that a node depends on, in the direction of the links."""
        way = [start]
        while way.count(way[-1]) == 1:
            links = (found.node for _, found in self.nodes[way[-1]].links())
            way.append(next(node for node in links if node in looped))
        return way[way.index(way[-1]) :][::-1]

    def _levels(self) -> tuple[dict[str, int], set[str]]:
        """Return the longest chain that ends at each node, and the nodes that need a cycle."""
        consumers = self.consumers()
        waits = {node.id: len(node.links()) for node in self.nodes.values()}
        ready = [node for node, count in waits.items() if not count]
        levels = dict.fromkeys(ready, 1)
        while ready:
            here = ready.pop()
            for consumer, _ in consumers.get(here, ()):
                levels[consumer.id] = max(levels.get(consumer.id, 0), levels[here] + 1)
                waits[consumer.id] -= 1
                if not waits[consumer.id]:
                    ready.append(consumer.id)
        looped = {node for node, count in waits.items() if count}
        return {node: level for node, level in levels.items() if node not in looped}, looped

    def without(self, nodes: Container[str]) -> Graph:
        """Return a graph that lacks some nodes, which nothing may link to."""
        return Graph({key: node for key, node in self.nodes.items() if key not in nodes})

    def with_unknown(self, unknown: Mapping[str, Mapping[str, str]]) -> Graph:
        """Return the graph without some inputs, given by node, name and type, which it notes."""
        if not unknown:
            return self
        nodes = dict(self.nodes)
        for key, found in unknown.items():
            node = nodes[key]
            inputs = {name: value for name, value in node.inputs.items() if name not in found}
            noted = {**node.unknown, **found}
            nodes[key] = msgspec.structs.replace(node, inputs=inputs, unknown=noted)
        return Graph(nodes)

    def changed(self, values: Mapping[NodeInput, Any]) -> Graph:
        """Return the graph with other literals at some places."""
        if not values:
            return self
        nodes = dict(self.nodes)
        for target, value in values.items():
            node = nodes[target.node]
            inputs = {**node.inputs, target.input: value}
            nodes[target.node] = msgspec.structs.replace(node, inputs=inputs)
        return Graph(nodes)

    def prompt(self) -> dict[str, dict[str, Any]]:
        """Return a new prompt, as ComfyUI takes it, that shares no dict with the graph."""
        return {node.id: node.entry() for node in self.nodes.values()}


def link(value: Any) -> NodeLink | None:
    """Return the link that an input's value is, or None for a literal."""
    # Asked for each input of each node several times: a pattern takes three times as long.
    if isinstance(value, _LISTS) and len(value) == 2:  # noqa: PLR2004 - a node and its output
        node, output = value
        if isinstance(node, str) and isinstance(output, int) and not isinstance(output, bool):
            return NodeLink(node, output)
    return None


def resembles_link(value: Any) -> bool:
    """True if ComfyUI takes a value for a link; its own `is_link` accepts any number as index."""
    match value:
        case [str(), int() | float()]:
            return True
    return False


def misreading(value: Any) -> str | None:
    """Return why ComfyUI would misread a literal, or break at it; None if it reads it correctly.

    A literal that it reads as a link to a missing node ends ComfyUI's worker thread.
    """
    if isinstance(value, _SCALARS):
        return unsendable(value)
    inner = value.get(VALUE) if isinstance(value, Mapping) else value
    if resembles_link(inner):
        return "is a list of a text and a number, which ComfyUI takes for a link"
    return unsendable(inner)


def unsendable(value: Any) -> str | None:
    """Return why ComfyUI cannot read a value, None if it can: depth, and the size of numbers."""
    # A stack instead of recursion, as values come from anywhere.
    stack = [(value, 0)]
    while stack:
        each, depth = stack.pop()
        if depth > MAX_NESTING:
            return f"is nested more than {MAX_NESTING} deep"
        # The usual first: whether something is a Mapping takes longer than all else here.
        if isinstance(each, int):
            if not MIN_INTEGER <= each <= MAX_INTEGER:
                return "is a number of more than 64 bits"
        elif isinstance(each, float):
            if not math.isfinite(each):
                return "is no finite number"
        elif isinstance(each, _LISTS):
            stack.extend((below, depth + 1) for below in each)
        elif not isinstance(each, str) and isinstance(each, Mapping):
            stack.extend((below, depth + 1) for below in each.values())
    return None


def parse(document: Any) -> Graph:
    """Read a graph in API format.

    Raises WorkflowError, naming the node, for what ComfyUI could not run: no class, inputs that
    are no object, a link to a node that is not there; and for what it would take for something
    else, or break at.
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
        for name, value in node.inputs.items():
            problem = _problem(value, nodes)
            if problem is not None:
                raise WorkflowError(f"input {name!r} {problem}", node=node.id)
    return Graph(nodes)


def _problem(value: Any, nodes: Mapping[str, Node]) -> str | None:
    found = link(value)
    if found is None:
        return misreading(value)
    if found.node not in nodes:
        return f"links to node {found.node}, which is not there"
    if found.output < 0:
        return f"links to output {found.output} of node {found.node}: the first is 0"
    if found.output >= MAX_OUTPUTS:
        return f"links to output {found.output} of node {found.node}: no node has as many"
    return None


def _node(key: str, value: Any) -> Node:
    match value:
        case {"class_type": str(class_type), "inputs": dict(inputs)}:
            meta = value.get("_meta")
            title = meta.get("title") if isinstance(meta, Mapping) else None
            return Node(key, class_type, inputs, title if isinstance(title, str) else None)
        case {"class_type": str()}:
            raise WorkflowError("`inputs` is missing or no object", node=key)
    raise WorkflowError("not a node in API format: `class_type` is missing", node=key)
