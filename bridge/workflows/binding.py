"""Binding: from a workflow and what a request says to the prompt that ComfyUI is given.

Pure: the graph is read, never written; random numbers come from outside; bytes are checked by
their first bytes only and named by their hash.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import posixpath
from collections.abc import Callable, Mapping
from typing import Any, Literal

from msgspec import UNSET, Struct

from bridge.contract.errors import InvalidInput, TooLarge
from bridge.contract.requests import Media, Text
from bridge.workflows.definition import Workflow
from bridge.workflows.inputs import Input
from bridge.workflows.kinds import KINDS, SEED_UNKNOWN, refuse

# Everything that a job leaves in ComfyUI's folders lies below this one.
FOLDER = "comfy2mqtt"

# Given a smallest and a largest value, draws a whole number between them, both included.
Draw = Callable[[int, int], int]
# Tells a media type: (kind, Content Type, extension).
Sniff = Callable[[bytes], tuple[str, str, str]]


class BoundMedia(Struct, frozen=True):
    """Bytes that an input was given, and how they reach ComfyUI (see `jobs.job.MediaUse`)."""

    sha256: str
    content_type: str
    via: Literal["media", "upload"]
    filename: str
    data: bytes


class Bound(Struct, frozen=True):
    """A prompt ready to run.

    `inputs` are the values as resolved, media as `{sha256, size, content_type}`; `given` are those
    of them that the request gave; `names` maps `node.input` to the workflow's name for it.
    """

    prompt: dict[str, dict[str, Any]]
    inputs: dict[str, Any]
    given: dict[str, Any]
    names: dict[str, str]
    media: list[BoundMedia]


def bind(
    workflow: Workflow,
    given: Mapping[str, Any],
    *,
    main: Text | Media | None = None,
    draw: Draw,
    sniff: Sniff,
    max_inline: int,
) -> Bound:
    """Set a workflow's inputs to what a request gives, and draw the seeds that it leaves out.

    `max_inline` bounds the bytes of one media input. Raises InvalidInput or TooLarge, the
    details naming the input and what is allowed.
    """
    values = _by_input(workflow, given, main)
    prompt = workflow.graph.prompt()
    resolved: dict[str, Any] = {}
    media: list[BoundMedia] = []
    for spec in workflow.inputs:
        value = values.get(spec.name, UNSET)
        if KINDS[spec.kind].media:
            if value is UNSET:
                if spec.required:
                    refuse(spec, "required", type=spec.kind)
                continue
            taken = _media(spec, value, sniff, max_inline)
            media.append(taken)
            value = taken.sha256 if taken.via == "media" else f"{FOLDER}/{taken.filename}"
            resolved[spec.name] = {
                "sha256": taken.sha256,
                "size": len(taken.data),
                "content_type": taken.content_type,
            }
        else:
            value = _value(spec, value, draw)
            resolved[spec.name] = value
        prompt[spec.target.node]["inputs"][spec.target.input] = value
    names = {str(spec.target): spec.name for spec in workflow.inputs}
    found = {name: resolved[name] for name in resolved if name in values}
    return Bound(prompt, resolved, found, names, media)


def isolate(prompt: Mapping[str, dict[str, Any]], prompt_id: str) -> dict[str, dict[str, Any]]:
    """Return the prompt with a folder of its own for what its nodes save.

    Two jobs with the same `filename_prefix` could be taken for each other, and saving into a
    folder of thousands is slow.
    """
    isolated: dict[str, dict[str, Any]] = {}
    for node_id, node in prompt.items():
        prefix = node["inputs"].get("filename_prefix")
        if isinstance(prefix, str):
            name = posixpath.basename(prefix.replace("\\", "/")).lstrip(".") or "output"
            inputs = {**node["inputs"], "filename_prefix": f"{FOLDER}/{prompt_id}/{name}"}
            isolated[node_id] = {**node, "inputs": inputs}
        else:
            isolated[node_id] = node
    return isolated


def _by_input(
    workflow: Workflow, given: Mapping[str, Any], main: Text | Media | None
) -> dict[str, Any]:
    """Return what a request gives by the inputs' own names."""
    declared = {spec.name: spec for spec in workflow.inputs}
    values: dict[str, Any] = {}
    for name, value in given.items():
        spec = declared.get(name) or workflow.reach(name)
        if spec is None:
            raise InvalidInput(f"unknown input {name!r}", input=name, allowed=sorted(declared))
        if spec.name in values:
            raise InvalidInput(f"input {spec.name!r} is given twice", input=name)
        values[spec.name] = value
    if main is not None:
        spec = _main(workflow, main)
        if spec.name in values:
            raise InvalidInput(f"input {spec.name!r} is given twice", input=spec.name)
        values[spec.name] = main.text if isinstance(main, Text) else main
    return values


def _main(workflow: Workflow, main: Text | Media) -> Input:
    """Find the input that a bare payload is meant for: the first of its kind."""
    wanted = "a text" if isinstance(main, Text) else "media"
    for spec in workflow.inputs:
        media = KINDS[spec.kind].media
        if media if isinstance(main, Media) else spec.kind == "text":
            return spec
    raise InvalidInput(
        f"the payload is {wanted}, but the workflow has no input for it",
        allowed=[spec.name for spec in workflow.inputs],
    )


def _value(spec: Input, value: Any, draw: Draw) -> Any:
    if spec.kind == "seed" and (value is UNSET or value is None):
        lowest = max(0, int(spec.minimum or 0))
        highest = SEED_UNKNOWN if spec.maximum is None else int(spec.maximum)
        return draw(lowest, highest)
    if value is UNSET:
        if spec.required:
            refuse(spec, "required", type=spec.kind)
        return spec.default
    return KINDS[spec.kind].coerce(spec, value)


def _media(spec: Input, value: Any, sniff: Sniff, max_inline: int) -> BoundMedia:
    data = _bytes(spec, value)
    if len(data) > max_inline:
        raise TooLarge(
            f"input {spec.name!r} is larger than an inline input may be",
            input=spec.name,
            size=len(data),
            limit=max_inline,
        )
    kind, content_type, extension = sniff(data)
    if kind != spec.kind:
        refuse(spec, f"the bytes are no {spec.kind}", type=spec.kind, found=content_type)
    sha256 = hashlib.sha256(data).hexdigest()
    return BoundMedia(sha256, content_type, spec.via, f"{sha256}.{extension}", data)


def _bytes(spec: Input, value: Any) -> bytes:
    if isinstance(value, Media):
        return value.data
    match value:
        case {"base64": str(text), **rest} if not set(rest) - {"content_type"}:
            pass
        case _:
            refuse(
                spec,
                f"expected an object with `base64`, not {type(value).__name__}",
                type=spec.kind,
                allowed=["base64", "content_type"],
            )
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        refuse(spec, "`base64` is not valid base64", type=spec.kind)
