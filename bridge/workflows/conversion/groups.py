"""Legacy group nodes, which subgraphs have replaced: each makes way for its inner nodes.

A group node shows what its nodes inside are not linked to among each other, those inputs last that
were widgets once. Names that are taken get the title of the inner node before them. The definition
holds none of that: the front end works it out each time it loads the file, from what the classes of
the inner nodes declare, and so does this module.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from msgspec.structs import replace

from bridge.workflows.conversion.document import (
    MAX_ID,
    Document,
    FileGraph,
    FileGroup,
    FileInput,
    FileNode,
    FileOutput,
    GroupLink,
    SlotLink,
)
from bridge.workflows.conversion.errors import Budget, ConversionError
from bridge.workflows.conversion.frontend import FrontEnd
from bridge.workflows.conversion.model import LiveNode, Mode, fits
from bridge.workflows.conversion.promotion import PRIMITIVE
from bridge.workflows.conversion.values import Restorer
from bridge.workflows.conversion.widgets import Layout
from bridge.workflows.objectinfo import InputSpec, NodeClass, ObjectInfo, OutputSpec, input_spec

# `workflow/Name` is what the first versions wrote.
_PREFIXES = ("workflow>", "workflow/")
_REROUTE = "Reroute"
_SEEDS = frozenset(("seed", "noise_seed"))
_CONTROL = "control_after_generate"
_VALUE = "value"


class Groups:
    """The group nodes of one file."""

    def __init__(
        self,
        document: Document,
        object_info: ObjectInfo,
        front_end: FrontEnd,
        budget: Budget,
        *,
        layout: Layout,
        restorer: Restorer,
    ) -> None:
        self._document = document
        self._object_info = object_info
        self._front_end = front_end
        self._layout = layout
        self._restorer = restorer
        self._budget = budget
        self._known: dict[str, Interface] = {}
        self._open: set[str] = set()
        self._last_node = max(document.last_node_id, *_numbers(document), 0)

    def expanded(self) -> Document:
        """Return the file without group nodes.

        Raises ConversionError where a group contains itself, or there are too many.
        """
        if not self._document.groups:
            return self._document
        return replace(
            self._document,
            root=self._without_groups(self._document.root),
            subgraphs=tuple(map(self._without_groups, self._document.subgraphs)),
        )

    def _without_groups(self, graph: FileGraph) -> FileGraph:
        while True:
            found = next((node for node in graph.nodes if self._name(node.type) is not None), None)
            if found is None:
                return graph
            graph = self._expand(graph, found)

    def _name(self, kind: str) -> str | None:
        """Return the name of the group that a type stands for, None for any other type."""
        for prefix in _PREFIXES:
            name = kind.removeprefix(prefix)
            if name != kind and name in self._document.groups:
                return name
        return None

    # What a group shows.

    def _interface(self, name: str) -> Interface:
        if name not in self._known:
            if name in self._open:
                raise ConversionError("cyclic_subgraph", f"the group {name!r} contains itself")
            self._open.add(name)
            self._known[name] = _InterfaceReader(
                self._document.groups[name], self._node_class, self._budget, self._layout
            ).result()
            self._open.discard(name)
        return self._known[name]

    def _node_class(self, kind: str) -> NodeClass | None:
        """Return a class of the server, or a group as a class."""
        name = self._name(kind)
        if name is not None:
            return self._interface(name).declared(kind)
        return self._object_info.get(kind)

    # What becomes of a group node.

    def _live(self, node: FileNode, declared: NodeClass) -> LiveNode:
        live = LiveNode(node.id, node.type, node.mode, node.title, node, declared)
        self._budget.spend(1 + len(declared.inputs))
        self._layout.lay_out(live, declared)
        return live

    def _values(self, node: FileNode, group: FileGroup, shown: Interface) -> list[dict[str, Any]]:
        """Return the values of the inner nodes by their widgets' names, as this node has them."""
        values: list[dict[str, Any]] = []
        for inner in group.nodes:
            declared = self._node_class(inner.type)
            if inner.type == PRIMITIVE:
                saved = inner.values
                values.append({_VALUE: saved[0]} if isinstance(saved, tuple) and saved else {})
            elif declared is None:
                values.append({})
            else:
                live = self._live(inner, declared)
                self._restorer.restore(live)
                values.append({each.name: each.value for each in live.widgets if each.saved})
        outer = self._live(node, shown.declared(node.type))
        self._restorer.restore(outer)
        for name, (place, inner_name) in shown.inputs.items():
            widget = outer.widget(name)
            if widget is not None:
                values[place][inner_name] = widget.value
        return values

    def _ids(self, node: FileNode, count: int) -> list[str]:
        """Return the ids of a group node's inner nodes, as the front end makes them."""
        if not self._front_end.converts_groups:
            return [f"{node.id}:{place}" for place in range(count)]
        first = self._last_node + 1
        self._last_node = host = first + count
        path = f"{above}:{host}" if (above := node.id.rpartition(":")[0]) else str(host)
        return [f"{path}:{number}" for number in range(first, host)]

    def _expand(self, graph: FileGraph, node: FileNode) -> FileGraph:
        """Return the graph with a group node's inner nodes in its place."""
        name = self._name(node.type) or ""
        group, shown = self._document.groups[name], self._interface(name)
        self._budget.spend(len(graph.nodes) + len(graph.links) + len(group.nodes))
        ids = self._ids(node, len(group.nodes))
        bypassed = node.mode == Mode.BYPASSED and not self._front_end.converts_groups
        places = _Places(graph, node, group, shown, ids, bypassed=bypassed)
        values = self._values(node, group, shown)
        inner = [places.node(each, found) for each, found in zip(group.nodes, values, strict=True)]
        nodes: list[FileNode] = []
        for each in graph.nodes:
            nodes += inner if each is node else [places.without_lost_links(each)]
        return replace(graph, nodes=tuple(nodes), links=tuple(places.links))


