"""A workflow as a tool: its schema, the inputs that are missing, and a job's result. Pure."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import UNSET, Struct

from bridge.client import JobOutput
from bridge.contract.errors import BridgeError
from bridge.contract.messages import Output, Result
from bridge.contract.retained import Definition

# What an agent's host takes in one message; larger ones become links, or are left to be fetched.
MAX_INLINE = 700_000
# Pictures come in a form that fits, and that every model reads.
OUTPUT = Output(format="webp", max_bytes=MAX_INLINE)
# A text output that is longer is cut.
MAX_TEXT = 20_000
# What a form can ask a person for.
_PRIMITIVE = ("string", "integer", "number", "boolean")
_MEDIA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "url": {"type": "string", "description": "A public address of the file"},
        "job": {"type": "string", "description": "The job_id of an earlier result"},
        "output": {"type": "integer", "description": "Which output of that job, from 0"},
        "base64": {"type": "string", "description": "The bytes themselves"},
    },
}


class ToolSpec(Struct, frozen=True):
    """A workflow as a tool: `schema` is the JSON Schema of its arguments."""

    name: str
    title: str
    description: str
    schema: dict[str, Any]


class ToolContent(Struct, frozen=True):
    """A part of a result: `text`, bytes of a media type, or a link to them."""

    text: str | None = None
    data: str | None = None
    content_type: str = "text/plain"
    url: str | None = None
    name: str = ""
    size: int = 0


def is_offered(definition: Definition) -> bool:
    """True if a workflow can run, as far as its definition says."""
    return definition.runnable is not False and definition.forbidden is UNSET


def tool_of(definition: Definition) -> ToolSpec:
    """Return a workflow as a tool; what is the bridge's own in its schema is left out."""
    schema = definition.inputs
    properties = {name: _property(about) for name, about in schema["properties"].items()}
    given = {"type": "object", "properties": properties, "additionalProperties": False}
    if schema.get("required"):
        given["required"] = list(schema["required"])
    kinds = sorted({output.kind for output in definition.outputs}) or ["nothing"]
    about = "" if definition.description is UNSET else f"{definition.description} "
    description = f"{about}Runs the ComfyUI workflow {definition.name!r}; gives {', '.join(kinds)}."
    return ToolSpec(definition.name, definition.title, description, given)


def _property(about: Mapping[str, Any]) -> dict[str, Any]:
    if "contentMediaType" in about:
        kept = {name: about[name] for name in ("title", "description") if name in about}
        kept.setdefault("description", f"The {about.get('x-kind', 'file')}, by one of these")
        return {**_MEDIA, **kept}
    found = {name: value for name, value in about.items() if not name.startswith("x-")}
    if about.get("x-kind") == "seed":
        found.setdefault("description", "Leave it out for a new picture each time")
    return found


def missing(definition: Definition, arguments: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the schema of a form that asks for required inputs that were not given.

    None if all are there, or if a person cannot type one of them.
    """
    properties = definition.inputs["properties"]
    wanted = [name for name in definition.inputs.get("required", []) if name not in arguments]
    fields = {name: _field(properties[name]) for name in wanted}
    if not fields or any(field is None for field in fields.values()):
        return None
    return {"type": "object", "properties": fields, "required": wanted}


def _field(about: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return an input as a field of a form, which takes simple types alone."""
    kept = {name: about[name] for name in ("title", "description", "enum") if name in about}
    if "enum" in about:
        texts = all(isinstance(each, str) for each in about["enum"])
        return {"type": "string", **kept} if texts else None
    kind = about.get("type")
    if kind not in _PRIMITIVE:
        return None
    limits = {name: about[name] for name in ("minimum", "maximum", "maxLength") if name in about}
    return {"type": kind, **kept, **limits}


def contents(outputs: Sequence[JobOutput]) -> list[ToolContent]:
    """Return what a job gave: pictures, sounds and texts as they are, what is large as a link."""
    return [_content(each) for each in outputs]


def _content(output: JobOutput) -> ToolContent:
    info = output.info
    kind = info.content_type.partition(";")[0]
    name = info.filename if info.filename is not UNSET else f"{info.name}"
    url = None if info.url is UNSET else info.url
    if kind.startswith("text/") or kind == "application/json":
        return ToolContent(text=output.data[:MAX_TEXT].decode("utf-8", "replace"))
    if kind.startswith(("image/", "audio/")) and info.size <= MAX_INLINE:
        data = base64.b64encode(output.data).decode()
        return ToolContent(data=data, content_type=kind, name=name, size=info.size)
    if url is not None:
        return ToolContent(url=url, content_type=kind, name=name, size=info.size)
    return ToolContent(
        text=f"output {info.index} ({name}, {kind}, {info.size} bytes) is too large to be shown "
        "here; the bridge keeps it for a while under this job_id"
    )


def facts(result: Result) -> dict[str, Any]:
    """Return what a program wants to know of a job, beside its outputs."""
    return {
        "job_id": result.job_id,
        "workflow": result.workflow,
        "inputs": result.inputs,
        "outputs": [msgspec.to_builtins(each, str_keys=True) for each in result.outputs],
    }


def problem(error: BridgeError) -> str:
    """Return an error as an agent can act upon it: what was wrong, and what is allowed."""
    text = f"{error.code}: {error.message}"
    for name in ("allowed", "setting", "retry_after_s"):
        if name in error.details:
            text += f" ({name.replace('_', ' ')}: {error.details[name]})"
    return text
