"""Decoding, changing and encoding images, with Pillow. Runs in the worker, never in the bridge.

What is in an image's header is checked before any pixel is decoded.
"""

from __future__ import annotations

import io
import warnings
from contextlib import suppress
from itertools import count
from typing import Any, TypeAlias

from msgspec import Struct
from PIL import Image, ImageCms, ImageOps, PngImagePlugin

from bridge.contract.messages import Dither, Format
from bridge.media.profile import PALETTES, CannotFit, Encoding, TargetImage, fit, search
from bridge.media.sniff import sniff

# The most pixels of an image, and of all frames of an animated one together, in the new size:
# 8192 x 8192. Pillow takes four bytes for each, and for a while there are two copies or three.
MAX_PIXELS = 8192 * 8192
MAX_FRAMES = 1000
# The most pixels of all frames of an animated one before they get their new size: each is decoded
# whole, however few bytes it has. That is some 500 frames of 1920 x 1080.
MAX_DECODED = 16 * MAX_PIXELS

_PILLOW_NAMES = {
    "image/png": "PNG",
    "image/jpeg": "JPEG",
    "image/webp": "WEBP",
    "image/gif": "GIF",
    "image/bmp": "BMP",
    "image/tiff": "TIFF",
    "image/avif": "AVIF",
}
_MOVING: tuple[Format, ...] = ("gif", "webp")
_WITH_ALPHA: tuple[Format, ...] = ("png", "webp", "gif")
_WITH_METADATA: tuple[Format, ...] = ("png", "jpeg", "webp")
_ORIENTATION = 0x0112
_WHITE = (255, 255, 255)
_DEFAULT_FRAME_MS = 100


class Refusal(Exception):
    """The image cannot be made; the text says why, for the client."""


class Picture(Struct, frozen=True):
    """A new image; width and height in pixels."""

    data: memoryview
    width: int
    height: int


class _Frame(Struct):
    """One frame, decoded; `duration` in milliseconds."""

    image: Image.Image
    duration: int = 0


class _Metadata(Struct):
    """An image's data besides its pixels; `loop` is None if it plays once."""

    icc: bytes | None = None
    exif: bytes | None = None
    texts: dict[str, str] = {}
    loop: int | None = None


_Options: TypeAlias = dict[str, Any]


def make(data: bytes, target: TargetImage) -> Picture:
    """Make of an image what is asked.

    Raises Refusal, and whatever Pillow raises at broken images.
    """
    with warnings.catch_warnings():
        # Pillow only warns of what is large beyond reason, and continues.
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        stills, metadata = _decode(data, target)
    width, height = stills[0].image.size
    limit = target.profile.max_bytes
    fitting = memoryview(b"")

    def measure(attempt: Encoding) -> int:
        nonlocal fitting
        encoded = _encode(stills, attempt, target, metadata)
        if limit is None or len(encoded) <= limit:
            fitting = encoded
        return len(encoded)

    attempt = Encoding(width, height, target.quality)
    if limit is None:
        measure(attempt)
        return Picture(fitting, width, height)
    try:
        found = search(width, height, target.quality, limit, measure)
    except CannotFit as error:
        raise Refusal(
            f"max_bytes: as {target.format} it takes {error.smallest} bytes at least, "
            f"more than {limit}"
        ) from None
    return Picture(fitting, found.width, found.height)


# From bytes to pixels.


def _decode(data: bytes, target: TargetImage) -> tuple[list[_Frame], _Metadata]:
    name = _PILLOW_NAMES.get(sniff(data).content_type)
    if name is None:
        raise Refusal("it is of a format that cannot be changed")
    _load_plugin(name)
    with Image.open(io.BytesIO(data), formats=[name]) as image:
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise Refusal(f"{width} x {height} pixels are more than {MAX_PIXELS}")
        image.load()
        metadata = _metadata(image, target)
        moving = target.format in _MOVING and target.profile.dither is None
        if moving and _is_animated(image):
            return _frames(image, target), metadata
        return [_Frame(_still(image, target))], metadata


def _load_plugin(name: str) -> None:
    Image.preinit()
    if name not in Image.OPEN:
        Image.init()
    if name not in Image.OPEN:
        raise Refusal(f"this Pillow cannot read {name}")


def _is_animated(image: Image.Image) -> bool:
    # Pages of a TIFF are frames to Pillow, too.
    return image.format in ("PNG", "GIF", "WEBP") and bool(getattr(image, "is_animated", False))


def _frames(image: Image.Image, target: TargetImage) -> list[_Frame]:
    stills: list[_Frame] = []
    pixels = 0
    # Not asked how many there are: to count them, Pillow walks through all of them.
    for index in count():
        try:
            image.seek(index)
        except EOFError:
            return stills
        if index >= MAX_FRAMES:
            raise Refusal(f"it has more than {MAX_FRAMES} frames")
        if (index + 1) * image.width * image.height > MAX_DECODED:
            raise Refusal(f"its frames have more than {MAX_DECODED} pixels before they are resized")
        still = _still(image, target)
        pixels += still.width * still.height
        if pixels > MAX_PIXELS:
            raise Refusal(f"its frames have more than {MAX_PIXELS} pixels together")
        # The file's own image shows another frame after the next seek.
        still = still.copy() if still is image else still
        stills.append(_Frame(still, round(image.info.get("duration") or _DEFAULT_FRAME_MS)))
    raise AssertionError("counting has no end")


