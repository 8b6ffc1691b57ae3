from __future__ import annotations

import random
from io import BytesIO
from typing import Any

import pytest
from PIL import Image, ImageChops
from PIL.PngImagePlugin import PngInfo

from tests.custom_nodes.package import load

png: Any = load("formats.png")


def photo(mode: str, width: int, height: int) -> Image.Image:
    """A gradient with a grain, which each of PNG's filters suits somewhere."""
    drawing = random.Random(1)
    three_bits = bytes(value % 8 for value in range(256))
    across = gradient((width, 1), 1).resize((width, height), Image.Resampling.NEAREST)
    channels = []
    for channel in range(len(mode)):
        down = gradient((1, height), channel).resize((width, height), Image.Resampling.NEAREST)
        noise = drawing.randbytes(width * height).translate(three_bits)
        grain = Image.frombytes("L", (width, height), noise)
        channels.append(
            ImageChops.add_modulo(ImageChops.add_modulo(across, down), grain),
        )
    return Image.merge(mode, channels)


def gradient(size: tuple[int, int], step: int) -> Image.Image:
    """A line that is brighter by `step` at each pixel, and begins again with black."""
    return Image.frombytes("L", size, bytes(step * at % 256 for at in range(max(size))))


def saved(picture: Image.Image, metadata: PngInfo | None = None) -> bytes:
    stream = BytesIO()
    png.save(picture, stream, metadata)
    return stream.getvalue()


def by_pillow(picture: Image.Image) -> bytes:
    stream = BytesIO()
    picture.save(stream, "PNG", compress_level=png.COMPRESS_LEVEL)
    return stream.getvalue()


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
@pytest.mark.parametrize("height", [1, 11, 12, 13, 40])
def test_every_pixel_is_kept_in_one_strip_and_in_many(
    mode: str, height: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(png, "STRIP", 12 * 37 * len(mode))
    picture = photo(mode, 37, height)
    read = Image.open(BytesIO(saved(picture)))
    assert (read.mode, read.size, read.tobytes()) == (mode, picture.size, picture.tobytes())


def test_a_file_of_strips_is_about_as_small_as_one_of_a_piece() -> None:
    picture = photo("RGB", 1024, 700)
    assert 4 * png.STRIP < 3 * 1024 * 700 * 4
    assert len(saved(picture)) < 1.01 * len(by_pillow(picture))


def test_equal_pixels_are_equal_bytes_whatever_the_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    picture = photo("L", 1024, 1100)
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    one = saved(picture)
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    assert saved(picture) == one


def test_texts_are_in_a_file_of_strips_too() -> None:
    info = PngInfo()
    info.add_text("prompt", "a mill")
    info.add_text("workflow", "grüße")
    read = Image.open(BytesIO(saved(photo("L", 1024, 1100), info)))
    read.load()
    assert read.info == {"prompt": "a mill", "workflow": "grüße"}


def test_a_row_longer_than_a_strip_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(png, "STRIP", 10)
    picture = photo("RGB", 300, 4)
    assert Image.open(BytesIO(saved(picture))).tobytes() == picture.tobytes()
