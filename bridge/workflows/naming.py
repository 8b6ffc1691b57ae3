"""Plain names for the inputs of a graph that has no input nodes of ours.

What most requests set is named by its meaning: a text is the prompt or the negative prompt by
what it feeds, through all conditioning in between; a width is the picture's where a latent is made
of it. The first of a kind gets the plain name, further ones are numbered, in the order of the
nodes' ids: new nodes get higher ids, so that a name does not change when a graph grows or is saved
again. Titles decide names only for primitive nodes, which have no other meaning than their title.

Pure, and without recursion: graphs come from anywhere.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from msgspec import Struct

from bridge.workflows.constraints import Declarations
from bridge.workflows.graph import Graph, Node, NodeInput, NodeLink, link
from bridge.workflows.objectinfo import InputSpec
from bridge.workflows.page_pictures import is_page_picture

PROMPT = "prompt"
NEGATIVE = "negative_prompt"

# Inputs whose name says it all, and their plain name, in the order in which they are listed.
_NUMBERS = {
    "seed": "seed",
    "noise_seed": "seed",
    "steps": "steps",
    "cfg": "cfg",
    "guidance": "guidance",
    "denoise": "denoise",
    "width": "width",
    "height": "height",
    "batch_size": "batch_size",
    "length": "length",
    "fps": "fps",
}
_WORDS = {
    "sampler_name": "sampler",
    "scheduler": "scheduler",
    "ckpt_name": "checkpoint",
    "unet_name": "model",
    "lora_name": "lora",
}
_TEXTS = {
    "prompt": PROMPT,
    "positive_prompt": PROMPT,
    "prompt_text": PROMPT,
    "text_prompt": PROMPT,
    "text": PROMPT,
    "negative_prompt": NEGATIVE,
    "lyrics": "lyrics",
    "tags": "tags",
    "system_prompt": "system_prompt",
}
# Texts that are something else than the prompt, whatever they feed.
_OWN_TEXTS = frozenset(("negative_prompt", "lyrics", "tags", "system_prompt"))
_MEDIA = ("image", "mask", "video", "audio", "file")
_ORDER = (
    *dict.fromkeys(_TEXTS.values()),
    *_MEDIA,
    *dict.fromkeys((*_NUMBERS.values(), "size", *_WORDS.values())),
)

SEEDS = frozenset(("seed", "noise_seed"))
# Inputs by which a text comes into a node that only passes texts on.
_PASSED = frozenset(("value", "string", "string_a", "string_b"))
# Names of inputs that say nothing about what is given.
_VAGUE = frozenset(("choice", "text", *_PASSED))
# A negative made of nothing is no text, though the text of the positive goes into it.
_EMPTYING = frozenset(("ConditioningZeroOut",))
# What files are loaded by, for a ComfyUI that has not reported yet, or does it otherwise.
_LOADED = {
    ("LoadImage", "image"): "image",
    ("LoadImageMask", "image"): "mask",
    ("LoadImageOutput", "image"): "image",
    ("LoadAudio", "audio"): "audio",
    ("LoadVideo", "file"): "video",
}
# What stands between words: letters and digits of every script make words.
_NOT_IN_SLUG = re.compile(r"[\W_]+")
_NOT_IN_ASCII_SLUG = re.compile(r"[^a-z0-9]+")
_MAX_SLUG = 40


class PlainName(Struct, frozen=True, gc=False):
    """A place's meaning: its plain name, and how good its claim to it is (0: the best)."""

    name: str
    rank: int = 0


def last(name: str) -> str:
    """Return the last part of an input's name: `model.seed` is a seed too."""
    return name.rpartition(".")[2]


def media_kind(node: Node, name: str, spec: InputSpec | None) -> str | None:
    """Return the kind of file that an input names, None for one that names no file."""
    known = _LOADED.get((node.class_type, name))
    if is_page_picture(spec):
        known = "image"
    return known or (spec.upload if spec is not None else None)


def is_primitive(node: Node) -> bool:
    """True if a node is nothing but a value."""
    return node.class_type.startswith("Primitive") and _value_of(node) is not None


