"""The inputs of a graph by their place: every literal, `<node>.<input>` or `<title>.<input>`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from bridge.workflows import limits, naming
from bridge.workflows.declarations import Declarations
from bridge.workflows.graph import Graph, Node
from bridge.workflows.inputs import Input, Target
from bridge.workflows.kinds import KINDS
from bridge.workflows.objectinfo import InputSpec

_BY_TYPE = {"INT": "integer", "FLOAT": "float", "BOOLEAN": "boolean", "STRING": "text"}
_BY_VALUE = {int: "integer", float: "float", bool: "boolean", dict: "json"}


def inputs(graph: Graph, declared: Declarations, names: Mapping[Target, str]) -> dict[str, Input]:
    """Return the input at each place; it is called by its plain name, where it has one."""
    consumers = graph.consumers()
    found: dict[str, Input] = {}
    for node in graph.nodes.values():
        taken = consumers.get(node.id, ()) if naming.is_primitive(node) else ()
        for name, value in node.literals():
            if isinstance(value, str | int | float | dict):
                target = Target(node.id, name)
                spec = declared.input(node, name)
                numbers = list(limits.numbers_taken(taken, declared))
                feeds = {naming.last(name), *(naming.last(each) for _, each in taken)}
                place = _input(node, target, spec, numbers, is_seed=bool(feeds & naming.SEEDS))
                called = names.get(target, str(target))
                found[str(target)] = msgspec.structs.replace(place, name=called)
    return found


def aliases(graph: Graph, found: Mapping[str, Input]) -> dict[str, str]:
    """Return `<title>.<input>` of each place, where no other node has the title."""
    titles = Counter(node.title for node in graph.nodes.values())
    return {
        f"{title}.{spec.target.input}": place
        for place, spec in found.items()
        if (title := graph.nodes[spec.target.node].title) and titles[title] == 1
    }


def _input(
    node: Node, target: Target, spec: InputSpec | None, taken: list[InputSpec], *, is_seed: bool
) -> Input:
    """Draw the input at a place; `taken` are the numbers that take its value further on."""
    value = node.inputs[target.input]
    specs = [*taken, *(() if spec is None else (spec,))]
    media = naming.media_kind(node, target.input, spec)
    kind = media if media in KINDS else _kind(value, spec, is_seed=is_seed)
    choices = limits.choices_of(node, spec) if kind == "choice" else None
    return Input(
        name=str(target),
        kind=kind,
        target=target,
        title=f"{node.title or node.class_type}: {target.input}",
        description=spec.tooltip if spec is not None else None,
        default=_default(value, spec, is_media=media is not None),
        minimum=limits.lowest(each.minimum for each in specs),
        maximum=limits.highest(each.maximum for each in specs),
        step=next((each.step for each in specs if each.step is not None), None),
        multiline=spec is not None and spec.multiline,
        choices=None if choices is None else choices.values,
        choices_name=None if choices is None else choices.name,
        via="upload",
    )


def _default(value: Any, spec: InputSpec | None, *, is_media: bool) -> Any | UnsetType:
    listed = None if spec is None else spec.choices
    if is_media and listed is not None and value not in listed:
        return UNSET  # the file that the graph names is not there: it must be given
    return value


def _kind(value: Any, spec: InputSpec | None, *, is_seed: bool) -> str:
    """Return a literal's kind: by the declared type, else by the literal itself."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    if whole and is_seed and (spec is None or spec.type == "INT"):
        return "seed"
    if spec is not None and spec.choices and not spec.multi_select:
        return "choice"
    by_value = _BY_VALUE.get(type(value), "text")
    if spec is None or by_value == "json":
        return by_value
    return _BY_TYPE.get(spec.type, by_value)
