"""From pictures to one file that moves: animated WebP, GIF or PNG."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from ..errors import ImageNotEncodable
from .encoded import Encoded

if TYPE_CHECKING:
    from collections.abc import Iterable

    from PIL import Image


@dataclass(frozen=True, slots=True)
class _AnimationFormat:
    """`tick_ms`: the smallest step of time that the file can hold, in milliseconds."""

    content_type: str
    writer: str
    tick_ms: int


FORMATS = {
    "WebP": _AnimationFormat("image/webp", "WEBP", 1),
    "GIF": _AnimationFormat("image/gif", "GIF", 10),
    "APNG": _AnimationFormat("image/apng", "PNG", 1),
}
# The shortest time that a GIF can show a picture for.
MAX_FPS = 100.0


def encode(
    pictures: Iterable[Image.Image], name: str, *, fps: float, quality: int, loop: bool
) -> Encoded:
    """Encode pictures of one size, `fps` of them a second.

    `name`: a key of FORMATS. `quality` (1 to 100) is for WebP; a GIF has 256 colours a picture,
    and PNG loses nothing. Raises ImageNotEncodable.
    """
    animation = FORMATS[name]
    first, *others = frames = list(pictures)
    stream = BytesIO()
    try:
        first.save(
            stream,
            animation.writer,
            save_all=True,
            append_images=others,
            duration=_durations(len(frames), fps, animation.tick_ms),
            **_options(animation.writer, first.mode, quality, loop=loop),
        )
    except (OSError, ValueError, RuntimeError) as error:
        # RuntimeError is what PIL's encoder of WebP raises.
        size = f"{first.width} x {first.height}"
        raise ImageNotEncodable(f"{name} of {size} pixels: {error}") from error
    return Encoded(stream.getvalue(), animation.content_type, first.width, first.height)


def _durations(count: int, fps: float, tick_ms: int) -> list[int]:
    """Return each picture's duration in milliseconds, rounded so that no error adds up."""
    ends = [round(index * 1000 / fps / tick_ms) * tick_ms for index in range(count + 1)]
    return [end - start for start, end in pairwise(ends)]


def _options(writer: str, mode: str, quality: int, *, loop: bool) -> dict[str, Any]:
    # For ever is 0. For once WebP and PNG say 1; to a GIF that would be one time more.
    options: dict[str, Any] = {"loop": 0} if loop else {} if writer == "GIF" else {"loop": 1}
    if writer == "WEBP":
        options["quality"] = quality
    if writer == "GIF" and mode == "RGBA":
        # Or the picture before would shine through where this one is transparent.
        options["disposal"] = 2
    return options
