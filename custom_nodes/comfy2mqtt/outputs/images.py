"""Pictures: each image of a batch, each mask, or a batch that moves."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from PIL.PngImagePlugin import PngInfo

from ..declarations import InputTypes, choice, number, rate, switch
from ..errors import ImageNotEncodable
from ..formats import animation
from ..formats.image_encoding import CONTENT_TYPES, PNG, encode, split_batch, split_masks
from .delivery import Output, output_inputs, unless_interrupted

if TYPE_CHECKING:
    import torch


class ImageOutput(Output):
    """Sends each image of a batch to whoever submitted the prompt."""

    DESCRIPTION = "Sends the images to the bridge, without a file on disk."

    @classmethod
    def INPUT_TYPES(cls) -> InputTypes:  # noqa: N802 - ComfyUI's name
        """The inputs, as ComfyUI asks for them."""
        inputs = output_inputs(
            "image",
            {"images": ("IMAGE", {"tooltip": "What to send: one output for each image."})},
            format=choice(list(CONTENT_TYPES), "PNG", "How the images are encoded."),
            quality=number(90, 1, 100, "For JPEG and WebP; PNG loses nothing."),
        )
        # Off unless asked for: clients may receive a picture without a right to the graph behind
        # it, and equal pixels shall be equal bytes.
        inputs["optional"]["metadata"] = switch(
            "Embed the prompt and the workflow, as SaveImage does (PNG only). Whoever receives "
            "the picture can read them.",
            default=False,
        )
        inputs["hidden"] |= {"prompt": "PROMPT", "extra_pnginfo": "EXTRA_PNGINFO"}
        return inputs

    def deliver(
        self,
        *,
        images: list[torch.Tensor],
        name: list[str],
        format: list[str],  # noqa: A002 - the input's name in the graph
        quality: list[int],
        unique_id: list[str],
        metadata: list[bool] | None = None,
        prompt: list[Any] | None = None,
        extra_pnginfo: list[Any] | None = None,
        **_about: list[str],
    ) -> dict[str, Any]:
        """Send each image of each batch."""
        embedded = None
        if metadata and metadata[0]:
            embedded = _png_metadata(format[0], prompt, extra_pnginfo)
        pictures = (picture for batch in images for picture in split_batch(batch))
        return self.send_all(
            unique_id[0],
            name[0],
            (
                encode(picture, format[0], quality[0], embedded)
                for picture in unless_interrupted(pictures)
            ),
        )


class MaskOutput(Output):
    """Sends each mask of a batch as a grey PNG."""

    DESCRIPTION = "Sends the masks to the bridge, as grey PNG files of 8 bits: white is 1.0."

    @classmethod
    def INPUT_TYPES(cls) -> InputTypes:  # noqa: N802 - ComfyUI's name
        """The inputs, as ComfyUI asks for them."""
        return output_inputs(
            "mask", {"masks": ("MASK", {"tooltip": "What to send: one output for each mask."})}
        )

    def deliver(
        self,
        *,
        masks: list[torch.Tensor],
        name: list[str],
        unique_id: list[str],
        **_about: list[str],
    ) -> dict[str, Any]:
        """Send each mask of each batch."""
        pictures = (picture for batch in masks for picture in split_masks(batch))
        return self.send_all(
            unique_id[0],
            name[0],
            (encode(picture, PNG, 100) for picture in unless_interrupted(pictures)),
        )


class AnimationOutput(Output):
    """Sends each batch of images as one file that moves."""

    DESCRIPTION = "Sends a batch of images to the bridge as one animated picture."

    @classmethod
    def INPUT_TYPES(cls) -> InputTypes:  # noqa: N802 - ComfyUI's name
        """The inputs, as ComfyUI asks for them."""
        return output_inputs(
            "animation",
            {"images": ("IMAGE", {"tooltip": "What to send: one output for each batch."})},
            format=choice(list(animation.FORMATS), "WebP", "How the animation is encoded."),
            fps=rate(12.0, animation.MAX_FPS),
            quality=number(85, 1, 100, "For WebP; a GIF has 256 colours, and APNG loses nothing."),
            loop=switch("Play for ever, or once.", default=True),
        )

    def deliver(
        self,
        *,
        images: list[torch.Tensor],
        name: list[str],
        format: list[str],  # noqa: A002 - the input's name in the graph
        fps: list[float],
        quality: list[int],
        loop: list[bool],
        unique_id: list[str],
        **_about: list[str],
    ) -> dict[str, Any]:
        """Send each batch."""
        return self.send_all(
            unique_id[0],
            name[0],
            (
                animation.encode(
                    unless_interrupted(split_batch(batch)),
                    format[0],
                    fps=fps[0],
                    quality=quality[0],
                    loop=loop[0],
                )
                for batch in images
            ),
        )


def _as_submitted(node: dict[str, Any]) -> dict[str, Any]:
    """A node of the prompt without ComfyUI's note of IS_CHANGED: NaN, which JSON does not know."""
    return {key: value for key, value in node.items() if key != "is_changed"}


def _png_metadata(
    image_format: str, prompt: list[Any] | None, extra_pnginfo: list[Any] | None
) -> PngInfo:
    """Prompt and workflow as PNG text, under the keys that ComfyUI's page reads."""
    if image_format != PNG:
        raise ImageNotEncodable(f"metadata can be embedded in PNG only, not in {image_format}")
    texts = {**((extra_pnginfo and extra_pnginfo[0]) or {})}
    if prompt and prompt[0] is not None:
        texts["prompt"] = {key: _as_submitted(node) for key, node in prompt[0].items()}
    info = PngInfo()
    for key, value in texts.items():
        info.add_text(key, json.dumps(value))
    return info
