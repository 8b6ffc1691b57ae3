from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.contract.errors import BadRequest
from bridge.contract.messages import Output
from bridge.media import profile
from bridge.media.profile import PALETTES, CannotFit, Encoding, Profile, SourceImage

SIDES = st.integers(1, 20_000)
PNG = SourceImage("image/png", 640, 480, 300_000)

outputs = st.builds(
    Output,
    format=st.sampled_from(["png", "jpeg", "webp", "gif", "bmp"]),
    max_width=SIDES,
    max_height=SIDES,
    max_bytes=st.integers(1024, 10**7),
    metadata=st.sampled_from(["keep", "strip"]),
)


def asked(**output: Any) -> Profile:
    found = profile.read(Output(**output))
    assert found is not None
    return found


@pytest.mark.parametrize(
    "output",
    [Output(), Output(deliver="fetch", max_packet=2048), Output(dither="none", metadata="keep")],
)
def test_a_request_that_asks_nothing_of_images_has_no_profile(output: Output) -> None:
    assert profile.read(output) is None


@pytest.mark.parametrize(
    ("output", "field", "allowed"),
    [
        (Output(format="jpeg", dither="1bit"), "output.format", ["png", "bmp"]),
        (Output(format="gif", dither="acep-7"), "output.format", ["png", "bmp"]),
        (Output(quality=80), "output.quality", {"output.format": ["jpeg", "webp"]}),
        (Output(format="png", quality=80), "output.quality", {"output.format": ["jpeg", "webp"]}),
        (Output(dither="1bit", quality=80), "output.quality", {"output.format": ["jpeg", "webp"]}),
    ],
)
def test_what_cannot_go_together_is_refused_with_the_field(
    output: Output, field: str, allowed: Any
) -> None:
    with pytest.raises(BadRequest, match=field) as error:
        profile.read(output)
    assert error.value.details == {"field": field, "allowed": allowed}


@given(outputs)
def test_a_profile_survives_the_journal(output: Output) -> None:
    found = profile.read(output)
    assert msgspec.json.decode(msgspec.json.encode(found), type=Profile) == found


@pytest.mark.parametrize(
    "output",
    [
        {"format": "png"},
        {"max_width": 640, "max_height": 480},
        {"max_bytes": 300_000},
        {"format": "png", "max_width": 5000, "max_bytes": 10**6},
    ],
)
def test_an_image_that_is_as_asked_is_left_as_it_is(output: dict[str, Any]) -> None:
    assert profile.target(asked(**output), PNG) is None


@pytest.mark.parametrize(
    "output",
    [
        {"format": "jpeg"},
        {"format": "png", "max_width": 639},
        {"max_height": 479},
        {"max_bytes": 299_999},
        {"dither": "1bit"},
        {"metadata": "strip"},
    ],
)
def test_an_image_that_is_not_as_asked_is_changed(output: dict[str, Any]) -> None:
    assert profile.target(asked(**output), PNG) is not None


@pytest.mark.parametrize(
    ("content_type", "output", "form", "quality"),
    [
        ("image/png", {"max_width": 10}, "png", None),
        ("image/webp", {"max_width": 10}, "webp", profile.DEFAULT_QUALITY),
        ("image/jpeg", {"format": "jpeg", "quality": 30}, "jpeg", 30),
        ("image/jpeg", {"dither": "4grey"}, "png", None),
        ("image/bmp", {"dither": "4grey", "format": "bmp"}, "bmp", None),
        ("image/tiff", {"max_width": 10}, "png", None),  # a format that is not written
    ],
)
def test_the_format_is_the_one_asked_for_or_the_images_own(
    content_type: str, output: dict[str, Any], form: str, quality: int | None
) -> None:
    found = profile.target(asked(**output), SourceImage(content_type, 640, 480, 1))
    assert found is not None
    assert (found.format, found.quality) == (form, quality)


def test_an_image_of_unknown_size_is_looked_at() -> None:
    unknown = SourceImage("image/bmp", None, None, 1)
    assert profile.target(asked(max_width=5000), unknown) is not None
    assert profile.target(asked(max_bytes=5000), unknown) is None


@pytest.mark.parametrize(
    ("filename", "form", "expected"),
    [
        ("a_00001_.png", "jpeg", "a_00001_.jpg"),
        ("a.JPG", "jpeg", "a.JPG"),
        ("a.jpeg", "jpeg", "a.jpeg"),
        ("a.b.webp", "png", "a.b.png"),
        ("noextension", "png", "noextension"),
    ],
)
def test_a_files_name_follows_its_format(filename: str, form: Any, expected: str) -> None:
    assert profile.renamed(filename, form) == expected


