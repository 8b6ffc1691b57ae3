"""A request's wishes for its image outputs, and what they mean for one image. Pure.

    format        png, jpeg, webp, gif or bmp; the image's own if it is not given
    quality       1 to 100, the most that is spent; for jpeg and webp only
    max_width     pixels; made smaller to fit, the aspect kept, never larger
    max_height    likewise
    max_bytes     quality goes down first, as far as is sensible, and then the size in pixels
    dither        to the colours of a panel; the image is an indexed png then, or a bmp
    metadata      keep (what the new format can carry) or strip

Without any of these an image stays, byte for byte, what ComfyUI made.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TypeAlias, get_args

from msgspec import Struct
from msgspec.structs import replace

from bridge.contract.errors import BadRequest
from bridge.contract.messages import Dither, Format, Metadata, Output, or_none

# What an encoder is given where no quality is asked for, and the least that looks like the image.
DEFAULT_QUALITY = 90
LOWEST_QUALITY = 40
# Below this many pixels on the longer side an image is not made smaller for the sake of bytes.
SMALLEST_SIDE = 16
# The most by which a side shrinks from one attempt to the next: bytes follow the area only roughly.
_STEP = 0.9
_REFINEMENTS = 5

FORMATS: tuple[Format, ...] = get_args(Format)
_WITH_QUALITY = ("jpeg", "webp")
_INDEXED = ("png", "bmp")
_EXTENSIONS: dict[Format, str] = {"jpeg": "jpg"}

Colour: TypeAlias = tuple[int, int, int]

_BLACK = (0, 0, 0)
_WHITE = (255, 255, 255)
_RED = (255, 0, 0)
_GREEN = (0, 255, 0)
_BLUE = (0, 0, 255)
_YELLOW = (255, 255, 0)
_ORANGE = (255, 128, 0)

# The colours of e-ink panels, by the names of `dither`; the index in the palette is the place in
# the list. They are the pure colours by which panel drivers distinguish pigments, not what the
# pigments look like: a driver that takes the nearest colour finds each one exactly.
PALETTES: Mapping[str, tuple[Colour, ...]] = {
    "1bit": (_BLACK, _WHITE),
    "4grey": (_BLACK, (85, 85, 85), (170, 170, 170), _WHITE),
    "black-white-red": (_BLACK, _WHITE, _RED),
    "black-white-yellow": (_BLACK, _WHITE, _YELLOW),
    "spectra-6": (_BLACK, _WHITE, _YELLOW, _RED, _BLUE, _GREEN),
    "acep-7": (_BLACK, _WHITE, _GREEN, _BLUE, _RED, _YELLOW, _ORANGE),
}


class Profile(Struct, frozen=True, omit_defaults=True):
    """A request's wishes, checked; None if it has none."""

    format: Format | None = None
    quality: int | None = None
    max_width: int | None = None
    max_height: int | None = None
    max_bytes: int | None = None
    dither: Dither | None = None
    strip: bool = False


class SourceImage(Struct, frozen=True):
    """An image as it came; sizes in pixels, as far as its header has them, and bytes."""

    content_type: str
    width: int | None
    height: int | None
    size: int


class TargetImage(Struct, frozen=True):
    """The image to be made of one image; `quality` is the most, for formats that have one."""

    format: Format
    quality: int | None
    profile: Profile


class Encoding(Struct, frozen=True):
    """One way to encode an image: its size in pixels, and its quality where there is one."""

    width: int
    height: int
    quality: int | None = None


class CannotFit(Exception):
    """Even the smallest form takes more bytes than allowed: `smallest` of them."""

    def __init__(self, smallest: int) -> None:
        super().__init__(smallest)
        self.smallest = smallest


def read(output: Output) -> Profile | None:
    """Return a request's wishes for its images, None if it has none.

    Raises BadRequest for what cannot go together.
    """
    metadata: Metadata | None = or_none(output.metadata)
    dither: Dither | None = or_none(output.dither)
    profile = Profile(
        format=or_none(output.format),
        quality=or_none(output.quality),
        max_width=or_none(output.max_width),
        max_height=or_none(output.max_height),
        max_bytes=or_none(output.max_bytes),
        dither=None if dither == "none" else dither,
        strip=metadata == "strip",
    )
    if profile.dither is not None and profile.format not in (None, *_INDEXED):
        raise BadRequest(
            f"output.format: {profile.format} cannot carry a dithered image; allowed: png, bmp",
            field="output.format",
            allowed=list(_INDEXED),
        )
    if profile.quality is not None and profile.format not in _WITH_QUALITY:
        raise BadRequest(
            "output.quality: needs output.format jpeg or webp",
            field="output.quality",
            allowed={"output.format": list(_WITH_QUALITY)},
        )
    return None if profile == Profile() else profile


