"""The file as ComfyUI's Save writes it, checked and typed.

Two layouts exist and are mixed: links as arrays (the root of version 0.4) and as objects (inside
subgraphs, and the root of version 1). Nothing outside these structs looks at the file again; what
is read here is bounded, so that no file keeps the bridge busy.

Link-level reroutes are left out: they bend a link's line and do not change where it starts or ends.
Places and colours are read for extensions of the page that use them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import msgspec

from bridge.workflows.conversion.errors import ConversionError

# As many as a graph in API format may have (graph.py), before subgraphs are spread out.
MAX_NODES = 10_000
MAX_LINKS = 100_000
MAX_SUBGRAPHS = 2_000
# Slots and values of one node. The largest seen in the templates of 2026 is 61.
MAX_PER_NODE = 1_000
# JavaScript's largest safe integer: an id beyond it is none that the front end wrote.
MAX_ID = 2**53
MAX_ID_LENGTH = 128

# In the page's units, as LiteGraph draws a node's title, and a node of which only that is shown.
_TITLE_HEIGHT = 30
_COLLAPSED_WIDTH = 80

# A subgraph's own inputs are the ends of links from this id.
INPUT_NODE = "-10"
# And its outputs those of links to this one.
OUTPUT_NODE = "-20"


class FileInput(msgspec.Struct, frozen=True):
    """An input slot. `widget` is the name of the widget that it stands for, if it does.

    `label` is what somebody called it, `translated` its name in the language of the page.
    """

    name: str
    type: str
    link: int | None = None
    widget: str | None = None
    label: str | None = None
    translated: str | None = None


class FileOutput(msgspec.Struct, frozen=True):
    """An output slot and the ids of the links that leave it."""

    name: str
    type: str
    links: tuple[int, ...] = ()
    label: str | None = None


class Area(msgspec.Struct, frozen=True):
    """A rectangle of the drawing; y grows downwards."""

    left: float
    top: float
    width: float
    height: float

    def contains(self, x: float, y: float) -> bool:
        """True if a point is in it."""
        return 0 <= x - self.left < self.width and 0 <= y - self.top < self.height


class Frame(msgspec.Struct, frozen=True):
    """A titled rectangle that is drawn round nodes; the page calls it a group."""

    title: str
    area: Area


class SlotLink(msgspec.Struct, frozen=True):
    """A link from an output slot to an input slot, both by position."""

    id: int
    origin: str
    origin_slot: int
    target: str
    target_slot: int


class FileNode(msgspec.Struct, frozen=True):
    """A node. `mode` is 0 for an active one, 2 muted, 4 bypassed.

    `values` is None where the file gives none; `named` holds them by widget name, where newer
    files do.
    """

    id: str
    type: str
    mode: int = 0
    title: str | None = None
    inputs: tuple[FileInput, ...] = ()
    outputs: tuple[FileOutput, ...] = ()
    values: tuple[Any, ...] | Mapping[str, Any] | None = None
    named: Mapping[str, Any] = {}
    properties: Mapping[str, Any] = {}
    colour: str | None = None
    # None where the file has no place for it.
    area: Area | None = None


class FileSlot(msgspec.Struct, frozen=True):
    """An input or output of a subgraph, and the links inside that meet it."""

    name: str
    type: str
    links: tuple[int, ...] = ()


class FileGraph(msgspec.Struct, frozen=True):
    """The root, or a subgraph's definition (then with its own inputs and outputs)."""

    id: str
    name: str
    nodes: tuple[FileNode, ...]
    links: tuple[SlotLink, ...]
    inputs: tuple[FileSlot, ...] = ()
    outputs: tuple[FileSlot, ...] = ()
    frames: tuple[Frame, ...] = ()


class GroupLink(msgspec.Struct, frozen=True):
    """A link within a group of nodes, both ends by position of node and slot."""

    origin: int
    origin_slot: int
    target: int
    target_slot: int
    type: str


