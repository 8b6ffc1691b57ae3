"""The type of bytes, found from the bytes.

File names and keys mislead: ComfyUI's SaveVideo reports its file under `images`. So the kind of an
output, and whether an input is an image at all, is decided by its first bytes.
"""

from __future__ import annotations

import io

import imagesize
from msgspec import Struct

UNKNOWN = "application/octet-stream"


class Kind(Struct, frozen=True):
    """A media type: its kind (image, audio, video, text, file), Content Type and extension."""

    kind: str
    content_type: str
    extension: str


class Sniffed(Struct, frozen=True):
    """The type of some bytes; width and height in pixels, of images whose header has them."""

    kind: str
    content_type: str
    extension: str
    width: int | None = None
    height: int | None = None


# RIFF files say at byte 8 what they hold.
_IN_RIFF = 8
# The bytes at an offset that identify a format.
_SIGNATURES: tuple[tuple[int, bytes, Kind], ...] = (
    (0, b"\x89PNG\r\n\x1a\n", Kind("image", "image/png", "png")),
    (0, b"\xff\xd8\xff", Kind("image", "image/jpeg", "jpg")),
    (_IN_RIFF, b"WEBP", Kind("image", "image/webp", "webp")),
    (0, b"GIF87a", Kind("image", "image/gif", "gif")),
    (0, b"GIF89a", Kind("image", "image/gif", "gif")),
    (0, b"BM", Kind("image", "image/bmp", "bmp")),
    (0, b"P5\n", Kind("image", "image/x-portable-graymap", "pgm")),
    (0, b"P6\n", Kind("image", "image/x-portable-pixmap", "ppm")),
    (0, b"II*\x00", Kind("image", "image/tiff", "tif")),
    (0, b"MM\x00*", Kind("image", "image/tiff", "tif")),
    (4, b"jP  \r\n\x87\n", Kind("image", "image/jp2", "jp2")),
    (0, b"\0\0\1\0", Kind("image", "image/vnd.microsoft.icon", "ico")),
    (4, b"ftypavif", Kind("image", "image/avif", "avif")),
    (4, b"ftypavis", Kind("image", "image/avif", "avif")),
    (4, b"ftypheic", Kind("image", "image/heic", "heic")),
    (4, b"ftypM4A", Kind("audio", "audio/mp4", "m4a")),
    (4, b"ftypqt", Kind("video", "video/quicktime", "mov")),
    (4, b"ftyp", Kind("video", "video/mp4", "mp4")),
    (0, b"\x1aE\xdf\xa3", Kind("video", "video/webm", "webm")),
    (0, b"fLaC", Kind("audio", "audio/flac", "flac")),
    (0, b"OggS", Kind("audio", "audio/ogg", "ogg")),
    (0, b"ID3", Kind("audio", "audio/mpeg", "mp3")),
    (0, b"\xff\xfb", Kind("audio", "audio/mpeg", "mp3")),
    (0, b"\xff\xf3", Kind("audio", "audio/mpeg", "mp3")),
    (_IN_RIFF, b"WAVE", Kind("audio", "audio/wav", "wav")),
    (_IN_RIFF, b"AVI ", Kind("video", "video/x-msvideo", "avi")),
)
_HEAD = 4096


def sniff(data: bytes | memoryview) -> Sniffed:
    """Return the type of bytes; only the first few kilobytes are looked at."""
    head = bytes(data[:_HEAD])
    for offset, signature, kind in _SIGNATURES:
        if head.startswith(signature, offset) and (offset != _IN_RIFF or head.startswith(b"RIFF")):
            width, height = _size(data) if kind.kind == "image" else (None, None)
            return Sniffed(kind.kind, kind.content_type, kind.extension, width, height)
    if _is_text(head):
        return Sniffed("text", "text/plain; charset=utf-8", "txt")
    return Sniffed("file", UNKNOWN, "bin")


def _size(data: bytes | memoryview) -> tuple[int | None, int | None]:
    # JPEG's size may lie behind metadata of up to some 100 KB.
    try:
        width, height = imagesize.get(io.BytesIO(data[: 1 << 20]))
    except (ValueError, OSError, IndexError, OverflowError, TypeError, EOFError):
        return None, None
    return (width, height) if width > 0 and height > 0 else (None, None)


def _is_text(head: bytes) -> bool:
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        # A character cut in two at the end of what was looked at is no fault.
        if error.start < len(head) - 3 or len(head) < _HEAD:
            return False
        text = head[: error.start].decode()
    return "\0" not in text
