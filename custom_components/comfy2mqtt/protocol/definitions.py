"""A workflow's definition: its inputs, its outputs, and whether it can run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .decode import Payload, a_list, decoder, number, optional, read_object

IMAGE, TEXT = "image", "text"
MEDIA = frozenset({"image", "mask", "audio", "video", "file"})
# The workflows that come with the bridge and need a model that does not, and what models end in.
OPTIONAL = frozenset({"txt2img", "img2img"})
WEIGHTS = (".safetensors", ".sft", ".ckpt", ".pt", ".pth", ".bin", ".gguf", ".onnx")


@dataclass(frozen=True)
class Input:
    """One input of a workflow.

    It takes one of `options` where there are any, or of the list that `choices` names. `accepts`
    are the media types that an input of media takes, such as `image/*`.
    """

    name: str
    kind: str
    title: str
    required: bool = False
    description: str = ""
    default: Any = None
    options: tuple[str, ...] = ()
    choices: str = ""
    minimum: float | None = None
    maximum: float | None = None
    step: float | None = None
    is_multiline: bool = False
    accepts: str = "*/*"

    @property
    def is_media(self) -> bool:
        """True if it takes bytes: a picture, a sound, a film, a file."""
        return self.kind in MEDIA


@dataclass(frozen=True)
class Workflow:
    """A workflow. `runnable` is None while no ComfyUI has reported what it has.

    `lacks` names node types and models that no connected ComfyUI has, and forbidden nodes.
    `is_optional`: it comes with the bridge, and lacks nothing but models, which do not.
    """

    name: str
    title: str
    description: str
    version: str
    inputs: tuple[Input, ...]
    output_kinds: tuple[str, ...]
    runnable: bool | None = None
    lacks: tuple[str, ...] = ()
    is_optional: bool = False

    def of_kind(self, *kinds: str) -> list[Input]:
        """Return the inputs of these kinds, in the author's order."""
        return [each for each in self.inputs if each.kind in kinds]

    def find(self, name: str) -> Input | None:
        """Return the input of a name."""
        return next((each for each in self.inputs if each.name == name), None)

    def gives(self, kind: str) -> bool:
        """Return True if it has an output of this kind."""
        return kind in self.output_kinds


@decoder("a workflow's definition")
def read_workflow(payload: Payload) -> Workflow:
    """Read a definition; inputs that have no name but their place are left out.

    Raises MalformedError.
    """
    found = read_object(payload)
    properties = found["inputs"]["properties"]
    required = frozenset(found["inputs"].get("required", ()))
    runnable = found.get("runnable")
    return Workflow(
        name=str(found["name"]),
        title=str(found.get("title") or found["name"]),
        description=str(found.get("description") or ""),
        version=str(found.get("version", "")),
        inputs=tuple(
            _input(name, schema, required=name in required)
            for name, schema in properties.items()
            if "x-place" not in schema
        ),
        output_kinds=tuple(str(each["kind"]) for each in found["outputs"]),
        runnable=runnable if isinstance(runnable, bool) else None,
        lacks=tuple(_lacks(found)),
        is_optional=found["name"] in OPTIONAL and _lacks_models_alone(found),
    )


def _input(name: str, schema: Mapping[str, Any], *, required: bool) -> Input:
    return Input(
        name=name,
        kind=str(schema.get("x-kind", "")),
        title=str(schema.get("title") or name),
        required=required,
        description=str(schema.get("description") or ""),
        default=schema.get("default"),
        options=tuple(dict.fromkeys(map(str, schema.get("enum") or ()))),
        choices=str(schema.get("x-choices", "")),
        minimum=optional(number, schema.get("minimum")),
        maximum=optional(number, schema.get("maximum")),
        step=optional(number, schema.get("x-step")),
        is_multiline=bool(schema.get("x-multiline")),
        accepts=str(schema.get("contentMediaType", "*/*")),
    )


def _lacks(found: Mapping[str, Any]) -> Iterator[str]:
    missing = found.get("missing", {})
    yield from map(str, missing.get("nodes", ()))
    for each in missing.get("choices", ()):
        folder = f"models/{each['folder']}/" if "folder" in each else ""
        yield f"{folder}{each['value']}"
    yield from (f"{each['node']}.{each['input']}" for each in missing.get("inputs", ()))
    yield from (f"comfyui_api_key: {each}" for each in missing.get("api_key", ()))
    yield from map(str, found.get("forbidden", ()))


def _lacks_models_alone(found: Mapping[str, Any]) -> bool:
    missing = found.get("missing", {})
    others = [missing.get(each) for each in ("nodes", "inputs", "api_key")]
    choices = missing.get("choices", ())
    return (
        not any((*others, found.get("forbidden")))
        and bool(choices)
        and all(str(each["value"]).endswith(WEIGHTS) for each in choices)
    )


@decoder("a list of choices")
def read_choices(payload: Payload) -> list[str]:
    """Read a list of choices that definitions only name. Raises MalformedError."""
    return [str(each) for each in a_list(read_object(payload)["choices"])]
