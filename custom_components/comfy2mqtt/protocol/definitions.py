"""A workflow's definition: its inputs, its outputs, and whether it can run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

Payload: TypeAlias = bytes | bytearray | str
IMAGE, TEXT = "image", "text"
MEDIA = frozenset({"image", "mask", "audio", "video", "file"})
# The workflows that come with the bridge and need a model that does not, and what models end in.
OPTIONAL = frozenset({"txt2img", "img2img"})
WEIGHTS = (".safetensors", ".sft", ".ckpt", ".pt", ".pth", ".bin", ".gguf", ".onnx")


class MalformedError(ValueError):
    """A message that is not what the contract says."""


def read_object(payload: Payload) -> dict[str, Any]:
    """Return a JSON object. Raises MalformedError."""
    try:
        found = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise MalformedError(f"not JSON: {error}") from None
    if not isinstance(found, dict):
        raise MalformedError("not a JSON object")
    return found


@dataclass(frozen=True)
class Input:
    """One input of a workflow; `schema` is its JSON Schema, whose `x-kind` is the kind."""

    name: str
    kind: str
    title: str
    schema: Mapping[str, Any]
    required: bool = False

    @property
    def is_media(self) -> bool:
        """True if it takes bytes: a picture, a sound, a film, a file."""
        return self.kind in MEDIA

    @property
    def accepts(self) -> str:
        """The media types that it takes, such as `image/*`; of inputs of media alone."""
        return str(self.schema.get("contentMediaType", "*/*"))


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


def read_workflow(payload: Payload) -> Workflow:
    """Read a definition; inputs that have no name but their place are left out.

    Raises MalformedError.
    """
    found = read_object(payload)
    try:
        properties = found["inputs"]["properties"]
        required = frozenset(found["inputs"].get("required", ()))
        runnable = found.get("runnable")
        return Workflow(
            name=str(found["name"]),
            title=str(found.get("title") or found["name"]),
            description=str(found.get("description", "")),
            version=str(found.get("version", "")),
            inputs=tuple(
                Input(
                    name,
                    str(schema.get("x-kind", "")),
                    str(schema.get("title") or name),
                    schema,
                    name in required,
                )
                for name, schema in properties.items()
                if "x-place" not in schema
            ),
            output_kinds=tuple(str(each["kind"]) for each in found["outputs"]),
            runnable=runnable if isinstance(runnable, bool) else None,
            lacks=tuple(_lacks(found)),
            is_optional=found["name"] in OPTIONAL and _lacks_models_alone(found),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise MalformedError(f"not a workflow's definition: {error!r}") from None


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


def read_choices(payload: Payload) -> list[str]:
    """Read a list of choices that definitions only name. Raises MalformedError."""
    choices = read_object(payload).get("choices")
    if not isinstance(choices, list):
        raise MalformedError("no list of choices")
    return [str(each) for each in choices]
