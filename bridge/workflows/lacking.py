"""What a ComfyUI lacks to run a graph: node classes, and values that are no choice there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from bridge.contract.messages import Missing, MissingChoice
from bridge.workflows.graph import Node
from bridge.workflows.kinds import CHOICES_SHOWN
from bridge.workflows.objectinfo import NodeClass, ObjectInfo, ObjectInfoError


def missing(nodes: Iterable[Node], info: ObjectInfo) -> Missing:
    """Return what a ComfyUI has not: node types, and values that are no choice there."""
    absent: dict[str, None] = {}
    choices: list[MissingChoice] = []
    for node in nodes:
        found = _class(info, node.class_type)
        if found is None:
            absent[node.class_type] = None
        else:
            choices.extend(_missing_choices(node, found))
    return Missing(nodes=list(absent), choices=choices)


def _missing_choices(node: Node, found: NodeClass) -> Iterator[MissingChoice]:
    for name, value in node.literals():
        spec = found.input(name)
        if spec is None or spec.choices is None or spec.upload or spec.remote or spec.multi_select:
            continue
        if value not in spec.choices:
            allowed = [str(choice) for choice in spec.choices[:CHOICES_SHOWN]]
            yield MissingChoice(node=node.id, input=name, value=str(value), allowed=allowed)


def _class(info: ObjectInfo, class_type: str) -> NodeClass | None:
    try:
        return info.get(class_type)
    except ObjectInfoError:
        return None
