"""The flat graph: every node that the server runs, with its inputs by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypedDict

from msgspec import Struct

from bridge.workflows.conversion import primitives, texts
from bridge.workflows.conversion.errors import Budget, ConversionError
from bridge.workflows.conversion.frontend import FrontEnd
from bridge.workflows.conversion.links import HostValue, LinkResolver, Origin, Place
from bridge.workflows.conversion.model import MISSING, LiveGraph, LiveNode, Widget, WidgetKind
from bridge.workflows.dynamic_prompts import is_dynamic
from bridge.workflows.graph import MAX_NODES, NodeInput
from bridge.workflows.objectinfo import NodeClass
from bridge.workflows.page_pictures import CAMERA, SCENE, is_page_picture

# A graph that nests deeper than this is none that anybody drew.
MAX_DEPTH = 50
# How types of ComfyUI are called, by those of their values.
_TYPES = {bool: "BOOLEAN", int: "INT", float: "FLOAT", str: "STRING"}
# What the page does with a seed after each run; a node with several has numbers at the names.
_CONTROL = "control_after_generate"


class NodeMeta(TypedDict):
    """The parts that ComfyUI ignores and people read."""

    title: str


class ApiNode(TypedDict):
    """One node of a prompt.

    An input is a literal, a link `[node id, output index]`, or a list as `{"__value__": [...]}`.
    """

    class_type: str
    inputs: dict[str, Any]
    _meta: NodeMeta


class Converted(Struct, frozen=True):
    """A prompt; the texts at the places `dynamic` are to be drawn before it is sent.

    `unknown` are the types of values that the server has no inputs for, by node and name.
    """

    prompt: dict[str, ApiNode]
    dynamic: frozenset[NodeInput]
    unknown: Mapping[str, Mapping[str, str]] = {}


def serialize(
    root: LiveGraph, front_end: FrontEnd, budget: Budget, *, keep_unknown: bool = False
) -> Converted:
    """Return the prompt for loaded graphs.

    Raises ConversionError where a node cannot be sent.
    """
    places = list(_places(root, front_end, budget))
    # A subgraph shown several times has its nodes once here.
    nodes = {id(place.node): place.node for place in places}
    replacements = texts.TextPlaceholders(nodes.values())
    for graph in {id(place.graph): place.graph for place in places}.values():
        primitives.hand_out(graph, replacements)
    sources = LinkResolver(places, front_end, budget)
    prompt: dict[str, ApiNode] = {}
    dynamic: set[NodeInput] = set()
    unknown: dict[str, Mapping[str, str]] = {}
    sent = [place for place in places if not (place.node.virtual or place.node.inactive)]
    # What the server does not know and nothing is linked to is a label, a switch, a note: unless
    # there is nothing else.
    for place in [place for place in sent if _is_meant(place)] or sent:
        if place.node.declared is not None:
            linked = dict(_linked(place, sources))
            prompt[place.id] = _entry(
                place, place.node.declared, linked, replacements, without_pictures=keep_unknown
            )
            dynamic.update(
                NodeInput(place.id, widget.name)
                for widget in place.node.widgets
                if widget.name not in linked and _is_drawn(widget)
            )
            if found := _unknown_values(place.node, place.node.declared):
                unknown[place.id] = found
        elif keep_unknown:
            prompt[place.id] = _unknown_entry(place, sources)
        else:
            reason = f"the server has no node class {place.node.type!r}"
            raise place.node.error("unknown_node", reason, path=place.path)
    for entry in prompt.values():
        inputs = entry["inputs"]
        for name in [name for name, value in inputs.items() if _dangles(value, prompt)]:
            del inputs[name]
    return Converted(prompt, frozenset(dynamic), unknown)


def _places(root: LiveGraph, front_end: FrontEnd, budget: Budget) -> Iterator[Place]:
    """Yield every node of every subgraph node, those of the subgraph nodes themselves included."""
    count = 0
    stack: list[tuple[Iterator[LiveNode], LiveGraph, Place | None, int]] = [
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
        budget.spend(1 + len(node.inputs) + len(node.widgets))
        place = Place(node, graph, host)
        yield place
        left_out = front_end.skips_inactive and host is None and node.inactive
        if node.inner is not None and not left_out:
            stack.append((iter(node.inner.nodes.values()), node.inner, place, depth + 1))


def _is_meant(place: Place) -> bool:
    """True if the server knows the node's class, or something is linked to it."""
    node, links = place.node, place.graph.links
    return (
        node.declared is not None
        or any(slot.link in links for slot in node.inputs)
        or any(link in links for output in node.outputs for link in output.links)
    )


