"""Inputs of a workflow, and the table of their kinds.

To add a kind: a row in `KINDS`, and a node of ours that declares it. `coerce` turns a request's
value into what ComfyUI takes, by the declared type and never by ComfyUI's own conversion: there,
`bool("false")` is true. It raises InvalidInput, naming the input and what is allowed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any, Literal, NoReturn, TypeAlias

from msgspec import UNSET, Struct, UnsetType

from bridge.contract.errors import InvalidInput
from bridge.text import nearest, quoted
from bridge.workflows.graph import VALUE, NodeInput, misreading

Via: TypeAlias = Literal["media", "upload"]
# No text, the workflow's own, or those of requests too.
Drawn: TypeAlias = Literal["never", "default", "always"]


class Input(Struct, frozen=True, kw_only=True):
    """One input of a workflow.

    `kind` is a row of `KINDS`. `default` is the value in the graph; without one
    the input is required. `maximum` and `minimum` are inclusive; `step` is a hint for sliders.
    """

    name: str
    kind: str
    target: NodeInput
    # More places that get the same value.
    also: tuple[NodeInput, ...] = ()
    title: str | None = None
    description: str | None = None
    default: Any | UnsetType = UNSET
    minimum: int | float | None = None
    maximum: int | float | None = None
    step: int | float | None = None
    max_length: int | None = None
    multiline: bool = False
    choices: tuple[Any, ...] | None = None
    # Where the position of the choice goes besides.
    position: NodeInput | None = None
    # By which name the choices are published where they are many.
    choices_name: str | None = None
    # Which texts have choices and comments, drawn again for each job: dynamic_prompts.py.
    drawn: Drawn = "never"
    # Whether its text becomes a file's name or a part of it.
    names_file: bool = False
    # A picture that ComfyUI's page takes: page_pictures.py.
    of_page: bool = False
    # How media reaches ComfyUI: by our nodes' route, or by ComfyUI's upload.
    via: Via = "media"

    @property
    def required(self) -> bool:
        """True if a request must give it."""
        return self.default is UNSET


SEED_MAX = 2**64 - 1
# The largest seed drawn while no limit is known: every node takes 32 bits.
SEED_UNKNOWN = 2**32 - 1
# Where the choices are more than are shown: so many of those that are like a wrong one.
CHOICES_NEAR = 5
# A long list of choices would make an error longer than a small device can take.
CHOICES_SHOWN = 50
# A text that is longer is left out where an input is described in brief.
_LONG = 100


class InputKind(Struct, frozen=True):
    """One kind: the class of our node for it, its JSON Schema, and how a value is read.

    `rules` are the keys by which a sidecar may set or limit it. `media` kinds take bytes; their
    values are read by `bridge.workflows.binding`. `place` is the input of our node that is set;
    with `batch` it takes several at once.
    """

    name: str
    node: str | None
    schema: Callable[[Input], dict[str, Any]]
    coerce: Callable[[Input, Any], Any]
    rules: tuple[str, ...]
    media: bool = False
    place: str = "value"
    batch: bool = False


def refuse(spec: Input, problem: str, **allowed: Any) -> NoReturn:
    """Raise InvalidInput for an input's value."""
    raise InvalidInput(f"input {spec.name!r}: {problem}", input=spec.name, **allowed)


def _unfit(spec: Input, expected: str, value: Any, **allowed: Any) -> NoReturn:
    """Raise InvalidInput for a value of another kind: what is expected, and what was given."""
    refuse(spec, f"expected {expected}, not {quoted(value)}", **allowed)


def _range(spec: Input) -> str:
    """Return the limits of a number's input as words; nothing if there are none."""
    match (spec.minimum, spec.maximum):
        case (None, None):
            return ""
        case (least, None):
            return f" of at least {least}"
        case (None, most):
            return f" of at most {most}"
        case (least, most):
            return f" from {least} to {most}"


# No file's name has these: one ends a line of a log, another the name itself.
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
NO_CONTROLS = "a file's name has no control characters, such as a line's end"
_FILE_WORDS = frozenset(
    ("file", "filename", "filepath", "path", "folder", "subfolder", "dir", "directory")
)


def names_file(place: str) -> bool:
    """True if an input of that name at a node names a file or folder, as `filename_prefix` does."""
    return not _FILE_WORDS.isdisjoint(place.lower().rpartition(".")[2].split("_"))


