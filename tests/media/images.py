"""Images for the tests, good and bad."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

from PIL import Image

from bridge.contract.messages import Output
from bridge.media import profile
from bridge.media.profile import SourceImage, TargetImage


def photo(width: int, height: int, mode: str = "RGB") -> Image.Image:
    """Something like a photo: a gradient with noise, that no encoder makes very small."""
    noise = Image.effect_noise((width, height), 60)
    ramp = Image.linear_gradient("L").resize((width, height))
    shades = (Image.blend(noise, ramp, part) for part in (0.3, 0.5, 0.7))
    return Image.merge("RGB", tuple(shades)).convert(mode)


def encoded(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def animated(form: str, frames: int, width: int = 40, height: int = 30, **options: Any) -> bytes:
    """Frames that are each of another colour, 50 ms apart."""
    images = [
        Image.new("RGB", (width, height), (index * 37 % 256, index * 11 % 256, 90))
        for index in range(frames)
    ]
    return encoded(images[0], form, save_all=True, append_images=images[1:], duration=50, **options)


def opened(data: bytes | memoryview) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def target(**output: Any) -> TargetImage:
    """Return the image that a request's `output` makes of one of which nothing is known."""
    asked = profile.read(Output(**output))
    assert asked is not None
    found = profile.target(asked, SourceImage("image/unknown", None, None, 10**9))
    assert found is not None
    return found


def png_of_size(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header claims a size, with no pixels behind it."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(b"\0")), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def gif_of_frames(frames: int) -> bytes:
    """A GIF with that many frames of one pixel, made without an encoder."""
    screen = b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    frame = b"\x21\xf9\x04\0\x05\0\0\0" + b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0)
    return screen + (frame + b"\x02\x02\x44\x01\0") * frames + b"\x3b"
