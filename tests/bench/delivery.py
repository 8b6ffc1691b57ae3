"""A job as a client sees it, whichever way it went."""

from __future__ import annotations

import io
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

from msgspec import Struct
from PIL import Image


class BenchError(RuntimeError):
    """Something was not as it has to be; what was measured says nothing."""


class Delivery(Struct, frozen=True):
    """Seconds from the request to the image's last byte, and to that and the word of the end."""

    image_s: float
    end_s: float
    image: bytes


# Runs one job, whose picture a number distinguishes from others.
Run: TypeAlias = Callable[[int], Awaitable[Delivery]]


def pixels(image: bytes) -> bytes:
    """Decode a picture: 3 bytes a pixel."""
    return Image.open(io.BytesIO(image)).convert("RGB").tobytes()


def check_same(one: bytes, other: bytes) -> None:
    """Raise BenchError unless two files show the same."""
    if pixels(one) != pixels(other):
        raise BenchError("the two sides give different pictures")


def to_image(deliveries: Sequence[Delivery]) -> list[float]:
    """Milliseconds to the last byte."""
    return [delivery.image_s * 1000 for delivery in deliveries]


def to_end(deliveries: Sequence[Delivery]) -> list[float]:
    """Milliseconds to the end."""
    return [delivery.end_s * 1000 for delivery in deliveries]
