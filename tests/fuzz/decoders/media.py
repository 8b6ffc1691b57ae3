"""Pictures, films and sounds."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from bridge.media.extents import Reader, TooManyParts, measure
from bridge.media.sniff import sniff
from tests.fuzz.target import Target
from tests.workflows import test_embedded

_VECTORS = Path(__file__).parents[2] / "vectors" / "media"

# Longer ones make each case slow.
_LARGEST_SEED = 6_000
_PNG = test_embedded.saved_png()


def _extent(data: bytes) -> None:
    with suppress(TooManyParts):
        found = measure(Reader.of(data, max_steps=2_000))
        assert found.unpacked >= 0
        assert found.seconds >= 0


def _media(data: bytes) -> None:
    found = sniff(data)
    assert found.kind
    assert found.extension.isalnum()


TARGETS = {
    "extents": Target(
        _extent,
        (
            _PNG,
            test_embedded.saved_webp(),
            b"GIF89a\x08\0\x08\0\0\0\0\x21\xf9\x01a\0\x2c\0\0\0\0\x08\0\x08\0\0\x02\x01a\0\x3b",
            b"II*\0\x08\0\0\0\x01\0\0\x01\x03\0\x01\0\0\0\x08\0\0\0\0\0\0\0",
            b"\0\0\x01\0\x01\0\x10\x10\0\0\x01\0\x20\0\x40\0\0\0\x16\0\0\0" + bytes(64),
            b"RIFF\0\0\0\0AVI LIST\0\0\0\0hdrlavih\x38\0\0\0"
            + b"\x40\x9c\0\0".ljust(32, b"\0")
            + b"\x10\0\0\0\x08\0\0\0".ljust(24, b"\0")
            + b"strh\x04\0\0\0vidsstrf\x0c\0\0\0\x0c\0\0\0\x10\0\0\0\x08\0\0\0"
            + b"strh\x04\0\0\0audsstrf\x08\0\0\0\x01\0\x02\0\x44\xac\0\0"
            + b"LIST\0\0\0\0movi00dc\x03\0\0\0abc\0",
            b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0\x01\0\x02\0\x44\xac\0\0\x10\xb1\x02\0\x04\0\x10\0",
            *(
                path.read_bytes()
                for path in sorted(_VECTORS.iterdir())
                if path.suffix != ".py" and path.stat().st_size < _LARGEST_SEED
            ),
        ),
        {
            "bridge.media.extents.pictures": ("png", "gif", "webp", "tiff", "ico"),
            "bridge.media.extents.films": (
                *("iso", "_of_track", "_duration", "matroska", "_of_entry", "_block"),
                *("_name", "_length", "_float", "avi"),
            ),
            "bridge.media.extents.sounds": (
                *("wav", "flac", "ogg", "_ogg_stream", "opus_seconds", "mp3"),
            ),
        },
    ),
    "media": Target(
        _media,
        (
            _PNG,
            test_embedded.saved_webp(),
            b"\xff\xd8\xff\xe0\x00\x10JFIF\x00",
            b"GIF89a\x01\x00\x01\x00",
            b"BM" + bytes(30),
            b"II*\x00" + bytes(20),
            b"<svg xmlns='http://www.w3.org/2000/svg' width='1e9'/>",
            b"RIFF\x00\x00\x00\x00WAVE",
            b"text\n",
            b"x" * 1023 + "ä".encode(),
        ),
        {"bridge.media.sniff": ("sniff", "_size", "_is_text")},
    ),
}
