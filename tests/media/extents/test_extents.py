"""The unpacked size of media, by their headers: real files, hostile ones, and any other bytes."""

from __future__ import annotations

import io
import struct
import wave
import zlib
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from bridge.contract.errors import InvalidInput
from bridge.media.extents import (
    Extent,
    MediaLimits,
    Reader,
    TooManyParts,
    check,
    check_sum,
    measure,
)
from tests.media.images import animated, encoded, photo

VECTORS = Path(__file__).parents[2] / "vectors" / "media"
# Where a file has a picture more than was put in, as its encoder wrote it so.
FILMS = {
    "small.mp4": 10,
    "frag.mp4": 10,
    "small.mov": 10,
    "small.webm": 10,
    "live.webm": 10,
    "small.mkv": 10,
    "small.avi": 11,
}
SOUNDS = ("small.flac", "opus.ogg", "vorbis.ogg", "small.mp3", "small.m4a")


def of(data: bytes) -> Extent:
    return measure(Reader.of(data))


def vector(name: str) -> bytes:
    return (VECTORS / name).read_bytes()


@pytest.mark.parametrize("name", FILMS)
def test_a_films_pictures_are_counted_and_its_length_is_known(name: str) -> None:
    found = of(vector(name))
    assert (found.width, found.height, found.frames) == (64, 48, FILMS[name])
    assert 0.3 < found.seconds < 0.5
    if name != "live.webm":
        assert 2 * 0.4 * 48_000 <= found.samples < 2 * 0.5 * 48_000


@pytest.mark.parametrize("name", SOUNDS)
def test_a_sounds_samples_are_known(name: str) -> None:
    found = of(vector(name))
    assert 0.19 < found.seconds < 0.3
    assert found.samples == pytest.approx(2 * 48_000 * found.seconds, abs=2)
    assert found.unpacked == 4 * found.samples


def test_a_wave_files_samples_are_known() -> None:
    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(44_100)
        file.writeframes(bytes(4 * 44_100))
    assert of(stream.getvalue()).seconds == pytest.approx(1.0, abs=0.001)


def test_a_film_of_29_kilobytes_unpacks_to_nine_gigabytes() -> None:
    data = vector("bomb.mp4")
    assert len(data) < 30_000
    assert of(data).unpacked == 3840 * 2160 * 94 * 12 > 9 * 10**9


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP", "PPM", "AVIF"])
def test_a_pictures_size_is_known(form: str) -> None:
    found = of(encoded(photo(123, 45), form))
    assert (found.width, found.height, found.frames) == (123, 45, 1)


@pytest.mark.parametrize("form", ["PNG", "WEBP", "GIF", "TIFF", "AVIF"])
def test_the_pictures_of_an_animation_are_counted(form: str) -> None:
    found = of(animated(form, 7))
    assert (found.width, found.height, found.frames) == (40, 30, 7)
    assert found.unpacked == 40 * 30 * 7 * 12


def test_a_large_animation_is_counted_to_its_end() -> None:
    images = [Image.effect_noise((400, 300), 90) for _ in range(12)]
    data = encoded(images[0], "GIF", save_all=True, append_images=images[1:])
    assert len(data) > 1_000_000
    assert of(data).frames == 12


def test_a_picture_within_an_icon_counts_whatever_the_icon_says() -> None:
    png = encoded(photo(300, 200))
    icon = struct.pack("<HHHBBBBHHII", 0, 1, 1, 16, 16, 0, 0, 1, 32, len(png), 22) + png
    assert of(icon).pixels == 300 * 200


def test_a_frame_that_is_larger_than_its_gif_counts() -> None:
    gif = b"GIF89a" + struct.pack("<HHBBB", 8, 8, 0, 0, 0)
    gif += b"\x2c" + struct.pack("<HHHHB", 0, 0, 9_000, 8_000, 0) + b"\x02\x00\x3b"
    assert of(gif).pixels == 9_000 * 8_000


def test_pages_that_lead_back_to_themselves_are_counted_once() -> None:
    page = struct.pack("<HHHIIHHIII", 2, 256, 4, 1, 70, 257, 4, 1, 80, 8)
    assert of(b"II*\0" + struct.pack("<I", 8) + page).frames == 1


