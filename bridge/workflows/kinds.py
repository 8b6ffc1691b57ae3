"""The table of input kinds: what each takes, and how it is described.

To add a kind: a row here, and a node of ours that declares it. `coerce` turns what a request says
into what ComfyUI takes, by the declared type and never by ComfyUI's own conversion: there,
`bool("false")` is true. It raises InvalidInput, naming the input and what is allowed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NoReturn

from msgspec import UNSET, Struct

from bridge.contract.errors import InvalidInput
from bridge.workflows.inputs import Input

SEED_MAX = 2**64 - 1
# Up to where a seed is drawn while nobody has told its limit: every node takes 32 bits.
SEED_UNKNOWN = 2**32 - 1
# A long list of choices would make an error longer than a small device can take.
CHOICES_SHOWN = 50


class InputKind(Struct, frozen=True):
    """One kind: the class of our node for it, its JSON Schema, and how a value is read.

    `media` kinds take bytes; their values are read by `bridge.workflows.binding`.
    """

    name: str
    node: str | None
    schema: Callable[[Input], dict[str, Any]]
    coerce: Callable[[Input, Any], Any]
    media: bool = False


def refuse(spec: Input, problem: str, **allowed: Any) -> NoReturn:
    """Raise InvalidInput for an input's value."""
    raise InvalidInput(f"input {spec.name!r}: {problem}", input=spec.name, **allowed)


def limits(spec: Input) -> dict[str, Any]:
    """What a number's input allows, as an error's details tell it."""
    return {"minimum": spec.minimum, "maximum": spec.maximum}


def _text(spec: Input, value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        refuse(spec, "expected a text", type="string")
    text = str(value)
    if spec.max_length is not None and len(text) > spec.max_length:
        refuse(
            spec,
            f"{len(text)} characters are too many",
            max_length=spec.max_length,
        )
    try:
        text.encode()
    except UnicodeEncodeError:
        refuse(spec, "the text has half a surrogate pair", type="string")
    return text


def _integer(spec: Input, value: Any) -> int:
    number = _whole(value)
    if number is None:
        refuse(spec, "expected a whole number", type="integer", **limits(spec))
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
        refuse(spec, "expected a number", type="number", **limits(spec))
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
        refuse(spec, "expected true or false", type="boolean")
    return known


def _choice(spec: Input, value: Any) -> Any:
    choices = spec.choices or ()
    for choice in choices:
        if choice == value and isinstance(choice, bool) == isinstance(value, bool):
            return choice
    by_text = {str(choice): choice for choice in choices}
    if isinstance(value, str | int | float) and str(value) in by_text:
        return by_text[str(value)]
    refuse(
        spec,
        f"{str(value)[:100]!r} is not one of the choices",
        allowed=list(choices[:CHOICES_SHOWN]),
        more=max(0, len(choices) - CHOICES_SHOWN) or None,
    )


def _media(spec: Input, value: Any) -> NoReturn:
    refuse(spec, f"expected an {spec.kind}, not {type(value).__name__}", type=spec.kind)


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
    return described


def _media_schema(spec: Input) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {"base64": {"type": "string"}, "content_type": {"type": "string"}},
        "required": ["base64"],
        "contentMediaType": f"{spec.kind}/*",
    }


KINDS: dict[str, InputKind] = {
    kind.name: kind
    for kind in (
        InputKind("text", "Comfy2MQTTTextInput", _text_schema, _text),
        InputKind("integer", "Comfy2MQTTIntegerInput", _number_schema("integer"), _integer),
        InputKind("float", "Comfy2MQTTFloatInput", _number_schema("number"), _float),
        InputKind("boolean", "Comfy2MQTTBooleanInput", lambda _: {"type": "boolean"}, _boolean),
        InputKind("seed", "Comfy2MQTTSeedInput", _number_schema("integer"), _integer),
        InputKind("choice", None, lambda spec: {"enum": list(spec.choices or ())}, _choice),
        InputKind("image", "Comfy2MQTTImageInput", _media_schema, _media, media=True),
    )
}

BY_NODE: dict[str, InputKind] = {kind.node: kind for kind in KINDS.values() if kind.node}


def schema(spec: Input) -> dict[str, Any]:
    """Return the JSON Schema of one input; `x-kind` names the kind."""
    kind = KINDS[spec.kind]
    described: dict[str, Any] = {"x-kind": spec.kind, **kind.schema(spec)}
    if spec.title:
        described["title"] = spec.title
    if spec.description:
        described["description"] = spec.description
    # A seed left out is drawn anew: the one in the graph is no default.
    if spec.default is not UNSET and spec.kind != "seed" and not kind.media:
        described["default"] = spec.default
    return described
