"""Pictures: how many there are in a file, and how large they are. Pure.

Decoders rely on the header, and so does this; if a file has a size for each picture (GIF, TIFF,
ICO), each is read.
"""

from __future__ import annotations

from bridge.media.extents.reader import Extent, Reader

_PNG = b"\x89PNG\r\n\x1a\n"
_GIF_IMAGE, _GIF_EXTENSION = 0x2C, 0x21
_GIF_TABLE = 0x80
_TIFF_WIDTH, _TIFF_HEIGHT, _TIFF_SHORT = 256, 257, 3
_ICO_SIDE = 256
_WINDOW = 16 * 1024
_BLOCKS_A_STEP = 16
_CHUNK_HEAD = 8


def png(file: Reader, extent: Extent) -> None:
    """Take the header's size, and an animation's number of frames, which is before the pixels."""
    if file.at(12, 4) != b"IHDR":
        return  # no decoder reads it
    extent.picture(file.big(16, 4), file.big(20, 4))
    extent.frames = 1
    at = len(_PNG)
    while True:
        file.step()
        size, kind = file.big(at, 4), file.at(at + 4, 4)
        if kind == b"acTL":
            extent.frames = max(1, file.big(at + 8, 4))
        if kind in (b"IDAT", b"IEND"):
            return
        at += 12 + size


def gif(file: Reader, extent: Extent) -> None:
    """Take the screen's size, or that of a larger frame, and count the frames."""
    width, height = file.little(6, 2), file.little(8, 2)
    extent.picture(width, height)
    at = 13 + _table(file.big(10, 1))
    while True:
        file.step()
        kind = file.big(at, 1)
        if kind == _GIF_IMAGE:
            right = file.little(at + 1, 2) + file.little(at + 5, 2)
            bottom = file.little(at + 3, 2) + file.little(at + 7, 2)
            extent.picture(max(width, right), max(height, bottom))
            extent.frames += 1
            at += 11 + _table(file.big(at + 9, 1))
        elif kind == _GIF_EXTENSION:
            at += 2
        else:
            return
        at = _after_blocks(file, at)


def _after_blocks(file: Reader, at: int) -> int:
    """Return where blocks of up to 255 bytes end: by one without any. Raises Short."""
    while True:
        window = file.at(at, max(1, min(_WINDOW, file.size - at)))
        last = len(window)
        place = count = 0
        while place < last and (size := window[place]):
            place += 1 + size
            count += 1
        file.step(1 + count // _BLOCKS_A_STEP)
        at += place
        if place < last:
            return at + 1


def _table(flags: int) -> int:
    """Return the bytes of a colour table."""
    return 3 << (1 + (flags & 7)) if flags & _GIF_TABLE else 0


def webp(file: Reader, extent: Extent) -> None:
    """Take an extended file's canvas and frames; of any other the size in its bit stream."""
    at = 12
    while True:
        file.step()
        kind, size = file.at(at, 4), file.little(at + 4, 4)
        if kind == b"VP8X":
            extent.picture(file.little(at + 12, 3) + 1, file.little(at + 15, 3) + 1)
        elif kind == b"VP8L":
            bits = file.little(at + 9, 4)
            extent.picture((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
            extent.frames = max(1, extent.frames)
        elif kind == b"VP8 ":
            extent.picture(file.little(at + 14, 2) & 0x3FFF, file.little(at + 16, 2) & 0x3FFF)
            extent.frames = max(1, extent.frames)
        elif kind == b"ANMF":
            extent.frames += 1
        at += _CHUNK_HEAD + size + size % 2


def tiff(file: Reader, extent: Extent) -> None:
    """Add all pages, each with a size of its own."""
    number = file.little if file.at(0, 2) == b"II" else file.big
    at, seen = number(4, 4), set[int]()
    while at and at not in seen:
        seen.add(at)
        size = {_TIFF_WIDTH: 0, _TIFF_HEIGHT: 0}
        count = number(at, 2)
        for index in range(count):
            file.step()
            entry = at + 2 + 12 * index
            tag = number(entry, 2)
            if tag in size:
                size[tag] = number(entry + 8, 2 if number(entry + 2, 2) == _TIFF_SHORT else 4)
        extent.picture(size[_TIFF_WIDTH], size[_TIFF_HEIGHT])
        extent.frames += 1
        at = number(at + 2 + 12 * count, 4)


def ico(file: Reader, extent: Extent) -> None:
    """Take the largest of the pictures; one that is a PNG may have any size."""
    extent.frames = 1
    for index in range(file.little(4, 2)):
        file.step()
        entry = 6 + 16 * index
        at = file.little(entry + 12, 4)
        if file.at(at, 8) == _PNG:
            extent.picture(file.big(at + 16, 4), file.big(at + 20, 4))
        else:
            extent.picture(file.big(entry, 1) or _ICO_SIDE, file.big(entry + 1, 1) or _ICO_SIDE)
