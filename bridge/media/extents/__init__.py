"""The unpacked size of media, read from their headers; nothing is decoded. Pure.

A small file may unpack to gigabytes at ComfyUI, which holds pictures and sound as floats. Decoders
rely on the numbers in headers, and so does this; a number that decoders ignore, such as that of the
pictures that follow, is counted instead.

    reader      random access, with a bound on what is looked at
    pictures    PNG, GIF, WebP, TIFF, ICO; others by the size that `sniff` finds
    films       MP4, QuickTime, WebM, Matroska, AVI
    sounds      WAV, FLAC, Ogg, MP3; packets of Opus in any container
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from msgspec import Struct

from bridge.contract.errors import InvalidInput
from bridge.media.extents import films, pictures, sounds
from bridge.media.extents.reader import EndOfBytes, Extent, Reader, TooManyParts
from bridge.media.sniff import Sniffed, sniff

__all__ = ["Extent", "MediaLimits", "Reader", "TooManyParts", "check", "check_sum", "measure"]

# A JPEG's size may lie behind metadata of some 100 KB.
_HEAD = 1 << 20

_BY_TYPE: Mapping[str, Callable[[Reader, Extent], None]] = {
    "image/png": pictures.png,
    "image/gif": pictures.gif,
    "image/webp": pictures.webp,
    "image/tiff": pictures.tiff,
    "image/vnd.microsoft.icon": pictures.ico,
    "image/avif": films.iso,
    "video/mp4": films.iso,
    "video/quicktime": films.iso,
    "audio/mp4": films.iso,
    "video/webm": films.matroska,
    "video/x-msvideo": films.avi,
    "audio/wav": sounds.wav,
    "audio/flac": sounds.flac,
    "audio/ogg": sounds.ogg,
    "audio/mpeg": sounds.mp3,
}


class MediaLimits(Struct, frozen=True):
    """The most that an input may unpack to: pixels of a picture, pictures, seconds, bytes."""

    pixels: int = 8192 * 8192
    frames: int = 10_000
    seconds: float = 3600.0
    unpacked: int = 4 * 1024**3


def measure(file: Reader) -> Extent:
    """Return what a file unpacks to, as far as its headers say; blocks where reading does.

    Raises TooManyParts.
    """
    found = sniff(file.at(0, min(file.size, _HEAD)))
    extent = Extent()
    try:
        read = _BY_TYPE.get(found.content_type)
        if read is not None:
            read(file, extent)
    except EndOfBytes:
        pass  # it is cut off, or broken: what was found until then is what a decoder may find
    if found.kind == "image" and not extent.pixels and found.content_type != "image/png":
        _of_header(found, extent)
    return extent


def _of_header(found: Sniffed, extent: Extent) -> None:
    extent.picture(found.width or 0, found.height or 0)
    extent.frames = max(1, extent.frames)


def check(name: str, extent: Extent, limits: MediaLimits) -> None:
    """Raise InvalidInput, with what was found and what is allowed, if it is more than it may."""
    for what, found, allowed, setting in (
        ("pixels", extent.pixels, limits.pixels, "max_input_pixels"),
        ("frames", extent.frames, limits.frames, "max_input_frames"),
        ("seconds", round(extent.seconds, 1), limits.seconds, "max_input_seconds"),
        ("bytes once it is unpacked", extent.unpacked, limits.unpacked, "max_input_unpacked"),
    ):
        if found > allowed:
            most = f"{allowed:g}" if isinstance(allowed, float) else f"{allowed}"
            raise InvalidInput(
                f"input {name!r}: it has {found} {what}, more than {most}",
                input=name,
                found=found,
                limit=allowed,
                setting=setting,
            )


def check_sum(unpacked: int, limits: MediaLimits) -> None:
    """Raise InvalidInput where all inputs of a request unpack to more bytes than they may."""
    if unpacked > limits.unpacked:
        raise InvalidInput(
            f"the inputs have {unpacked} bytes once they are unpacked, more than {limits.unpacked}",
            found=unpacked,
            limit=limits.unpacked,
            setting="max_input_unpacked",
        )
