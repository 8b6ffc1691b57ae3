"""What a ComfyUI lacks to run a graph: node classes, and values that are no choice there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from bridge.contract.messages import Missing, MissingChoice
from bridge.workflows.graph import Node, Target, link
from bridge.workflows.kinds import BY_NODE, CHOICES_SHOWN
from bridge.workflows.objectinfo import NodeClass, ObjectInfo, ObjectInfoError


def missing(nodes: Iterable[Node], info: ObjectInfo) -> Missing:
    """Return what a ComfyUI has not: node types, and values that are no choice there."""
    by_id = {node.id: node for node in nodes}
    absent: dict[str, None] = {}
    choices: list[MissingChoice] = []
    for node in by_id.values():
        found = _class(info, node.class_type)
        if found is None:
            absent[node.class_type] = None
        else:
            choices.extend(_missing_choices(node, found, by_id))
    return Missing(nodes=list(absent), choices=choices)


def _missing_choices(
    node: Node, found: NodeClass, nodes: Mapping[str, Node]
) -> Iterator[MissingChoice]:
    for name in node.inputs:
        spec = found.input(name)
        if spec is None or spec.choices is None or spec.upload or spec.remote or spec.multi_select:
            continue
        target = _set_at(Target(node.id, name), nodes)
        if target is not None:
            value = nodes[target.node].inputs[target.input]
            if value not in spec.choices:
                allowed = [str(choice) for choice in spec.choices[:CHOICES_SHOWN]]
                yield MissingChoice(
                    node=target.node, input=target.input, value=str(value), allowed=allowed
                )


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


def _class(info: ObjectInfo, class_type: str) -> NodeClass | None:
    try:
        return info.get(class_type)
    except ObjectInfoError:
        return None
