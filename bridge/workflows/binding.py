"""Binding: from a workflow and what a request says to the prompt that ComfyUI is given.

Pure: the graph is read, never written; random numbers come from outside; media is only named
here, and put in by `place` when its bytes are known.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
from msgspec import UNSET, Struct

from bridge.contract import sources
from bridge.contract.errors import BadRequest, InvalidInput
from bridge.contract.requests import Text
from bridge.contract.sources import Inline, Source
from bridge.text import did_you_mean
from bridge.workflows.dynamic_prompts import draw
from bridge.workflows.graph import NodeInput
from bridge.workflows.inputs import (
    KINDS,
    NO_CONTROLS,
    SEED_UNKNOWN,
    Input,
    Via,
    has_controls,
    names_file,
    refuse,
)
from bridge.workflows.page_pictures import MEANT, with_file
from bridge.workflows.workflow import Workflow

# Everything that a job leaves in ComfyUI's folders lies below this one.
FOLDER = "comfy2mqtt"
# The input of saving nodes that names a folder and the beginning of a file's name.
PREFIX = "filename_prefix"
MAX_BATCH = 64
# A date in a file's name, which ComfyUI's page puts in: `%date:yyyy-MM-dd%`. To the page a text
# with one dot is something else, and of one with more dots it takes the part before them.
_DATE = re.compile(r"%date:([^%.]*)(?:\.[^%.]*\.[^%]*)?%")
_DATE_PART = re.compile(r"yyyy|yy|dd?|MM?|hh?|mm?|ss?")

# Given a smallest and a largest value, draws a whole number between them, both included.
RandomInt = Callable[[int, int], int]


class BoundMedia(Struct, frozen=True):
    """A media input that a request gives, and where its bytes come from, in their order."""

    spec: Input
    sources: tuple[Source, ...]


class BoundPrompt(Struct, frozen=True):
    """A prompt ready to run, but for its media, which `place` puts in once the bytes are known.

    `inputs` are the values as resolved; `given` are those of them that the request gave; `names`
    maps `node.input` to the workflow's name for it.
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
    main: Text | Inline | None = None,
    simple: bool = True,
    randint: RandomInt,
) -> BoundPrompt:
    """Set a workflow's inputs to what a request gives; draw seeds that it leaves out, and prompts.

    `simple`: it came on `run`, where a payload may stand for a bare press. Raises
    InvalidInput, the details naming the input and what is allowed.
    """
    given, main, pressed = workflow.press.resolve(given, main, simple=simple)
    values = _by_input(workflow, given or pressed, main)
    prompt = workflow.graph.prompt()
    resolved: dict[str, Any] = {}
    found: dict[str, Any] = {}
    media: list[BoundMedia] = []
    used = _used(workflow, values).values()
    for spec in used:
        value = values.get(spec.name, UNSET)
        if not KINDS[spec.kind].media:
            taken = _value(spec, value)
            if spec.name in values and not pressed:
                found[spec.name] = None if taken is UNSET else taken
            drawn = resolved[spec.name] = _drawn(spec, taken, randint)
            prompt[spec.target.node]["inputs"][spec.target.input] = drawn
            if spec.position is not None and drawn in (spec.choices or ()):
                index = (spec.choices or ()).index(drawn)
                prompt[spec.position.node]["inputs"][spec.position.input] = index
            for place in spec.also:
                if place.node in prompt:  # what is not wanted of a graph is not there
                    prompt[place.node]["inputs"][place.input] = drawn
        elif value is not UNSET:
            media.append(BoundMedia(spec, _sources(spec, value)))
        elif spec.required:
            why = f"required: {MEANT}" if spec.of_page else "required"
            refuse(spec, why, type=spec.kind)
    _check_file_names(workflow, prompt)
    names = {str(place): spec.name for spec in used for place in (spec.target, *spec.also)}
    return BoundPrompt(prompt, resolved, found, names, media)


