"""Live graphs from the file: every node laid out by its class and given its values.

Subgraphs are loaded before the graphs that show them, since a subgraph node takes over values from
inside. The earlier front end loads them in the file's order instead, and a subgraph node that is
loaded before its subgraph then shows nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from bridge.workflows.conversion import broadcasts
from bridge.workflows.conversion.document import Document, FileGraph, FileInput, FileNode
from bridge.workflows.conversion.errors import Budget, ConversionError
from bridge.workflows.conversion.frontend import FrontEnd
from bridge.workflows.conversion.groups import Groups
from bridge.workflows.conversion.links import GETTERS
from bridge.workflows.conversion.model import (
    Boundary,
    InputSlot,
    LiveGraph,
    LiveNode,
    OutputSlot,
    WidgetKind,
)
from bridge.workflows.conversion.ordering import Ordering
from bridge.workflows.conversion.promotion import PRIMITIVE, Promotion
from bridge.workflows.conversion.values import Restorer, fill_empty_combo
from bridge.workflows.conversion.widgets import Layout
from bridge.workflows.objectinfo import MATCH_TYPE, NodeClass, ObjectInfo

# Nodes that the page draws and the server never gets.
PAGE_ONLY = frozenset({"Note", "MarkdownNote", "Reroute", PRIMITIVE})
# The same of widely used extensions of the page, where the server has no class of that name. What
# has outputs passes on what its inputs are linked to.
EXTENSIONS_ONLY = frozenset(
    {
        *GETTERS,
        *GETTERS.values(),
        "Bookmark (rgthree)",
        "Fast Actions Button (rgthree)",
        "Fast Bypasser (rgthree)",
        "Fast Groups Bypasser (rgthree)",
        "Fast Groups Muter (rgthree)",
        "Fast Muter (rgthree)",
        "Label (rgthree)",
        "Mute / Bypass Relay (rgthree)",
        "Mute / Bypass Repeater (rgthree)",
        "Node Collector (rgthree)",
        "Note Plus (mtb)",
        "Random Unmuter (rgthree)",
        "Reroute (rgthree)",
    }
)

_SAMPLERS = frozenset({"KSampler", "KSamplerAdvanced"})
_OLD_SAMPLER_PREFIX = "sample_"


class Loader:
    """Makes live graphs of one file."""

    def __init__(
        self, document: Document, object_info: ObjectInfo, front_end: FrontEnd, budget: Budget
    ) -> None:
        self._object_info = object_info
        self._front_end = front_end
        self._layout = Layout(front_end)
        self._promotion = Promotion(front_end, budget)
        self._budget = budget
        ordering = Ordering(object_info, self._layout, budget)
        self._restorer = Restorer(front_end, self._layout, ordering)
        groups = Groups(
            document,
            object_info,
            front_end,
            budget,
            layout=self._layout,
            restorer=self._restorer,
        )
        self._document = groups.expanded()
        self._graphs: dict[str, LiveGraph] = {}

    def load(self) -> LiveGraph:
        """Return the root, with all subgraphs that it shows below it.

        Raises ConversionError where a subgraph contains itself or two nodes share an id.
        """
        definitions = {each.id: each for each in self._document.subgraphs if each.id}
        order = _inner_first(self._document.root, definitions)
        self._graphs = {each.id: _empty(each) for each in order}
        if not self._front_end.host_values:
            order = [each for each in self._document.subgraphs if each.id in self._graphs]
        for definition in order:
            self._fill(self._graphs[definition.id])
        root = _empty(self._document.root)
        self._fill(root)
        for graph in (*self._graphs.values(), root):
            self._finish(graph)
            broadcasts.broadcast(graph, self._budget, is_root=graph is root)
        return root

    def _fill(self, graph: LiveGraph) -> None:
        graph.links = {link.id: link for link in graph.source.links}
        for source in graph.source.nodes:
            node = self._node(source)
            if node.id in graph.nodes:
                raise node.error("malformed", "two nodes of one graph have this id")
            graph.nodes[node.id] = node
        for node in graph.nodes.values():
            self._configure(graph, node)
        if self._front_end.host_values:
            for host, inner in graph.hosted():
                self._promotion.migrate(host, inner)

    def _node(self, source: FileNode) -> LiveNode:
        page_only = (
            source.type in PAGE_ONLY
            or broadcasts.is_sender(source.type)
            or (source.type in EXTENSIONS_ONLY and source.type not in self._object_info)
        )
        node = LiveNode(
            id=source.id,
            type=source.type,
            mode=source.mode,
            title=source.title,
            source=source,
            declared=None if page_only else self._class(source.type),
            inner=self._graphs.get(source.type),
            virtual=page_only or source.type in self._graphs,
            properties=source.properties,
        )
        if node.inner is not None:
            node.declared = None
            node.inner.hosts.append(node)
        return node

    def _class(self, kind: str) -> NodeClass | None:
        if kind == broadcasts.SEED and kind not in self._object_info:
            kind = broadcasts.SEED_STAND_IN
        return self._object_info.get(kind)

    def _configure(self, graph: LiveGraph, node: LiveNode) -> None:
        saved = node.source.inputs
        self._budget.spend(1 + len(saved))
        if node.inner is not None:
            self._budget.spend(len(node.inner.inputs) + len(node.inner.outputs))
            node.inputs = [InputSlot(each.name, each.type) for each in node.inner.inputs]
            node.outputs = [OutputSlot(each.type) for each in node.inner.outputs]
        elif node.declared is not None:
            self._budget.spend(len(node.declared.inputs))
            self._layout.lay_out(node, node.declared)
            node.outputs = list(_outputs(node.declared))
        _connect(node, saved)
        if node.inner is not None:
            self._promotion.show(node, node.inner)
        elif node.declared is not None:
            self._restorer.restore(node)
            _correct_links(graph, node, _first_moved(node))

    def _finish(self, graph: LiveGraph) -> None:
        """Do what the front end does once everything is loaded."""
        for node in graph.nodes.values():
            if node.declared is not None:
                node.inputs = [slot for slot in node.inputs if _is_backed(node, slot)]
            _correct_links(graph, node, 0)
            if self._front_end.fills_combos:
                for widget in list(node.widgets):
                    fill_empty_combo(widget, self._layout, node)
                for slot in node.inputs:
                    if slot.shown is not None:
                        fill_empty_combo(slot.shown, self._layout, node)
            _rename_old_sampler(node)


def _empty(source: FileGraph) -> LiveGraph:
    return LiveGraph(
        id=source.id,
        name=source.name,
        source=source,
        inputs=[Boundary(each.name, each.type, list(each.links)) for each in source.inputs],
        outputs=[Boundary(each.name, each.type, list(each.links)) for each in source.outputs],
    )


def _inner_first(root: FileGraph, definitions: dict[str, FileGraph]) -> list[FileGraph]:
    """Return the definitions that the root leads to, each after those that it shows itself."""
    done: dict[str, FileGraph] = {}
    open_: set[str] = set()
    # A stack instead of recursion: a file may nest as deep as it has definitions.
    stack: list[tuple[FileGraph, Iterator[FileNode]]] = [(root, iter(root.nodes))]
    while stack:
        graph, nodes = stack[-1]
        shown = next((node for node in nodes if node.type in definitions), None)
        if shown is None:
            stack.pop()
            if graph is not root:
                open_.discard(graph.id)
                done[graph.id] = graph
        elif shown.type in open_:
            raise ConversionError(
                "cyclic_subgraph",
                "the subgraph contains itself",
                node=shown.id,
                title=shown.title,
                class_type=definitions[shown.type].name,
            )
        elif shown.type not in done:
            open_.add(shown.type)
            inner = definitions[shown.type]
            stack.append((inner, iter(inner.nodes)))
    return list(done.values())


def _outputs(declared: NodeClass) -> Iterator[OutputSlot]:
    for each in declared.outputs:
        shared = each.type == MATCH_TYPE
        yield OutputSlot("*" if shared else each.type, group=each.match_group)


def _connect(node: LiveNode, saved: tuple[FileInput, ...]) -> None:
    """Set the links of the node's slots from the file, by name for inputs, by place for outputs.

    Slots that only the file has are kept: some custom nodes add inputs while they are used.
    """
    by_name = {each.name: each for each in saved}
    laid_out = {slot.name for slot in node.inputs}
    for slot in node.inputs:
        found = by_name.get(slot.name)
        if found is not None:
            slot.link = found.link
    if node.inner is None:
        node.inputs += [
            InputSlot(each.name, each.type, each.link, each.widget)
            for each in saved
            if node.declared is None or each.name not in laid_out
        ]
    for place, output in enumerate(node.source.outputs):
        if place < len(node.outputs):
            node.outputs[place].links = list(output.links)
        else:
            node.outputs.append(OutputSlot(output.type, list(output.links)))


def _correct_links(graph: LiveGraph, node: LiveNode, start: int) -> None:
    """Set links to the positions of their slots on the live node, from a place on.

    The file's places count only the slots that it lists, and these are those that are in use.
    """
    for place, slot in enumerate(node.inputs[start:], start):
        link = graph.links.get(slot.link) if slot.link is not None else None
        if link is not None:
            graph.links[link.id] = replace(link, target_slot=place)


def _first_moved(node: LiveNode) -> int:
    """Return the place from which on the front end laid slots out again while it loaded the node.

    It does so behind a choice's inputs and behind a linked member of a growing list.
    """
    chosen = {each.name for each in node.widgets if each.kind is WidgetKind.DYNAMIC}
    for place, slot in enumerate(node.inputs):
        moved = slot.name in chosen and bool(node.source.values)
        if moved or (slot.link is not None and _in_list(node, slot)):
            return place + 1
    return len(node.inputs)


def _in_list(node: LiveNode, slot: InputSlot) -> bool:
    """Return whether a slot is a member of a growing list that the class declares."""
    group = slot.name.rpartition(".")[0]
    spec = node.declared.input(group) if node.declared is not None and group else None
    return spec is not None and spec.growing() is not None


def _is_backed(node: LiveNode, slot: InputSlot) -> bool:
    """Return whether a slot that stands for a widget has one. A list's member needs none."""
    if slot.widget is None or node.widget(slot.widget) is not None:
        return True
    return _in_list(node, slot)


def _rename_old_sampler(node: LiveNode) -> None:
    widget = node.widget("sampler_name") if node.type in _SAMPLERS else None
    if widget is not None and isinstance(widget.value, str):
        widget.value = widget.value.removeprefix(_OLD_SAMPLER_PREFIX)
