"""A workflow as it can be run: drawn from its graph, and from what ComfyUI says of its nodes.

Where a graph has input nodes of ours, they alone are its inputs, under the names that they give.
In any other graph every literal is an input, named `<node>.<input>`. Outputs are the output nodes.
Pure; the same graph and `/object_info` always draw the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from msgspec import UNSET, Struct, UnsetType

from bridge.contract.messages import Definition, Missing, MissingChoice, OutputDefinition
from bridge.workflows.graph import Graph, Node, WorkflowError
from bridge.workflows.inputs import Input, Target
from bridge.workflows.kinds import BY_NODE, CHOICES_SHOWN, KINDS, SEED_MAX, schema
from bridge.workflows.objectinfo import InputSpec, NodeClass, ObjectInfo, ObjectInfoError

OUTPUT_NODE = "Comfy2MQTTImageOutput"
# Output nodes that are known without being told: for a ComfyUI that has not answered yet.
_KNOWN_OUTPUTS = {
    OUTPUT_NODE: "image",
    "SaveImage": "image",
    "PreviewImage": "image",
    "SaveImageWebsocket": "image",
    "SaveAnimatedWEBP": "image",
    "SaveAnimatedPNG": "image",
    "SaveAudio": "audio",
    "SaveAudioMP3": "audio",
    "SaveAudioOpus": "audio",
    "PreviewAudio": "audio",
    "SaveVideo": "video",
    "SaveWEBM": "video",
    "PreviewAny": "text",
}
_SEEDS = ("seed", "noise_seed")
_EXAMPLE_INPUTS = 3


class Workflow(Struct, frozen=True):
    """A named graph with its inputs and outputs. `version` is a hash of the file."""

    name: str
    version: str
    graph: Graph
    inputs: tuple[Input, ...]
    outputs: tuple[OutputDefinition, ...]
    missing: Missing | None
    title: str
    description: str | None = None
    # Every literal of the graph, by `<node>.<input>`; empty where the graph names its inputs.
    places: Mapping[str, Input] = {}

    def reach(self, name: str) -> Input | None:
        """Return the input at a place that has no name of its own."""
        return self.places.get(name)

    @property
    def runnable(self) -> bool | None:
        """Whether a ComfyUI at hand can run it; None while none has told what it has."""
        if self.missing is None:
            return None
        return not (self.missing.nodes or self.missing.choices)

    def definition(self) -> Definition:
        """Return the message that describes it."""
        return Definition(
            name=self.name,
            title=self.title,
            version=self.version,
            description=UNSET if self.description is None else self.description,
            inputs={
                "type": "object",
                "properties": {spec.name: schema(spec) for spec in self.inputs},
                "required": [spec.name for spec in self.inputs if spec.required],
                "additionalProperties": False,
            },
            outputs=list(self.outputs),
            runnable=UNSET if self.runnable is None else self.runnable,
            missing=UNSET if self.missing is None or self.runnable else self.missing,
            example=self._example(),
        )

    def _example(self) -> dict[str, Any]:
        plain = [
            spec
            for spec in self.inputs
            if not KINDS[spec.kind].media and spec.kind != "seed" and spec.default is not UNSET
        ]
        return {spec.name: spec.default for spec in plain[:_EXAMPLE_INPUTS]}


def version_of(data: bytes) -> str:
    """Return the version of a workflow's file: the first 12 digits of its SHA-256."""
    return hashlib.sha256(data).hexdigest()[:12]


def draw(name: str, version: str, graph: Graph, info: ObjectInfo | None) -> Workflow:
    """Draw a workflow from its graph.

    Raises WorkflowError for two inputs of one name, and for a graph without an output.
    """
    named = tuple(_named_inputs(graph, info))
    _check_names(named)
    places = {} if named else {str(spec.target): spec for spec in _literals(graph, info)}
    outputs = tuple(_outputs(graph, info))
    if not outputs:
        raise WorkflowError("the workflow has no output node, such as SaveImage")
    return Workflow(
        name=name,
        version=version,
        graph=graph,
        inputs=named or tuple(places.values()),
        outputs=outputs,
        missing=None if info is None else missing(graph.nodes.values(), info),
        title=name.replace("_", " ").replace("-", " "),
        places=places,
    )


# Inputs by our nodes.


def _named_inputs(graph: Graph, info: ObjectInfo | None) -> Iterator[Input]:
    for node in graph.nodes.values():
        kind = BY_NODE.get(node.class_type)
        if kind is None:
            continue
        given = node.inputs
        place = "image" if kind.media else "value"
        default = given.get(place, UNSET)
        if kind.media:
            # Without bytes of its own the node falls back on its example, where it has one.
            default = "" if "example" in given else UNSET
        minimum, maximum = _limits(node, graph, info)
        yield Input(
            name=str(given.get("name") or node.id),
            kind=kind.name,
            target=Target(node.id, place),
            title=_text(given.get("title")),
            description=_text(given.get("description")),
            default=default,
            minimum=minimum,
            maximum=maximum,
            step=_number(given.get("step")),
            max_length=_whole(given.get("max_length")),
            multiline=kind.name == "text",
        )


