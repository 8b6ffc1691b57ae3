"""Writing PNG on all cores: strips of a picture are filtered and compressed at the same time.

Compression is nearly all that a picture of a camera's size waits for on its way out. The strips
are the same whatever the machine, so that equal pixels are equal bytes.
"""

from __future__ import annotations

import os
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Iterator

    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

# As SaveImage. A painting of 2048 px takes less than half the time of zlib's usual 6, for 1 % more.
COMPRESS_LEVEL = 4
# A strip's bytes: each begins without what zlib has seen before, which costs 0.1 % of such a size.
STRIP = 512 * 1024

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOUR_TYPES = {"L": 0, "RGB": 2, "RGBA": 6}
# A window of 32 KB, the default compression: the header of a zlib stream (RFC 1950).
_ZLIB_HEADER = b"\x78\x9c"
_RAW_DEFLATE = -zlib.MAX_WBITS
_MEMORY = 9


def save(picture: Image.Image, stream: BinaryIO, metadata: PngInfo | None = None) -> None:
    """Write a picture of mode L, RGB or RGBA. Raises OSError, ValueError."""
    rows = max(1, STRIP // (picture.width * len(picture.getbands())))
    if picture.height <= rows:
        picture.save(stream, "PNG", compress_level=COMPRESS_LEVEL, pnginfo=metadata)
        return
    colour = _COLOUR_TYPES[picture.mode]
    stream.write(_SIGNATURE)
    _chunk(stream, b"IHDR", struct.pack(">2I5B", *picture.size, 8, colour, 0, 0, 0))
    for kind, data, *_ in () if metadata is None else metadata.chunks:
        _chunk(stream, kind, data)
    tops = range(0, picture.height, rows)
    checksum = zlib.adler32(b"")
    head = _ZLIB_HEADER
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for filtered, packed in pool.map(lambda top: _strip(picture, top, rows), tops):
            checksum = zlib.adler32(filtered, checksum)
            _chunk(stream, b"IDAT", head + packed)
            head = b""
    _chunk(stream, b"IDAT", struct.pack(">I", checksum))
    _chunk(stream, b"IEND", b"")


def _strip(picture: Image.Image, top: int, rows: int) -> tuple[bytes, bytes]:
    """Return some rows as PNG filters them, and that compressed: a part of one deflate stream."""
    filtered = _filtered(picture, top, rows)
    packer = zlib.compressobj(COMPRESS_LEVEL, zlib.DEFLATED, _RAW_DEFLATE, _MEMORY, zlib.Z_FILTERED)
    is_last = top + rows >= picture.height
    packed = packer.compress(filtered)
    return filtered, packed + packer.flush(zlib.Z_FINISH if is_last else zlib.Z_SYNC_FLUSH)


def _filtered(picture: Image.Image, top: int, rows: int) -> bytes:
    """Return rows behind their filters' numbers, as Pillow chooses them: from its own file.

    A row is filtered by the one above it, so that one is filtered too, and left out.
    """
    above = min(top, 1)
    part = picture.crop((0, top - above, picture.width, min(top + rows, picture.height)))
    uncompressed = BytesIO()
    part.save(uncompressed, "PNG", compress_level=0)
    row = 1 + picture.width * len(picture.getbands())
    return zlib.decompress(b"".join(_idat(uncompressed.getvalue())))[above * row :]


def _idat(data: bytes) -> Iterator[bytes]:
    """Yield the compressed data of a PNG file."""
    at = len(_SIGNATURE)
    while at < len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        if kind == b"IDAT":
            yield data[at + 8 : at + 8 + size]
        at += 12 + size


def _chunk(stream: BinaryIO, kind: bytes, data: bytes) -> None:
    stream.write(struct.pack(">I4s", len(data), kind))
    stream.write(data)
    stream.write(struct.pack(">I", zlib.crc32(data, zlib.crc32(kind))))
