"""The input nodes: named values that a request may set.

The value in the graph is the default; the bridge sets another by overwriting it. Each node
checks the limits set in it once more, since a graph can also be run without the bridge, and a
value can come through a link.

ComfyUI calls every method by keyword; what a node declares only for the bridge and for people
(title, description, ...) is taken as `**_about`.
"""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Any

from .decoding import Decoded, decode, without_alpha
from .errors import MediaNotHeld, ValueOutOfLimits
from .media import is_sha256
from .settings import held_media

if TYPE_CHECKING:
    import torch

CATEGORY = "comfy2mqtt"

INTEGER_MIN = -(2**63)
INTEGER_MAX = 2**64 - 1
# ComfyUI's page computes in doubles: past 2**53 its numbers are no longer the ones typed in, and
# its 2**64 - 1 is one too many for the server. Hence the limits to begin with in the page.
PAGE_INTEGER_MAX = 2**53 - 1
PAGE_FLOAT_MAX = 1e12
FLOAT_MAX = sys.float_info.max

InputTypes = dict[str, dict[str, Any]]


def input_name(default: str, tooltip: str) -> tuple[str, dict[str, Any]]:
    """The `name` of an input or output."""
    return ("STRING", {"default": default, "tooltip": tooltip})


def about(noun: str) -> dict[str, tuple[str, dict[str, Any]]]:
    """The optional texts for people that every input and output has."""
    return {
        "title": ("STRING", {"default": "", "tooltip": f"What people see as the {noun}'s name."}),
        "description": (
            "STRING",
            {"default": "", "multiline": True, "tooltip": f"What the {noun} is for."},
        ),
    }


def value_inputs(
    name: str, value: tuple[str, dict[str, Any]], **limits: tuple[str, dict[str, Any]]
) -> InputTypes:
    """INPUT_TYPES of a value node."""
    return {
        "required": {"name": input_name(name, "The input's name in requests."), "value": value},
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
        """Give the text on. Raises ValueOutOfLimits."""
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
        """Give the number on. Raises ValueOutOfLimits."""
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
        """Give the number on. Raises ValueOutOfLimits."""
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
        """Give the value on."""
        return (value,)


class SeedInput:
    """A seed: an unsigned number of 64 bits, drawn anew by the bridge where a request has none."""

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
        """Give the seed on. Raises ValueOutOfLimits."""
        check_limits(name, value, 0, INTEGER_MAX)
        return (value,)


class ImageInput:
    """An image, named by the SHA-256 of its encoded bytes, which the bridge puts here before."""

    CATEGORY = CATEGORY
    DESCRIPTION = "An image that a request may set, and its transparency as a mask."
    FUNCTION = "read"
    RETURN_TYPES = ("IMAGE", "MASK")

    @classmethod
    def INPUT_TYPES(cls) -> InputTypes:  # noqa: N802 - ComfyUI's name
        """The inputs, as ComfyUI asks for them."""
        return {
            "required": {
                "name": input_name("image", "The input's name in requests."),
                "image": (
                    "STRING",
                    {"default": "", "tooltip": "The image's SHA-256; empty: the example."},
                ),
            },
            "optional": {
                **about("input"),
                "example": (
                    "IMAGE",
                    {"lazy": True, "tooltip": "Used where a request gives no image."},
                ),
            },
        }

    @classmethod
    def VALIDATE_INPUTS(cls, image: str | None) -> bool | str:  # noqa: N802 - ComfyUI's name
        """Say so before the prompt is queued when the image is not held (None: it is a link)."""
        if not image:
            return True
        if not is_sha256(image):
            return f"'{image}' is not a SHA-256 in lower-case hex."
        return True if held_media().holds(image) else str(MediaNotHeld(image))

    def check_lazy_status(self, *, image: str, **inputs: object) -> list[str]:
        """Have the example computed only where it is used. A link not computed yet is None."""
        wanted = not image and "example" in inputs and inputs["example"] is None
        return ["example"] if wanted else []

    def read(
        self, *, name: str, image: str, example: torch.Tensor | None = None, **_about: str
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Give the image and its mask on. Raises MediaNotHeld, MediaUnreadable."""
        decoded = self._decode(name, image, example)
        return (decoded.images, decoded.masks)

    def _decode(self, name: str, image: str, example: torch.Tensor | None) -> Decoded:
        if image:
            return decode(held_media().get(image).data)
        if example is None:
            raise ValueOutOfLimits(name, "no image", "given, and the node has no example")
        return without_alpha(example)


def _integer(default: int, tooltip: str, **options: Any) -> tuple[str, dict[str, Any]]:
    limits = {"min": INTEGER_MIN, "max": INTEGER_MAX}
    return ("INT", {"default": default, **limits, "tooltip": tooltip, **options})


def _float(default: float, tooltip: str, **options: Any) -> tuple[str, dict[str, Any]]:
    # Without `round: False` ComfyUI's page rounds what is typed to the step.
    limits = {"min": -FLOAT_MAX, "max": FLOAT_MAX, "step": 0.01, "round": False}
    return ("FLOAT", {"default": default, **limits, "tooltip": tooltip, **options})
