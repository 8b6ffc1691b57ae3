"""The demo node: a painting in steps, as a sampler would make it, without a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import comfy.model_management
import comfy.utils
import numpy as np
import torch
from PIL import Image

from .painting import paint

if TYPE_CHECKING:
    from numpy.typing import NDArray

PREVIEW_SIZE = 512


class Painter:
    """Paints what a prompt says, on the CPU, in a few seconds."""

    CATEGORY = "comfy2mqtt"
    DESCRIPTION = (
        "A procedural painter, no model: knows some hundred words for places, light, weather, "
        "colours, and a boat, lighthouse, barn or cat. For demos and tests."
    )
    FUNCTION = "paint"
    RETURN_TYPES = ("IMAGE",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, dict[str, Any]]:  # noqa: N802 - ComfyUI's name
        """The inputs, as ComfyUI asks for them."""
        pixels = {"default": 512, "min": 64, "max": 2048, "step": 8}
        return {
            "required": {
                "prompt": (
                    "STRING",
                    {
                        "default": "sunset over a calm sea, a sailing boat",
                        "multiline": True,
                        "tooltip": "Places, light, weather and colours; other words count too.",
                    },
                ),
                "seed": (
                    "INT",
                    {
                        "default": 0,
                        "min": 0,
                        "max": 2**64 - 1,
                        "control_after_generate": True,
                        "tooltip": "Another seed arranges the picture differently.",
                    },
                ),
                "width": ("INT", {**pixels, "tooltip": "In pixels."}),
                "height": ("INT", {**pixels, "tooltip": "In pixels."}),
                "steps": (
                    "INT",
                    {
                        "default": 20,
                        "min": 1,
                        "max": 100,
                        "tooltip": "Layers of paint, from coarse to fine strokes.",
                    },
                ),
            },
        }

    def paint(
        self, *, prompt: str, seed: int, width: int, height: int, steps: int
    ) -> tuple[torch.Tensor]:
        """Paint; each step reports progress with a preview of its own and can be interrupted."""
        bar = comfy.utils.ProgressBar(steps)
        picture = np.zeros((height, width, 3), dtype=np.float32)
        for step, picture in enumerate(paint(prompt, seed, width, height, steps)):
            comfy.model_management.throw_exception_if_processing_interrupted()
            # Given to the bar directly, it reaches the client whatever --preview-method says:
            # that choice is made where samplers build their previews.
            bar.update_absolute(step + 1, steps, ("JPEG", _preview(picture), PREVIEW_SIZE))
        return (torch.from_numpy(picture)[None],)


def _preview(picture: NDArray[np.float32]) -> Image.Image:
    return Image.fromarray((picture * 255.0).astype(np.uint8))