def target(profile: Profile, source: SourceImage) -> TargetImage | None:
    """Return the image to be made of one, None if it is as asked already."""
    own = next((form for form in FORMATS if content_type(form) == source.content_type), None)
    wanted = profile.format or ("png" if profile.dither else own or "png")
    if (
        wanted == own
        and profile.quality is None
        and profile.dither is None
        and not profile.strip
        and _within(source.width, profile.max_width)
        and _within(source.height, profile.max_height)
        and _within(source.size, profile.max_bytes)
    ):
        return None
    quality = (profile.quality or DEFAULT_QUALITY) if wanted in _WITH_QUALITY else None
    return TargetImage(wanted, quality, profile)


def content_type(form: Format) -> str:
    """Return the media type of a format."""
    return f"image/{form}"


def renamed(filename: str, form: Format) -> str:
    """Return a file's name with the extension of a format, if it had another image's."""
    extension = _EXTENSIONS.get(form, form)
    stem, dot, old = filename.rpartition(".")
    if not dot or old.lower() in (extension, form):
        return filename
    return f"{stem}.{extension}"


def fit(width: int, height: int, max_width: int | None, max_height: int | None) -> tuple[int, int]:
    """Return the largest size of the same aspect within bounds, never larger than it was."""
    max_width = min(width, max_width or width)
    max_height = min(height, max_height or height)
    if max_width * height <= max_height * width:
        return max_width, max(1, _rounded(height * max_width, width))
    return max(1, _rounded(width * max_height, height)), max_height


def search(
    width: int,
    height: int,
    quality: int | None,
    max_bytes: int,
    measure: Callable[[Encoding], int],
) -> Encoding:
    """Find the best form within `max_bytes`: quality is given up first, then pixels.

    `measure` encodes and returns the bytes taken. The attempt that is returned is the last of
    those measured that fit. Raises CannotFit.
    """
    full = Encoding(width, height, quality)
    lowest = None if quality is None else min(quality, LOWEST_QUALITY)
    if lowest != quality and measure(full) <= max_bytes:
        return full
    scale = larger = 1.0
    smallest = min(1.0, SMALLEST_SIDE / max(width, height))
    while (taken := measure(_scaled(full, scale, lowest))) > max_bytes:
        if scale <= smallest:
            raise CannotFit(taken)
        larger = scale
        scale = max(smallest, scale * min(_STEP, math.sqrt(max_bytes / taken)))
    if quality is None or lowest is None:
        return _largest(full, scale, larger, max_bytes, measure)
    return _sharpest(_scaled(full, scale, quality), lowest, max_bytes, measure)


def _scaled(full: Encoding, scale: float, quality: int | None) -> Encoding:
    return Encoding(max(1, int(full.width * scale)), max(1, int(full.height * scale)), quality)


def _sharpest(
    attempt: Encoding, lowest: int, max_bytes: int, measure: Callable[[Encoding], int]
) -> Encoding:
    """Return the attempt of the highest quality that fits; that of the lowest does."""
    fits, too_much = lowest, (attempt.quality or lowest) + 1
    while too_much - fits > 1:
        middle = (fits + too_much) // 2
        if measure(replace(attempt, quality=middle)) <= max_bytes:
            fits = middle
        else:
            too_much = middle
    return replace(attempt, quality=fits)


def _largest(
    full: Encoding, scale: float, larger: float, max_bytes: int, measure: Callable[[Encoding], int]
) -> Encoding:
    """Return a larger attempt that fits, if there is one: the last step down may have been long."""
    for _ in range(_REFINEMENTS if scale < larger else 0):
        middle = math.sqrt(scale * larger)
        if measure(_scaled(full, middle, None)) <= max_bytes:
            scale = middle
        else:
            larger = middle
    return _scaled(full, scale, None)


def _within(size: int | None, limit: int | None) -> bool:
    return limit is None or (size is not None and size <= limit)


def _rounded(dividend: int, divisor: int) -> int:
    """Divide to the nearest whole number, without a float's error."""
    return (2 * dividend + divisor) // (2 * divisor)
