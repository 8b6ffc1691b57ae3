from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from bridge.media.sniff import sniff


@pytest.mark.parametrize(
    ("form", "content_type"),
    [
        ("PNG", "image/png"),
        ("JPEG", "image/jpeg"),
        ("WEBP", "image/webp"),
        ("GIF", "image/gif"),
        ("BMP", "image/bmp"),
        ("TIFF", "image/tiff"),
        ("JPEG2000", "image/jp2"),
        ("ICO", "image/vnd.microsoft.icon"),
    ],
)
def test_images_are_told_with_their_size(form: str, content_type: str) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (31, 17), (200, 10, 10)).save(buffer, form)
    found = sniff(buffer.getvalue())
    assert (found.kind, found.content_type) == ("image", content_type)
    if form not in ("BMP", "ICO"):  # the library does not read their headers
        assert (found.width, found.height) == (31, 17)


@pytest.mark.parametrize(
    ("data", "kind", "content_type"),
    [
        (b"\x00\x00\x00\x20ftypisom....", "video", "video/mp4"),
        (b"\x00\x00\x00\x20ftypM4A ....", "audio", "audio/mp4"),
        (b"\x1aE\xdf\xa3......", "video", "video/webm"),
        (b"fLaC....", "audio", "audio/flac"),
        (b"OggS....", "audio", "audio/ogg"),
        (b"RIFF\x00\x00\x00\x00WAVEfmt ", "audio", "audio/wav"),
        (b"xxxx\x00\x00\x00\x00WAVEfmt \xff", "file", "application/octet-stream"),
        (b"a plain text", "text", "text/plain; charset=utf-8"),
        (b"", "text", "text/plain; charset=utf-8"),
        (b"\x00\x01\x02", "file", "application/octet-stream"),
        ("ü".encode() * 3000, "text", "text/plain; charset=utf-8"),
        (b"x" + "ü".encode() * 3000, "text", "text/plain; charset=utf-8"),
        (b"\x89PNG\r\n\x1a\n", "image", "image/png"),
    ],
)
def test_other_bytes_are_told_by_their_first_ones(
    data: bytes, kind: str, content_type: str
) -> None:
    found = sniff(data)
    assert (found.kind, found.content_type) == (kind, content_type)


@given(st.binary(max_size=200))
def test_any_bytes_are_something(data: bytes) -> None:
    for prefix in (b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF89a", b"II*\x00", b"BM"):
        found = sniff(prefix + data)
        assert found == sniff(memoryview(prefix + data))
