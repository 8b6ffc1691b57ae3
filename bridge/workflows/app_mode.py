"""The inputs and outputs that a file's author has chosen, in the App Mode of ComfyUI's page.

`extra.linearData` has `inputs`, a list of `[node, widget]`, and `outputs`, a list of nodes. A node
is given by its id, even if it is inside a subgraph, or as `<graph>:<node>:<widget>`. A widget of
a subgraph node is one that it shows of a node inside.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import Struct

from bridge.workflows.conversion.document import MAX_PER_NODE, node_id
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


def read(document: Mapping[str, Any], graph: Graph) -> AppMode:
    """Return the declarations of a page's file, as far as the converted graph has them."""
    declared = _mapping(_mapping(document.get("extra")).get("linearData"))
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


def _places(
    document: Mapping[str, Any], graph: Graph, node: str, widget: str
) -> Iterator[NodeInput]:
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


def _shown(document: Mapping[str, Any], host: str, widget: str) -> Iterator[tuple[str, str]]:
    """Yield inner node and input of a widget that a subgraph node of the root shows."""
    nodes = [each for each in _list(document.get("nodes")) if isinstance(each, dict)]
    found = next((each for each in nodes if node_id(each.get("id")) == host), {})
    for entry in _list(_mapping(found.get("properties")).get("proxyWidgets")):
        match entry:
            case [inner, str(name), *_] if name == widget and node_id(inner) is not None:
                yield str(inner), name
    graphs = _list(_mapping(document.get("definitions")).get("subgraphs"))
    definition = next((_mapping(each) for each in graphs if _is_named(each, found)), {})
    links = {
        each.get("id"): each for each in _list(definition.get("links")) if isinstance(each, dict)
    }
    inner_nodes = {
        node_id(each.get("id")): each
        for each in _list(definition.get("nodes"))
        if isinstance(each, dict)
    }
    for slot in _list(definition.get("inputs")):
        if _mapping(slot).get("name") != widget:
            continue
        for identity in _list(_mapping(slot).get("linkIds")):
            link = _mapping(links.get(identity) if isinstance(identity, int) else None)
            target, index = node_id(link.get("target_id")), link.get("target_slot")
            inputs = _list(_mapping(inner_nodes.get(target)).get("inputs"))
            if target is not None and isinstance(index, int) and 0 <= index < len(inputs):
                yield target, str(_mapping(inputs[index]).get("name"))


def _fed(document: Mapping[str, Any], primitive: str) -> Iterator[tuple[str, str]]:
    """Yield node and input of what a primitive node feeds: it is not in the converted graph."""
    definitions = _list(_mapping(document.get("definitions")).get("subgraphs"))
    for holder in map(_mapping, (document, *definitions)):
        nodes = {
            node_id(each.get("id")): each
            for each in _list(holder.get("nodes"))
            if isinstance(each, dict)
        }
        source = nodes.get(primitive, {})
        if source.get("type") != PRIMITIVE:
            continue
        leaving = {
            each
            for output in _list(source.get("outputs"))
            for each in _list(_mapping(output).get("links"))
            if isinstance(each, int)
        }
        for target in nodes.values():
            for slot in map(_mapping, _list(target.get("inputs"))):
                link, found = slot.get("link"), node_id(target.get("id"))
                if isinstance(link, int) and link in leaving and found is not None:
                    yield found, str(slot.get("name"))


def _is_named(definition: Any, host: Mapping[str, Any]) -> bool:
    identity = _mapping(definition).get("id")
    return identity is not None and identity == host.get("type")


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> list[Any]:
    return value[:MAX_PER_NODE] if isinstance(value, list) else []
