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
def test_images_are_reported_with_their_size(form: str, content_type: str) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (31, 17), (200, 10, 10)).save(buffer, form)
    found = sniff(buffer.getvalue())
    assert (found.kind, found.content_type) == ("image", content_type)
    if form not in ("BMP", "ICO"):  # the library does not read their headers
        assert (found.width, found.height) == (31, 17)


def ftyp(major: bytes, *others: bytes) -> bytes:
    brands = major + b"\0\0\0\0" + b"".join(others)
    return (8 + len(brands)).to_bytes(4, "big") + b"ftyp" + brands + b"\0\0\0\x08free"


@pytest.mark.parametrize(
    ("data", "kind", "content_type"),
    [
        (b"\x00\x00\x00\x20ftypisom....", "video", "video/mp4"),
        (b"\x00\x00\x00\x20ftypM4A ....", "audio", "audio/mp4"),
        (b"\x1aE\xdf\xa3......", "video", "video/webm"),
        (b"fLaC\0...", "audio", "audio/flac"),
        (b"OggS\0...", "audio", "audio/ogg"),
        (b"RIFF\x00\x00\x00\x00WAVEfmt ", "audio", "audio/wav"),
        (b"xxxx\x00\x00\x00\x00WAVEfmt \xff", "file", "application/octet-stream"),
        (b"a plain text", "text", "text/plain; charset=utf-8"),
        (b"", "text", "text/plain; charset=utf-8"),
        (b"\x00\x01\x02", "file", "application/octet-stream"),
        ("ü".encode() * 3000, "text", "text/plain; charset=utf-8"),
        (b"x" + "ü".encode() * 3000, "text", "text/plain; charset=utf-8"),
        (b"\x89PNG\r\n\x1a\n", "image", "image/png"),
        (ftyp(b"avif"), "image", "image/avif"),
        (ftyp(b"mif1", b"avif", b"miaf"), "image", "image/avif"),
        (ftyp(b"heix", b"mif1"), "image", "image/heic"),
        (ftyp(b"mif1", b"heic"), "image", "image/heic"),
        (ftyp(b"hevc", b"iso8"), "image", "image/heic"),
        (ftyp(b"msf1", b"iso8"), "image", "image/heif"),
        (ftyp(b"isom", b"iso2", b"avc1", b"mp41"), "video", "video/mp4"),
        (ftyp(b"qt  "), "video", "video/quicktime"),
        (ftyp(b"M4B "), "audio", "audio/mp4"),
        (b"\xff\x0a\x00", "image", "image/jxl"),
        (b"v/1\x01\x02\0\0\0", "image", "image/x-exr"),
        (b"P5\n# a comment\n2 1\n255\n\x00\x01", "image", "image/x-portable-graymap"),
        (b"glTF\x02\0\0\0", "file", "model/gltf-binary"),
        # Texts that begin as files do.
        (b"BMW on a road, at dusk", "text", "text/plain; charset=utf-8"),
        (b"BM", "text", "text/plain; charset=utf-8"),
        (b"ID3 tags name a song", "text", "text/plain; charset=utf-8"),
        (b"OggSomething", "text", "text/plain; charset=utf-8"),
        (b"fLaCid", "text", "text/plain; charset=utf-8"),
        (b"P5\nis a car park", "text", "text/plain; charset=utf-8"),
        (b"P6\n", "text", "text/plain; charset=utf-8"),
    ],
)
def test_other_bytes_are_reported_by_their_first_ones(
    data: bytes, kind: str, content_type: str
) -> None:
    found = sniff(data)
    assert (found.kind, found.content_type) == (kind, content_type)


@pytest.mark.parametrize(
    ("name", "data", "content_type"),
    [
        ("crate.GLB", b"glTF\x02", "model/gltf-binary"),
        ("scene.gltf", b'{"asset": {}}', "model/gltf+json"),
        ("mesh.obj", b"v 0 0 0", "model/obj"),
        ("cloud.ply", b"ply\nformat ascii 1.0", "model/ply"),
        ("part.stl", b"solid part", "model/stl"),
        ("a.splat", b"\0\0", "application/octet-stream"),
    ],
)
def test_3d_files_are_known_by_their_names(name: str, data: bytes, content_type: str) -> None:
    found = sniff(data, name)
    assert (found.kind, found.content_type) == ("file", content_type)


@pytest.mark.parametrize(
    ("name", "data", "kind", "content_type"),
    [
        ("a.txt", b"GIF89a is a format", "text", "text/plain; charset=utf-8"),
        ("a.md", b"II*\t", "text", "text/markdown; charset=utf-8"),
        ("a.CSV", b"RIFF,x,yWEBP", "text", "text/csv; charset=utf-8"),
        ("a.json", b'{"a": 1}', "text", "application/json"),
        ("a.svg", b"<svg/>", "file", "image/svg+xml"),
        # What is no text is what its bytes say.
        ("a.txt", b"\x89PNG\r\n\x1a\n\0", "image", "image/png"),
        ("a.json", b"\0\1", "file", "application/octet-stream"),
    ],
)
def test_the_format_of_a_text_is_known_by_its_name(
    name: str, data: bytes, kind: str, content_type: str
) -> None:
    found = sniff(data, name)
    assert (found.kind, found.content_type) == (kind, content_type)


@given(st.binary(max_size=200))
def test_any_bytes_are_something(data: bytes) -> None:
    for prefix in (b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF89a", b"II*\x00", b"BM"):
        found = sniff(prefix + data)
        assert found == sniff(memoryview(prefix + data))
