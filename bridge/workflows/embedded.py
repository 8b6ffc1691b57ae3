"""Pictures as workflow files: the texts that ComfyUI puts into the PNG and WebP files it saves.

`prompt` is the graph in API format, as it ran, and `workflow` the drawing of the page. Only the
container's chunks are read, no pixels. What is read is bounded: a text of a few kilobytes can
unpack to gigabytes.

PNG: text chunks, and for animated files ComfyUI's own chunk `comf`. WebP: ASCII entries of the
first directory of the EXIF data, each `<key>:<text>`, as ComfyUI's SaveAnimatedWEBP writes them.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator

from bridge.workflows.graph import WorkflowError

PNG = b"\x89PNG\r\n\x1a\n"
KEYS = frozenset(("prompt", "workflow"))
# As much as a workflow file of its own may have.
MAX_TEXT = 16 * 1024 * 1024

_TEXTS = frozenset((b"tEXt", b"zTXt", b"iTXt", b"comf"))
_REST_OF_STRING = re.compile(rb'(?:[^"\\]|\\.)*"')
_KEY_END = 80  # a PNG keyword has at most 79 characters
_ASCII = 2  # EXIF's type for texts
_ENTRY = 12  # bytes of an entry of an EXIF directory
_INLINE = 4  # a value of up to so many bytes stands in the entry itself


def is_picture(data: bytes) -> bool:
    """True if the bytes are of a file that this module reads."""
    return data.startswith(PNG) or (data.startswith(b"RIFF") and data[8:12] == b"WEBP")


def texts(data: bytes) -> dict[str, str]:
    """Return the texts that a picture carries under ComfyUI's keys, of each the first.

    Raises WorkflowError for a file that is cut off, or a text that is too large.
    """
    found: dict[str, str] = {}
    try:
        for key, text in _png(data) if data.startswith(PNG) else _webp(data):
            if key in KEYS:
                found.setdefault(key, text)
    except (struct.error, IndexError, zlib.error) as error:
        raise WorkflowError(f"the picture is broken: {error}") from None
    return found


def without_folder(data: bytes, folder: str) -> bytes:
    """Return a picture whose texts do not name the folder that its prompt saved into.

    Names of files in JSON lose it, and spaces behind them keep the length. What is no picture, is
    cut off, or does not name it, is returned as it is.
    """
    begins = f'"{folder}/'.encode()
    at = data.find(begins) if is_picture(data) else -1
    if at < 0:
        return data
    pad = b" " * (len(begins) - 1)
    changed = bytearray(data)
    while at >= 0 and (rest := _REST_OF_STRING.match(data, at + len(begins))):
        changed[at : rest.end()] = b'"' + rest[0] + pad
        at = data.find(begins, rest.end())
    if data.startswith(PNG):
        try:
            texts = [each for each in _chunks(data) if each[0] in _TEXTS]
        except WorkflowError:
            return data
        for _, start, end in texts:
            struct.pack_into(">I", changed, end, zlib.crc32(changed[start - 4 : end]))
    return bytes(changed)


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, start and end of each chunk of a PNG, as far as it is whole."""
    offset = len(PNG)
    while offset + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, offset)
        start, offset = offset + 8, offset + 12 + length
        if offset > len(data):
            raise WorkflowError("the picture is broken: it is cut off")
        yield kind, start, start + length
        if kind == b"IEND":
            return


def _png(data: bytes) -> Iterator[tuple[str, str]]:
    for kind, start, end in _chunks(data):
        if kind in _TEXTS:
            key, separator, rest = data[start:end].partition(b"\0")
            if separator and len(key) < _KEY_END:
                yield key.decode("latin-1"), _png_text(kind, rest)


def _png_text(kind: bytes, rest: bytes) -> str:
    """Return the text of a chunk: after the keyword (PNG, third edition, 11.3.3)."""
    if kind == b"zTXt":
        return _unpacked(rest[1:]).decode("latin-1")
    if kind == b"iTXt":
        packed, rest = rest[0], rest[2:]
        _language, _, rest = rest.partition(b"\0")
        _keyword, _, rest = rest.partition(b"\0")
        return (_unpacked(rest) if packed else rest).decode(errors="replace")
    return rest.decode("latin-1")


def _unpacked(data: bytes) -> bytes:
    unpacking = zlib.decompressobj()
    found = unpacking.decompress(data, MAX_TEXT)
    if unpacking.unconsumed_tail:
        raise WorkflowError(f"a text in the picture has more than {MAX_TEXT} bytes")
    return found


def _webp(data: bytes) -> Iterator[tuple[str, str]]:
    offset = 12
    while offset + 8 <= len(data):
        kind, length = struct.unpack_from("<4sI", data, offset)
        if offset + 8 + length > len(data):
            raise WorkflowError("the picture is broken: it is cut off")
        if kind == b"EXIF":
            yield from _exif(data[offset + 8 : offset + 8 + length])
        offset += 8 + length + length % 2


def _exif(data: bytes) -> Iterator[tuple[str, str]]:
    """Yield the texts of the first directory (TIFF 6.0, section 2)."""
    data = data.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None:
        return
    (start,) = struct.unpack_from(f"{order}I", data, 4)
    (count,) = struct.unpack_from(f"{order}H", data, start)
    for index in range(count):
        place = start + 2 + index * _ENTRY
        _tag, kind, length = struct.unpack_from(f"{order}HHI", data, place)
        if kind != _ASCII:
            continue
        where = place + 8
        if length > _INLINE:
            (where,) = struct.unpack_from(f"{order}I", data, where)
        text = data[where : where + length].rstrip(b"\0").decode("latin-1")
        key, separator, rest = text.partition(":")
        if separator:
            yield key.strip().lower(), rest
