"""Values that nodes of Use Everywhere (cg-use-everywhere) send to inputs without a link.

Such a node has no outputs. What is linked to it goes to every input of its graph that takes that
type and has no link, as far as the node's restrictions let it: by the title of the receiving node,
the name of the input, frames round the nodes, colours. Any node can be set to send its outputs
likewise. Of several senders the one of the highest priority counts, of two alike none. A value that
stands in a widget is replaced only where the file says that it may be.

The extension puts links into the page's graph before a prompt is made; here they are put into the
graph that was loaded, as version 7.8 of it does. Its setting to send texts to combos has no effect:
neither the page nor ComfyUI takes such a link.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Final

from msgspec import Struct

from bridge.workflows.conversion.document import (
    INPUT_NODE,
    OUTPUT_NODE,
    FileInput,
    FileNode,
    Frame,
    SlotLink,
)
from bridge.workflows.conversion.errors import Budget
from bridge.workflows.conversion.model import InputSlot, LiveGraph, LiveNode, Mode, Types
from bridge.workflows.conversion.patterns import InvalidPattern, Pattern, UnknownPattern

SEED: Final = "Seed Everywhere"
# The class of ComfyUI's own that stands in for a seed where the extension is not installed.
SEED_STAND_IN: Final = "PrimitiveInt"
_ANYTHING = "Anything Everywhere"
_PROMPTS = "Prompts Everywhere"

# Names of inputs, in English and Chinese, to which seeds and prompts go.
_SEED_INPUTS = "seed|随机种"
_PROMPT_INPUTS = (r"(_|\b)pos(itive|_|\b)|正面", r"(_|\b)neg(ative|_|\b)|负面")
_PROMPT_RULES = ("prompt", "negative")
_RULES = ("title", "input", "prompt", "negative", "group")

_PRIORITY, _OF_OWN_KIND, _BY_PATTERN, _BY_FRAME, _BY_COLOUR = 10, 10, 20, 3, 6
_ALIKE, _OTHERS = 1, 2
# How inputs of one type at one sender are distinguished, by their names.
_SAME_START, _SAME_END, _SAME_TITLE, _AS_PATTERN = 1, 2, 3, 4
# The title of what receives for a subgraph's outputs.
_OUTPUTS = "subgraph output node"


def is_sender(kind: str) -> bool:
    """True for a node that does nothing but send."""
    return kind.startswith(_ANYTHING) or kind == _PROMPTS


class _Rule(Struct, frozen=True):
    """A pattern that a name must have in it, or with `inverted` must not."""

    pattern: Pattern
    inverted: bool = False

    def lets(self, name: str) -> bool:
        return self.pattern.found_in(name) != self.inverted


class _Sender(Struct, frozen=True):
    """One value that is sent. `to` are the nodes that may have it, None: all."""

    origin: str
    slot: int
    type: str
    priority: float
    title: _Rule | None
    input: _Rule | None
    to: Collection[str] | None
    # It may go to what takes any type.
    to_any: bool
    # Given the receiving node and its input.
    suits: Callable[[LiveNode, InputSlot], bool]

    def matches(self, node: LiveNode, slot: InputSlot) -> bool:
        return (
            (slot.type == self.type or (self.to_any and slot.type == "*"))
            and self.origin != node.id
            and (self.to is None or node.id in self.to)
            and (self.title is None or self.title.lets(_title(node)))
            and (self.input is None or self.input.lets(_shown_name(node, slot)))
            and self.suits(node, slot)
        )


def broadcast(graph: LiveGraph, budget: Budget, *, is_root: bool) -> None:
    """Put in the links for what the nodes of a loaded graph send.

    Raises ConversionError where a node uses a pattern that is not understood here.
    """
    senders: list[_Sender] = []
    for node in graph.nodes.values():
        if not node.inactive and (_sends(node) or node.type == SEED):
            budget.spend(1 + len(graph.nodes))
            senders += _SendingNode(graph, node).senders()
    if not senders:
        return
    found: list[tuple[LiveNode, InputSlot, _Sender]] = []
    for node in graph.nodes.values():
        for slot in node.inputs:
            if slot.link in graph.links:
                continue
            slot.link = None  # the extension takes its links away without telling their ends
            budget.spend(1 + len(senders))
            best = _best(senders, node, slot) if _takes(node, slot, is_root=is_root) else None
            if best is not None:
                found.append((node, slot, best))
    for node, slot, sender in found:
        graph.add_link(sender.origin, sender.slot, node, slot)
    _to_outputs(graph, senders)


def _to_outputs(graph: LiveGraph, senders: list[_Sender]) -> None:
    """Link the outputs of a subgraph that nothing is linked to."""
    node = LiveNode(OUTPUT_NODE, _OUTPUTS, Mode.ACTIVE, None, FileNode(OUTPUT_NODE, _OUTPUTS))
    node.inputs = [InputSlot(each.name, each.type) for each in graph.outputs]
    for slot, boundary in zip(node.inputs, graph.outputs, strict=True):
        linked = any(link in graph.links for link in boundary.links)
        best = None if linked else _best(senders, node, slot)
        if best is not None:
            boundary.links = [graph.add_link(best.origin, best.slot, node, slot).id]


def _always(_node: LiveNode, _slot: InputSlot) -> bool:
    return True


def _sends(node: LiveNode) -> bool:
    return is_sender(node.type) or bool(node.properties.get("ue_convert"))


def _best(senders: list[_Sender], node: LiveNode, slot: InputSlot) -> _Sender | None:
    suiting = [sender for sender in senders if sender.matches(node, slot)]
    highest = max((sender.priority for sender in suiting), default=0)
    best = [sender for sender in suiting if sender.priority == highest]
    return best[0] if len(best) == 1 else None


def _takes(node: LiveNode, slot: InputSlot, *, is_root: bool) -> bool:
    """True if an input may be sent something."""
    if is_sender(node.type) or node.properties.get("rejects_ue_links"):
        return False
    own = _settings(node)
    if slot.widget is None and slot.shown is None:
        return not _mapping(own.get("input_ue_unconnectable")).get(slot.name)
    allowed = own.get("widget_ue_connectable") or node.properties.get("widget_ue_connectable")
    if isinstance(allowed, Mapping):
        return bool(allowed.get(slot.name))
    if "widget_ue_connectable" in own:
        return False
    # From before there was such a setting: a widget with a slot of its own in the file.
    return is_root and any(each.name == slot.name for each in node.source.inputs)


class _SendingNode:
    """One node that sends."""

    def __init__(self, graph: LiveGraph, node: LiveNode) -> None:
        self._graph = graph
        self._node = node
        self._types = Types()
        self._settings = _settings(node)
        if is_sender(node.type) and not _is_current(self._settings):
            self._settings = _former_settings(node)

    def senders(self) -> Iterator[_Sender]:
        """Yield what the node sends."""
        sent = [(place, *each) for place, each in self._values() if each is not None]
        count = Counter(kind for _, _, _, kind in sent)
        repeats = any(number > 1 for number in count.values())
        priority = self._priority(repeats=repeats)
        to = self._to()
        title = self._rule("title")
        always = bool(self._settings.get("apply_to_unrepeated"))
        for place, origin, slot, kind in sent:
            yield _Sender(
                origin,
                slot,
                kind,
                priority,
                title,
                self._input_rule(place),
                to,
                bool(self._settings.get("send_to_any")),
                self._distinction(place) if always or count[kind] > 1 else _always,
            )

    def _values(self) -> Iterator[tuple[int, tuple[str, int, str] | None]]:
        """Yield place, and node, output and type, of each value."""
        node, graph = self._node, self._graph
        if not is_sender(node.type):
            hidden = _mapping(self._settings.get("output_not_broadcasting"))
            for place, output in enumerate(node.outputs):
                kind = self._types.output(graph, node, place)
                outputs = node.source.outputs
                name = outputs[place].name if place < len(outputs) else ""
                if not hidden.get(name):
                    yield place, (node.id, place, kind if kind != "*" else output.type)
            return
        for place, slot in enumerate(node.inputs):
            link = graph.links.get(slot.link) if slot.link is not None else None
            yield place, None if link is None else self._origin(link, slot)

    def _origin(self, link: SlotLink, slot: InputSlot) -> tuple[str, int, str] | None:
        """Return where a link's value comes from, through bypassed nodes."""
        kind, seen = self._kind(link), set[int]()
        while (origin := self._graph.nodes.get(link.origin)) is not None:
            if origin.mode == Mode.MUTED or link.id in seen:
                return None
            if origin.mode != Mode.BYPASSED:
                break
            seen.add(link.id)
            passed = _passed_on(origin, link.origin_slot, kind)
            following = self._graph.links.get(passed) if passed is not None else None
            if following is None:
                return None
            link = following
        return link.origin, link.origin_slot, slot.type if kind == "*" else kind

    def _kind(self, link: SlotLink) -> str:
        if link.origin == INPUT_NODE:
            inputs = self._graph.inputs
            return inputs[link.origin_slot].type if 0 <= link.origin_slot < len(inputs) else "*"
        origin = self._graph.nodes.get(link.origin)
        if origin is None or not 0 <= link.origin_slot < len(origin.outputs):
            return "*"
        return self._types.output(self._graph, origin, link.origin_slot)

    def _priority(self, *, repeats: bool) -> float:
        given = self._settings.get("priority")
        if isinstance(given, int | float) and given:
            return given
        own = self._settings
        return (
            _PRIORITY
            + _OF_OWN_KIND * (self._node.type == _PROMPTS)
            + _BY_PATTERN * (repeats or self._node.type == SEED or any(map(self._pattern, _RULES)))
            + _BY_FRAME * bool(own.get("group_restricted"))
            + _BY_COLOUR * bool(own.get("color_restricted"))
        )

    def _pattern(self, rule: str) -> str:
        found = self._settings.get(f"{rule}_regex")
        return found if isinstance(found, str) and found != ".*" else ""

    def _rule(self, rule: str, default: str = "") -> _Rule | None:
        source = self._pattern(rule) or default
        pattern = self._compiled(source, rule) if source else None
        if pattern is None:
            return None
        return _Rule(pattern, bool(self._settings.get(f"{rule}_regex_invert")))

    def _compiled(self, source: str, what: str) -> Pattern | None:
        try:
            return Pattern(source)
        except InvalidPattern:
            return None  # the page continues without it, too
        except UnknownPattern as error:
            reason = f"the pattern {source!r} for the {what} is not understood here: {error}"
            raise self._node.error("unknown_pattern", reason) from None

    def _input_rule(self, place: int) -> _Rule | None:
        if self._node.type == _PROMPTS and place < len(_PROMPT_RULES):
            return self._rule(_PROMPT_RULES[place], _PROMPT_INPUTS[place])
        return self._rule("input", _SEED_INPUTS if self._node.type == SEED else "")

    def _to(self) -> Collection[str] | None:
        """Return the nodes that frames and colours let it send to, None for all."""
        nodes = self._graph.nodes
        by_frame, by_colour = (
            self._settings.get("group_restricted"),
            self._settings.get("color_restricted"),
        )
        rule = self._rule("group")
        if not (by_frame or by_colour or rule is not None):
            return None
        found = set(nodes)
        frames = {frame: _inside(frame, nodes.values()) for frame in self._graph.source.frames}
        mine = {each for inside in frames.values() if self._node.id in inside for each in inside}
        if by_frame == _ALIKE:
            found &= mine
        elif by_frame == _OTHERS:
            found -= mine
        colour = self._node.source.colour
        if by_colour in (_ALIKE, _OTHERS):
            alike = by_colour == _ALIKE
            found = {each for each in found if (nodes[each].source.colour == colour) == alike}
        if rule is not None:
            named = (inside for frame, inside in frames.items() if rule.lets(frame.title))
            found &= {each for inside in named for each in inside}
        return found

    def _distinction(self, place: int) -> Callable[[LiveNode, InputSlot], bool]:
        """Return what tells apart the receivers of values of one type."""
        if self._node.type == _PROMPTS:
            return _always
        sent, rule = self._sent_name(place), self._settings.get("repeated_type_rule") or 0
        pattern = self._compiled(sent, "names of inputs") if rule == _AS_PATTERN else None

        def suits(node: LiveNode, slot: InputSlot) -> bool:
            wanted = _own_name(node, slot)
            length = min(len(sent), len(wanted))
            if rule == _SAME_START:
                return sent[:length] == wanted[:length]
            if rule == _SAME_END:
                return sent[len(sent) - length :] == wanted[len(wanted) - length :]
            if rule == _SAME_TITLE:
                return sent == _title(node)
            return sent == wanted if pattern is None else pattern.found_in(wanted)

        return suits

    def _sent_name(self, place: int) -> str:
        if is_sender(self._node.type):
            return _own_name(self._node, self._node.inputs[place])
        return self._output_name(place)

    def _output_name(self, place: int) -> str:
        outputs = self._node.source.outputs
        return (outputs[place].label or outputs[place].name) if place < len(outputs) else ""


