"""The inputs of a graph: those that input nodes of ours declare, and every literal by its place.

A place is `<node>.<input>`; `<title>.<input>` is another name for it where the title is unique.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Mapping
from typing import Any

from msgspec import UNSET, UnsetType

from bridge.workflows import constraints, naming
from bridge.workflows.constraints import ChoiceList, Consumers, Declarations
from bridge.workflows.graph import Graph, Node, NodeInput, WorkflowError
from bridge.workflows.inputs import BY_NODE, KINDS, SEED_MAX, Drawn, Input, InputKind, names_file
from bridge.workflows.objectinfo import InputSpec, number
from bridge.workflows.page_pictures import MEANT, is_page_picture, is_taken

_BY_TYPE = {"INT": "integer", "FLOAT": "float", "BOOLEAN": "boolean", "STRING": "text"}
_BY_VALUE = {int: "integer", float: "float", bool: "boolean", dict: "json"}
_GIVEN = (str, int, float, dict)


def declared_inputs(graph: Graph, declared: Declarations) -> tuple[Input, ...]:
    """Return the inputs in the order of their nodes.

    Raises WorkflowError for a name that two of them have, and for one that cannot be given.
    """
    consumers = graph.consumers()
    found = tuple(
        _declared_input(node, BY_NODE[node.class_type], consumers.get(node.id, ()), declared)
        for node in graph.nodes.values()
        if node.class_type in BY_NODE
    )
    _check_names(found)
    return found


def _declared_input(
    node: Node, kind: InputKind, consumers: Consumers, declared: Declarations
) -> Input:
    given = node.inputs
    taken = list(constraints.numbers_taken(consumers, declared))
    lows = [spec.minimum for spec in taken]
    highs = [spec.maximum for spec in taken]
    own = (0, SEED_MAX) if kind.name == "seed" else (given.get("minimum"), given.get("maximum"))
    choices = _choices(node, consumers, declared) if kind.name == "choice" else None
    return Input(
        name=str(given.get("name") or node.id),
        kind=kind.name,
        target=NodeInput(node.id, kind.place),
        title=text(given.get("title")),
        description=text(given.get("description")),
        default=_declared_default(node, kind),
        minimum=constraints.tightest_minimum([number(own[0]), *lows]),
        maximum=constraints.tightest_maximum([number(own[1]), *highs]),
        step=number(given.get("step")),
        max_length=_whole(given.get("max_length")),
        multiline=kind.name == "text",
        choices=None if choices is None else choices.values,
        choices_name=None if choices is None else choices.name or None,
        names_file=any(names_file(place) for _, place in consumers),
    )


def _declared_default(node: Node, kind: InputKind) -> Any | UnsetType:
    if kind.media:
        # Without bytes of its own the node falls back on its example, if it has one.
        return "" if "example" in node.inputs else UNSET
    default = node.inputs.get(kind.place, UNSET)
    # A value that comes through a link is not the bridge's to decide.
    return UNSET if isinstance(default, list) else default


def _choices(node: Node, consumers: Consumers, declared: Declarations) -> ChoiceList | None:
    """Return the node's choices, one a line; else those of the combo that it is wired to."""
    listed = node.inputs.get("choices")
    lines = listed.splitlines() if isinstance(listed, str) else ()
    values = tuple(dict.fromkeys(line.strip() for line in lines if line.strip()))
    return ChoiceList(values, "") if values else constraints.choices_taken(consumers, declared)


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


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def addressable_inputs(
    graph: Graph,
    declared: Declarations,
    names: Mapping[NodeInput, str],
    dynamic: Container[NodeInput] = (),
) -> dict[str, Input]:
    """Return the input at each place; it is called by its plain name, if it has one.

    At the places `dynamic` are prompts with choices.
    """
    consumers = graph.consumers()
    found: dict[str, Input] = {}
    for node in graph.nodes.values():
        taken = consumers.get(node.id, ()) if naming.is_primitive(node) else ()
        numbers = list(constraints.numbers_taken(taken, declared))
        passed_on = {naming.last(each) for _, each in taken}
        for name, value in node.literals():
            if isinstance(value, _GIVEN):
                target = NodeInput(node.id, name)
                place = str(target)
                found[place] = _addressable_input(
                    node,
                    target,
                    declared.input(node, name),
                    numbers,
                    called=names.get(target, place),
                    feeds={naming.last(name), *passed_on},
                    drawn="default" if target in dynamic else "never",
                )
    return found


def aliases(graph: Graph, found: Mapping[str, Input]) -> dict[str, str]:
    """Return the places by `<title>.<input>`, where one node has the title, and by former names."""
    titles = Counter(node.title for node in graph.nodes.values())
    by_title: dict[str, str] = {}
    for place, spec in found.items():
        node = graph.nodes[spec.target.node]
        if node.title and titles[node.title] == 1:
            by_title[f"{node.title}.{spec.target.input}"] = place
            if (former := naming.former_name(node)) is not None:
                by_title.setdefault(former, place)
    return by_title


def _addressable_input(
    node: Node,
    target: NodeInput,
    spec: InputSpec | None,
    taken: list[InputSpec],
    *,
    called: str,
    feeds: set[str],
    drawn: Drawn,
) -> Input:
    """Draw the input at a place.

    `taken` are the numbers that take its value further on, `feeds` the names of what it feeds.
    """
    value = node.inputs[target.input]
    specs = taken if spec is None else [*taken, spec]
    is_seed = not feeds.isdisjoint(naming.SEEDS)
    media = naming.media_kind(node, target.input, spec)
    kind = media if media in KINDS else _kind(value, spec, is_seed=is_seed)
    brings = constraints.brings_choices(node, target.input)
    choices = constraints.choices_of(node, spec) if kind == "choice" or brings else None
    kind = kind if choices is None else "choice"
    of_page = is_page_picture(spec)
    steps = [each.step for each in specs if each.step is not None]
    return Input(
        name=called,
        kind=kind,
        target=target,
        title=f"{node.title or node.class_type}: {target.input}",
        description=MEANT if of_page else spec.tooltip if spec is not None else None,
        default=_default(value, spec, is_media=media is not None, of_page=of_page),
        minimum=constraints.tightest_minimum([each.minimum for each in specs]),
        maximum=constraints.tightest_maximum([each.maximum for each in specs]),
        step=next(iter(steps), None),
        multiline=spec is not None and spec.multiline,
        choices=None if choices is None else choices.values,
        choices_name=None if choices is None else choices.name or None,
        position=NodeInput(node.id, "index") if brings and "index" in node.inputs else None,
        of_page=of_page,
        via="upload",
        drawn=drawn,
        names_file=any(map(names_file, feeds)),
    )


def _default(
    value: Any, spec: InputSpec | None, *, is_media: bool, of_page: bool
) -> Any | UnsetType:
    listed = None if spec is None else spec.choices
    if of_page and not is_taken(value):
        return UNSET
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
    return _BY_TYPE.get(spec.value_type, by_value)
