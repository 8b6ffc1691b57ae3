"""The type of bytes, found from the bytes.

File names and keys mislead: ComfyUI's SaveVideo reports its file under `images`. So the kind of an
output, and whether an input is an image at all, is decided by its first bytes.
"""

from __future__ import annotations

import io
import re

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
    (0, b"II*\x00", Kind("image", "image/tiff", "tif")),
    (0, b"MM\x00*", Kind("image", "image/tiff", "tif")),
    (4, b"jP  \r\n\x87\n", Kind("image", "image/jp2", "jp2")),
    (0, b"\0\0\1\0", Kind("image", "image/vnd.microsoft.icon", "ico")),
    (0, b"\xff\x0a", Kind("image", "image/jxl", "jxl")),
    (0, b"\0\0\0\x0cJXL \r\n\x87\n", Kind("image", "image/jxl", "jxl")),
    (0, b"v/1\x01", Kind("image", "image/x-exr", "exr")),
    (0, b"glTF", Kind("file", "model/gltf-binary", "glb")),
    (0, b"\x1aE\xdf\xa3", Kind("video", "video/webm", "webm")),
    # With the byte that follows: a text may begin with these letters.
    (0, b"fLaC\0", Kind("audio", "audio/flac", "flac")),
    (0, b"fLaC\x80", Kind("audio", "audio/flac", "flac")),
    (0, b"OggS\0", Kind("audio", "audio/ogg", "ogg")),
    (0, b"ID3\x02", Kind("audio", "audio/mpeg", "mp3")),
    (0, b"ID3\x03", Kind("audio", "audio/mpeg", "mp3")),
    (0, b"ID3\x04", Kind("audio", "audio/mpeg", "mp3")),
    (0, b"\xff\xfb", Kind("audio", "audio/mpeg", "mp3")),
    (0, b"\xff\xf3", Kind("audio", "audio/mpeg", "mp3")),
    (_IN_RIFF, b"WAVE", Kind("audio", "audio/wav", "wav")),
    (_IN_RIFF, b"AVI ", Kind("video", "video/x-msvideo", "avi")),
)
_HEAD = 4096

# Files of the ISO base media format (MP4, HEIF) list brands: the first one that is here decides.
_BRANDS: tuple[tuple[frozenset[bytes], Kind], ...] = (
    (frozenset((b"avif", b"avis")), Kind("image", "image/avif", "avif")),
    (
        frozenset((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx")),
        Kind("image", "image/heic", "heic"),
    ),
    (frozenset((b"mif1", b"msf1", b"mif2")), Kind("image", "image/heif", "heif")),
    (frozenset((b"M4A ", b"M4B ", b"M4P ")), Kind("audio", "audio/mp4", "m4a")),
    (frozenset((b"qt  ",)), Kind("video", "video/quicktime", "mov")),
)
_FILM = Kind("video", "video/mp4", "mp4")
_FILE = Kind("file", UNKNOWN, "bin")
_BITMAP = Kind("image", "image/bmp", "bmp")
# The sizes that the second header of a bitmap may have, and zeros before it: a text has none.
_BITMAP_HEADERS = frozenset((12, 16, 40, 52, 56, 64, 108, 124))
_PORTABLE = re.compile(rb"P(?P<kind>[56])(?:\s+|#[^\n]*\n)+(?:\d+(?:\s+|#[^\n]*\n)+){2}\d+\s")
_PORTABLE_KINDS = {
    b"5": Kind("image", "image/x-portable-graymap", "pgm"),
    b"6": Kind("image", "image/x-portable-pixmap", "ppm"),
}
# 3D files that are text, or that do not say what they are.
_BY_NAME: dict[str, Kind] = {
    "glb": Kind("file", "model/gltf-binary", "glb"),
    "gltf": Kind("file", "model/gltf+json", "gltf"),
    "obj": Kind("file", "model/obj", "obj"),
    "stl": Kind("file", "model/stl", "stl"),
    "ply": Kind("file", "model/ply", "ply"),
    "usdz": Kind("file", "model/vnd.usdz+zip", "usdz"),
    "fbx": Kind("file", UNKNOWN, "fbx"),
    "splat": Kind("file", UNKNOWN, "splat"),
    "ksplat": Kind("file", UNKNOWN, "ksplat"),
    "spz": Kind("file", UNKNOWN, "spz"),
}
MODELS_3D = tuple(f".{extension}" for extension in _BY_NAME)
_PLAIN = Kind("text", "text/plain; charset=utf-8", "txt")
# Texts say nothing of their format, and may begin as any file does.
_TEXTS_BY_NAME: dict[str, Kind] = {
    "txt": _PLAIN,
    "csv": Kind("text", "text/csv; charset=utf-8", "csv"),
    "md": Kind("text", "text/markdown; charset=utf-8", "md"),
    "json": Kind("text", "application/json", "json"),
    "svg": Kind("file", "image/svg+xml", "svg"),
}


def sniff(data: bytes | memoryview, filename: str = "") -> Sniffed:
    """Return the type of bytes; only the first few kilobytes are looked at.

    A 3D file is known by its name: many a one is a text, or does not say what it is. So is the
    format of a text.
    """
    head = bytes(data[:_HEAD])
    extension = filename.rpartition(".")[2].lower()
    kind = _BY_NAME.get(extension)
    if kind is None and extension in _TEXTS_BY_NAME and _is_text(head):
        kind = _TEXTS_BY_NAME[extension]
    kind = kind or _kind(head) or (_PLAIN if _is_text(head) else _FILE)
    width, height = _size(data) if kind.kind == "image" else (None, None)
    return Sniffed(kind.kind, kind.content_type, kind.extension, width, height)


def _kind(head: bytes) -> Kind | None:
    for offset, signature, kind in _SIGNATURES:
        if head.startswith(signature, offset) and (offset != _IN_RIFF or head.startswith(b"RIFF")):
            return kind
    if head[4:8] == b"ftyp":
        return _of_brands(head)
    if head.startswith(b"BM") and int.from_bytes(head[14:18], "little") in _BITMAP_HEADERS:
        return _BITMAP
    portable = _PORTABLE.match(head)
    return _PORTABLE_KINDS[portable["kind"]] if portable else None


def _of_brands(head: bytes) -> Kind:
    """Return the kind of a file that begins with its brands: the major one, then the others."""
    end = min(int.from_bytes(head[:4], "big"), len(head))
    brands = [head[8:12], *(head[at : at + 4] for at in range(16, end - 3, 4))]
    if brands[0] in (b"mif1", b"msf1", b"mif2"):
        # So general a brand says less than the others do.
        brands = [*brands[1:], brands[0]]
    for brand in brands:
        for known, kind in _BRANDS:
            if brand in known:
                return kind
    return _FILM


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
