"""The declarations of a graph's nodes by ComfyUI's node classes, and the constraints that follow.

Before any ComfyUI has answered, and for classes that it does not have or declares in a way that
cannot be read, every declaration is None: a definition is built from what is known.

ComfyUI checks a literal against the limits of its own node, but not a value that comes through a
link: a value node's input is as narrow as the narrowest of its consumers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from hashlib import sha256

from msgspec import Struct

from bridge.contract.topics import ID
from bridge.workflows.graph import Graph, Node, NodeInput, NodeLink, WorkflowError, misreading
from bridge.workflows.objectinfo import (
    InputSpec,
    NodeClass,
    ObjectInfo,
    ObjectInfoError,
    OutputSpec,
)

Consumers = Iterable[tuple[Node, str]]

# A node of ComfyUI's whose choices people type in, on the page.
_CUSTOM_COMBO = "CustomCombo"
_MAX_ID = 64
_HASH = 8
_NOT_IN_ID = re.compile(r"[^A-Za-z0-9_-]")
# How deep the inputs of a choice's inputs are followed: `model.mode.seed` is two.
_MAX_DEPTH = 8


class Declarations:
    """The declarations for one graph."""

    def __init__(self, graph: Graph, info: ObjectInfo | None) -> None:
        self.graph = graph
        self._info = info
        # Each is asked for several times.
        self._inputs: dict[tuple[str, str], InputSpec | None] = {}

    def node_class(self, class_type: str) -> NodeClass | None:
        """Return a node class."""
        try:
            return None if self._info is None else self._info.get(class_type)
        except ObjectInfoError:
            return None

    def input(self, node: Node, name: str) -> InputSpec | None:
        """Return the declaration of a node's input, also of one that a choice brings.

        `mode.seed` is the `seed` of the branch that the node's `mode` has chosen.
        """
        place = (node.id, name)
        if place not in self._inputs:
            self._inputs[place] = self._input(node, name)
        return self._inputs[place]

    def _input(self, node: Node, name: str) -> InputSpec | None:
        found = self.node_class(node.class_type)
        if found is None:
            return None
        direct = found.input(name)
        if direct is not None:
            return direct
        head, *rest = name.split(".", _MAX_DEPTH)
        spec, path = found.input(head), head
        for part in rest:
            branch = None if spec is None else spec.branch(node.inputs.get(path))
            inputs = () if branch is None else branch.inputs
            spec = next((each for each in inputs if each.name == part), None)
            path = f"{path}.{part}"
        return spec

    def gives(self, link: NodeLink) -> str | None:
        """Return the type of the output that a link takes."""
        source = self.graph.nodes[link.node]
        outputs = self.outputs(source)
        if outputs is None or not 0 <= link.output < len(outputs):
            return None
        return outputs[link.output].type

    def check_links(self, ends: Iterable[str]) -> None:
        """Raise WorkflowError for a link to an output that a node has not, before `ends`.

        Classes whose last output is of any type may have more outputs than they declare.
        """
        needed = self.graph.needed(ends)
        for node in self.graph.nodes.values():
            for name, taken in node.links() if node.id in needed else ():
                source = self.graph.nodes[taken.node]
                outputs = self.outputs(source)
                if outputs is None or taken.output < len(outputs):
                    continue
                if not outputs or outputs[-1].type != "*":
                    raise WorkflowError(
                        f"input {name!r} takes output {taken.output} of node {source.id} "
                        f"({source.class_type}), which has {len(outputs) or 'none'} in this "
                        "ComfyUI: the file may be of a newer one",
                        node=node.id,
                    )

    def outputs(self, node: Node) -> tuple[OutputSpec, ...] | None:
        """Return the outputs of a node."""
        found = self.node_class(node.class_type)
        return None if found is None else found.outputs


class ChoiceList(Struct, frozen=True):
    """The words that an input can be given, and the name under which they are published."""

    values: tuple[str | int | float | bool, ...]
    name: str


def with_typed_numbers(graph: Graph, declared: Declarations) -> Graph:
    """Return the graph with numbers for texts where a number is declared, as ComfyUI reads them.

    Where ComfyUI would refuse the value, since its class is older than the file, it is the nearest
    that it takes, for a text that is no number the default; the node has the input as `unknown`.
    """
    values: dict[NodeInput, int | float] = {}
    unknown: dict[str, dict[str, str]] = {}
    for node in graph.nodes.values():
        found = declared.node_class(node.class_type)
        for name, value in () if found is None else node.literals():
            spec = declared.input(node, name)
            if spec is None or spec.type not in ("INT", "FLOAT"):
                continue
            read = _number(spec.type, value) if isinstance(value, str) else value
            taken = spec.default if read is None else read
            if not isinstance(taken, int | float) or misreading(taken) is not None:
                continue
            # A node of a pack may check its numbers itself.
            if found is not None and found.is_core:
                taken = _within(taken, spec)
            if taken != read:
                unknown.setdefault(node.id, {})[name] = "STRING" if read is None else spec.type
            if taken != value:
                values[NodeInput(node.id, name)] = taken
    return graph.with_unknown(unknown).changed(values) if values else graph


def _within(number: float, spec: InputSpec) -> int | float:
    low = number if spec.minimum is None else max(number, spec.minimum)
    return low if spec.maximum is None else min(low, spec.maximum)


def without_unknown_links(graph: Graph, declared: Declarations) -> Graph:
    """Return the graph without links to inputs that a class of ComfyUI's own does not declare.

    The class is older than the file, and ComfyUI would fail at what it does not expect. The nodes
    have their names and types as `unknown`.
    """
    unknown = {node.id: dict(_unknown_links(node, declared)) for node in graph.nodes.values()}
    return graph.with_unknown({key: found for key, found in unknown.items() if found})


def _unknown_links(node: Node, declared: Declarations) -> Iterator[tuple[str, str]]:
    found = declared.node_class(node.class_type)
    # Of nodes of packs it cannot be known: many take what they do not declare.
    if found is not None and found.is_core and node.class_type != _CUSTOM_COMBO:
        for name, taken in node.links():
            if not found.declares(name):
                yield name, declared.gives(taken) or "*"


def _number(kind: str, text: str) -> int | float | None:
    try:
        match kind:
            case "INT":
                return int(text)
            case "FLOAT":
                return float(text)
    except ValueError:
        return None
    return None


def tightest_minimum(values: Iterable[int | float | None]) -> int | float | None:
    """Return the greatest lower bound, None if there is none."""
    return max([value for value in values if value is not None], default=None)


def tightest_maximum(values: Iterable[int | float | None]) -> int | float | None:
    """Return the least upper bound, None if there is none."""
    return min([value for value in values if value is not None], default=None)


def numbers_taken(consumers: Consumers, declared: Declarations) -> Iterator[InputSpec]:
    """Yield the declared number inputs that take a node's output."""
    for node, name in consumers:
        spec = declared.input(node, name)
        if spec is not None and spec.value_type in ("INT", "FLOAT"):
            yield spec


