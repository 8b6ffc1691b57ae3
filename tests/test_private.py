from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from bridge import private
from bridge.config import IN_DATA


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def filled(folder: Path) -> Path:
    """A data folder as earlier versions left it."""
    (folder / "blobs").mkdir(parents=True)
    (folder / "workflows").mkdir()
    for name in ("journal.db", "blobs/a", "workflows/a.json"):
        (folder / name).write_bytes(b"x")
        (folder / name).chmod(0o644)
    for each in (folder, folder / "blobs", folder / "workflows"):
        each.chmod(0o755)
    return folder


def test_a_folder_that_is_not_there_is_made_for_its_user_alone(tmp_path: Path) -> None:
    private.claim(tmp_path / "data", IN_DATA)
    assert mode(tmp_path / "data") == 0o700


def test_what_was_open_to_others_is_so_no_more(tmp_path: Path) -> None:
    folder = filled(tmp_path / "data")
    outside = tmp_path / "outside"
    outside.write_bytes(b"x")
    outside.chmod(0o644)
    (folder / "blobs" / "link").symlink_to(outside)
    private.claim(folder, IN_DATA, [folder / "workflows"])
    assert mode(folder) == mode(folder / "blobs") == 0o700
    assert mode(folder / "journal.db") == mode(folder / "blobs" / "a") == 0o600
    # Somebody may edit these, or they are elsewhere.
    assert mode(folder / "workflows" / "a.json") == mode(outside) == 0o644


def test_a_folder_that_others_use_stays_open_to_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "page.html").write_bytes(b"x")
    tmp_path.chmod(0o1777)
    for _ in range(2):  # the next start finds what the bridge has written
        private.claim(tmp_path, IN_DATA)
        assert mode(tmp_path) == 0o1777
        assert mode(tmp_path / "page.html") & 0o444
        assert "set data (COMFY2MQTT_DATA) to a folder of its own" in caplog.text
        (tmp_path / "journal.db").write_bytes(b"x")
        (tmp_path / "journal.db").chmod(0o600)


def test_an_open_journal_makes_no_folder_of_others_the_bridges(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One that somebody left in a home folder or in /tmp, where `data` is to be."""
    folder = filled(tmp_path / "home")
    (folder / "notes.txt").write_bytes(b"x")
    (folder / "notes.txt").chmod(0o644)
    private.claim(folder, IN_DATA)
    assert mode(folder) == 0o755
    assert mode(folder / "journal.db") == mode(folder / "notes.txt") == 0o644
    assert "not the bridge's alone (there is notes.txt, workflows)" in caplog.text


def test_a_folder_for_all_users_stays_so_even_if_it_holds_a_journal_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "journal.db").write_bytes(b"x")
    (tmp_path / "journal.db").chmod(0o644)
    tmp_path.chmod(0o1777)
    private.claim(tmp_path, IN_DATA)
    assert (mode(tmp_path), mode(tmp_path / "journal.db")) == (0o1777, 0o644)
    assert "made for all of them" in caplog.text


def test_what_another_user_has_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = filled(tmp_path / "data")
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    private.claim(folder, IN_DATA, [folder / "workflows"])
    assert (mode(folder), mode(folder / "journal.db")) == (0o755, 0o644)
    assert "another user's" in caplog.text


def test_an_open_folder_without_a_journal_is_closed_as_well(tmp_path: Path) -> None:
    """As a bridge with its journal in PostgreSQL left it."""
    folder = tmp_path / "data"
    (folder / "comfyui" / "default").mkdir(parents=True)
    (folder / "comfyui" / "default" / "comfyui.log").write_bytes(b"x")
    (folder / "keys.json").write_bytes(b"x")
    for each in (folder, *folder.rglob("*")):
        each.chmod(0o755)
    private.claim(folder, IN_DATA)
    assert {mode(each) & 0o077 for each in (folder, *folder.rglob("*"))} == {0}


def test_an_empty_folder_is_closed_to_others(tmp_path: Path) -> None:
    folder = tmp_path / "volume"
    (folder / "lost+found").mkdir(parents=True)
    (folder / "workflows").mkdir()
    folder.chmod(0o755)
    private.claim(folder, IN_DATA, [folder / "workflows"])
    assert mode(folder) == 0o700


def test_what_an_operator_opens_within_it_later_stays(tmp_path: Path) -> None:
    folder = filled(tmp_path / "data")
    folder.chmod(0o700)
    private.claim(folder, IN_DATA)
    assert mode(folder / "journal.db") == 0o644


def test_a_folder_that_cannot_be_claimed_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    folder = filled(tmp_path / "data")
    monkeypatch.setattr(Path, "chmod", refused)
    private.claim(folder, IN_DATA, [folder / "workflows"])
    assert "other users can read it: Operation not permitted" in caplog.text


def test_new_files_are_for_their_user_alone(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        private.from_now_on()
        (tmp_path / "file").write_bytes(b"x")
        (tmp_path / "folder").mkdir()
    finally:
        os.umask(before)
    assert (mode(tmp_path / "file"), mode(tmp_path / "folder")) == (0o600, 0o700)
