"""From ComfyUI's image tensors to encoded bytes.

Images are a batch: [count, height, width, channels], 1, 3 or 4 channels, 0.0 to 1.0. Masks are
[count, height, width].
"""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING

import torch
from PIL import Image

from ..errors import ImageNotEncodable
from . import png
from .encoded import Encoded

if TYPE_CHECKING:
    from collections.abc import Iterator

    from PIL.PngImagePlugin import PngInfo

_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
_BATCH_DIMENSIONS = 4
_MASK_DIMENSIONS = (2, 3, 4)

PNG = "PNG"
# The formats to choose from, by the names that the node shows.
CONTENT_TYPES = {PNG: "image/png", "JPEG": "image/jpeg", "WebP": "image/webp"}


def split_batch(images: torch.Tensor) -> Iterator[Image.Image]:
    """The pictures of a batch, in 8 bits a channel, one at a time.

    Values outside 0.0 to 1.0 are clipped, the rest cut to 1/255 steps exactly as SaveImage does,
    so that both give the same pixels. Raises ImageNotEncodable.
    """
    if images.ndim != _BATCH_DIMENSIONS:
        raise ImageNotEncodable(f"a batch has 4 dimensions, not {images.ndim}")
    mode = _MODES.get(images.shape[3])
    if mode is None:
        raise ImageNotEncodable(f"{images.shape[3]} channels are neither grey, RGB nor RGBA")
    if images[0:1].numel() == 0:
        raise ImageNotEncodable(f"it is empty, of shape {tuple(images.shape)}")
    for image in images:
        yield _picture(image, mode)


def split_masks(masks: torch.Tensor) -> Iterator[Image.Image]:
    """The masks of a batch as grey pictures in 8 bits. Raises ImageNotEncodable.

    Rounded, not cut off: what came as 1 - alpha/255 lies a hair beside its step.
    """
    if masks.ndim not in _MASK_DIMENSIONS or masks.numel() == 0:
        raise ImageNotEncodable(f"a tensor of shape {tuple(masks.shape)} is no mask")
    half_a_step = 0.5 / 255.0
    # Some nodes make masks without a count, others with a channel.
    height, width = masks.shape[-2:]
    yield from split_batch(masks.reshape(-1, height, width, 1).float() + half_a_step)


def _picture(image: torch.Tensor, mode: str) -> Image.Image:
    # The smallest value is NaN where any is: a fifth of the time of isnan().any().
    if image.is_floating_point() and bool(torch.isnan(image.amin())):
        raise ImageNotEncodable("it holds values that are not numbers (NaN)")
    # Rounded to bytes on the device where it lies: a quarter of the bytes to copy.
    pixels = image.float().mul(255.0).clamp_(0.0, 255.0).to(torch.uint8).cpu().numpy()
    return Image.fromarray(pixels[:, :, 0] if mode == "L" else pixels, mode=None)


def encode(
    picture: Image.Image, image_format: str, quality: int, metadata: PngInfo | None = None
) -> Encoded:
    """Encode one picture.

    `image_format`: a key of CONTENT_TYPES. `quality` (1 to 100) is for JPEG and WebP; PNG keeps
    every pixel. Raises ImageNotEncodable, also where the format's own limit of size is exceeded.
    """
    stream = BytesIO()
    try:
        if image_format == PNG:
            png.save(picture, stream, metadata)
        elif image_format == "JPEG":
            flatten(picture).save(stream, "JPEG", quality=quality)
        else:
            picture.save(stream, "WEBP", quality=quality)
    except (OSError, ValueError) as error:
        size = f"{picture.width} x {picture.height}"
        raise ImageNotEncodable(f"{image_format} of {size} pixels: {error}") from error
    return Encoded(stream.getvalue(), CONTENT_TYPES[image_format], picture.width, picture.height)


def flatten(picture: Image.Image) -> Image.Image:
    """For formats without transparency: the picture on white, as paper would show it."""
    if picture.mode != "RGBA":
        return picture
    paper = Image.new("RGB", picture.size, "white")
    paper.paste(picture, mask=picture.getchannel("A"))
    return paper
