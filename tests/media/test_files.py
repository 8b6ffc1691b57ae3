from __future__ import annotations

import hashlib
import os
import threading
from pathlib import Path

import pytest

from bridge.media.files import Folder

DATA = b"some bytes" * 1000
SHA = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def files(tmp_path: Path) -> Folder:
    files = Folder(tmp_path / "blobs")
    files.open()
    return files


def test_bytes_come_back_whole_or_in_parts(files: Folder) -> None:
    files.put(SHA, DATA)
    files.put(SHA, memoryview(b"the name says what it is; it is not written twice"))
    assert files.read(SHA) == DATA
    assert files.read(SHA, 5, 7) == DATA[5:12]
    assert files.read(SHA, len(DATA), 7) == b""


def test_what_nobody_needs_is_swept_unless_it_is_new(files: Folder, tmp_path: Path) -> None:
    files.put(SHA, DATA)
    path = tmp_path / "blobs" / SHA
    os.utime(path, (100, 100))
    files.sweep({SHA}, before=200)
    assert files.read(SHA) == DATA
    files.put(SHA, DATA)  # somebody needs it again: not to be swept under their feet
    files.sweep(set(), before=200)
    assert files.read(SHA) == DATA
    os.utime(path, (100, 100))
    files.sweep(set(), before=200)
    with pytest.raises(FileNotFoundError):
        files.read(SHA)


def test_what_is_put_again_while_it_is_swept_is_there_afterwards(
    files: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.put(SHA, DATA)
    os.utime(tmp_path / "blobs" / SHA, (100, 100))
    putting = threading.Thread(target=files.put, args=(SHA, DATA))
    unlink = Path.unlink

    def slowly(path: Path, *, missing_ok: bool = False) -> None:
        if path.name == SHA and not putting.ident:
            putting.start()
            putting.join(0.2)  # where it need not wait it has ended by then
        unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", slowly)
    files.sweep(set(), before=200)
    putting.join()
    assert files.read(SHA) == DATA


def test_what_a_crash_left_half_written_is_cleared(files: Folder, tmp_path: Path) -> None:
    half = tmp_path / "blobs" / f"{SHA}.part-1-2"
    half.write_bytes(b"half")
    files.put(SHA, DATA)
    files.open()
    assert not half.exists()
    assert files.read(SHA) == DATA


@pytest.mark.parametrize("name", ["../../etc/passwd", "", "ab", "x" * 64, "A" * 64, "0" * 63 + "/"])
def test_only_a_hash_is_a_name(files: Folder, name: str) -> None:
    with pytest.raises(ValueError, match="no SHA-256"):
        files.read(name)