def plain_names(
    graph: Graph, declared: Declarations, chosen: Sequence[NodeInput] = ()
) -> dict[NodeInput, str]:
    """Return the plain name of each place that has one, in the order in which to list them.

    Of places that the author has `chosen` each gets a name, and no other place does.
    """
    roles: dict[NodeInput, PlainName] = {}
    for target, role in _roles(graph, declared):
        known = roles.setdefault(target, role)
        if {known.name, role.name} == {"width", "height"}:
            roles[target] = PlainName("size", min(known.rank, role.rank))
    if chosen:
        roles = {
            target: roles.get(target) or PlainName(_own_name(graph.nodes[target.node], target), 3)
            for target in chosen
        }
    groups: dict[str, list[NodeInput]] = {name: [] for name in _ORDER}
    for target, role in roles.items():
        groups.setdefault(role.name, []).append(target)
    names: dict[NodeInput, str] = {}
    # Numbers are given when all first names are taken: `prompt_2` may be a primitive's own title.
    taken = {name for name, targets in groups.items() if targets}
    for base, targets in groups.items():
        if not chosen:
            targets.sort(key=lambda target: (roles[target].rank, _order(target)))
        number = 1
        for index, target in enumerate(targets):
            name = base
            while index and name in taken:
                number += 1
                name = f"{base}_{number}"
            taken.add(name)
            names[target] = name
    return {target: names[target] for target in chosen} if chosen else names


def _own_name(node: Node, target: NodeInput) -> str:
    """Return a name for a place without a role: its node's title where its own says nothing."""
    short = _slug(last(target.input), _NOT_IN_SLUG)
    titled = _slug(unicodedata.normalize("NFC", node.title or ""), _NOT_IN_SLUG)
    return (titled if short in _VAGUE else "") or short or "input"


def _order(target: NodeInput) -> tuple[list[tuple[bool, int, str]], str]:
    """Sort by node id, `9` before `10` and `58:9` before `58:10`."""
    parts = re.split(r"[:.]", target.node)
    key = [
        (False, int(part), "") if part.isdecimal() and len(part) < _MAX_SLUG else (True, 0, part)
        for part in parts
    ]
    return key, target.input


def _roles(graph: Graph, declared: Declarations) -> Iterator[tuple[NodeInput, PlainName]]:
    """Yield places with their roles, those that weigh more first."""
    texts = _Texts(graph, declared)
    yield from texts.by_what_they_feed()
    yield from texts.by_their_inputs()
    for node in graph.nodes.values():
        yield from _files(node, declared)
    for node in graph.nodes.values():
        yield from _settings(node, graph, declared)
    for node in graph.nodes.values():
        found = _titled(node, declared)
        if found is not None:
            yield found


def _files(node: Node, declared: Declarations) -> Iterator[tuple[NodeInput, PlainName]]:
    for name, value in node.literals():
        kind = media_kind(node, name, declared.input(node, name))
        if kind is not None and isinstance(value, str | dict):
            yield NodeInput(node.id, name), PlainName(kind)


def _settings(
    node: Node, graph: Graph, declared: Declarations
) -> Iterator[tuple[NodeInput, PlainName]]:
    for name, value in node.inputs.items():
        short = last(name)
        number, word = _NUMBERS.get(short), _WORDS.get(short)
        plain = number or word
        if plain is None:
            continue
        target, found = NodeInput(node.id, name), value
        taken = link(value)
        if taken is not None:
            source = graph.nodes[taken.node]
            slot = _value_of(source) if is_primitive(source) else None
            if slot is None:
                continue
            target, found = NodeInput(source.id, slot), source.inputs[slot]
        if _is_number(found) if number else isinstance(found, str):
            rank = _size_rank(node, declared) if plain in ("width", "height") else 0
            if rank is not None:
                yield target, PlainName(plain, rank)


def _size_rank(node: Node, declared: Declarations) -> int | None:
    """Return how likely a node's size is the picture's (0: most), None if it is not."""
    outputs = declared.outputs(node)
    types = None if outputs is None else {each.type for each in outputs}
    if types is None:
        return 0 if "Latent" in node.class_type else 1
    if "LATENT" in types:
        return 0
    # CLIPTextEncodeSDXL is given a size, too, and makes nothing of it.
    return None if types == {"CONDITIONING"} else 1


def _titled(node: Node, declared: Declarations) -> tuple[NodeInput, PlainName] | None:
    """Return a primitive node's value under the title that somebody gave to it."""
    if node.title is None or not is_primitive(node):
        return None
    found = declared.node_class(node.class_type)
    own = (node.class_type, *(() if found is None else (found.display_name,)))
    slug = _slug(unicodedata.normalize("NFC", node.title), _NOT_IN_SLUG)
    slot = _value_of(node)
    if node.title in own or not slug or slot is None:
        return None
    return NodeInput(node.id, slot), PlainName(slug, 2)


def former_name(node: Node) -> str | None:
    """Return the name of a titled primitive node in earlier versions, if it is another now."""
    if node.title is None or node.title.isascii() or not is_primitive(node):
        return None
    return _slug(node.title, _NOT_IN_ASCII_SLUG) or None


def _slug(title: str, between: re.Pattern[str]) -> str:
    return between.sub("_", title.lower()).strip("_")[:_MAX_SLUG].strip("_")