class _Places:
    """The places of a group node's inner nodes in the graph around it, and their links.

    What is linked to one that is `bypassed` gets what the group is given.
    """

    def __init__(
        self,
        graph: FileGraph,
        node: FileNode,
        group: FileGroup,
        shown: Interface,
        ids: Sequence[str],
        *,
        bypassed: bool,
    ) -> None:
        self._graph = graph
        self._ids = ids
        self._bypassed = bypassed
        self._group = group
        self._host = node
        self._shown = shown
        self._last = max((link.id for link in graph.links), default=0)
        # By position of the inner node and name of its input.
        self._linked: dict[tuple[int, str], int] = {}
        # By position of node and slot.
        self._given: dict[tuple[int, int], list[int]] = {}
        # Links of the graph that end or begin at nothing that the group shows.
        self._lost: set[int] = set()
        self.links = [*self._inside(), *self._outside()]

    def id(self, place: int) -> str:
        """Return the id of an inner node."""
        return self._ids[place]

    def without_lost_links(self, node: FileNode) -> FileNode:
        """Return another node of the graph, without links that came from nowhere in the group."""
        if not any(each.link in self._lost for each in node.inputs):
            return node
        inputs = (
            replace(each, link=None) if each.link in self._lost else each for each in node.inputs
        )
        return replace(node, inputs=tuple(inputs))

    def node(self, inner: FileNode, values: Mapping[str, Any]) -> FileNode:
        """Return an inner node as a node of the graph."""
        place = int(inner.id)
        inputs = [replace(each, link=self._linked.get((place, each.name))) for each in inner.inputs]
        there = {each.name for each in inputs}
        inputs += [
            FileInput(name, "*", link, widget=name if name in values else None)
            for (at, name), link in self._linked.items()
            if at == place and name not in there
        ]
        outputs = list(inner.outputs)
        for at, slot in self._given:
            if at == place:
                outputs += [FileOutput("", "*")] * (slot + 1 - len(outputs))
        saved: Any = values
        if inner.type == PRIMITIVE:
            saved = tuple(values.values())
        elif not values:
            saved = inner.values
        return replace(
            inner,
            id=self.id(place),
            inputs=tuple(inputs),
            outputs=tuple(
                replace(each, links=tuple(self._given.get((place, slot), ())))
                for slot, each in enumerate(outputs)
            ),
            values=saved,
        )

    def _inside(self) -> Iterator[SlotLink]:
        for each in self._group.links:
            names = self._shown.slots[each.target]
            if not names:
                names = [slot.name for slot in self._group.nodes[each.target].inputs]
            if not 0 <= each.target_slot < len(names):
                continue
            self._last += 1
            self._linked[each.target, names[each.target_slot]] = self._last
            self._given.setdefault((each.origin, each.origin_slot), []).append(self._last)
            yield SlotLink(
                self._last,
                self.id(each.origin),
                each.origin_slot,
                self.id(each.target),
                each.target_slot,
            )

    def _outside(self) -> Iterator[SlotLink]:
        """Yield the graph's own links, those of the group node led to its inner nodes."""
        named = {each.link: each.name for each in self._host.inputs if each.link is not None}
        names = list(self._shown.inputs)
        for link in self._graph.links:
            changed = link
            if link.origin == self._host.id and self._bypassed:
                passed = self._passed_on(link.origin_slot)
                if passed is None:
                    self._lost.add(link.id)
                    continue
                changed = replace(changed, origin=passed.origin, origin_slot=passed.origin_slot)
            elif link.origin == self._host.id:
                if not 0 <= link.origin_slot < len(self._shown.outputs):
                    self._lost.add(link.id)
                    continue
                place, _, slot = self._shown.outputs[link.origin_slot]
                self._given.setdefault((place, slot), []).append(link.id)
                changed = replace(changed, origin=self.id(place), origin_slot=slot)
            if link.target == self._host.id:
                found = self._shown.inputs.get(named.get(link.id, ""))
                if found is None and 0 <= link.target_slot < len(names):
                    found = self._shown.inputs[names[link.target_slot]]
                if found is None:
                    continue
                self._linked[found] = link.id
                changed = replace(changed, target=self.id(found[0]), target_slot=0)
            yield changed

    def _passed_on(self, slot: int) -> SlotLink | None:
        """Return the link whose value a bypassed group passes on: of the first input that fits."""
        outputs = self._host.outputs[slot : slot + 1]
        kind = outputs[0].type if outputs else "*"
        fitting = [each.link for each in self._host.inputs if fits(each.type, kind)]
        return next((link for link in self._graph.links if link.id in fitting), None)


