"""The flat graph: every node that the server runs, with its inputs by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypedDict

from bridge.workflows.conversion import primitives, texts
from bridge.workflows.conversion.effort import Effort
from bridge.workflows.conversion.errors import ConversionError
from bridge.workflows.conversion.frontend import FrontEnd
from bridge.workflows.conversion.links import Origin, Place, Shown, Sources
from bridge.workflows.conversion.live import MISSING, Graph, Kind, Node, Widget
from bridge.workflows.graph import MAX_NODES

# A graph that nests deeper than this is none that anybody drew.
MAX_DEPTH = 50


class Meta(TypedDict):
    """What ComfyUI ignores and people read."""

    title: str


class ApiNode(TypedDict):
    """One node of a prompt.

    An input is a literal, a link `[node id, output index]`, or a list as `{"__value__": [...]}`.
    """

    class_type: str
    inputs: dict[str, Any]
    _meta: Meta


def emit(root: Graph, front_end: FrontEnd, effort: Effort) -> dict[str, ApiNode]:
    """Return the prompt for loaded graphs.

    Raises ConversionError where a node cannot be sent.
    """
    places = list(_places(root, front_end))
    # A subgraph shown several times has its nodes once here.
    nodes = {id(place.node): place.node for place in places}
    replacements = texts.Replacements(nodes.values())
    for graph in {id(place.graph): place.graph for place in places}.values():
        primitives.hand_out(graph, root, replacements, front_end)
    sources = Sources(effort)
    prompt = {
        place.id: _entry(place, sources, replacements) for place in places if _is_sent(place.node)
    }
    for entry in prompt.values():
        inputs = entry["inputs"]
        for name in [name for name, value in inputs.items() if _dangles(value, prompt)]:
            del inputs[name]
    return prompt


def _places(root: Graph, front_end: FrontEnd) -> Iterator[Place]:
    """Give every node of every subgraph node, those of the subgraph nodes themselves included."""
    count = 0
    stack: list[tuple[Iterator[Node], Graph, Place | None, int]] = [
        (iter(root.nodes.values()), root, None, 0)
    ]
    while stack:
        nodes, graph, host, depth = stack[-1]
        node = next(nodes, None)
        if node is None:
            stack.pop()
            continue
        count += 1
        if count > MAX_NODES or depth > MAX_DEPTH:
            raise ConversionError(
                "too_large",
                f"subgraphs spread out to more than {MAX_NODES} nodes or {MAX_DEPTH} levels",
            )
        place = Place(node, graph, host)
        yield place
        left_out = front_end.skips_inactive and host is None and node.inactive
        if node.inner is not None and not left_out:
            stack.append((iter(node.inner.nodes.values()), node.inner, place, depth + 1))


def _is_sent(node: Node) -> bool:
    return not node.virtual and not node.inactive


def _entry(place: Place, sources: Sources, replacements: texts.Replacements) -> ApiNode:
    node = place.node
    if node.declared is None:
        raise node.error(
            "unknown_node", f"the server has no node class {node.type!r}", path=place.path
        )
    inputs: dict[str, Any] = {}
    for widget in node.widgets:
        if widget.sent and widget.name:
            inputs[widget.name] = _sent(place, widget, replacements)
    for index, slot in enumerate(node.inputs):
        match sources.find(place, index):
            case Origin(origin, output):
                inputs[slot.name] = [origin, output]
            case Shown(value):
                inputs[slot.name] = _wrapped(value)
            case None:
                pass
    for name in [name for name, value in inputs.items() if value is MISSING]:
        del inputs[name]
    _require_scene(place, inputs)
    return {
        "class_type": node.declared.name,
        "inputs": inputs,
        "_meta": {"title": node.title or node.declared.display_name},
    }


def _sent(place: Place, widget: Widget, replacements: texts.Replacements) -> Any:
    node, value = place.node, widget.value
    if widget.name == "index" and node.type == "CustomCombo":
        chosen = node.widgets[0].value
        options = [each.value for each in node.widgets[2:]]
        return options.index(chosen) if chosen in options else -1
    if isinstance(value, str):
        if widget.dynamic_prompt:
            return texts.dynamic_prompt(value)
        if widget.name == "filename_prefix" and node.type in texts.NAMES_FILES:
            return replacements.apply(value)
    return _wrapped(value, curve=widget.kind is Kind.CURVE)


def _wrapped(value: Any, *, curve: bool = False) -> Any:
    """Return a value as it is sent: a list would be taken for a link."""
    if isinstance(value, list | tuple):
        wrapped = {"__value__": list(value)}
        return {"__type__": "CURVE", **wrapped} if curve else wrapped
    return value


def _dangles(value: Any, prompt: Mapping[str, ApiNode]) -> bool:
    """Tell whether it is a link to a node that is not sent."""
    return isinstance(value, list) and value[0] not in prompt


def _require_scene(place: Place, inputs: dict[str, Any]) -> None:
    for widget in place.node.widgets:
        if widget.kind is Kind.SCENE and widget.name not in inputs:
            raise place.node.error(
                "needs_browser",
                f"input {widget.name!r} is a picture that only ComfyUI's page can make",
                path=place.path,
            )