@given(SIDES, SIDES, st.none() | SIDES, st.none() | SIDES)
def test_an_image_fits_keeps_its_aspect_and_never_grows(
    width: int, height: int, max_width: int | None, max_height: int | None
) -> None:
    new_width, new_height = profile.fit(width, height, max_width, max_height)
    widest, highest = min(width, max_width or width), min(height, max_height or height)
    assert 1 <= new_width <= widest
    assert 1 <= new_height <= highest
    assert new_width == widest or new_height == highest
    off_by_width = abs(new_height - max(1.0, height * new_width / width))
    off_by_height = abs(new_width - max(1.0, width * new_height / height))
    assert min(off_by_width, off_by_height) <= 0.5 + 1e-6


class Measured:
    """Measures by a rule, and remembers what it was asked."""

    def __init__(self, per_pixel: float, overhead: int) -> None:
        self.attempts: list[Encoding] = []
        self._per_pixel = per_pixel
        self._overhead = overhead

    def __call__(self, attempt: Encoding) -> int:
        self.attempts.append(attempt)
        return self.size(attempt)

    def size(self, attempt: Encoding) -> int:
        quality = (attempt.quality or 100) / 100
        area = attempt.width * attempt.height
        return int(self._overhead + area * self._per_pixel * quality**2)


measures = st.builds(Measured, st.floats(0.01, 4), st.integers(0, 2000))
qualities = st.none() | st.integers(1, 100)
limits = st.integers(1024, 10**7)


@given(st.integers(1, 9000), st.integers(1, 9000), qualities, limits, measures)
def test_the_search_returns_the_last_attempt_that_fits(
    width: int, height: int, quality: int | None, limit: int, measure: Measured
) -> None:
    full = Encoding(width, height, quality)
    try:
        found = profile.search(width, height, quality, limit, measure)
    except CannotFit:
        last = measure.attempts[-1]
        assert all(measure.size(attempt) > limit for attempt in measure.attempts)
        assert max(last.width, last.height) <= profile.SMALLEST_SIDE
        return
    assert found == [each for each in measure.attempts if measure.size(each) <= limit][-1]
    assert found.width <= width
    assert found.height <= height
    assert (found.quality is None) == (quality is None)
    assert found == full or measure.size(full) > limit


@given(st.integers(200, 9000), st.integers(1, 100), st.integers(10_000, 10**7), measures)
def test_quality_goes_down_before_pixels_and_no_further_than_needed(
    side: int, quality: int, limit: int, measure: Measured
) -> None:
    found = profile.search(side, side, quality, limit, measure)
    lowest = min(quality, profile.LOWEST_QUALITY)
    assert found.quality is not None
    assert lowest <= found.quality <= quality
    if found.width < side:
        assert measure.size(Encoding(side, side, lowest)) > limit
    if found.quality < quality:
        assert measure.size(Encoding(found.width, found.height, found.quality + 1)) > limit


@given(st.integers(200, 9000), st.integers(10_000, 10**7), measures)
def test_an_image_without_quality_uses_most_of_what_it_may(
    side: int, limit: int, measure: Measured
) -> None:
    found = profile.search(side, side, None, limit, measure)
    assert found.width == side or measure.size(found) > 0.8 * limit


@given(
    st.integers(1, 9000),
    st.none() | st.integers(1, 100),
    st.integers(1024, 10**6),
    st.randoms(use_true_random=False),
)
def test_the_search_ends_with_an_encoder_that_follows_no_rule(
    side: int, quality: int | None, limit: int, random: Any
) -> None:
    fitting: list[Encoding] = []
    calls = 0

    def measure(attempt: Encoding) -> int:
        nonlocal calls
        calls += 1
        size = random.choice((limit - 1, limit + 1, limit * 3))
        if size <= limit:
            fitting.append(attempt)
        return int(size)

    try:
        found = profile.search(side, side, quality, limit, measure)
    except CannotFit:
        assert fitting == []
    else:
        assert found == fitting[-1]
    assert calls <= 20 + math.log(9000) / -math.log(0.9)


def test_the_palettes_are_those_a_request_may_name() -> None:
    allowed = msgspec.json.schema(Output)["$defs"]["Output"]["properties"]["dither"]
    names = allowed["enum"]
    assert {"none", *PALETTES} == set(names)
    for colours in PALETTES.values():
        assert len(set(colours)) == len(colours) <= 16