def _passed_on(node: LiveNode, place: int, kind: str) -> int | None:
    """Return the link that a bypassed node passes on."""
    if place < len(node.inputs) and node.inputs[place].type == kind:
        return node.inputs[place].link
    return next((slot.link for slot in node.inputs if slot.type == kind), None)


def _inside(frame: Frame, nodes: Collection[LiveNode]) -> set[str]:
    """Return the nodes whose middle is in a frame."""
    areas = ((node.id, node.source.area) for node in nodes)
    return {
        identity
        for identity, area in areas
        if area is not None
        and frame.area.contains(area.left + area.width / 2, area.top + area.height / 2)
    }


def _settings(node: LiveNode) -> Mapping[str, Any]:
    return _mapping(node.properties.get("ue_properties"))


def _is_current(settings: Mapping[str, Any]) -> bool:
    version = settings.get("version")
    return isinstance(version, str) and "." in version


def _former_settings(node: LiveNode) -> Mapping[str, Any]:
    """Return the settings of a node from before version 7, which had patterns as widgets."""
    found = {name: node.properties.get(name) for name in ("group_restricted", "color_restricted")}
    values = node.source.values if isinstance(node.source.values, tuple) else ()
    return {
        **found,
        **dict(zip(("title_regex", "input_regex", "group_regex"), values, strict=False)),
    }


def _title(node: LiveNode) -> str:
    if node.title:
        return node.title
    if node.inner is not None:
        return node.inner.name
    return node.type if node.declared is None else node.declared.display_name


def _own_name(node: LiveNode, slot: InputSlot) -> str:
    """Return the name that somebody gave to an input, or its own."""
    file = _file_input(node, slot)
    return (file.label if file is not None else None) or slot.name


def _shown_name(node: LiveNode, slot: InputSlot) -> str:
    """Return the name of an input that people see."""
    file = _file_input(node, slot)
    shown = None if file is None else file.label or file.translated
    return shown or (slot.name if slot.spec is None else slot.spec.display_name)


def _file_input(node: LiveNode, slot: InputSlot) -> FileInput | None:
    return next((each for each in node.source.inputs if each.name == slot.name), None)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
