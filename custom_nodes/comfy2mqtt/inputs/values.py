"""Values that stand in the graph itself: texts, numbers, choices, seeds.

Each node checks the limits set in it once more, since a graph can also be run without the bridge,
and a value can come through a link.
"""

from __future__ import annotations

import math
import sys
from typing import Any

from ..declarations import CATEGORY, Declared, InputTypes, about, named
from ..errors import ValueOutOfLimits

INTEGER_MIN = -(2**63)
INTEGER_MAX = 2**64 - 1
# ComfyUI's page computes in doubles: past 2**53 its numbers are no longer the ones typed in, and
# its 2**64 - 1 is one too many for the server. Hence the limits to begin with in the page.
PAGE_INTEGER_MAX = 2**53 - 1
PAGE_FLOAT_MAX = 1e12
FLOAT_MAX = sys.float_info.max


def value_inputs(name: str, value: Declared, **limits: Declared) -> InputTypes:
    """INPUT_TYPES of a value node."""
    return {
        "required": {"name": named(name, "The input's name in requests."), "value": value},
        "optional": {**about("input"), **limits},
    }


def check_limits(name: str, value: float, minimum: float, maximum: float) -> None:
    """Raise ValueOutOfLimits unless minimum <= value <= maximum."""
    if value < minimum:
        raise ValueOutOfLimits(name, value, f"below the minimum {minimum}")
    if value > maximum:
        raise ValueOutOfLimits(name, value, f"above the maximum {maximum}")


class TextInput:
    """A text."""

    CATEGORY = CATEGORY
    DESCRIPTION = "A text that a request may set."
    FUNCTION = "read"
    RETURN_TYPES = ("STRING",)
    RETURN_NAMES = ("text",)

    @classmethod
    def INPUT_TYPES(cls) -> InputTypes:  # noqa: N802 - ComfyUI's name
        """The inputs, as ComfyUI asks for them."""
        return value_inputs(
            "prompt",
            ("STRING", {"default": "", "multiline": True, "tooltip": "The default."}),
            max_length=(
                "INT",
                {"default": 10_000, "min": 1, "max": 1_000_000, "tooltip": "In characters."},
            ),
        )

    def read(
        self, *, name: str, value: str, max_length: int | None = None, **_about: str
    ) -> tuple[str]:
        """Return the text. Raises ValueOutOfLimits."""
        if max_length is not None and len(value) > max_length:
            raise ValueOutOfLimits(
                name, f"a text of {len(value)} characters", f"longer than the {max_length} allowed"
            )
        return (value,)


class IntegerInput:
    """A whole number of up to 64 bits."""

    CATEGORY = CATEGORY
    DESCRIPTION = "A whole number that a request may set."
    FUNCTION = "read"
    RETURN_TYPES = ("INT",)
    RETURN_NAMES = ("integer",)

    @classmethod
    def INPUT_TYPES(cls) -> InputTypes:  # noqa: N802 - ComfyUI's name
        """The inputs, as ComfyUI asks for them."""
        return value_inputs(
            "integer",
            _integer(0, "The default.", control_after_generate=False),
            minimum=_integer(-PAGE_INTEGER_MAX, "The smallest value allowed."),
            maximum=_integer(PAGE_INTEGER_MAX, "The largest value allowed."),
            step=_integer(1, "The step of a slider or spin box; not a limit.", min=1),
        )

    def read(
        self,
        *,
        name: str,
        value: int,
        minimum: int = INTEGER_MIN,
        maximum: int = INTEGER_MAX,
        **_about: object,
    ) -> tuple[int]:
        """Return the number. Raises ValueOutOfLimits."""
        check_limits(name, value, minimum, maximum)
        return (value,)


class FloatInput:
    """A number."""

    CATEGORY = CATEGORY
    DESCRIPTION = "A number that a request may set."
    FUNCTION = "read"
    RETURN_TYPES = ("FLOAT",)
    RETURN_NAMES = ("float",)

    @classmethod
    def INPUT_TYPES(cls) -> InputTypes:  # noqa: N802 - ComfyUI's name
        """The inputs, as ComfyUI asks for them."""
        return value_inputs(
            "number",
            _float(0.0, "The default."),
            minimum=_float(-PAGE_FLOAT_MAX, "The smallest value allowed."),
            maximum=_float(PAGE_FLOAT_MAX, "The largest value allowed."),
            step=_float(0.01, "The step of a slider or spin box; not a limit.", min=0.0),
        )

    def read(
        self,
        *,
        name: str,
        value: float,
        minimum: float = -FLOAT_MAX,
        maximum: float = FLOAT_MAX,
        **_about: object,
    ) -> tuple[float]:
        """Return the number. Raises ValueOutOfLimits."""
        # ComfyUI reads "nan" and "inf" as numbers, and no comparison finds NaN out.
        if not math.isfinite(value):
            raise ValueOutOfLimits(name, value, "not a finite number")
        check_limits(name, value, minimum, maximum)
        return (value,)


