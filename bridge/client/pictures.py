"""Pillow's images, for programs that have Pillow; nothing else here needs it."""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING, Any, TypeGuard

if TYPE_CHECKING:
    from PIL import Image


def is_picture(value: Any) -> TypeGuard[Image.Image]:
    """True if a value is an image of Pillow's: nobody has one who has not imported it."""
    module = sys.modules.get("PIL.Image")
    return module is not None and isinstance(value, module.Image)


def encode(picture: Image.Image) -> bytes:
    """Return an image as a PNG; blocks."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def decode(data: bytes) -> Image.Image:
    """Return the image in some bytes; blocks. Raises what Pillow does, and ImportError without."""
    from PIL import Image  # noqa: PLC0415 - only programs that ask for images need it

    picture = Image.open(io.BytesIO(data))
    picture.load()
    return picture