def _value_of(node: Node) -> str | None:
    """Return the name of a primitive node's value, if it is a literal."""
    value = node.inputs.get("value")
    return "value" if isinstance(value, str | int | float) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


class _Texts:
    """Finds the texts of a graph, walking against its links."""

    def __init__(self, graph: Graph, declared: Declarations) -> None:
        self._graph = graph
        self._declared = declared

    def by_what_they_feed(self) -> Iterator[tuple[NodeInput, PlainName]]:
        """Yield the texts that end in a positive conditioning, then those of a negative one."""
        starts: dict[str | None, list[NodeLink]] = {PROMPT: [], NEGATIVE: [], None: []}
        for node in self._graph.nodes.values():
            for name, taken in node.links():
                starts[self._end(node, name, taken)].append(taken)
        for role in (PROMPT, NEGATIVE):
            yield from self._walk(starts[role], role)

    def by_their_inputs(self) -> Iterator[tuple[NodeInput, PlainName]]:
        """Yield the texts whose input's name says what they are, as those of API nodes."""
        for node in self._graph.nodes.values():
            for name, value in node.inputs.items():
                role = _TEXTS.get(last(name))
                if role is None:
                    continue
                taken = link(value)
                if taken is not None:
                    yield from self._walk([taken], role)
                elif isinstance(value, str) and self._is_text(node, name):
                    yield NodeInput(node.id, name), PlainName(role)

    def _end(self, node: Node, name: str, taken: NodeLink) -> str | None:
        """Return which conditioning an input takes, where a conditioning ends there."""
        short = last(name)
        if short in ("positive", "negative"):
            return PROMPT if short == "positive" else NEGATIVE
        kind = self._declared.gives(taken)
        takes = kind == "CONDITIONING" or (kind is None and short.startswith("cond"))
        outputs = self._declared.outputs(node)
        if outputs is None:
            ends = "Guider" in node.class_type
        else:
            ends = all(each.type != "CONDITIONING" for each in outputs)
        if takes and ends:
            return NEGATIVE if "neg" in short else PROMPT
        return None

    def _walk(self, starts: list[NodeLink], role: str) -> Iterator[tuple[NodeInput, PlainName]]:
        waiting = list(reversed(starts))
        seen: set[NodeLink] = set()
        while waiting:
            here = waiting.pop()
            if here in seen:
                continue
            seen.add(here)
            node = self._graph.nodes[here.node]
            if node.class_type in _EMPTYING:
                continue
            names = self._inputs_behind(node, here)
            for name, value in names.items():
                if isinstance(value, str) and self._is_prompt(node, name, here):
                    own = last(name) in _OWN_TEXTS
                    yield NodeInput(node.id, name), PlainName(_TEXTS[last(name)] if own else role)
            behind = (link(value) for name, value in names.items() if self._leads_on(name, value))
            waiting.extend(reversed([each for each in behind if each is not None]))

    def _inputs_behind(self, node: Node, here: NodeLink) -> Mapping[str, Any]:
        """Return the inputs from which an output is made: of a pair, only its own side."""
        sides = [name for name in ("positive", "negative") if link(node.inputs.get(name))]
        if not sides:
            return node.inputs
        outputs = self._declared.outputs(node)
        if outputs is None:
            side = "negative" if here.output == 1 else "positive"
        elif 0 <= here.output < len(outputs) and outputs[here.output].type == "CONDITIONING":
            found = outputs[here.output].name.lower()
            side = "negative" if "negative" in found else "positive"
        else:
            return {}
        return {name: value for name, value in node.inputs.items() if name == side}

    def _leads_on(self, name: str, value: Any) -> bool:
        """True if an input brings conditioning or text."""
        taken = link(value)
        if taken is None:
            return False
        kind = self._declared.gives(taken)
        if kind is not None and kind != "*":
            return kind == "CONDITIONING" or (kind == "STRING" and _passes_text(name))
        short = last(name)
        return short.startswith("cond") or short in ("positive", "negative") or _passes_text(name)

    def _is_text(self, node: Node, name: str) -> bool:
        spec = self._declared.input(node, name)
        return spec is None or spec.type == "STRING"

    def _is_prompt(self, node: Node, name: str, here: NodeLink) -> bool:
        """True if a literal on the way is a text that people write."""
        if not self._is_text(node, name):
            return False
        if last(name) in _TEXTS or last(name) in _PASSED or is_primitive(node):
            return True
        spec = self._declared.input(node, name)
        encodes = self._declared.gives(here) == "CONDITIONING"
        if spec is None:
            return "TextEncode" in node.class_type
        return encodes and spec.multiline


def _passes_text(name: str) -> bool:
    short = last(name)
    return short in _TEXTS or short in _PASSED or short.startswith(("text_", "clip_l", "t5"))