class BooleanInput:
    """Yes or no."""

    CATEGORY = CATEGORY
    DESCRIPTION = "A yes or no that a request may set."
    FUNCTION = "read"
    RETURN_TYPES = ("BOOLEAN",)
    RETURN_NAMES = ("boolean",)

    @classmethod
    def INPUT_TYPES(cls) -> InputTypes:  # noqa: N802 - ComfyUI's name
        """The inputs, as ComfyUI asks for them."""
        return value_inputs("switch", ("BOOLEAN", {"default": False, "tooltip": "The default."}))

    def read(self, *, value: bool, **_about: str) -> tuple[bool]:
        """Return the value."""
        return (value,)


class _Choosable(str):
    """The type of an output that fits texts and every list of choices.

    For ComfyUI two types fit if `given != wanted` is false, or if they share one of the words
    between their commas. Lists of choices are of the type COMBO or, in older nodes, of the type
    that is the list itself; which says nothing about the value, as with any link.
    """

    __slots__ = ()

    def __ne__(self, wanted: object) -> bool:
        return False if isinstance(wanted, list) else NotImplemented


class ChoiceInput:
    """One of several words."""

    CATEGORY = CATEGORY
    DESCRIPTION = "One of several words, which a request may set. Fits every list of choices."
    FUNCTION = "read"
    RETURN_TYPES = (_Choosable("COMBO,STRING"),)
    RETURN_NAMES = ("choice",)

    @classmethod
    def INPUT_TYPES(cls) -> InputTypes:  # noqa: N802 - ComfyUI's name
        """The inputs, as ComfyUI asks for them."""
        return {
            "required": {
                "name": named("choice", "The input's name in requests."),
                "value": ("STRING", {"default": "", "tooltip": "The default."}),
                "choices": (
                    "STRING",
                    {
                        "default": "",
                        "multiline": True,
                        "tooltip": "What may be chosen, one on each line; none: anything.",
                    },
                ),
            },
            "optional": about("input"),
        }

    def read(self, *, name: str, value: str, choices: str, **_about: str) -> tuple[str]:
        """Return the chosen word. Raises ValueOutOfLimits."""
        allowed = [line.strip() for line in choices.splitlines() if line.strip()]
        if allowed and value not in allowed:
            raise ValueOutOfLimits(name, f"'{value}'", f"none of {', '.join(allowed)}")
        return (value,)


class SeedInput:
    """A seed: an unsigned number of 64 bits, drawn again by the bridge where a request has none."""

    CATEGORY = CATEGORY
    DESCRIPTION = "A seed that a request may set; the bridge draws one for requests without."
    FUNCTION = "read"
    RETURN_TYPES = ("INT",)
    RETURN_NAMES = ("seed",)

    @classmethod
    def INPUT_TYPES(cls) -> InputTypes:  # noqa: N802 - ComfyUI's name
        """The inputs, as ComfyUI asks for them."""
        return value_inputs(
            "seed",
            _integer(0, "The seed when run from ComfyUI.", min=0, control_after_generate=True),
        )

    def read(self, *, name: str, value: int, **_about: str) -> tuple[int]:
        """Return the seed. Raises ValueOutOfLimits."""
        check_limits(name, value, 0, INTEGER_MAX)
        return (value,)


def _integer(default: int, tooltip: str, **options: Any) -> Declared:
    limits = {"min": INTEGER_MIN, "max": INTEGER_MAX}
    return ("INT", {"default": default, **limits, "tooltip": tooltip, **options})


def _float(default: float, tooltip: str, **options: Any) -> Declared:
    # Without `round: False` ComfyUI's page rounds what is typed to the step.
    limits = {"min": -FLOAT_MAX, "max": FLOAT_MAX, "step": 0.01, "round": False}
    return ("FLOAT", {"default": default, **limits, "tooltip": tooltip, **options})
