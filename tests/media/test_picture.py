"""The calls of Pillow, tried in the tests' own process."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageSequence, ImageStat, PngImagePlugin

from bridge.media import picture
from bridge.media.picture import Refusal, make
from bridge.media.profile import PALETTES
from tests.media.images import animated, encoded, gif_of_frames, opened, photo, png_of_size, target

FORMATS = ("png", "jpeg", "webp", "gif", "bmp")
ORIENTATION = 0x0112


def with_texts() -> PngImagePlugin.PngInfo:
    texts = PngImagePlugin.PngInfo()
    texts.add_text("prompt", '{"1": {}}')
    texts.add_text("title", "ein Stück 雪")
    return texts


@cache  # it has the second in which it was made
def srgb() -> bytes:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    return bytes(profile.tobytes())


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("source", [*FORMATS, "tiff"])
def test_every_format_becomes_every_format(source: str, form: str) -> None:
    made = make(encoded(photo(48, 32), source.upper()), target(format=form))
    back = opened(made.data)
    assert back.format == form.upper()
    assert back.size == (made.width, made.height) == (48, 32)


@pytest.mark.parametrize("form", ["png", "jpeg", "gif", "bmp", "webp"])
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_every_kind_of_pixels_can_be_changed(mode: str, form: str) -> None:
    image = Image.new("I;16", (20, 10), 40_000) if mode == "I;16" else photo(20, 10, mode)
    made = make(encoded(image), target(format=form, max_width=10))
    assert opened(made.data).size == (10, 5)


def test_sixteen_bits_of_grey_become_eight() -> None:
    image = Image.new("I;16", (4, 4), 32_768)
    back = opened(make(encoded(image), target(format="png", max_width=2)).data)
    assert back.getpixel((0, 0)) == 127


def test_a_jpeg_in_cmyk_becomes_rgb() -> None:
    data = encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", quality=95)
    back = opened(make(data, target(format="png")).data)
    red, green, blue = back.convert("RGB").getpixel((4, 4))  # type: ignore[misc] # of RGB
    assert (red > 240, green < 20, blue < 20) == (True, True, True)


def test_what_is_transparent_is_kept_or_lies_on_white() -> None:
    data = encoded(Image.new("RGBA", (8, 8), (255, 0, 0, 0)))
    for form in ("png", "webp"):
        back = opened(make(data, target(format=form, max_width=4)).data)
        assert back.convert("RGBA").getchannel("A").getextrema() == (0, 0)
    for output in ({"format": "jpeg"}, {"format": "bmp"}, {"dither": "1bit"}):
        back = opened(make(data, target(**output)).data).convert("RGB")
        assert back.getextrema() == ((255, 255),) * 3


@settings(max_examples=40)
@given(
    width=st.integers(1, 150),
    height=st.integers(1, 150),
    form=st.sampled_from(FORMATS),
    max_width=st.integers(1, 200),
    max_height=st.integers(1, 200),
)
def test_an_image_is_within_its_bounds(
    width: int, height: int, form: str, max_width: int, max_height: int
) -> None:
    data = encoded(photo(width, height))
    made = make(data, target(format=form, max_width=max_width, max_height=max_height))
    assert opened(made.data).size == (made.width, made.height)
    assert made.width <= min(width, max_width)
    assert made.height <= min(height, max_height)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("limit", [2000, 10_000, 60_000])
def test_an_image_takes_no_more_bytes_than_allowed(form: str, limit: int) -> None:
    made = make(encoded(photo(300, 200)), target(format=form, max_bytes=limit))
    assert len(made.data) <= limit
    assert opened(made.data).size == (made.width, made.height)
    assert abs(made.width / made.height - 1.5) < 0.2


def test_quality_is_given_up_before_pixels() -> None:
    data = encoded(photo(300, 200))
    best = make(data, target(format="jpeg"))
    tight = make(data, target(format="jpeg", max_bytes=len(best.data) * 2 // 3))
    assert (tight.width, tight.height) == (300, 200)
    tiny = make(data, target(format="jpeg", max_bytes=2000))
    assert tiny.width < 300


def test_bytes_that_cannot_be_met_are_reported() -> None:
    texts = PngImagePlugin.PngInfo()
    texts.add_text("prompt", "x" * 5000)
    data = encoded(photo(64, 64), pnginfo=texts)
    with pytest.raises(Refusal, match=r"max_bytes: as png it takes \d+ bytes at least"):
        make(data, target(max_bytes=2000))
    assert len(make(data, target(format="png", max_bytes=2000, metadata="strip")).data) <= 2000


@pytest.mark.parametrize("dither", PALETTES)
@pytest.mark.parametrize("form", ["png", "bmp"])
def test_a_dithered_image_has_the_colours_of_its_panel(dither: str, form: str) -> None:
    image = Image.merge("RGB", tuple(Image.effect_noise((120, 80), 120) for _ in range(3)))
    for index, colour in enumerate(PALETTES[dither]):
        image.paste(colour, (index * 15, 0, index * 15 + 15, 40))
    made = make(encoded(image), target(format=form, dither=dither, max_width=60))
    back = opened(made.data)
    assert back.size == (60, 40)
    assert back.mode == ("1" if (dither, form) == ("1bit", "bmp") else "P")
    found = {colour for _, colour in back.convert("RGB").getcolors() or []}
    assert found == set(PALETTES[dither])
    if form == "png" and len(found) <= 4:
        bits = 1 if len(found) == 2 else 2
        assert made.data[24] == bits


@pytest.mark.parametrize("grey", [0, 64, 128, 200, 255])
def test_dithering_keeps_how_bright_an_image_is(grey: int) -> None:
    data = encoded(Image.new("L", (100, 100), grey))
    for dither in ("1bit", "4grey"):
        back = opened(make(data, target(dither=dither)).data).convert("L")
        mean = ImageStat.Stat(back).mean[0]
        assert abs(mean - grey) < 6


def test_pixels_are_turned_upright_and_the_turn_is_forgotten() -> None:
    image = photo(40, 20)
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    exif[0x010F] = "a camera"
    data = encoded(image, "JPEG", exif=exif, quality=95)
    made = make(data, target(format="png", max_width=20))
    assert (made.width, made.height) == (20, 40)
    back = opened(made.data)
    assert ORIENTATION not in back.getexif()
    assert back.getexif()[0x010F] == "a camera"


def test_metadata_is_kept_where_the_format_can_carry_it() -> None:
    exif = Image.Exif()
    exif[0x010F] = "a camera"
    data = encoded(photo(40, 20), pnginfo=with_texts(), icc_profile=srgb(), exif=exif)
    for form in ("png", "jpeg", "webp"):
        back = opened(make(data, target(format=form, max_width=20)).data)
        assert back.info["icc_profile"] == srgb()
        assert back.getexif()[0x010F] == "a camera"
        if isinstance(back, PngImagePlugin.PngImageFile):
            assert back.text == {"prompt": '{"1": {}}', "title": "ein Stück 雪"}


@pytest.mark.parametrize("form", FORMATS)
def test_stripped_metadata_is_gone(form: str) -> None:
    exif = Image.Exif()
    exif[0x010F] = "a camera"
    data = encoded(
        photo(40, 20, "L" if form == "gif" else "RGB"),
        pnginfo=with_texts(),
        icc_profile=srgb(),
        exif=exif,
        dpi=(300, 300),
    )
    made = bytes(make(data, target(format=form, metadata="strip")).data)
    for trace in (
        b"prompt",
        b"camera",
        b"iCCP",
        b"ICC_PROFILE",
        b"ICCP",
        b"Exif",
        b"pHYs",
        b"tEXt",
    ):
        assert trace not in made


def test_stripping_a_png_changes_no_pixel() -> None:
    image = photo(60, 40)
    made = make(encoded(image, pnginfo=with_texts()), target(metadata="strip"))
    assert opened(made.data).tobytes() == image.tobytes()


def test_a_broken_colour_profile_is_none() -> None:
    data = encoded(photo(20, 20), icc_profile=b"no profile")
    assert opened(make(data, target(metadata="strip")).data).size == (20, 20)


@pytest.mark.parametrize("source", ["GIF", "WEBP", "PNG"])
@pytest.mark.parametrize("form", ["gif", "webp"])
def test_an_animated_image_keeps_its_frames(source: str, form: str) -> None:
    made = make(animated(source, 7, loop=3), target(format=form, max_width=20))
    back = opened(made.data)
    assert (back.n_frames, back.size) == (7, (20, 15))  # type: ignore[attr-defined] # of some
    assert back.info["loop"] == 3
    # A WebP's frame tells how long it is shown once it is decoded.
    durations = [frame.copy().info["duration"] for frame in ImageSequence.Iterator(back)]
    assert durations == [50] * 7


@pytest.mark.parametrize("output", [{"format": "png"}, {"format": "jpeg"}, {"dither": "1bit"}])
def test_of_an_animated_image_the_first_frame_is_taken_elsewhere(output: dict[str, Any]) -> None:
    back = opened(make(animated("GIF", 5), target(**output)).data)
    assert getattr(back, "n_frames", 1) == 1


def test_an_animated_image_meets_its_bytes() -> None:
    made = make(animated("GIF", 20, 200, 100), target(format="webp", max_bytes=2000))
    assert len(made.data) <= 2000
    assert getattr(opened(made.data), "n_frames", 1) == 20


def test_frames_are_bounded() -> None:
    data = gif_of_frames(100_000)
    with pytest.raises(Refusal, match="more than 1000 frames"):
        make(data, target(format="webp"))
    # Of which one is asked for, the others do not matter.
    assert make(data, target(format="png")).width == 1


def test_the_pixels_of_all_frames_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picture, "MAX_PIXELS", 40 * 30 * 10)
    with pytest.raises(Refusal, match="its frames have more than 12000 pixels together"):
        make(animated("GIF", 11), target(format="webp"))
    assert make(animated("GIF", 11), target(format="webp", max_width=20)).width == 20


def test_the_pixels_of_all_frames_are_bounded_before_they_are_resized(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(picture, "MAX_DECODED", 40 * 30 * 10)
    small = target(format="webp", max_width=4)
    with pytest.raises(Refusal, match="its frames have more than 12000 pixels before they are"):
        make(animated("GIF", 11), small)
    assert make(animated("GIF", 10), small).width == 4


@pytest.mark.parametrize("side", [8200, 12_000, 60_000, 2**31 - 1])
def test_pixels_are_counted_before_they_are_decoded(side: int) -> None:
    with pytest.raises((Refusal, Image.DecompressionBombError, Image.DecompressionBombWarning)):
        make(png_of_size(side, side), target(format="jpeg"))


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_a_truncated_image_is_refused(form: str) -> None:
    data = encoded(photo(200, 100), form)
    with pytest.raises((OSError, SyntaxError, ValueError)):
        make(data[: len(data) // 2], target(format="png"))


@pytest.mark.parametrize("data", [b"", b"garbage", b"<svg/>", b"%!PS-Adobe", b"fLaC...."])
def test_what_is_no_image_that_can_be_read_is_refused(data: bytes) -> None:
    with pytest.raises(Refusal, match="of a format that cannot be changed"):
        make(data, target(format="png"))
