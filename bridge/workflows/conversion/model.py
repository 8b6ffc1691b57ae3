"""Live nodes and graphs: the file as the front end holds it once it is loaded.

A graph is made once for each definition, even if several subgraph nodes show it. What belongs
to a single subgraph node, the values that it shows on its outside, is kept on that node.

These are the only things of a conversion that change while it runs; they never leave it.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from bridge.workflows.conversion.document import INPUT_NODE, FileGraph, FileNode, SlotLink
from bridge.workflows.conversion.errors import Code, ConversionError
from bridge.workflows.objectinfo import InputSpec, NodeClass


class _Missing(enum.Enum):
    MISSING = enum.auto()


# A value that is not there at all, which is not the same as null: it is not sent.
MISSING: Final = _Missing.MISSING


class Mode(enum.IntEnum):
    """A node's mode, as numbered in files. Other numbers count as active."""

    ACTIVE = 0
    MUTED = 2
    BYPASSED = 4


class WidgetKind(enum.Enum):
    """A widget's kind, as far as it decides about its value."""

    INTEGER = enum.auto()
    FLOAT = enum.auto()
    COMBO = enum.auto()
    LINES = enum.auto()  # a text of several lines
    OTHER = enum.auto()
    DYNAMIC = enum.auto()  # a combo whose choice brings further inputs
    CURVE = enum.auto()
    SCENE = enum.auto()  # rendered by a browser


@dataclass(slots=True, eq=False)
class Widget:
    """A value on a node. `saved`: it has a place in the file's values; `sent`: it is an input."""

    name: str
    kind: WidgetKind
    value: Any
    spec: InputSpec | None = None
    saved: bool = True
    sent: bool = True
    # `{a|b}` and comments are worked off when it is sent.
    dynamic_prompt: bool = False


@dataclass(slots=True, eq=False)
class InputSlot:
    """An input slot. `widget` names the widget that a link to it replaces.

    `shown` is the value that a subgraph node shows for it. `group` is the group of inputs that
    share a type, and `type` then what the class allows.
    """

    name: str
    type: str
    link: int | None = None
    widget: str | None = None
    spec: InputSpec | None = None
    shown: Widget | None = None
    group: str | None = None


@dataclass(slots=True, eq=False)
class OutputSlot:
    """An output slot, and the links that leave it as the file lists them."""

    type: str
    links: list[int] = field(default_factory=list)
    group: str | None = None


@dataclass(slots=True, eq=False)
class LiveNode:
    """A live node. `inner` is the graph that a subgraph node shows.

    Both `declared` and `inner` are None for what only the page knows and for unknown classes.
    """

    id: str
    type: str
    mode: int
    title: str | None
    source: FileNode
    declared: NodeClass | None = None
    inner: LiveGraph | None = None
    virtual: bool = False
    inputs: list[InputSlot] = field(default_factory=list)
    outputs: list[OutputSlot] = field(default_factory=list)
    widgets: list[Widget] = field(default_factory=list)
    properties: Mapping[str, Any] = field(default_factory=dict)

    @property
    def inactive(self) -> bool:
        """True if it is muted or bypassed."""
        return self.mode in (Mode.MUTED, Mode.BYPASSED)

    def widget(self, name: str | None) -> Widget | None:
        """Return the widget of that name."""
        if name is None:
            return None
        return next((each for each in self.widgets if each.name == name), None)

    def widget_of(self, slot: InputSlot) -> Widget | None:
        """Return the widget that a link to the slot replaces."""
        if slot.shown is not None:
            return slot.shown
        return self.widget(slot.widget)

    def slot_of(self, widget: Widget) -> InputSlot | None:
        """Return the slot that stands for the widget."""
        for slot in self.inputs:
            if slot.shown is widget or (slot.widget is not None and slot.widget == widget.name):
                return slot
        return None

    def slot_named(self, name: str) -> InputSlot | None:
        """Return the input slot of that name."""
        return next((slot for slot in self.inputs if slot.name == name), None)

    def slot_linked(self, link: int) -> InputSlot | None:
        """Return the input slot at which the link ends."""
        return next((slot for slot in self.inputs if slot.link == link), None)

    def error(self, code: Code, reason: str, *, path: str = "") -> ConversionError:
        """Return an error that names this node; `path` leads to it through subgraph nodes."""
        identity = f"{path}:{self.id}" if path else self.id
        kind = self.inner.name if self.inner is not None else self.type
        return ConversionError(
            code, reason, node=identity, title=self.title or None, class_type=kind
        )