def _check_file_names(workflow: Workflow, prompt: Mapping[str, dict[str, Any]]) -> None:
    """Raise InvalidInput for a file's name with control characters, also one of the graph's own."""
    for place in workflow.file_names:
        value = prompt[place.node]["inputs"][place.input]
        if isinstance(value, str) and has_controls(value):
            raise InvalidInput(f"{place}: {NO_CONTROLS}", input=str(place), type="string")


# A media input's value, to bind one whose bytes are taken apart from it.
STAND_IN: Mapping[str, Any] = {"job": "-"}


def find(workflow: Workflow, name: str) -> Input | None:
    """Return the input that a request means by a name: an input's own, or a place's."""
    declared = next((spec for spec in workflow.inputs if spec.name == name), None)
    return declared or workflow.find_input(name)


def is_media(workflow: Workflow, name: str) -> bool:
    """True if an input of this name takes media."""
    spec = find(workflow, name)
    return spec is not None and KINDS[spec.kind].media


def bound_media(workflow: Workflow, name: str, value: Any) -> BoundMedia:
    """Return a media input that a request gives `value`. Raises InvalidInput."""
    spec = find(workflow, name)
    if spec is None or not KINDS[spec.kind].media:
        raise InvalidInput(f"input {name!r} is no media", input=name)
    return BoundMedia(spec, _sources(spec, value))


def seeds(workflow: Workflow, name: str, number: int, randint: RandomInt) -> list[int]:
    """Draw seeds for an input. Raises InvalidInput if it is no seed."""
    spec = find(workflow, name)
    if spec is None or spec.kind != "seed":
        known = [each.name for each in workflow.inputs if each.kind == "seed"]
        raise InvalidInput(f"input {name!r} is no seed", input=name, allowed=known)
    return [_seed(spec, randint) for _ in range(number)]


def place(
    prompt: Mapping[str, dict[str, Any]],
    target: NodeInput,
    via: Via,
    sha256s: Sequence[str],
    extension: str,
) -> None:
    """Put media into a prompt: the node's input becomes its hash, or its uploaded file's name.

    Several go as a JSON list of hashes, which our nodes read as a batch.
    """
    value: Any
    if via == "upload":
        file = f"{FOLDER}/{upload_name(sha256s[0], extension)}"
        value = with_file(prompt[target.node]["inputs"].get(target.input), file)
    elif len(sha256s) == 1:
        value = sha256s[0]
    else:
        value = msgspec.json.encode(sha256s).decode()
    prompt[target.node]["inputs"][target.input] = value


def takes(kind: str, found: str) -> bool:
    """True if an input of this kind takes media that was found to be of that kind."""
    return kind == "file" or found == ("image" if kind == "mask" else kind)


def upload_name(sha256: str, extension: str) -> str:
    """Return the file name under which media is uploaded to ComfyUI: by content."""
    return f"{sha256}.{extension}"


def isolate(
    prompt: Mapping[str, dict[str, Any]], prompt_id: str, now: datetime
) -> dict[str, dict[str, Any]]:
    """Return the prompt with a folder of its own for what its nodes save, and dates in the names.

    Files of two jobs with the same `filename_prefix` could be confused, and saving into a folder
    of thousands is slow.
    """
    isolated: dict[str, dict[str, Any]] = {}
    for node_id, node in prompt.items():
        prefix = node["inputs"].get(PREFIX)
        if isinstance(prefix, str):
            prefix = _DATE.sub(lambda found: _date(found[1], now), prefix)
            name = posixpath.basename(prefix.replace("\\", "/")).lstrip(".") or "output"
            inputs = {**node["inputs"], PREFIX: f"{FOLDER}/{prompt_id}/{name}"}
            isolated[node_id] = {**node, "inputs": inputs}
        else:
            isolated[node_id] = node
    return isolated


def _date(form: str, now: datetime) -> str:
    """Return a date as the page writes it: `yyyy`, `MM`, `dd`, `hh`, `mm`, `ss`, or shorter."""
    parts = {"d": now.day, "M": now.month, "h": now.hour, "m": now.minute, "s": now.second}

    def part(found: re.Match[str]) -> str:
        if found[0].startswith("y"):
            return f"{now.year:04}"[-len(found[0]) :]
        return f"{parts[found[0][0]]:0{len(found[0])}}"

    return _DATE_PART.sub(part, form)


