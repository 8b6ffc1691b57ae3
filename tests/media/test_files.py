from __future__ import annotations

import hashlib
import os
import threading
import time
from pathlib import Path

import pytest

from bridge.media.files import BlobDamaged, Folder, MigratingFiles

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
    files.sweeper(older_than_s=60)({SHA})
    assert files.read(SHA) == DATA
    files.put(SHA, DATA)  # somebody needs it again: not to be swept under their feet
    files.sweeper(older_than_s=60)(set())
    assert files.read(SHA) == DATA
    os.utime(path, (100, 100))
    files.sweeper(older_than_s=60)(set())
    with pytest.raises(FileNotFoundError):
        files.read(SHA)


def test_what_cannot_be_deleted_keeps_nothing_else_from_it(files: Folder, tmp_path: Path) -> None:
    blobs = tmp_path / "blobs"
    names = [f"{number:064}" for number in range(20)]
    for name in names[:10]:
        (blobs / name).mkdir()  # a folder cannot be deleted as a file is
    for name in names[10:]:
        (blobs / name).write_bytes(b"old")
    (blobs / f"{SHA}.part-stuck").mkdir()
    (blobs / f"{SHA}.part-left").write_bytes(b"half")
    files.open()
    assert not (blobs / f"{SHA}.part-left").exists()
    with pytest.raises(OSError, match=r"directory|permitted"):
        MigratingFiles(files, files).sweeper(older_than_s=-60)(set())
    assert {each.name for each in blobs.iterdir()} == {*names[:10], f"{SHA}.part-stuck"}


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
    files.sweeper(older_than_s=60)(set())
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


LARGE = bytes(range(256)) * 1024
LARGE_SHA = hashlib.sha256(LARGE).hexdigest()


def damage(path: Path, how: str) -> None:
    """Change a file as a failing disk does: its size and its time stay, or its end is lost."""
    before = path.stat()
    with path.open("r+b") as file:
        if how == "cut":
            file.truncate(100_000)
        else:
            file.seek(150_000)
            file.write(b"\xff\x00" * 5)
    if how == "silent":
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("how", ["cut", "changed", "silent"])
@pytest.mark.parametrize("part", [(0, -1), (0, 10), (200_000, 10), (100_000, 10)])
def test_a_damaged_blob_is_never_given_and_is_reported(
    files: Folder,
    tmp_path: Path,
    how: str,
    part: tuple[int, int],
    caplog: pytest.LogCaptureFixture,
) -> None:
    files.put(LARGE_SHA, LARGE)
    damage(tmp_path / "blobs" / LARGE_SHA, how)
    with pytest.raises(BlobDamaged):
        files.read(LARGE_SHA, *part)
    assert f"{LARGE_SHA} is damaged" in caplog.text
    with pytest.raises(FileNotFoundError):
        files.read(LARGE_SHA, *part)


@pytest.mark.parametrize("noticed", [True, False])
def test_a_damaged_blob_is_repaired_when_its_bytes_come_again(
    files: Folder, tmp_path: Path, *, noticed: bool
) -> None:
    files.put(LARGE_SHA, LARGE)
    damage(tmp_path / "blobs" / LARGE_SHA, "changed")
    if noticed:
        with pytest.raises(BlobDamaged):
            files.read(LARGE_SHA)
    files.put(LARGE_SHA, LARGE)
    assert files.read(LARGE_SHA) == LARGE
    assert files.read(LARGE_SHA, 150_000, 5) == LARGE[150_000:150_005]
    files.sweeper(older_than_s=-60)({LARGE_SHA})
    assert [path.name for path in (tmp_path / "blobs").iterdir()] == [LARGE_SHA]


def test_a_blob_is_compared_once_for_all_of_its_parts(
    files: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.put(LARGE_SHA, LARGE)
    files.read(LARGE_SHA, 5, 5)

    def unasked(*_: object) -> object:
        raise AssertionError("it is read once more")

    monkeypatch.setattr(hashlib, "file_digest", unasked)
    files.put(LARGE_SHA, LARGE)
    for start in range(0, len(LARGE), 100_000):
        assert files.read(LARGE_SHA, start, 100_000) == LARGE[start : start + 100_000]


@pytest.mark.parametrize("ahead_s", [0.0, 60.0])
def test_what_is_put_after_a_sweep_began_is_not_old_to_it(
    files: Folder, monkeypatch: pytest.MonkeyPatch, ahead_s: float
) -> None:
    """However long its process stood still before it read what is to be kept.

    Nor where the file system has a clock of its own, behind that of the process.
    """
    ours = time.time
    monkeypatch.setattr(time, "time", lambda: ours() + ahead_s)
    sweep = files.sweeper(older_than_s=0)
    files.put(SHA, DATA)
    sweep(set())
    assert files.read(SHA) == DATA


def test_blobs_go_to_the_new_store_and_old_ones_are_read_and_swept_where_they_are(
    files: Folder, tmp_path: Path
) -> None:
    files.put(SHA, DATA)
    both = MigratingFiles(Folder(tmp_path / "new"), files)
    both.open()
    both.put(LARGE_SHA, LARGE)
    assert [path.name for path in (tmp_path / "new").iterdir()] == [LARGE_SHA]
    assert (both.read(SHA), both.read(SHA, 5, 7)) == (DATA, DATA[5:12])
    assert both.read(LARGE_SHA) == LARGE
    with pytest.raises(FileNotFoundError):
        both.read("0" * 64)
    both.sweeper(older_than_s=-60)({LARGE_SHA})
    with pytest.raises(FileNotFoundError):
        both.read(SHA)
    assert both.read(LARGE_SHA) == LARGE
    both.close()


def test_an_old_blob_is_read_while_the_new_store_is_away(files: Folder, tmp_path: Path) -> None:
    files.put(SHA, DATA)
    (tmp_path / "no folder").write_bytes(b"")
    both = MigratingFiles(Folder(tmp_path / "no folder"), files)
    assert both.read(SHA) == DATA
    with pytest.raises(NotADirectoryError):
        both.read(LARGE_SHA)


def test_a_blob_that_is_damaged_in_the_new_store_is_read_from_the_old_one(
    files: Folder, tmp_path: Path
) -> None:
    files.put(LARGE_SHA, LARGE)
    both = MigratingFiles(Folder(tmp_path / "new"), files)
    both.open()
    both.put(LARGE_SHA, LARGE)
    damage(tmp_path / "new" / LARGE_SHA, "changed")
    assert both.read(LARGE_SHA) == LARGE