def _png(width: int, height: int) -> bytes:
    """A white picture, of one bit a pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data))
            + kind
            + data
            + struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))
        )

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    rows = zlib.compress((b"\0" + b"\xff" * ((width + 7) // 8)) * height, 9)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )


def _silent_flac(frames: int) -> bytes:
    """Headers of frames of 65,535 samples, and a length that says 1 sample."""
    packed = (48_000 << 44) | (1 << 41) | (15 << 36) | 1
    info = struct.pack(">HH", 65_535, 65_535) + bytes(6) + struct.pack(">Q", packed) + bytes(16)
    return b"fLaC\x80\0\0\x22" + info + b"\xff\xf8\x79\x18\0\xff\xfe\0\0\0\0\0\0\0" * frames


def _silent_opus(packets: int) -> bytes:
    """One page after another with 255 packets of 120 ms each, and a granule that says 0."""
    head = b"OpusHead\x01\x02" + bytes(9)
    pages = [_page(2, [head]), _page(0, [b"OpusTags" + bytes(8)])]
    return b"".join(pages) + _page(0, [b"\x1f\x06"] * 255) * (packets // 255)


def _page(flags: int, packets: list[bytes]) -> bytes:
    sizes = bytes(len(packet) for packet in packets)
    return (
        b"OggS\0"
        + bytes([flags])
        + bytes(8 + 4 + 4 + 4)
        + bytes([len(sizes)])
        + sizes
        + b"".join(packets)
    )


@pytest.mark.parametrize(
    ("data", "setting"),
    [
        (_png(13_000, 13_000), "max_input_pixels"),
        (vector("bomb.mp4"), "max_input_unpacked"),
        (encoded(photo(10, 10)).replace(b"IDAT", b"acTL\0\0\x4e\x20", 1), "max_input_frames"),
        (_silent_flac(5_000), "max_input_seconds"),
        (_silent_opus(51_000), "max_input_seconds"),
    ],
    ids=["png", "film", "apng", "flac", "opus"],
)
def test_what_would_unpack_to_too_much_is_refused_by_its_header(data: bytes, setting: str) -> None:
    assert len(data) < 600_000
    with pytest.raises(InvalidInput) as refused:
        check("photo", of(data), MediaLimits())
    assert refused.value.details["setting"] == setting
    assert refused.value.details["found"] > refused.value.details["limit"]
    assert "'photo'" in str(refused.value)


def test_what_is_within_the_limits_passes() -> None:
    check("photo", of(_png(8192, 8192)), MediaLimits())
    check("film", of(vector("small.mp4")), MediaLimits())


def test_a_file_of_a_million_parts_is_given_up() -> None:
    segment = b"\x1a\x45\xdf\xa3\x80\x18\x53\x80\x67\x01\xff\xff\xff\xff\xff\xff\xff"
    with pytest.raises(TooManyParts):
        of(segment + b"\xec\x80" * 1_000_000)


def test_a_file_is_read_where_it_says_something_and_nowhere_else() -> None:
    """Its brand comes first, then a box of 50 MB that is passed over, then the rest."""
    data = vector("small.mp4")
    brand = data[: struct.unpack(">I", data[:4])[0]]
    rest = data[len(brand) :]
    before = brand + struct.pack(">I4s", 8 + 50_000_000, b"free")
    start = len(before) + 50_000_000
    read = 0

    def at(offset: int, count: int) -> bytes:
        nonlocal read
        read += count
        if offset >= start:
            return rest[offset - start : offset - start + count]
        return before[offset : offset + count].ljust(count, b"\0")

    assert measure(Reader(start + len(rest), at)).frames == 10
    assert read < 2 * 1024 * 1024


@given(
    st.sampled_from([*FILMS, *SOUNDS]).map(vector),
    st.lists(st.tuples(st.integers(0, 40_000), st.integers(0, 255)), max_size=12),
    st.integers(0, 40_000),
)
def test_damaged_files_are_measured_all_the_same(
    data: bytes, changes: list[tuple[int, int]], cut: int
) -> None:
    damaged = bytearray(data[: cut or None])
    for place, byte in changes:
        if place < len(damaged):
            damaged[place] = byte
    try:
        found = of(bytes(damaged))
    except TooManyParts:
        return
    assert found.unpacked >= 0


@given(
    st.sampled_from(
        [b"GIF89a", b"II*\0", b"RIFF0000WEBP", b"OggS", b"\x1aE\xdf\xa3", b"\0\0\0\x18ftypisom"]
    ),
    st.binary(max_size=400),
)
def test_any_bytes_are_measured(head: bytes, rest: bytes) -> None:
    with suppress(TooManyParts):
        assert of(head + rest).unpacked >= 0


def test_inputs_are_bounded_together() -> None:
    check_sum(4 * 1024**3, MediaLimits())
    with pytest.raises(InvalidInput) as refused:
        check_sum(4 * 1024**3 + 1, MediaLimits())
    assert refused.value.details["setting"] == "max_input_unpacked"


def test_a_file_that_is_cut_off_is_left_where_it_ends() -> None:
    gif = b"GIF89a" + struct.pack("<HHBBB", 8, 8, 0, 0, 0)
    gif += b"\x2c" + struct.pack("<HHHHB", 0, 0, 8, 8, 0) + b"\x02\x05data."
    for whole in (gif, *map(vector, (*FILMS, *SOUNDS))):
        for cut in range(1, len(whole), 1 + len(whole) // 100):
            measure(Reader.of(whole[:cut], max_steps=1_000))


def _element(name: bytes, value: bytes) -> bytes:
    return name + bytes((0x08, *len(value).to_bytes(4, "big"))) + value


@pytest.mark.parametrize(
    "elements",
    [
        _element(b"\x2a\xd7\xb1", b"\xff" * 200) + _element(b"\xe7", b"\xff" * 200),
        _element(b"\x86", b"mp4a") + _element(b"\xb5", struct.pack(">d", 5e-324)),
    ],
    ids=["numbers of 200 bytes", "a rate of nearly nothing"],
)
def test_numbers_that_no_film_has_count_as_none(elements: bytes) -> None:
    """A number, a kind and one block of a track with sound, all in one segment."""
    track = b"\xae\xff" + elements + _element(b"\xd7", b"\x01") + _element(b"\x83", b"\x02")
    block = _element(b"\xa3", b"\x81\x00\x00\x00")
    found = of(b"\x1a\x45\xdf\xa3\x80" + b"\x18\x53\x80\x67\xff" + track + block)
    assert found.seconds < 1e9


def test_a_large_file_of_usual_parts_is_measured() -> None:
    blocks = (b"\xff" + bytes(255)) * 200_000
    head = b"GIF89a" + bytes((8, 0, 8, 0, 0, 0, 0)) + b"\x21\xf9"
    assert of(head + blocks + b"\0;").pixels == 64