def has_controls(text: str) -> bool:
    """True if a text has characters that no file's name has."""
    return _CONTROLS.search(text) is not None


def limits(spec: Input) -> dict[str, Any]:
    """Return the limits of a number's input, for an error's details."""
    return {"minimum": spec.minimum, "maximum": spec.maximum}


def _text(spec: Input, value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        _unfit(spec, "text", value, type="string")
    text = str(value)
    if spec.max_length is not None and len(text) > spec.max_length:
        refuse(
            spec,
            f"{len(text)} characters are too many: at most {spec.max_length}",
            max_length=spec.max_length,
        )
    if spec.names_file and has_controls(text):
        refuse(spec, NO_CONTROLS, type="string")
    try:
        text.encode()
    except UnicodeEncodeError:
        refuse(spec, "the text has half a surrogate pair", type="string")
    return text


def _integer(spec: Input, value: Any) -> int:
    number = _whole(value)
    if number is None:
        _unfit(spec, f"a whole number{_range(spec)}", value, type="integer", **limits(spec))
    _check(spec, number)
    return int(_within(spec, number))


def _whole(value: Any) -> int | None:
    match value:
        case bool():
            return None
        case int():
            return value
        case float() if value.is_integer():
            return int(value)
        case str():
            try:
                return int(value)
            except ValueError:
                return None
    return None


def _float(spec: Input, value: Any) -> float:
    number: float | None = None
    if isinstance(value, int | float | str) and not isinstance(value, bool):
        try:
            number = float(value)
        except (ValueError, OverflowError):
            number = None
    if number is None or not math.isfinite(number):
        _unfit(spec, f"a number{_range(spec)}", value, type="number", **limits(spec))
    return float(_within(spec, number))


def _within(spec: Input, number: float) -> float:
    if spec.minimum is not None and number < spec.minimum:
        refuse(spec, f"{number} is below the minimum {spec.minimum}", **limits(spec))
    if spec.maximum is not None and number > spec.maximum:
        refuse(spec, f"{number} is above the maximum {spec.maximum}", **limits(spec))
    return number


# Home Assistant says ON and OFF, forms say yes and no.
_WORDS = {
    **dict.fromkeys(("true", "on", "yes", "1"), True),
    **dict.fromkeys(("false", "off", "no", "0"), False),
}


def _boolean(spec: Input, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    known = _WORDS.get(str(value).strip().lower()) if isinstance(value, str | int) else None
    if known is None:
        _unfit(spec, "true or false", value, type="boolean")
    return known


def _choice(spec: Input, value: Any) -> Any:
    if spec.choices is None:  # no ComfyUI has reported yet what there is
        return _text(spec, value)
    choices = spec.choices
    for choice in choices:
        if choice == value and isinstance(choice, bool) == isinstance(value, bool):
            return choice
    by_text = {str(choice): choice for choice in choices}
    if isinstance(value, str | int | float) and str(value) in by_text:
        return by_text[str(value)]
    more = max(0, len(choices) - CHOICES_SHOWN)
    refuse(
        spec,
        f"{str(value)[:100]!r} is not one of the choices",
        allowed=list(choices[:CHOICES_SHOWN]),
        more=more or None,
        near=(nearest(str(value), list(by_text), CHOICES_NEAR) if more else None) or None,
    )


def _json(spec: Input, value: Any) -> dict[str, Any]:
    """Return an object for an object, and a list for a list, as ComfyUI takes it: wrapped.

    A bare list would be a link to another node. ComfyUI unwraps the list and then takes it for a
    link if it looks like one: such a list cannot be given.
    """
    wanted = list if _is_list(spec) else dict
    if not isinstance(value, wanted):
        _unfit(spec, quoted(wanted()), value, type=_json_type(spec))
    if isinstance(value, dict) and VALUE in value:
        refuse(spec, f"the key {VALUE!r} has a meaning of its own to ComfyUI", type="object")
    _check(spec, value)
    return {VALUE: value} if isinstance(value, list) else value


def _check(spec: Input, value: Any) -> None:
    """Refuse a value that ComfyUI would take for something else."""
    problem = misreading(value)
    if problem is not None:
        refuse(spec, f"the value {problem}")


def _is_list(spec: Input) -> bool:
    return isinstance(spec.default, dict) and VALUE in spec.default


def _json_type(spec: Input) -> str:
    return "array" if _is_list(spec) else "object"


def _media(spec: Input, value: Any) -> NoReturn:
    _unfit(spec, f"bytes, or an object that says where the {spec.kind} is", value, type=spec.kind)


def _number_schema(json_type: str) -> Callable[[Input], dict[str, Any]]:
    def schema(spec: Input) -> dict[str, Any]:
        described = {"type": json_type, **limits(spec), "x-step": spec.step}
        return {key: value for key, value in described.items() if value is not None}

    return schema


def _text_schema(spec: Input) -> dict[str, Any]:
    described: dict[str, Any] = {"type": "string"}
    if spec.max_length is not None:
        described["maxLength"] = spec.max_length
    if spec.multiline:
        described["x-multiline"] = True
    if spec.drawn != "never":
        described["x-dynamic"] = spec.drawn
    return described


def _choice_schema(spec: Input) -> dict[str, Any]:
    if spec.choices is None:
        return {"type": "string"}
    if len(spec.choices) > CHOICES_SHOWN and spec.choices_name is not None:
        return {"x-choices": spec.choices_name}
    return {"enum": list(spec.choices)}


def _media_schema(spec: Input) -> dict[str, Any]:
    # The sources are those of `bridge.contract.sources`.
    batch = KINDS[spec.kind].batch and spec.via == "media"
    return {
        "type": ["object", "array"] if batch else "object",
        "contentMediaType": _MEDIA_TYPES.get(spec.kind, f"{spec.kind}/*"),
    }


_MEDIA_TYPES = {"mask": "image/*", "file": "*/*"}
_VALUE = ("fix", "default")
_NUMBER = (*_VALUE, "minimum", "maximum", "step", "choices")
# A seed left out is drawn again: a default would never be used.
_SEED = ("fix", "minimum", "maximum")

_whole_schema = _number_schema("integer")


def _media_kind(name: str, node: str) -> InputKind:
    pictures = name in ("image", "mask")
    place = "image" if pictures else name
    return InputKind(
        name, node, _media_schema, _media, rules=(), media=True, place=place, batch=pictures
    )


KINDS: dict[str, InputKind] = {
    kind.name: kind
    for kind in (
        InputKind(
            "text",
            "Comfy2MQTTTextInput",
            _text_schema,
            _text,
            (*_VALUE, "max_length", "choices", "dynamic"),
        ),
        InputKind("integer", "Comfy2MQTTIntegerInput", _whole_schema, _integer, _NUMBER),
        InputKind("float", "Comfy2MQTTFloatInput", _number_schema("number"), _float, _NUMBER),
        InputKind(
            "boolean", "Comfy2MQTTBooleanInput", lambda _: {"type": "boolean"}, _boolean, _VALUE
        ),
        InputKind("seed", "Comfy2MQTTSeedInput", _whole_schema, _integer, _SEED),
        InputKind("choice", "Comfy2MQTTChoiceInput", _choice_schema, _choice, (*_VALUE, "choices")),
        InputKind("json", None, lambda spec: {"type": _json_type(spec)}, _json, _VALUE),
        _media_kind("image", "Comfy2MQTTImageInput"),
        _media_kind("mask", "Comfy2MQTTMaskInput"),
        _media_kind("audio", "Comfy2MQTTAudioInput"),
        _media_kind("video", "Comfy2MQTTVideoInput"),
        _media_kind("file", "Comfy2MQTTFileInput"),
    )
}

BY_NODE: dict[str, InputKind] = {kind.node: kind for kind in KINDS.values() if kind.node}


def schema(spec: Input) -> dict[str, Any]:
    """Return the JSON Schema of one input; `x-kind` names the kind."""
    described: dict[str, Any] = {"x-kind": spec.kind, **KINDS[spec.kind].schema(spec)}
    if spec.title:
        described["title"] = spec.title
    if spec.description:
        described["description"] = spec.description
    return {**described, **_default(spec)}


def brief(spec: Input) -> dict[str, Any]:
    """Describe an input that has no name but its place: enough to find it."""
    is_long = isinstance(spec.default, str) and len(spec.default) > _LONG
    default = {} if is_long else _default(spec)
    return {"x-kind": spec.kind, "x-place": spec.title or "", **default}


def _default(spec: Input) -> dict[str, Any]:
    # A seed left out is drawn again: the one in the graph is no default.
    if spec.default is UNSET or spec.kind == "seed" or KINDS[spec.kind].media:
        return {}
    return {"default": spec.default[VALUE] if _is_list(spec) else spec.default}
