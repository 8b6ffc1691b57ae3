"""Inputs of which a graph holds the SHA-256, and `held_media` the bytes."""

from __future__ import annotations

from ..declarations import Declared, InputTypes, about, named
from ..errors import MediaNotHeld, ValueOutOfLimits
from ..media import is_sha256
from ..settings import held_media


def hash_inputs(name: str, key: str, *, example: str = "", **options: Declared) -> InputTypes:
    """INPUT_TYPES of such a node: the hash is in the input `key`.

    `example`: the type of what may be linked, for requests that give nothing.
    """
    otherwise = "the example" if example else "none"
    inputs: InputTypes = {
        "required": {
            "name": named(name, "The input's name in requests."),
            key: ("STRING", {"default": "", "tooltip": f"Its SHA-256; empty: {otherwise}."}),
        },
        "optional": {**options, **about("input")},
    }
    if example:
        inputs["optional"]["example"] = (
            example,
            {"lazy": True, "tooltip": f"Used where a request gives no {name}."},
        )
    return inputs


def refusal(hashes: list[str]) -> bool | str:
    """Return the answer of VALIDATE_INPUTS before the prompt is queued: True, or what is wrong."""
    for sha256 in hashes:
        if not is_sha256(sha256):
            return f"'{sha256}' is not a SHA-256 in lower-case hex."
        if not held_media().holds(sha256):
            return str(MediaNotHeld(sha256))
    return True


def refusal_of_one(text: str | None) -> bool | str:
    """The same for an input that takes one hash; None where it comes through a link."""
    return refusal([text] if text else [])


def wants_example(text: str, inputs: dict[str, object]) -> list[str]:
    """Return the answer of check_lazy_status: the example is computed only if it is used.

    A link that is not computed yet is None.
    """
    return ["example"] if not text and inputs.get("example", "") is None else []


def held_bytes(sha256: str) -> bytes:
    """The bytes themselves. Raises MediaNotHeld."""
    return held_media().get(sha256).data


def nothing_given(name: str, noun: str) -> ValueOutOfLimits:
    """The error of a run without a value and without an example."""
    return ValueOutOfLimits(name, f"no {noun}", "given, and the node has no example")
