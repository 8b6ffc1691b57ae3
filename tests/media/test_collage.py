"""Contact sheets and animations, as the worker makes them."""

from __future__ import annotations

import pytest
from PIL import Image, ImageFont

from bridge.media import collage
from bridge.media.collage import Lettering
from bridge.media.picture import Refusal
from bridge.media.pipe import Collage, CollageCell
from tests.media.images import encoded, opened

RED = encoded(Image.new("RGB", (64, 32), "red"), "WEBP")
FONT = ImageFont.load_default(14)


def test_a_place_without_an_image_is_empty() -> None:
    cells = [CollageCell(0, "steps=1"), CollageCell(len(RED), "steps=2"), CollageCell(0, "steps=3")]
    made = collage.make(RED, Collage(cells, 64, 32, columns=2))
    sheet = opened(made.data)
    assert sheet.size == (made.width, made.height) == (2 * 72, 2 * 76)
    grey, red = sheet.getpixel((36, 20)), sheet.getpixel((72 + 36, 20))
    assert isinstance(grey, tuple)
    assert isinstance(red, tuple)
    assert min(grey) > 180
    assert red[0] > 200
    assert red[1] < 60


def lines(text: str, width: int) -> list[str]:
    return collage._lines(Lettering(FONT, text), width)


def test_a_label_has_two_lines_and_says_where_it_is_cut() -> None:
    assert lines("steps=10", 256) == ["steps=10"]
    first, second = lines("a lighthouse in a storm, " * 9, 100)
    assert first.startswith("a light")
    assert second.endswith("...")
    assert lines("", 256) == [""]


def test_what_is_no_image_of_ours_is_not_decoded() -> None:
    png = encoded(Image.new("RGB", (8, 8)))
    with pytest.raises(OSError, match="cannot identify"):
        collage.make(png, Collage([CollageCell(len(png))], 8, 8, columns=1))
    with pytest.raises(Refusal, match="there is no image"):
        collage.make(b"", Collage([CollageCell(0)], 8, 8))


def test_frames_have_one_size_and_go_round() -> None:
    tall = encoded(Image.new("RGB", (20, 32), "blue"), "WEBP")
    cells = [CollageCell(len(RED)), CollageCell(0), CollageCell(len(tall))]
    moving = opened(collage.make(RED + tall, Collage(cells, 64, 32, frame_ms=250)).data)
    assert (moving.size, getattr(moving, "n_frames", 1), moving.info["loop"]) == ((64, 32), 2, 0)
    moving.seek(1)
    moving.load()
    assert moving.info["duration"] == 250
    edge, middle = moving.convert("RGB").getpixel((2, 16)), moving.convert("RGB").getpixel((32, 16))
    assert isinstance(edge, tuple)
    assert isinstance(middle, tuple)
    assert max(edge) < 40
    assert middle[2] > 200
