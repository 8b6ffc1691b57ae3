"""The inputs that a graph's own input nodes of ours declare: names, limits and texts."""

from __future__ import annotations

from typing import Any

from msgspec import UNSET, UnsetType

from bridge.workflows import limits
from bridge.workflows.declarations import Declarations
from bridge.workflows.graph import Graph, Node, WorkflowError
from bridge.workflows.inputs import Input, Target
from bridge.workflows.kinds import BY_NODE, SEED_MAX, InputKind
from bridge.workflows.limits import Choices, Consumers


def inputs(graph: Graph, declared: Declarations) -> tuple[Input, ...]:
    """Return the inputs in the order of their nodes.

    Raises WorkflowError for a name that two of them have, and for one that cannot be given.
    """
    consumers = graph.consumers()
    found = tuple(
        _input(node, BY_NODE[node.class_type], consumers.get(node.id, ()), declared)
        for node in graph.nodes.values()
        if node.class_type in BY_NODE
    )
    _check_names(found)
    return found


def _input(node: Node, kind: InputKind, consumers: Consumers, declared: Declarations) -> Input:
    given = node.inputs
    taken = list(limits.numbers_taken(consumers, declared))
    lows = [spec.minimum for spec in taken]
    highs = [spec.maximum for spec in taken]
    own = (0, SEED_MAX) if kind.name == "seed" else (given.get("minimum"), given.get("maximum"))
    choices = _choices(node, consumers, declared) if kind.name == "choice" else None
    return Input(
        name=str(given.get("name") or node.id),
        kind=kind.name,
        target=Target(node.id, kind.place),
        title=text(given.get("title")),
        description=text(given.get("description")),
        default=_default(node, kind),
        minimum=limits.lowest([number(own[0]), *lows]),
        maximum=limits.highest([number(own[1]), *highs]),
        step=number(given.get("step")),
        max_length=_whole(given.get("max_length")),
        multiline=kind.name == "text",
        choices=None if choices is None else choices.values,
        choices_name=None if choices is None else choices.name or None,
    )


def _default(node: Node, kind: InputKind) -> Any | UnsetType:
    if kind.media:
        # Without bytes of its own the node falls back on its example, where it has one.
        return "" if "example" in node.inputs else UNSET
    default = node.inputs.get(kind.place, UNSET)
    # A value that comes through a link is not the bridge's to tell.
    return UNSET if isinstance(default, list) else default


def _choices(node: Node, consumers: Consumers, declared: Declarations) -> Choices | None:
    """Return what the node lists, one a line; else what the combo takes that it is wired to."""
    listed = node.inputs.get("choices")
    lines = listed.splitlines() if isinstance(listed, str) else ()
    values = tuple(dict.fromkeys(line.strip() for line in lines if line.strip()))
    return Choices(values, "") if values else limits.choices_taken(consumers, declared)


def _check_names(found: tuple[Input, ...]) -> None:
    seen: dict[str, Input] = {}
    for spec in found:
        if spec.name in seen:
            first = seen[spec.name].target.node
            raise WorkflowError(
                f"the input name {spec.name!r} is taken by node {first}", node=spec.target.node
            )
        if spec.name.startswith("$"):
            raise WorkflowError(
                f"the input name {spec.name!r} begins with $, which is kept for fields",
                node=spec.target.node,
            )
        seen[spec.name] = spec


def text(value: Any) -> str | None:
    """Return a text that says something."""
    return value if isinstance(value, str) and value else None


def number(value: Any) -> int | float | None:
    """Return a number; true is none."""
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
