"""From encoded bytes to ComfyUI's image and mask tensors.

Images: [count, height, width, 3], masks: [count, height, width], floats of 0.0 to 1.0. As with
LoadImage a mask is 1.0 where the picture is transparent, and 64 x 64 zeros stand for the mask of
a file that knows no transparency. Unlike there, 16-bit grey keeps its steps, and what is read is
bounded: the bytes come from a client, and a few kilobytes can unpack to gigabytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image, ImageOps, ImageSequence, UnidentifiedImageError

from ..errors import MediaUnreadable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

# 8192 x 8192, over all frames: 805 MB as a tensor. Judged by the header, before decoding.
MAX_PIXELS = 1 << 26
MAX_FRAMES = 64

# What cameras, browsers and drawing programs write. Others that PIL knows stay shut: EPS, for
# one, would start a PostScript interpreter on a client's bytes.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM", "JPEG2000", "ICO")

_NO_MASK_SIZE = 64
_SIXTEEN_BIT_MAX = 65535.0
_EIGHT_BIT_MAX = 255.0


@dataclass(frozen=True, slots=True)
class Decoded:
    """A batch of images, and where they are transparent: None where the file does not know."""

    images: torch.Tensor
    transparency: torch.Tensor | None

    @property
    def masks(self) -> torch.Tensor:
        """As many masks as images, or the one mask that stands for none."""
        if self.transparency is None:
            return torch.zeros((1, _NO_MASK_SIZE, _NO_MASK_SIZE))
        return self.transparency

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.images.shape[2], self.images.shape[1]


def decode(data: bytes, max_pixels: int = MAX_PIXELS) -> Decoded:
    """The image in `data`, of an animation its first frames. Raises MediaUnreadable."""
    try:
        with Image.open(BytesIO(data), formats=_formats()) as picture:
            return _decode_frames(picture, max_pixels)
    except UnidentifiedImageError:
        raise MediaUnreadable("image", f"it is none of {', '.join(_formats())}") from None
    except Image.DecompressionBombError:
        # PIL's own limit, above ours, already strikes when it opens the file.
        raise _too_large() from None
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        # PIL's decoders raise each of these on broken files.
        raise MediaUnreadable("image", f"it is broken ({error})") from error


def join(batches: Sequence[Decoded]) -> Decoded:
    """One batch of several whose images are of one size."""
    images = torch.cat([batch.images for batch in batches])
    if all(batch.transparency is None for batch in batches):
        return Decoded(images, None)
    masks = [
        torch.zeros(batch.images.shape[:3]) if batch.transparency is None else batch.transparency
        for batch in batches
    ]
    return Decoded(images, torch.cat(masks))


def luminance(images: torch.Tensor) -> torch.Tensor:
    """Return the luminance of each pixel, by ITU-R BT.601 as in PIL: [count, height, width].

    Grey stays exactly what it was, which the plain sum of three products would not give.
    """
    red, green, blue = images[..., 0], images[..., 1], images[..., 2]
    return red + 0.587 * (green - red) + 0.114 * (blue - red)


def _too_large() -> MediaUnreadable:
    return MediaUnreadable("image", f"it has more than the {MAX_PIXELS} pixels allowed")


@cache
def _formats() -> tuple[str, ...]:
    Image.init()
    # A PIL built without one of them raises KeyError where it is asked for.
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _decode_frames(picture: Image.Image, max_pixels: int) -> Decoded:
    colours: list[NDArray[np.float32]] = []
    alphas: list[NDArray[np.float32] | None] = []
    for frame in _frames(picture, max_pixels):
        upright = ImageOps.exif_transpose(frame)
        colour = _colour(upright)
        # Pages of a TIFF can differ in size; a batch cannot.
        if colours and colour.shape != colours[0].shape:
            continue
        colours.append(colour)
        alphas.append(_alpha(upright))
    images = torch.from_numpy(np.stack(colours))
    if all(alpha is None for alpha in alphas):
        return Decoded(images, None)
    opaque = np.ones(colours[0].shape[:2], dtype=np.float32)
    stack = np.stack([opaque if alpha is None else alpha for alpha in alphas])
    return Decoded(images, torch.from_numpy(1.0 - stack))


def _frames(picture: Image.Image, max_pixels: int) -> Iterator[Image.Image]:
    """The frames to decode. A phone's MPO is a photograph and its depth map: the first only."""
    budget = max_pixels
    most = 1 if picture.format == "MPO" else MAX_FRAMES
    for index, frame in enumerate(ImageSequence.Iterator(picture)):
        budget -= frame.width * frame.height
        if index >= most or (budget < 0 and index > 0):
            return
        if budget < 0:
            raise _too_large()
        yield frame


def _colour(frame: Image.Image) -> NDArray[np.float32]:
    """Red, green and blue: [height, width, 3]."""
    if frame.mode.startswith("I"):
        # 16-bit grey, "I;16" or (older PIL) "I". PIL's own conversion to RGB cuts it off at 255.
        grey = np.asarray(frame).astype(np.float32) / _SIXTEEN_BIT_MAX
        return np.repeat(grey.clip(0.0, 1.0)[:, :, None], 3, axis=2)
    # By way of RGBA where a colour key or a palette with alpha stands in for transparency.
    rgb = frame.convert("RGBA").convert("RGB") if frame.mode in {"P", "PA"} else frame
    return np.asarray(rgb.convert("RGB")).astype(np.float32) / np.float32(_EIGHT_BIT_MAX)


def _alpha(frame: Image.Image) -> NDArray[np.float32] | None:
    """Opacity: [height, width]; None where the file says nothing of it."""
    has_alpha = "A" in frame.getbands() or "transparency" in frame.info
    if not has_alpha or frame.mode.startswith("I"):
        return None
    alpha = frame.convert("RGBA").getchannel("A")
    return np.asarray(alpha).astype(np.float32) / np.float32(_EIGHT_BIT_MAX)