def _still(image: Image.Image, target: TargetImage) -> Image.Image:
    """Return an image upright, in RGB, RGBA or grey, within the size asked for."""
    shown = image
    if image.getexif().get(_ORIENTATION, 1) != 1:
        shown = ImageOps.exif_transpose(image)
    profile = target.profile
    size = fit(*shown.size, profile.max_width, profile.max_height)
    shown = _in_plain_mode(shown, target)
    return shown if shown.size == size else shown.resize(size, Image.Resampling.LANCZOS)


def _in_plain_mode(image: Image.Image, target: TargetImage) -> Image.Image:
    transparent = image.has_transparency_data
    if image.mode.startswith("I"):  # 16 bits of grey, which Pillow would cut off at 255
        image = image.convert("I").point(lambda value: value * (1 / 257)).convert("L")
    icc = image.info.get("icc_profile")
    plain = "RGBA" if transparent else "L" if image.mode in ("1", "L") else "RGB"
    if icc and (image.mode == "CMYK" or not _keeps(target)):
        image = _in_srgb(image, icc, plain)
    image = image if image.mode == plain else image.convert(plain)
    if plain == "RGBA" and (target.format not in _WITH_ALPHA or target.profile.dither):
        paper = Image.new("RGB", image.size, _WHITE)
        paper.paste(image, mask=image.getchannel("A"))
        return paper
    return image


def _in_srgb(image: Image.Image, icc: bytes, plain: str) -> Image.Image:
    """Without its profile an image shall look the same; a broken profile is none."""
    with suppress(ImageCms.PyCMSError, OSError):
        if image.mode not in ("L", "RGB", "RGBA", "CMYK"):
            image = image.convert(plain)
        own = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        colour = "RGBA" if image.mode == "RGBA" else "RGB"
        changed = ImageCms.profileToProfile(
            image, own, ImageCms.createProfile("sRGB"), outputMode=colour
        )
        return changed or image
    return image


def _keeps(target: TargetImage) -> bool:
    """True if the new image carries what the old one did besides pixels."""
    profile = target.profile
    return not profile.strip and profile.dither is None and target.format in _WITH_METADATA


def _metadata(image: Image.Image, target: TargetImage) -> _Metadata:
    metadata = _Metadata(loop=image.info.get("loop"))
    if not _keeps(target):
        return metadata
    exif = Image.Exif()
    exif.load(image.getexif().tobytes())
    exif.pop(_ORIENTATION, None)  # the pixels will be upright
    metadata.exif = exif.tobytes() if len(exif) else None
    if image.mode != "CMYK":
        metadata.icc = image.info.get("icc_profile")
    if isinstance(image, PngImagePlugin.PngImageFile) and target.format == "png":
        metadata.texts = dict(image.text)
    return metadata


# From pixels to bytes.


def _encode(
    stills: list[_Frame], attempt: Encoding, target: TargetImage, metadata: _Metadata
) -> memoryview:
    size = (attempt.width, attempt.height)
    images = [_sized(still.image, size, target) for still in stills]
    first, rest = images[0], images[1:]
    options = _options(attempt, metadata)
    if rest:
        options |= _moving(stills, rest, target, metadata)
    buffer = io.BytesIO()
    first.save(buffer, target.format.upper(), **options)
    return buffer.getbuffer()


def _sized(image: Image.Image, size: tuple[int, int], target: TargetImage) -> Image.Image:
    sized = image if image.size == size else image.resize(size, Image.Resampling.LANCZOS)
    if target.profile.dither is not None:
        return _dithered(sized, target.profile.dither, target.format)
    sized.info = {}  # encoders take from it what they are not given
    return sized


def _dithered(image: Image.Image, dither: Dither, form: Format) -> Image.Image:
    """Return an image of a panel's colours alone, by Floyd and Steinberg's error diffusion."""
    colours = [channel for colour in PALETTES[dither] for channel in colour]
    palette = Image.new("P", (1, 1))
    # The rest of the 256 is the last colour again: what is left out may count as black.
    palette.putpalette(colours + colours[-3:] * (256 - len(colours) // 3))
    dithered = image.convert("RGB").quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG)
    if dither == "1bit" and form == "bmp":
        return dithered.convert("1", dither=Image.Dither.NONE)  # one bit a pixel there, too
    dithered.putpalette(colours)
    return dithered


def _options(attempt: Encoding, metadata: _Metadata) -> _Options:
    carried: _Options = {"exif": metadata.exif, "icc_profile": metadata.icc}
    options: _Options = {name: value for name, value in carried.items() if value}
    if attempt.quality is not None:
        options["quality"] = attempt.quality
    if metadata.texts:
        options["pnginfo"] = texts = PngImagePlugin.PngInfo()
        for name, text in metadata.texts.items():
            texts.add_text(name, text)
    # Never a progressive JPEG, which is not Pillow's default either: small devices decode none.
    return options


def _moving(
    stills: list[_Frame], rest: list[Image.Image], target: TargetImage, metadata: _Metadata
) -> _Options:
    options: _Options = {
        "save_all": True,
        "append_images": rest,
        "duration": [still.duration for still in stills],
    }
    if target.format == "webp":
        options["loop"] = 1 if metadata.loop is None else metadata.loop
    elif metadata.loop is not None:
        options["loop"] = metadata.loop
    return options