class FileGroup(msgspec.Struct, frozen=True):
    """A legacy group node's definition: what subgraphs were before there were any.

    The nodes have their positions as ids. `external` are outputs, by position of node and slot,
    that are linked outside though they are inside too. `config` says how its slots are shown.
    """

    nodes: tuple[FileNode, ...]
    links: tuple[GroupLink, ...]
    external: frozenset[tuple[int, int]]
    config: Mapping[str, Any]


class Document(msgspec.Struct, frozen=True):
    """A whole file: its root graph, its subgraph definitions in their order, its groups by name."""

    root: FileGraph
    subgraphs: tuple[FileGraph, ...]
    last_node_id: int = 0
    groups: Mapping[str, FileGroup] = {}


def is_ui_format(document: Any) -> bool:
    """Return whether this is what Save writes, by its two lists; nothing is checked further."""
    if not isinstance(document, Mapping):
        return False
    return isinstance(document.get("nodes"), list) and isinstance(
        document.get("links", []), list | dict
    )


def read(document: Any) -> Document:
    """Read a file of ComfyUI's Save.

    Raises ConversionError: `not_ui_format`, `malformed` or `too_large`.
    """
    if not is_ui_format(document):
        raise ConversionError(
            "not_ui_format", "not a workflow as ComfyUI's Save writes it: no list of nodes"
        )
    definitions = list(_definitions(document))
    if len(definitions) > MAX_SUBGRAPHS:
        raise ConversionError("too_large", f"more than {MAX_SUBGRAPHS} subgraphs")
    graphs = [_graph(each) for each in (document, *definitions)]
    if sum(len(graph.nodes) for graph in graphs) > MAX_NODES:
        raise ConversionError("too_large", f"more than {MAX_NODES} nodes")
    root, *subgraphs = graphs
    unique = {graph.id: graph for graph in subgraphs}
    state = document.get("state")
    last = document.get("last_node_id")
    if isinstance(state, Mapping):
        last = state.get("lastNodeId", last)
    return Document(
        root=root,
        subgraphs=tuple(unique.values()),
        last_node_id=last if _is_index(last) and last < MAX_ID else 0,
        groups=dict(_groups(_object(_object(document.get("extra")).get("groupNodes")))),
    )


