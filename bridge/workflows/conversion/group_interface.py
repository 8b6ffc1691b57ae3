"""The interface of a legacy group node: inputs, widgets and outputs of its inner nodes, by name.

It shows what its nodes inside are not linked to among each other, those inputs last that were
widgets once. Names that are taken get the title of the inner node before them. The definition holds
none of that: the front end works it out each time it loads the file, from what the classes of the
inner nodes declare, and so does this module.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from bridge.workflows.conversion.document import FileGroup, FileNode, GroupLink
from bridge.workflows.conversion.promotion import PRIMITIVE
from bridge.workflows.objectinfo import InputSpec, NodeClass, OutputSpec, input_spec

_REROUTE = "Reroute"
_SEEDS = frozenset(("seed", "noise_seed"))
_CONTROL = "control_after_generate"
VALUE = "value"


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


class Classes(Protocol):
    """The classes that inner nodes can be of."""

    def node_class(self, kind: str) -> NodeClass | None:
        """Return a class of the server, or a group as a class."""

    def has_widget(self, spec: InputSpec) -> bool:
        """True if the front end has a widget for the input."""

    def spend(self, units: int) -> None:
        """Count work. Raises ConversionError if it is too much."""


def interface(classes: Classes, group: FileGroup) -> Interface:
    """Return what a group shows."""
    return _Reading(classes, group).result()


class _Reading:
    """Reads what one group shows."""

    def __init__(self, classes: Classes, group: FileGroup) -> None:
        self._classes = classes
        self._group = group
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
                self._classes.spend(
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
        return self._classes.node_class(node.type) or _as_drawn(node)

    def _primitive(self, place: int) -> NodeClass | None:
        """Return a primitive node as a class: its value is as what it is linked to first."""
        link = next((each for each in self._group.links if each.origin == place), None)
        if link is None:
            return None
        target = self._group.nodes[link.target]
        declared = self._classes.node_class(target.type)
        source = target.inputs[link.target_slot : link.target_slot + 1]
        widget = source[0].widget if source else None
        spec = declared.input(widget) if declared is not None and widget is not None else None
        if spec is None:
            spec = input_spec(VALUE, [link.type, {}])
        spec = spec.with_options({**spec.options, _CONTROL: True}).renamed(VALUE)
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
            if not self._classes.has_widget(spec):
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
        if config.get("visible") is False and not self._classes.has_widget(spec):
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
