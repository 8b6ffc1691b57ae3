from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from bridge.media.files import Files

DATA = b"some bytes" * 1000
SHA = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def files(tmp_path: Path) -> Files:
    files = Files(tmp_path / "blobs")
    files.open()
    return files


def test_bytes_come_back_whole_or_in_parts(files: Files) -> None:
    files.put(SHA, DATA)
    files.put(SHA, memoryview(b"the name says what it is; it is not written twice"))
    assert files.read(SHA) == DATA
    assert files.read(SHA, 5, 7) == DATA[5:12]
    assert files.read(SHA, len(DATA), 7) == b""
    assert files.names() == {SHA}


def test_what_is_gone_is_gone(files: Files) -> None:
    files.put(SHA, DATA)
    files.remove(SHA)
    files.remove(SHA)
    with pytest.raises(FileNotFoundError):
        files.read(SHA)


def test_what_a_crash_left_half_written_is_cleared(files: Files, tmp_path: Path) -> None:
    half = tmp_path / "blobs" / f"{SHA}.part-1-2"
    half.write_bytes(b"half")
    files.put(SHA, DATA)
    assert files.names() == {SHA}
    files.open()
    assert not half.exists()
    assert files.read(SHA) == DATA


@pytest.mark.parametrize("name", ["../../etc/passwd", "", "ab", "x" * 64, "A" * 64, "0" * 63 + "/"])
def test_only_a_hash_is_a_name(files: Files, name: str) -> None:
    with pytest.raises(ValueError, match="no SHA-256"):
        files.read(name)