@dataclass(slots=True, eq=False)
class Boundary:
    """An input or output of a subgraph, and the links inside that meet it."""

    name: str
    type: str
    links: list[int] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class LiveGraph:
    """The root or a subgraph: live nodes by id in the file's order, and links by id."""

    id: str
    name: str
    source: FileGraph
    nodes: dict[str, LiveNode] = field(default_factory=dict)
    links: dict[int, SlotLink] = field(default_factory=dict)
    inputs: list[Boundary] = field(default_factory=list)
    outputs: list[Boundary] = field(default_factory=list)
    # The subgraph nodes that show this graph, as far as they are made.
    hosts: list[LiveNode] = field(default_factory=list)
    # The highest id given so far, 0 until one is needed.
    last_link: int = 0

    def hosted(self) -> Iterator[tuple[LiveNode, LiveGraph]]:
        """Yield the subgraph nodes in this graph, with what they show."""
        for node in self.nodes.values():
            if node.inner is not None:
                yield node, node.inner

    def add_link(
        self, origin: str, origin_slot: int, target: LiveNode, slot: InputSlot
    ) -> SlotLink:
        """Put a new link into an input slot, in place of the one that it may have."""
        if not self.last_link:
            self.last_link = max(self.links, default=0)
        self.last_link += 1
        if slot.link is not None:
            self.links.pop(slot.link, None)
        place = target.inputs.index(slot)
        link = SlotLink(self.last_link, origin, origin_slot, target.id, place)
        self.links[link.id] = link
        slot.link = link.id
        return link


ANY = frozenset({"", "*", "0"})
# A chain of nodes that share their types is followed so far; what lies behind counts as any type.
_MAX_CHAIN = 100


def fits(one: str, *others: str) -> bool:
    """Return whether a slot of one type may be linked to slots of all the others."""
    return all(_pair_fits(one, other) for other in others)


def _pair_fits(one: str, other: str) -> bool:
    if one in ANY or other in ANY or one == other:
        return True
    words, more = set(one.lower().split(",")), set(other.lower().split(","))
    return not (words.isdisjoint(more) and words.isdisjoint(ANY) and more.isdisjoint(ANY))


def common(*types: str) -> str | None:
    """Return the words that all types share, None if there are none; `*` takes part in all."""
    lists = [each.split(",") for each in types if each != "*"]
    if not lists:
        return "*"
    shared = [word for word in dict.fromkeys(lists[0]) if all(word in each for each in lists)]
    return ",".join(shared) or None


class Types:
    """Finds the types of slots in live graphs; each shared type is worked out once."""

    def __init__(self) -> None:
        self._shared: dict[tuple[int, str, str], str] = {}
        self._depth = 0

    def input(self, graph: LiveGraph, node: LiveNode, slot: InputSlot) -> str:
        """Return an input's type."""
        if slot.group is None:
            return slot.type
        return common(self._of_group(graph, node, slot.group), slot.type) or slot.type

    def output(self, graph: LiveGraph, node: LiveNode, index: int) -> str:
        """Return an output's type."""
        output = node.outputs[index]
        if output.group is None:
            return output.type
        return self._of_group(graph, node, output.group)

    def _of_group(self, graph: LiveGraph, node: LiveNode, group: str) -> str:
        """Return the type that a node's inputs of one group share, by what is linked to them."""
        key = (id(graph), node.id, group)
        if key not in self._shared:
            if self._depth >= _MAX_CHAIN:
                return "*"
            # What leads back here adds nothing.
            self._shared[key] = "*"
            self._depth += 1
            types = [
                self._linked(graph, slot)
                for slot in node.inputs
                if slot.group == group and slot.link is not None
            ]
            self._depth -= 1
            self._shared[key] = common(*types) or "*"
        return self._shared[key]

    def _linked(self, graph: LiveGraph, slot: InputSlot) -> str:
        link = graph.links.get(slot.link) if slot.link is not None else None
        if link is None:
            return "*"
        if link.origin == INPUT_NODE:
            inside = 0 <= link.origin_slot < len(graph.inputs)
            return graph.inputs[link.origin_slot].type if inside else "*"
        origin = graph.nodes.get(link.origin)
        if origin is None or not 0 <= link.origin_slot < len(origin.outputs):
            return "*"
        return self.output(graph, origin, link.origin_slot)
