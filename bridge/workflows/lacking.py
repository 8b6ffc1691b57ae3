"""What a prompt needs of a ComfyUI, node classes and choices, and what a ComfyUI lacks of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from bridge.contract.retained import Missing, MissingChoice
from bridge.workflows.graph import Node, Target, link
from bridge.workflows.kinds import BY_NODE, CHOICES_SHOWN
from bridge.workflows.objectinfo import InputSpec, NodeClass, ObjectInfo, ObjectInfoError


class Choice(NamedTuple):
    """A choice that a prompt makes; `place` is where it stands, perhaps at a node of ours."""

    node: Node
    spec: InputSpec
    place: Target
    value: object


def missing(nodes: Iterable[Node], info: ObjectInfo) -> Missing:
    """Return what a ComfyUI has not: node types, and values that are no choice there."""
    by_id = {node.id: node for node in nodes}
    absent = {node.class_type: None for node in by_id.values() if class_of(info, node) is None}
    choices = [
        MissingChoice(
            node=made.place.node,
            input=made.place.input,
            value=str(made.value),
            allowed=[str(choice) for choice in (made.spec.choices or ())[:CHOICES_SHOWN]],
        )
        for made in choices_of(by_id, info)
        if made.value not in (made.spec.choices or ())
    ]
    return Missing(nodes=list(absent), choices=choices)


def choices_of(nodes: Mapping[str, Node], info: ObjectInfo) -> Iterator[Choice]:
    """Give the choices that a prompt makes among those that a ComfyUI declares."""
    for node in nodes.values():
        found = class_of(info, node)
        if found is None:
            continue
        for name in node.inputs:
            spec = found.input(name)
            if spec is None or not is_choice(spec):
                continue
            place = _set_at(Target(node.id, name), nodes)
            if place is not None:
                yield Choice(node, spec, place, nodes[place.node].inputs[place.input])


def is_choice(spec: InputSpec) -> bool:
    """Whether an input takes one of the words that its declaration lists, and nothing else."""
    return spec.choices is not None and not (spec.upload or spec.remote or spec.multi_select)


def class_of(info: ObjectInfo, node: Node) -> NodeClass | None:
    """Return a node's class; None where there is none, or none that can be read."""
    try:
        return info.get(node.class_type)
    except ObjectInfoError:
        return None


def _set_at(target: Target, nodes: Mapping[str, Node]) -> Target | None:
    """Return where a choice is made: at the input itself, or at our node that it is wired to."""
    taken = link(nodes[target.node].inputs[target.input])
    if taken is None:
        return target
    source = nodes.get(taken.node)
    kind = None if source is None else BY_NODE.get(source.class_type)
    if source is None or kind is None or kind.name != "choice":
        return None
    place = Target(source.id, kind.place)
    return place if isinstance(source.inputs.get(place.input), str) else None
