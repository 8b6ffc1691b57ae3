"""A workflow as it can be run: its graph, its inputs and outputs, and how it describes itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import UNSET, Struct

from bridge.contract.messages import or_unset
from bridge.contract.retained import Definition, Missing, OutputDefinition
from bridge.workflows.graph import Graph, NodeInput
from bridge.workflows.inputs import CHOICES_SHOWN, KINDS, Input, brief, schema
from bridge.workflows.models import ModelFile
from bridge.workflows.sidecar import PressRules, SinkRules

# A graph of thousands of literals would make a definition that no broker takes; those that are
# not listed can be given nevertheless.
PLACES_LISTED = 200
_EXAMPLE_INPUTS = 3

# One pixel: the smallest picture that every decoder takes.
_PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR42mNoAAAAggCB2kUIOwAAAABJRU5ErkJggg=="
)
_EXAMPLES: dict[str, Any] = {
    "image": {"base64": _PIXEL, "content_type": "image/png"},
    "mask": {"base64": _PIXEL, "content_type": "image/png"},
    "audio": {"url": "https://example.org/sound.flac"},
    "video": {"url": "https://example.org/film.mp4"},
    "file": {"url": "https://example.org/file.bin"},
    "text": "a text",
    "boolean": True,
}


class Workflow(Struct, frozen=True):
    """A named graph with its inputs and outputs. `version` is a hash of its file and sidecar.

    `forbidden` are the classes of its nodes that the operator does not allow, `partner` those that
    a partner of Comfy.org runs for money.

    `inputs` have names. `places` has the input at every place that may be given,
    `<node>.<input>`, those with names too; `aliases` are other words for places. Both are empty
    where the graph names its inputs itself. `hidden` are inputs without a name that are drawn again
    for each job: seeds, and prompts with choices. `file_names` are the places of the graph whose
    text names a file or folder.

    `drawing` is the file as ComfyUI's page saves it, as JSON, for nodes that read the workflow, and
    `models` are the files of models that it names.
    """

    name: str
    version: str
    graph: Graph
    inputs: tuple[Input, ...]
    outputs: tuple[OutputDefinition, ...]
    missing: Missing | None
    title: str
    description: str | None = None
    places: Mapping[str, Input] = {}
    aliases: Mapping[str, str] = {}
    hidden: tuple[Input, ...] = ()
    file_names: tuple[NodeInput, ...] = ()
    press: PressRules = PressRules()
    sinks: SinkRules = SinkRules()
    forbidden: tuple[str, ...] = ()
    partner: tuple[str, ...] = ()
    drawing: bytes | None = None
    models: tuple[ModelFile, ...] = ()

    def find_input(self, name: str) -> Input | None:
        """Return the input at a place, by `<node>.<input>` or `<title>.<input>`."""
        return self.places.get(name) or self.places.get(self.aliases.get(name, ""))

    @property
    def runnable(self) -> bool | None:
        """True if a connected ComfyUI can run it, and may; None while no node classes are known."""
        if self.forbidden:
            return False
        if self.missing is None:
            return None
        return self.missing.is_enough

    def choices(self) -> dict[str, tuple[Any, ...]]:
        """Return the lists that its definition only names."""
        return {
            spec.choices_name: spec.choices
            for spec in self.inputs
            if spec.choices is not None
            and spec.choices_name is not None
            and len(spec.choices) > CHOICES_SHOWN
        }

    def definition(self) -> Definition:
        """Return the message that describes it.

        Inputs with names come first, in full. The other places are listed in brief,
        so that one can find the one that is wanted without looking into the graph; their limits
        and choices are named by the error that a wrong value gets.
        """
        named = {spec.name: schema(spec) for spec in self.inputs}
        others = {
            place: brief(spec)
            for place, spec in self.places.items()
            if place == spec.name and place not in named
        }
        listed = dict(list(others.items())[:PLACES_LISTED])
        return Definition(
            name=self.name,
            title=self.title,
            version=self.version,
            description=or_unset(self.description),
            inputs={
                "type": "object",
                "properties": {**named, **listed},
                "required": [spec.name for spec in self.inputs if spec.required],
                "additionalProperties": False,
            },
            outputs=list(self.outputs),
            nodes=sorted({node.class_type for node in self.graph.nodes.values()}),
            runnable=or_unset(self.runnable),
            missing=UNSET if self.missing in (None, Missing()) else or_unset(self.missing),
            forbidden=list(self.forbidden) or UNSET,
            partner=list(self.partner) or UNSET,
            example=self._example(),
        )

    def _example(self) -> dict[str, Any]:
        """Return inputs that make a request: all that it needs, and a few that it can have."""
        plain = [
            spec
            for spec in self.inputs
            if not (KINDS[spec.kind].media or spec.kind in ("seed", "json") or spec.required)
        ]
        needed = {spec.name: _example_of(spec) for spec in self.inputs if spec.required}
        return needed | {spec.name: spec.default for spec in plain[:_EXAMPLE_INPUTS]}


def _example_of(spec: Input) -> Any:
    if spec.choices:
        return spec.choices[0]
    if spec.kind in ("integer", "float", "seed"):
        return spec.minimum or 0
    return _EXAMPLES.get(spec.kind)