def choices_taken(consumers: Consumers, declared: Declarations) -> ChoiceList | None:
    """Return the choices of the first combo that takes a node's output."""
    for node, name in consumers:
        found = choices_of(node, declared.input(node, name))
        if found is not None:
            return found
    return None


def brings_choices(node: Node, name: str) -> bool:
    """True if the choices of an input are not declared, but stand in the node's other inputs."""
    return node.class_type == _CUSTOM_COMBO and name == "choice"


def choices_of(node: Node, spec: InputSpec | None) -> ChoiceList | None:
    """Return the choices of a declared input, if it has some and takes one at a time."""
    if spec is not None and brings_choices(node, spec.name):
        options = (value for name, value in node.literals() if name.startswith("option"))
        values = tuple(dict.fromkeys(each for each in options if isinstance(each, str) and each))
        return ChoiceList(values, "") if values else None
    if spec is None or not spec.choices or spec.multi_select:
        return None
    return ChoiceList(spec.choices, list_name(node.class_type, spec.name))


def list_name(owner: str, name: str) -> str:
    """Return the name of a list of choices, fit for a topic.

    The name depends on the place where the list is declared, not on its content: a new model
    changes the list and not the definitions that name it.
    """
    plain = f"{owner}-{name}"
    if ID.fullmatch(plain):
        return plain
    mark = sha256(plain.encode()).hexdigest()[:_HASH]
    return f"{_NOT_IN_ID.sub('_', plain)[: _MAX_ID - _HASH - 1]}-{mark}"