def _numbers(document: Document) -> Iterator[int]:
    for graph in (document.root, *document.subgraphs):
        for node in graph.nodes:
            if node.id.isdecimal() and len(node.id) < len(str(MAX_ID)):
                yield int(node.id)


@dataclass(slots=True)
class Interface:
    """The names that a group node shows, each with position and name of its inner input."""

    specs: dict[str, InputSpec] = field(default_factory=dict)
    inputs: dict[str, tuple[int, str]] = field(default_factory=dict)
    outputs: list[tuple[int, OutputSpec, int]] = field(default_factory=list)
    # The inner nodes' inputs, by position, in the order in which the group's links count them.
    slots: list[list[str]] = field(default_factory=list)

    def declared(self, name: str) -> NodeClass:
        """Return the group as a node class."""
        outputs = tuple(output for _, output, _ in self.outputs)
        return NodeClass(name, name, tuple(self.specs.values()), (), outputs)


class _InterfaceReader:
    """Reads what one group shows."""

    def __init__(
        self,
        group: FileGroup,
        node_class: Callable[[str], NodeClass | None],
        budget: Budget,
        layout: Layout,
    ) -> None:
        """`node_class` returns a class of the server, or a group as a class."""
        self._group = group
        self._node_class = node_class
        self._budget = budget
        self._layout = layout
        self._found = Interface()
        self._seen: dict[str, int] = {}
        # By inner node: the inputs that were widgets once, in the order of their slots.
        self._converted: list[list[InputSpec]] = []

    def result(self) -> Interface:
        classes = [self._declared(place, node) for place, node in enumerate(self._group.nodes)]
        for place, declared in enumerate(classes):
            self._found.slots.append([])
            self._converted.append([])
            if declared is not None:
                links = len(self._group.links)
                self._budget.spend(
                    (len(declared.inputs) + len(declared.outputs)) * (1 + links // 8)
                )
                self._add_inputs(place, declared)
                self._add_outputs(place, declared)
        for place in range(len(classes)):
            for spec in self._converted[place]:
                if not self._is_linked(place, len(self._found.slots[place])):
                    self._show(place, spec)
                self._found.slots[place].append(spec.name)
        return self._found

    def _declared(self, place: int, node: FileNode) -> NodeClass | None:
        """Return what an inner node counts as; None if it shows nothing."""
        if node.type == PRIMITIVE:
            return self._primitive(place)
        if node.type == _REROUTE:
            return self._reroute(place)
        return self._node_class(node.type) or _as_drawn(node)

    def _primitive(self, place: int) -> NodeClass | None:
        """Return a primitive node as a class: its value is as what it is linked to first."""
        link = next((each for each in self._group.links if each.origin == place), None)
        if link is None:
            return None
        target = self._group.nodes[link.target]
        declared = self._node_class(target.type)
        source = target.inputs[link.target_slot : link.target_slot + 1]
        widget = source[0].widget if source else None
        spec = declared.input(widget) if declared is not None and widget is not None else None
        if spec is None:
            spec = input_spec(_VALUE, [link.type, {}])
        spec = spec.with_options({**spec.options, _CONTROL: True}).renamed(_VALUE)
        return NodeClass(PRIMITIVE, PRIMITIVE, (spec,), (), (OutputSpec(link.type, link.type),))

    def _reroute(self, place: int) -> NodeClass | None:
        """Return a reroute as a class: it shows what is not linked inside."""
        links = self._group.links
        before = [each for each in links if each.target == place]
        after = [each for each in links if each.origin == place]
        if before and after and (place, 0) not in self._group.external:
            return None
        kind = self._slot_type(after, before)
        spec = input_spec(kind, [kind, {"forceInput": True}])
        return NodeClass(_REROUTE, _REROUTE, (spec,), (), (OutputSpec(kind, kind),))

    def _slot_type(self, after: Sequence[GroupLink], before: Sequence[GroupLink]) -> str:
        for link in after:
            inputs = self._group.nodes[link.target].inputs
            if link.target_slot < len(inputs) and inputs[link.target_slot].type != "*":
                return inputs[link.target_slot].type
        for link in before:
            outputs = self._group.nodes[link.origin].outputs
            if link.origin_slot < len(outputs):
                return outputs[link.origin_slot].type
        return "*"

    def _add_inputs(self, place: int, declared: NodeClass) -> None:
        node = self._group.nodes[place]
        converted: dict[int, InputSpec] = {}
        sockets: list[InputSpec] = []
        for spec in declared.inputs:
            at = next(
                (
                    index
                    for index, each in enumerate(node.inputs)
                    if each.name == spec.name and each.widget == spec.name
                ),
                None,
            )
            if not self._layout.has_widget(spec):
                sockets.append(spec)
            elif at is None:
                self._show(place, spec)
            else:
                converted[at] = spec
        for spec in sockets:
            if not self._is_linked(place, len(self._found.slots[place])):
                self._show(place, spec)
            self._found.slots[place].append(self._inner_name(place, spec))
        # The front end sorts their places as texts.
        self._converted[place] = [converted[at] for at in sorted(converted, key=str)]

    def _is_linked(self, place: int, slot: int) -> bool:
        links = self._group.links
        return any(each.target == place and each.target_slot == slot for each in links)

    def _show(self, place: int, spec: InputSpec) -> None:
        node = self._group.nodes[place]
        config = _config(self._group, place, "input", spec.name)
        labels = (each.label for each in node.inputs if each.name == spec.name)
        named = config.get("name")
        name = named if isinstance(named, str) else next(labels, None) or spec.name
        key, prefix = name, ""
        if (node.type == PRIMITIVE and node.title) or name in self._seen:
            prefix = f"{node.title or node.type} "
            key = name = f"{prefix}{spec.name}"
            if name in self._seen:
                name = f"{prefix}{self._seen[name]} {spec.name}"
        self._seen[key] = self._seen.get(key, 1) + 1
        if spec.name in _SEEDS:
            spec = spec.with_options({**spec.options, _CONTROL: f"{prefix}{_CONTROL}"})
        if config.get("visible") is False and not self._layout.has_widget(spec):
            return
        self._found.specs[name] = spec.renamed(name)
        self._found.inputs[name] = place, self._inner_name(place, spec)

    def _inner_name(self, place: int, spec: InputSpec) -> str:
        """Return an input's name on the inner node; a reroute's only one is there without any."""
        node = self._group.nodes[place]
        return node.inputs[0].name if node.type == _REROUTE and node.inputs else spec.name

    def _add_outputs(self, place: int, declared: NodeClass) -> None:
        for slot, output in enumerate(declared.outputs):
            links = self._group.links
            inside = any(each.origin == place and each.origin_slot == slot for each in links)
            hidden = inside and (place, slot) not in self._group.external
            config = _config(self._group, place, "output", str(slot))
            if config.get("visible", not hidden):
                self._found.outputs.append((place, output, slot))


def _as_drawn(node: FileNode) -> NodeClass:
    """Return a class that nobody has, with the slots that the file has."""
    inputs = (input_spec(each.name, [each.type, {"forceInput": True}]) for each in node.inputs)
    outputs = (OutputSpec(each.name, each.type) for each in node.outputs)
    return NodeClass(node.type, node.type, tuple(inputs), (), tuple(outputs))


def _config(group: FileGroup, place: int, side: str, name: str) -> Mapping[str, Any]:
    """Return how a slot is shown, as somebody has set it."""
    found: Any = group.config
    for key in (str(place), side, name):
        found = found.get(key) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) else {}
