"""The type of bytes, found from the bytes.

File names and keys mislead: ComfyUI's SaveVideo reports its file under `images`. So the kind of an
output, and whether an input is an image at all, is decided by its first bytes.
"""

from __future__ import annotations

import io
import re

import imagesize
from msgspec import Struct
from msgspec.structs import replace

UNKNOWN = "application/octet-stream"


class Sniffed(Struct, frozen=True):
    """The type of some bytes: its kind (image, audio, video, text, file) and a file's extension.

    Width and height are pixels, of images whose header has them.
    """

    kind: str
    content_type: str
    extension: str
    width: int | None = None
    height: int | None = None


# RIFF files say at byte 8 what they hold.
_IN_RIFF = 8
# The bytes at an offset that identify a format.
_SIGNATURES: tuple[tuple[int, bytes, Sniffed], ...] = (
    (0, b"\x89PNG\r\n\x1a\n", Sniffed("image", "image/png", "png")),
    (0, b"\xff\xd8\xff", Sniffed("image", "image/jpeg", "jpg")),
    (_IN_RIFF, b"WEBP", Sniffed("image", "image/webp", "webp")),
    (0, b"GIF87a", Sniffed("image", "image/gif", "gif")),
    (0, b"GIF89a", Sniffed("image", "image/gif", "gif")),
    (0, b"II*\x00", Sniffed("image", "image/tiff", "tif")),
    (0, b"MM\x00*", Sniffed("image", "image/tiff", "tif")),
    (4, b"jP  \r\n\x87\n", Sniffed("image", "image/jp2", "jp2")),
    (0, b"\0\0\1\0", Sniffed("image", "image/vnd.microsoft.icon", "ico")),
    (0, b"\xff\x0a", Sniffed("image", "image/jxl", "jxl")),
    (0, b"\0\0\0\x0cJXL \r\n\x87\n", Sniffed("image", "image/jxl", "jxl")),
    (0, b"v/1\x01", Sniffed("image", "image/x-exr", "exr")),
    (0, b"glTF", Sniffed("file", "model/gltf-binary", "glb")),
    (0, b"\x1aE\xdf\xa3", Sniffed("video", "video/webm", "webm")),
    # With the byte that follows: a text may begin with these letters.
    (0, b"fLaC\0", Sniffed("audio", "audio/flac", "flac")),
    (0, b"fLaC\x80", Sniffed("audio", "audio/flac", "flac")),
    (0, b"OggS\0", Sniffed("audio", "audio/ogg", "ogg")),
    (0, b"ID3\x02", Sniffed("audio", "audio/mpeg", "mp3")),
    (0, b"ID3\x03", Sniffed("audio", "audio/mpeg", "mp3")),
    (0, b"ID3\x04", Sniffed("audio", "audio/mpeg", "mp3")),
    (0, b"\xff\xfb", Sniffed("audio", "audio/mpeg", "mp3")),
    (0, b"\xff\xf3", Sniffed("audio", "audio/mpeg", "mp3")),
    (_IN_RIFF, b"WAVE", Sniffed("audio", "audio/wav", "wav")),
    (_IN_RIFF, b"AVI ", Sniffed("video", "video/x-msvideo", "avi")),
)
_HEAD = 4096

# Files of the ISO base media format (MP4, HEIF) list brands: the first one that is here decides.
_BRANDS: tuple[tuple[frozenset[bytes], Sniffed], ...] = (
    (frozenset((b"avif", b"avis")), Sniffed("image", "image/avif", "avif")),
    (
        frozenset((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx")),
        Sniffed("image", "image/heic", "heic"),
    ),
    (frozenset((b"mif1", b"msf1", b"mif2")), Sniffed("image", "image/heif", "heif")),
    (frozenset((b"M4A ", b"M4B ", b"M4P ")), Sniffed("audio", "audio/mp4", "m4a")),
    (frozenset((b"qt  ",)), Sniffed("video", "video/quicktime", "mov")),
)
_FILM = Sniffed("video", "video/mp4", "mp4")
_FILE = Sniffed("file", UNKNOWN, "bin")
_BITMAP = Sniffed("image", "image/bmp", "bmp")
# The sizes that the second header of a bitmap may have, and zeros before it: a text has none.
_BITMAP_HEADERS = frozenset((12, 16, 40, 52, 56, 64, 108, 124))
_PORTABLE = re.compile(rb"P(?P<kind>[56])(?:\s+|#[^\n]*\n)+(?:\d+(?:\s+|#[^\n]*\n)+){2}\d+\s")
_PORTABLE_KINDS = {
    b"5": Sniffed("image", "image/x-portable-graymap", "pgm"),
    b"6": Sniffed("image", "image/x-portable-pixmap", "ppm"),
}
# 3D files that are text, or that do not say what they are.
_BY_NAME: dict[str, Sniffed] = {
    "glb": Sniffed("file", "model/gltf-binary", "glb"),
    "gltf": Sniffed("file", "model/gltf+json", "gltf"),
    "obj": Sniffed("file", "model/obj", "obj"),
    "stl": Sniffed("file", "model/stl", "stl"),
    "ply": Sniffed("file", "model/ply", "ply"),
    "usdz": Sniffed("file", "model/vnd.usdz+zip", "usdz"),
    "fbx": Sniffed("file", UNKNOWN, "fbx"),
    "splat": Sniffed("file", UNKNOWN, "splat"),
    "ksplat": Sniffed("file", UNKNOWN, "ksplat"),
    "spz": Sniffed("file", UNKNOWN, "spz"),
}
MODELS_3D = tuple(f".{extension}" for extension in _BY_NAME)
_PLAIN = Sniffed("text", "text/plain; charset=utf-8", "txt")
# Texts say nothing of their format, and may begin as any file does.
_TEXTS_BY_NAME: dict[str, Sniffed] = {
    "txt": _PLAIN,
    "csv": Sniffed("text", "text/csv; charset=utf-8", "csv"),
    "md": Sniffed("text", "text/markdown; charset=utf-8", "md"),
    "json": Sniffed("text", "application/json", "json"),
    "svg": Sniffed("file", "image/svg+xml", "svg"),
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
    if kind.kind != "image":
        return kind
    width, height = _size(data)
    return replace(kind, width=width, height=height)


def is_text_instead(data: bytes | memoryview, filename: str) -> bool:
    """True for a text, or nothing, in a file whose name says that it is a picture, sound or film.

    A proxy may answer with its own page, and a full disk leaves empty files.
    """
    extension = filename.rpartition(".")[2].lower()
    head = bytes(data[:_HEAD])
    return extension in _NEVER_TEXT and _kind(head) is None and _is_text(head)


# Portable bitmaps, which may be texts, are not among them.
_NEVER_TEXT = {
    *(kind.extension for _, _, kind in _SIGNATURES if kind.kind != "file"),
    *(kind.extension for _, kind in _BRANDS),
    *("bmp", "jpeg", "m4v", "mkv", "mp4", "opus", "tiff"),
}


def _kind(head: bytes) -> Sniffed | None:
    for offset, signature, kind in _SIGNATURES:
        if head.startswith(signature, offset) and (offset != _IN_RIFF or head.startswith(b"RIFF")):
            return kind
    if head[4:8] == b"ftyp":
        return _of_brands(head)
    if head.startswith(b"BM") and int.from_bytes(head[14:18], "little") in _BITMAP_HEADERS:
        return _BITMAP
    portable = _PORTABLE.match(head)
    return _PORTABLE_KINDS[portable["kind"]] if portable else None


def _of_brands(head: bytes) -> Sniffed:
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
