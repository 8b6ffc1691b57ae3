"""The protocol of the bridge and its worker: frames over pipes.

A frame is two lengths (unsigned, 32 bits, big endian), a header in JSON and a body of raw bytes.
The bridge sends a `Transcode` with the image as it came, or `Compose` with several; the worker
answers `ImageMade` with the new one, or `ImageRefused`. For `Measure`, which brings no bytes, the
worker asks for them by `BytesNeeded`, part by part, and gets each as a body, until it answers
`Measured`.
Neither side takes a frame longer than it expects.
"""

from __future__ import annotations

import struct
from typing import BinaryIO, TypeAlias

from msgspec import Struct

from bridge.media.extents import Extent
from bridge.media.profile import TargetImage

# Larger images are refused unread; 8192 x 8192 pixels of RGB take 192 MiB as a bmp.
MAX_BODY = 256 * 1024 * 1024
MAX_HEADER = 128 * 1024
_LENGTHS = struct.Struct(">II")


class CollageCell(Struct, frozen=True):
    """The place of an image: how many bytes it has, 0 for none, and what is written below it."""

    size: int
    label: str = ""


class Collage(Struct, frozen=True):
    """Several images, as WebP, within `width` and `height` in pixels: a contact sheet as JPEG.

    Without columns it is an animation as WebP, whose images are shown for `frame_ms` each.
    """

    cells: list[CollageCell]
    width: int
    height: int
    columns: int = 0
    frame_ms: int = 500


class Transcode(Struct, frozen=True, tag=True):
    """Make this of the image; `seconds` of the processor's time may be spent on it."""

    target: TargetImage
    seconds: int


class Compose(Struct, frozen=True, tag=True):
    """Make this of several images; `seconds` as of a Transcode."""

    collage: Collage
    seconds: int


class Measure(Struct, frozen=True, tag=True):
    """Measure what media of `size` bytes unpack to; `seconds` as of a Transcode."""

    size: int
    seconds: int


Task: TypeAlias = Transcode | Compose | Measure


class ImageMade(Struct, frozen=True, tag=True):
    """The image is made; width and height in pixels."""

    width: int
    height: int


class ImageRefused(Struct, frozen=True, tag=True):
    """The image cannot be made, and why."""

    reason: str


class BytesNeeded(Struct, frozen=True, tag=True):
    """These bytes are looked at next."""

    offset: int
    count: int


class Measured(Struct, frozen=True, tag=True):
    """The extent of media, None if they have too many parts, and the time that this took.

    `seconds` are those of the worker's processor.
    """

    extent: Extent | None
    seconds: float


Answer: TypeAlias = ImageMade | ImageRefused | BytesNeeded | Measured


class PipeBroken(Exception):
    """The other side is gone, or says what is no frame."""


def send(stream: BinaryIO, header: bytes, body: bytes | memoryview = b"") -> None:
    """Write a frame to an unbuffered stream. Raises OSError where the other side is gone."""
    _write(stream, _LENGTHS.pack(len(header), len(body)) + header)
    _write(stream, body)


def receive(stream: BinaryIO) -> tuple[bytes, bytes] | None:
    """Read a frame from a buffered stream: header and body; None at its end.

    Raises Broken.
    """
    lengths = stream.read(_LENGTHS.size)
    if not lengths:
        return None
    if len(lengths) < _LENGTHS.size:
        raise PipeBroken("it ended within a frame")
    header_length, body_length = _LENGTHS.unpack(lengths)
    if header_length > MAX_HEADER or body_length > MAX_BODY:
        raise PipeBroken("it announced a frame that is too long")
    header, body = stream.read(header_length), stream.read(body_length)
    if len(header) < header_length or len(body) < body_length:
        raise PipeBroken("it ended within a frame")
    return header, body


def _write(stream: BinaryIO, data: bytes | memoryview) -> None:
    # A raw stream may take less than it is given.
    rest = memoryview(data).cast("B")
    while rest:
        rest = rest[stream.write(rest) :]