def _used(workflow: Workflow, values: Mapping[str, Any]) -> dict[str, Input]:
    """Return the inputs of a job, also those that have no name and are given by their place."""
    named = {spec.name: spec for spec in (*workflow.inputs, *workflow.hidden)}
    return named | {name: workflow.places[name] for name in values if name not in named}


def _by_input(
    workflow: Workflow, given: Mapping[str, Any], main: Text | Inline | None
) -> dict[str, Any]:
    """Return a request's values by the inputs' own names."""
    declared = {spec.name: spec for spec in workflow.inputs}
    values: dict[str, Any] = {}
    for name, value in given.items():
        spec = declared.get(name) or workflow.find_input(name)
        if spec is None:
            problem = f"unknown input {name!r}{did_you_mean(name, declared)}"
            raise InvalidInput(problem, input=name, allowed=sorted(declared))
        if spec.name in values:
            raise InvalidInput(f"input {spec.name!r} is given twice", input=name)
        values[spec.name] = value
    if main is not None:
        spec = _main(workflow, main)
        if spec.name in values:
            raise InvalidInput(f"input {spec.name!r} is given twice", input=spec.name)
        values[spec.name] = main.text if isinstance(main, Text) else main
    return values


def _main(workflow: Workflow, main: Text | Inline) -> Input:
    """Find the input that a bare payload is meant for: the first of its kind."""
    wanted = "a text" if isinstance(main, Text) else "media"

    def fits(spec: Input) -> bool:
        return KINDS[spec.kind].media if isinstance(main, Inline) else spec.kind == "text"

    found = next(filter(fits, workflow.inputs), None)
    if found is not None:
        return found
    by_place = next(
        (name for name, spec in workflow.places.items() if fits(spec) and not names_file(name)),
        None,
    )
    how = "" if by_place is None else f": send an object with inputs by name, such as {by_place!r}"
    raise InvalidInput(
        f"the payload is {wanted}, but the workflow has no input for it{how}",
        allowed=[spec.name for spec in workflow.inputs],
    )


def _value(spec: Input, value: Any) -> Any:
    """Return a value as ComfyUI takes it, UNSET where the request leaves it to us."""
    if spec.kind == "seed" and value is None:
        return UNSET
    return UNSET if value is UNSET else KINDS[spec.kind].coerce(spec, value)


def _drawn(spec: Input, value: Any, randint: RandomInt) -> Any:
    """Return the value for one job."""
    if value is UNSET:
        if spec.kind == "seed":
            return _seed(spec, randint)
        value = spec.default
        if value is UNSET:
            refuse(spec, "required", type=spec.kind)
    if spec.drawn == "never":
        return value
    # A form that repeats the default means the default.
    mine = spec.drawn == "always" or value == spec.default
    if mine and isinstance(value, str) and spec.kind == "text":
        return draw(value, lambda count: randint(0, count - 1))
    return value


def _seed(spec: Input, randint: RandomInt) -> int:
    lowest = max(0, int(spec.minimum or 0))
    highest = SEED_UNKNOWN if spec.maximum is None else int(spec.maximum)
    return randint(lowest, highest)


def _sources(spec: Input, value: Any) -> tuple[Source, ...]:
    """Read where a media input's bytes come from; a list is a batch, where the node takes one."""
    if isinstance(value, Inline):
        return (value,)
    batch = KINDS[spec.kind].batch and spec.via == "media"
    values = value if isinstance(value, list) and batch else [value]
    if not 0 < len(values) <= MAX_BATCH:
        refuse(spec, f"expected 1 to {MAX_BATCH} in a list", type=spec.kind)
    try:
        return tuple(sources.read(each) for each in values)
    except BadRequest as error:
        refuse(spec, error.message, type=spec.kind, **error.details)