def _limits(
    node: Node, graph: Graph, info: ObjectInfo | None
) -> tuple[int | float | None, int | float | None]:
    """Return the narrowest limits: the node's own, and of whatever takes its value.

    ComfyUI checks a literal against its limits but not what comes through a link.
    """
    lows = [_number(node.inputs.get("minimum"))]
    highs = [_number(node.inputs.get("maximum"))]
    if BY_NODE[node.class_type].name == "seed":
        lows, highs = [0], [SEED_MAX]
    for consumer, name in graph.consumers().get(node.id, ()):
        spec = _spec(info, consumer.class_type, name)
        if spec is not None and spec.type in ("INT", "FLOAT"):
            lows.append(spec.minimum)
            highs.append(spec.maximum)
    low = max((value for value in lows if value is not None), default=None)
    high = min((value for value in highs if value is not None), default=None)
    return low, high


def _check_names(inputs: tuple[Input, ...]) -> None:
    seen: dict[str, Input] = {}
    for spec in inputs:
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


# Inputs by their place.


def _literals(graph: Graph, info: ObjectInfo | None) -> Iterator[Input]:
    for node in graph.nodes.values():
        for name, value in node.literals():
            if isinstance(value, str | int | float):
                yield _literal(node, name, value, _spec(info, node.class_type, name))


def _literal(node: Node, name: str, value: Any, spec: InputSpec | None) -> Input:
    upload = spec.upload if spec is not None else None
    kind = upload if upload in KINDS else _kind(name, value, spec)
    choices = spec.choices if spec is not None and kind == "choice" else None
    default: Any | UnsetType = value
    if upload in KINDS and spec is not None and spec.choices and value not in spec.choices:
        default = UNSET  # the file that the graph names is not there: it must be given
    return Input(
        name=f"{node.id}.{name}",
        kind=kind,
        target=Target(node.id, name),
        title=f"{node.title or node.class_type}: {name}",
        description=spec.tooltip if spec is not None else None,
        default=default,
        minimum=spec.minimum if spec is not None else None,
        maximum=spec.maximum if spec is not None else None,
        step=spec.step if spec is not None else None,
        multiline=spec is not None and spec.multiline,
        choices=choices,
        via="upload",
    )


_BY_TYPE = {"INT": "integer", "FLOAT": "float", "BOOLEAN": "boolean", "STRING": "text"}
_BY_VALUE = {int: "integer", float: "float", bool: "boolean"}


def _kind(name: str, value: Any, spec: InputSpec | None) -> str:
    """Return a literal's kind: by the declared type, else by the literal itself."""
    is_seed = name in _SEEDS and isinstance(value, int) and not isinstance(value, bool)
    if is_seed and (spec is None or spec.type == "INT"):
        return "seed"
    if spec is not None and spec.choices:
        return "choice"
    by_value = _BY_VALUE.get(type(value), "text")
    return by_value if spec is None else _BY_TYPE.get(spec.type, by_value)


# Outputs, and what is missing.


def _outputs(graph: Graph, info: ObjectInfo | None) -> Iterator[OutputDefinition]:
    names: set[str] = set()
    for node in graph.nodes.values():
        kind = _output_kind(node, info)
        if kind is None:
            continue
        given = node.inputs.get("name") if node.class_type == OUTPUT_NODE else None
        name = _unused(str(given or node.title or node.class_type), node.id, names)
        yield OutputDefinition(
            name=name,
            kind=kind,
            node=node.id,
            title=_text(node.inputs.get("title")) or UNSET,
            description=_text(node.inputs.get("description")) or UNSET,
        )


def _output_kind(node: Node, info: ObjectInfo | None) -> str | None:
    found = _class(info, node.class_type)
    known = _KNOWN_OUTPUTS.get(node.class_type)
    return known or ("file" if found is not None and found.output_node else None)


def _unused(name: str, node: str, names: set[str]) -> str:
    """Return the name, told apart by the node's id where it is taken."""
    if name in names:
        name = f"{name} {node}"
    names.add(name)
    return name


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


def _class(info: ObjectInfo | None, class_type: str) -> NodeClass | None:
    try:
        return None if info is None else info.get(class_type)
    except ObjectInfoError:
        return None


def _spec(info: ObjectInfo | None, class_type: str, name: str) -> InputSpec | None:
    found = _class(info, class_type)
    return None if found is None else found.input(name)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _number(value: Any) -> int | float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