def _definitions(document: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield all subgraph definitions: a definition may hold further ones."""
    waiting: list[Any] = [document]
    found = 0
    while waiting:
        holder = waiting.pop(0)
        for each in _items(_object(holder.get("definitions")).get("subgraphs")):
            found += 1
            if not isinstance(each, Mapping) or found > MAX_SUBGRAPHS + 1:
                raise ConversionError("malformed", "a subgraph definition is no object")
            waiting.append(each)
            yield each


def _graph(raw: Mapping[str, Any]) -> FileGraph:
    identity = raw.get("id")
    return FileGraph(
        id=identity if isinstance(identity, str) else "",
        name=_text(raw.get("name")) or "",
        nodes=tuple(_node(each) for each in _items(raw.get("nodes"), MAX_NODES)),
        links=tuple(_links(raw.get("links"))),
        inputs=tuple(_slot(each) for each in _items(raw.get("inputs"))),
        outputs=tuple(_slot(each) for each in _items(raw.get("outputs"))),
        frames=tuple(_frames(raw.get("groups"))),
    )


def _frames(raw: Any) -> Iterator[Frame]:
    for each in raw[:MAX_PER_NODE] if isinstance(raw, list) else ():
        found = _object(each)
        match found.get("bounding"):
            case [left, top, width, height] if _are_numbers(left, top, width, height):
                yield Frame(_text(found.get("title")) or "", Area(left, top, width, height))


def _groups(raw: Mapping[str, Any]) -> Iterator[tuple[str, FileGroup]]:
    """Yield the groups that can be read: nodes of others are of a class that nobody knows."""
    for name, group in list(raw.items())[:MAX_SUBGRAPHS]:
        if isinstance(group, Mapping):
            with suppress(ConversionError):
                yield name, _group(group)


def _group(raw: Mapping[str, Any]) -> FileGroup:
    nodes = tuple(
        msgspec.structs.replace(_node(each), id=str(place))
        for place, each in enumerate(_items(raw.get("nodes")))
    )
    links: list[GroupLink] = []
    for each in _items(raw.get("links"), MAX_LINKS):
        match each:
            case [int(origin), int(slot), int(target), int(place), *rest]:
                there = 0 <= origin < len(nodes) and 0 <= target < len(nodes)
                if there and slot < MAX_PER_NODE:
                    kind = _slot_type(rest[1]) if len(rest) > 1 else "*"
                    links.append(GroupLink(origin, slot, target, place, kind))
    external: set[tuple[int, int]] = set()
    for each in _items(raw.get("external")):
        match each:
            case [int(node), int(slot), *_]:
                external.add((node, slot))
    return FileGroup(nodes, tuple(links), frozenset(external), _object(raw.get("config")))


def _node(raw: Any) -> FileNode:
    if not isinstance(raw, Mapping):
        raise ConversionError("malformed", "a node is no object")
    identity = node_id(raw.get("id"))
    kind = raw.get("type")
    if identity is None or not isinstance(kind, str):
        raise ConversionError("malformed", "a node without id or type", node=identity)
    try:
        return FileNode(
            id=identity,
            type=kind,
            mode=mode if _is_index(mode := raw.get("mode", 0)) else 0,
            title=_text(raw.get("title")),
            inputs=tuple(_input(each) for each in _items(raw.get("inputs"))),
            outputs=tuple(_output(each) for each in _items(raw.get("outputs"))),
            values=_values(raw.get("widgets_values")),
            named=_object(raw.get("widgets_values_named")),
            properties=_object(raw.get("properties")),
            colour=_text(raw.get("color")),
            area=_area(raw),
        )
    except ConversionError as error:
        raise ConversionError(
            error.code, error.reason, node=identity, title=_text(raw.get("title")), class_type=kind
        ) from None


def _area(node: Mapping[str, Any]) -> Area | None:
    """Return where a node is drawn, its title above it included."""
    place, size = _pair(node.get("pos")), _pair(node.get("size"))
    if place is None or size is None:
        return None
    if _object(node.get("flags")).get("collapsed"):
        size = (_COLLAPSED_WIDTH, 0)
    return Area(place[0], place[1] - _TITLE_HEIGHT, size[0], size[1] + _TITLE_HEIGHT)


def _pair(raw: Any) -> tuple[float, float] | None:
    # Old files have an object with `0` and `1` for a list.
    fields: Any = [raw.get("0"), raw.get("1")] if isinstance(raw, Mapping) else raw
    match fields:
        case [one, two, *_] if _are_numbers(one, two):
            return one, two
    return None


def _are_numbers(*values: Any) -> bool:
    """True for places and lengths: nobody draws as far away as whole numbers are not exact."""
    return all(
        isinstance(each, int | float) and not isinstance(each, bool) and abs(each) < MAX_ID
        for each in values
    )


def _values(raw: Any) -> tuple[Any, ...] | Mapping[str, Any] | None:
    if isinstance(raw, list):
        return tuple(_items(raw))
    # Some custom nodes save their values by name.
    return dict(raw) if isinstance(raw, Mapping) else None


def _input(raw: Any) -> FileInput:
    slot = _required_object(raw, "an input")
    widget = slot.get("widget")
    return FileInput(
        name=_text(slot.get("name")) or "",
        type=_slot_type(slot.get("type")),
        link=_link_id(slot.get("link")),
        widget=_text(widget.get("name")) if isinstance(widget, Mapping) else None,
        label=_text(slot.get("label")),
        translated=_text(slot.get("localized_name")),
    )


def _output(raw: Any) -> FileOutput:
    slot = _required_object(raw, "an output")
    return FileOutput(
        name=_text(slot.get("name")) or "",
        type=_slot_type(slot.get("type")),
        links=_link_ids(slot.get("links")),
        label=_text(slot.get("label")),
    )


def _slot(raw: Any) -> FileSlot:
    slot = _required_object(raw, "a subgraph's slot")
    return FileSlot(
        name=_text(slot.get("name")) or "",
        type=_slot_type(slot.get("type")),
        links=_link_ids(slot.get("linkIds")),
    )


def _links(raw: Any) -> Iterator[SlotLink]:
    if isinstance(raw, Mapping):
        raw = list(raw.values())
    for each in _items(raw, MAX_LINKS):
        # Deleted links were left behind as null by old front ends.
        if each is not None:
            yield _link(each)


def _link(raw: Any) -> SlotLink:
    fields: Sequence[Any]
    if isinstance(raw, Mapping):
        names = ("id", "origin_id", "origin_slot", "target_id", "target_slot")
        fields = [raw.get(name) for name in names]
    elif isinstance(raw, list):
        fields = raw[:5]
    else:
        raise ConversionError("malformed", "a link is neither a list nor an object")
    if len(fields) < 5:  # noqa: PLR2004 (a link's fields, named above)
        raise ConversionError("malformed", "a link has too few fields")
    identity, origin, origin_slot, target, target_slot = fields
    link, start, end = _link_id(identity), node_id(origin), node_id(target)
    if link is None or start is None or end is None:
        raise ConversionError("malformed", "a link without id, origin or target")
    return SlotLink(link, start, _slot_index(origin_slot), end, _slot_index(target_slot))


def node_id(raw: Any) -> str | None:
    """Return a node's id as the prompt writes it, None if it is no id."""
    if isinstance(raw, str):
        return raw if 0 < len(raw) <= MAX_ID_LENGTH else None
    if isinstance(raw, float) and raw.is_integer() and abs(raw) < MAX_ID:
        raw = int(raw)
    if isinstance(raw, int) and not isinstance(raw, bool) and abs(raw) < MAX_ID:
        return str(raw)
    return None


def _link_id(raw: Any) -> int | None:
    if isinstance(raw, float) and raw.is_integer() and abs(raw) < MAX_ID:
        raw = int(raw)
    if isinstance(raw, int) and not isinstance(raw, bool) and abs(raw) < MAX_ID:
        return raw
    return None


def _link_ids(raw: Any) -> tuple[int, ...]:
    return tuple(link for each in _items(raw, MAX_LINKS) if (link := _link_id(each)) is not None)


def _slot_index(raw: Any) -> int:
    # Links of very old files may carry a slot as text.
    if isinstance(raw, str) and raw.isascii() and raw.isdigit() and len(raw) < 8:  # noqa: PLR2004
        raw = int(raw)
    if isinstance(raw, float) and raw.is_integer():
        raw = int(raw)
    return raw if _is_index(raw) else -1


def _slot_type(raw: Any) -> str:
    if isinstance(raw, str):
        return raw
    # Old files list a combo's choices as its type; 0 and -1 are LiteGraph's any and event.
    if isinstance(raw, list):
        return "COMBO"
    return "*" if raw in (0, None) else str(raw) if isinstance(raw, int) else "*"


def _is_index(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _items(raw: Any, limit: int = MAX_PER_NODE) -> Iterable[Any]:
    if raw is None:
        return ()
    if not isinstance(raw, list):
        raise ConversionError("malformed", "expected a list")
    if len(raw) > limit:
        raise ConversionError("too_large", f"a list of more than {limit} items")
    return raw


def _object(raw: Any) -> Mapping[str, Any]:
    return raw if isinstance(raw, Mapping) else {}


def _required_object(raw: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(raw, Mapping):
        raise ConversionError("malformed", f"{what} is no object")
    return raw


def _text(raw: Any) -> str | None:
    return raw if isinstance(raw, str) else None
