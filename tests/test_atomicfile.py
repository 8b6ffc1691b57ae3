from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import pytest

from bridge.atomicfile import PRIVATE, replacing, write_file


def test_a_file_is_replaced_and_its_folder_made(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.json"
    write_file(path, b"one")
    write_file(path, memoryview(b"two"))
    assert path.read_bytes() == b"two"
    assert list(path.parent.iterdir()) == [path]


def test_after_an_error_the_old_file_is_whole_and_no_part_is_left(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_file(path, b"old")
    with suppress(LookupError), replacing(path) as file:
        file.write(b"half")
        raise LookupError
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_secret_is_never_readable_by_others(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(b"open")
    path.chmod(0o644)
    with replacing(path, mode=PRIVATE) as file:
        (part,) = (each for each in tmp_path.iterdir() if each != path)
        assert part.stat().st_mode & 0o777 == 0o600
        file.write(b"secret")
    assert path.stat().st_mode & 0o777 == 0o600


def test_without_overwrite_who_was_first_stays(tmp_path: Path) -> None:
    path = tmp_path / "key"
    write_file(path, b"mine", overwrite=False)
    with pytest.raises(FileExistsError):
        write_file(path, b"yours", overwrite=False)
    assert path.read_bytes() == b"mine"
    assert list(tmp_path.iterdir()) == [path]


def test_file_and_folder_are_on_the_disk_before_a_call_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    real = os.fsync

    def fsync(handle: int) -> None:
        synced.append("folder" if os.path.isdir(f"/proc/self/fd/{handle}") else "file")  # noqa: PTH112
        assert ("file" in synced) or not (tmp_path / "file").exists()
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    write_file(tmp_path / "file", b"x")
    assert synced == ["file", "folder"]