def _unknown_entry(place: Place, sources: LinkResolver) -> ApiNode:
    """Return a node whose class is not known, with the inputs that the file has."""
    node = place.node
    values = node.source.values
    named = values if isinstance(values, Mapping) else node.source.named
    inputs = {name: _wrapped(value) for name, value in named.items()}
    return {
        "class_type": node.type,
        "inputs": inputs | dict(_linked(place, sources)),
        "_meta": {"title": node.title or node.type},
    }


def _unknown_values(node: LiveNode, declared: NodeClass) -> dict[str, str]:
    """Return names and types of values that the file names, and nothing on the node takes.

    Files of older front ends have no names, and a node of a pack may keep names of its own.
    """
    if not (node.source.named and declared.is_core):
        return {}
    known = {widget.name for widget in node.widgets} | {slot.name for slot in node.inputs}
    return {
        name: _TYPES.get(type(value), "*")
        for name, value in node.source.named.items()
        if not (name in known or declared.declares(name) or name.startswith(_CONTROL))
    }


def _entry(
    place: Place,
    declared: NodeClass,
    linked: Mapping[str, Any],
    replacements: texts.TextPlaceholders,
    *,
    without_pictures: bool,
) -> ApiNode:
    node = place.node
    inputs = {
        widget.name: _sent(place, widget, replacements, without_pictures=without_pictures)
        for widget in node.widgets
        if widget.sent and widget.name and widget.name not in linked
    }
    inputs |= linked
    return {
        "class_type": declared.name,
        "inputs": {name: value for name, value in inputs.items() if value is not MISSING},
        "_meta": {"title": node.title or declared.display_name},
    }


def _is_drawn(widget: Widget) -> bool:
    """True if the page draws the widget's text each time, and has anything to draw."""
    return widget.dynamic_prompt and isinstance(widget.value, str) and is_dynamic(widget.value)


def _linked(place: Place, sources: LinkResolver) -> Iterator[tuple[str, Any]]:
    """Yield values from links, or from subgraph nodes' outsides, by input name."""
    for index, slot in enumerate(place.node.inputs):
        match sources.find(place, index):
            case Origin(origin, output):
                yield slot.name, [origin, output]
            case HostValue(value):
                yield slot.name, _wrapped(value)


def _sent(
    place: Place, widget: Widget, replacements: texts.TextPlaceholders, *, without_pictures: bool
) -> Any:
    node, value = place.node, widget.value
    if widget.name == "index" and node.type == "CustomCombo":
        chosen = node.widgets[0].value
        options = [each.value for each in node.widgets[2:]]
        return options.index(chosen) if chosen in options else -1
    if widget.kind is WidgetKind.SCENE:
        return _scene(place, widget, without_picture=without_pictures)
    if isinstance(value, str) and widget.name == "filename_prefix":
        return replacements.apply(value) if node.type in texts.NAMES_FILES else value
    if widget.kind is WidgetKind.INTEGER and isinstance(value, float) and value.is_integer():
        # To JavaScript 20.0 is 20.
        return int(value)
    return _wrapped(value, curve=widget.kind is WidgetKind.CURVE)


def _wrapped(value: Any, *, curve: bool = False) -> Any:
    """Return a value as it is sent: ComfyUI would read a list as a link."""
    if isinstance(value, list | tuple):
        wrapped = {"__value__": list(value)}
        return {"__type__": "CURVE", **wrapped} if curve else wrapped
    return value


def _dangles(value: Any, prompt: Mapping[str, ApiNode]) -> bool:
    """Return whether it is a link to a node that is not sent."""
    return isinstance(value, list) and value[0] not in prompt


def _scene(place: Place, widget: Widget, *, without_picture: bool) -> Any:
    """Return what the page's 3D view would give: where its camera stands.

    Some nodes take the pictures that the view has rendered, too, or a camera's picture; nobody but
    a browser can make these. `without_picture`: the value is without one, else refused.
    """
    wanted = is_page_picture(widget.spec)
    if wanted and not without_picture:
        raise place.node.error(
            "needs_browser",
            f"input {widget.name!r} is a picture that only ComfyUI's page can make",
            path=place.path,
        )
    if widget.spec is not None and widget.spec.widget_type == "WEBCAM":
        return ""
    camera = place.node.properties.get("Camera Config")
    state = camera.get("state") if isinstance(camera, Mapping) else None
    return {**SCENE, "camera_info": CAMERA if state is None else state, "model_3d_info": []}
