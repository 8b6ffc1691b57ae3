"""The output node: images out of the graph, to the bridge.

The bytes take ComfyUI's own socket, so they arrive in order with the node's events and without a
file on disk; they stay held until the bridge confirms them. Whatever cannot be encoded or held
raises, and so fails the job.
"""

from __future__ import annotations

import json
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import comfy.model_management
from PIL.PngImagePlugin import PngInfo
from server import PromptServer

from .encoding import CONTENT_TYPES, EncodedImage, encode, split_batch
from .errors import ImageNotEncodable
from .frames import EVENT_TYPE, pack_frame
from .held import OutputHeader
from .inputs import CATEGORY, about, input_name
from .settings import held_outputs

if TYPE_CHECKING:
    import torch

try:
    from comfy_execution.utils import get_executing_context
except ImportError:  # an older ComfyUI
    get_executing_context = None


class ImageOutput:
    """Sends each image of a batch to whoever submitted the prompt."""

    CATEGORY = CATEGORY
    DESCRIPTION = "Sends the images to the bridge, without a file on disk."
    FUNCTION = "deliver"
    OUTPUT_NODE = True
    RETURN_TYPES = ()
    # One call for a list of batches, not one for each: the index then counts through them all.
    INPUT_IS_LIST = True

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, dict[str, Any]]:  # noqa: N802 - ComfyUI's name
        """The inputs, as ComfyUI asks for them."""
        return {
            "required": {
                "images": ("IMAGE", {"tooltip": "What to send: one output for each image."}),
                "name": input_name("image", "The output's name in results."),
                "format": (
                    list(CONTENT_TYPES),
                    {"default": "PNG", "tooltip": "How the images are encoded."},
                ),
                "quality": (
                    "INT",
                    {
                        "default": 90,
                        "min": 1,
                        "max": 100,
                        "tooltip": "For JPEG and WebP; PNG loses nothing.",
                    },
                ),
            },
            "optional": {
                **about("output"),
                # Off unless asked for: clients may receive a picture without a right to the
                # graph behind it, and equal pixels shall be equal bytes.
                "metadata": (
                    "BOOLEAN",
                    {
                        "default": False,
                        "tooltip": "Embed the prompt and the workflow, as SaveImage does "
                        "(PNG only). Whoever receives the picture can read them.",
                    },
                ),
            },
            "hidden": {
                "unique_id": "UNIQUE_ID",
                "prompt": "PROMPT",
                "extra_pnginfo": "EXTRA_PNGINFO",
            },
        }

    @classmethod
    def IS_CHANGED(cls, **_inputs: object) -> float:  # noqa: N802 - ComfyUI's name
        """Never the same: a cached output node would not run, and nothing would be sent."""
        return float("nan")

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
        """Encode, hold and send each image; the headers of all are the node's output."""
        image_format = format[0]
        embedded = None
        if metadata and metadata[0]:
            embedded = _png_metadata(image_format, prompt, extra_pnginfo)
        delivery = _Delivery(_current_prompt_id(), unique_id[0], name[0])
        for batch in images:
            for picture in split_batch(batch):
                comfy.model_management.throw_exception_if_processing_interrupted()
                delivery.send(encode(picture, image_format, quality[0], embedded), image_format)
        return {"ui": {"comfy2mqtt": [header.as_dict() for header in delivery.headers]}}


class _Delivery:
    """The outputs of one node in one run."""

    def __init__(self, prompt_id: str, node: str, name: str) -> None:
        self._prompt_id, self._node, self._name = prompt_id, node, name
        self.headers: list[OutputHeader] = []
        held_outputs().begin(prompt_id, node)

    def send(self, image: EncodedImage, image_format: str) -> None:
        header = OutputHeader(
            prompt_id=self._prompt_id,
            node=self._node,
            index=len(self.headers),
            name=self._name,
            content_type=CONTENT_TYPES[image_format],
            size=len(image.data),
            sha256=sha256(image.data).hexdigest(),
            width=image.width,
            height=image.height,
        )
        # Held first: what the socket drops can then always be asked for.
        held_outputs().hold(header, image.data)
        server = PromptServer.instance
        # Without a client id send_sync would send to every socket there is.
        if server.client_id is not None:
            server.send_sync(EVENT_TYPE, pack_frame(header, image.data), server.client_id)
        self.headers.append(header)


def _current_prompt_id() -> str:
    context = get_executing_context() if get_executing_context else None
    return str(context.prompt_id if context else PromptServer.instance.last_prompt_id)


def _as_submitted(node: dict[str, Any]) -> dict[str, Any]:
    """A node of the prompt without ComfyUI's note of IS_CHANGED: NaN, which JSON does not know."""
    return {key: value for key, value in node.items() if key != "is_changed"}


def _png_metadata(
    image_format: str, prompt: list[Any] | None, extra_pnginfo: list[Any] | None
) -> PngInfo:
    """Prompt and workflow as PNG text, under the keys that ComfyUI's page reads."""
    if image_format != "PNG":
        raise ImageNotEncodable(f"metadata can be embedded in PNG only, not in {image_format}")
    texts = {**((extra_pnginfo and extra_pnginfo[0]) or {})}
    if prompt and prompt[0] is not None:
        texts["prompt"] = {key: _as_submitted(node) for key, node in prompt[0].items()}
    info = PngInfo()
    for key, value in texts.items():
        info.add_text(key, json.dumps(value))
    return info
