from __future__ import annotations

import hashlib
import io
import os
import sqlite3
import tarfile
from contextlib import closing
from pathlib import Path

import pytest

from bridge.contract.numbering import Numbered
from bridge.jobs.job import KeptOutput
from bridge.jobs.journal import Journal, backup
from bridge.jobs.journal.backup import KEYS, LINK_KEY, BackupError, back_up, unpack
from bridge.jobs.journal.sequence import RESTORED_ABOVE
from bridge.jobs.queue import Key
from bridge.media.files import Folder
from tests.jobs.drafts import draft

LARGE = os.urandom(100_000)
SHA256 = hashlib.sha256(LARGE).hexdigest()


async def filled(folder: Path) -> Journal:
    """A journal in use: j1 has ended with a large output, j2 has not."""
    journal = Journal(folder / "journal.db")
    await journal.open()
    files = Folder(folder / "blobs")
    files.open()
    files.put(SHA256, LARGE)
    for job_id in ("j1", "j2"):
        await journal.accept(draft(job_id), 1.0)
    output = KeptOutput(
        index=0, content_type="image/png", sha256=SHA256, size=len(LARGE), data=None
    )
    await journal.finish(
        Key("alice", "j1"),
        state="succeeded",
        result=Numbered(b'{"n": ', b"}"),
        now=2.0,
        outputs=[output],
        keep_until=9e9,
    )
    return journal


async def accepted(journal: Journal, job_id: str, client: str = "alice") -> int:
    """Accept a job; returns its number."""
    return (await journal.accept(draft(job_id, client), 1.0)).record.n


async def test_a_backup_of_a_journal_in_use_can_be_put_in_place_elsewhere(tmp_path: Path) -> None:
    journal = await filled(tmp_path / "data")
    report = back_up(tmp_path / "data", tmp_path / "backup.tar")
    assert (report.jobs, report.blobs, report.size) == (2, 1, len(LARGE))
    after = await accepted(journal, "later")  # seen by a client after the backup
    await journal.close()

    assert unpack(tmp_path / "backup.tar", tmp_path / "new") == report
    assert Folder(tmp_path / "new" / "blobs").read(SHA256) == LARGE
    restored = Journal(tmp_path / "new" / "journal.db")
    await restored.open()
    await restored.mark_restored()
    await restored.close()

    restored = Journal(tmp_path / "new" / "journal.db")
    await restored.open()
    assert await restored.restored()
    assert [job.key.job_id for job in await restored.unfinished()] == ["j2"]
    assert await accepted(restored, "new") > after
    assert await accepted(restored, "new", client="newcomer") > RESTORED_ABOVE
    await restored.backup_reported()
    assert not await restored.restored()
    await restored.close()


async def test_what_a_bridge_deletes_meanwhile_is_not_in_its_backup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = await filled(tmp_path / "data")
    snapshot = backup._snapshot

    def then_swept(path: Path, target: Path) -> tuple[int, list[str]]:
        found = snapshot(path, target)
        with closing(sqlite3.connect(path)) as swept:
            swept.execute("DELETE FROM outputs")
            swept.execute("DELETE FROM blobs")
            swept.commit()
        (tmp_path / "data" / "blobs" / SHA256).unlink()
        return found

    monkeypatch.setattr(backup, "_snapshot", then_swept)
    report = back_up(tmp_path / "data", tmp_path / "backup.tar")
    await journal.close()
    assert (report.jobs, report.blobs, report.size) == (2, 0, 0)
    assert unpack(tmp_path / "backup.tar", tmp_path / "new") == report
    restored = Journal(tmp_path / "new" / "journal.db")
    await restored.open()
    assert (await restored.get(Key("alice", "j1"))).ended
    assert await restored.output(Key("alice", "j1"), 0) is None
    await restored.close()


async def test_a_backup_is_whole_or_not_there(tmp_path: Path) -> None:
    journal = await filled(tmp_path / "data")
    await journal.close()
    (tmp_path / "data" / "blobs" / SHA256).unlink()
    with pytest.raises(BackupError, match="No such file"):
        back_up(tmp_path / "data", tmp_path / "backup.tar")
    assert not [name for name in os.listdir(tmp_path) if name.startswith("backup")]  # noqa: PTH208
    with pytest.raises(BackupError, match="there is no journal"):
        back_up(tmp_path / "nothing", tmp_path / "backup.tar")
    (tmp_path / "there.tar").touch()
    with pytest.raises(BackupError, match="exists already"):
        back_up(tmp_path / "data", tmp_path / "there.tar")


def tar_of(path: Path, **members: bytes) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name.replace("__", "/"))
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


@pytest.mark.parametrize(
    ("members", "told"),
    [
        ({"..__evil": b"x"}, "does not belong"),
        ({f"blobs__{SHA256}": b"other bytes"}, "damaged"),
        ({f"blobs__{SHA256}": LARGE}, "no journal"),
        ({"journal.db": b"no database at all" * 99}, "not a database"),
    ],
)
def test_what_is_no_backup_changes_nothing(
    tmp_path: Path, members: dict[str, bytes], told: str
) -> None:
    file = tar_of(tmp_path / "bad.tar", **members)
    with pytest.raises(BackupError, match=told):
        unpack(file, tmp_path / "data")
    assert not os.listdir(tmp_path / "data")  # noqa: PTH208
    assert not (tmp_path / "evil").exists()


async def test_a_folder_in_use_is_left_alone(tmp_path: Path) -> None:
    journal = await filled(tmp_path / "data")
    await journal.close()
    back_up(tmp_path / "data", tmp_path / "backup.tar")
    with pytest.raises(BackupError, match="move it away"):
        unpack(tmp_path / "backup.tar", tmp_path / "data")


async def test_the_keys_are_in_it_and_are_put_where_there_are_none(tmp_path: Path) -> None:
    journal = await filled(tmp_path / "data")
    await journal.close()
    mine = {KEYS: tmp_path / "etc" / "my-keys.json", LINK_KEY: tmp_path / "data" / "link.key"}
    for name, path in mine.items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"the {name}")
    backup = tmp_path / "backup.tar"
    assert set(back_up(tmp_path / "data", backup, mine).keys) == {KEYS, LINK_KEY}
    assert backup.stat().st_mode & 0o077 == 0
    new = {KEYS: tmp_path / "new" / "keys.json", LINK_KEY: tmp_path / "there.key"}
    new[LINK_KEY].write_text("another")
    report = unpack(backup, tmp_path / "new", new)
    assert (report.keys, report.left) == ((KEYS,), (LINK_KEY,))
    assert new[KEYS].read_text() == f"the {KEYS}"
    assert new[KEYS].stat().st_mode & 0o077 == 0
    assert new[LINK_KEY].read_text() == "another"


async def test_a_backup_says_how_much_is_in_a_bucket_instead(tmp_path: Path) -> None:
    await (await filled(tmp_path / "data")).close()
    (tmp_path / "data" / "blobs" / SHA256).unlink()
    with pytest.raises(BackupError):
        back_up(tmp_path / "data", tmp_path / "backup.tar")
    report = back_up(tmp_path / "data", tmp_path / "backup.tar", bucket="s3://pictures/x")
    assert (report.jobs, report.blobs) == (2, 0)
    assert (report.elsewhere, report.bucket) == (1, "s3://pictures/x")
    assert unpack(tmp_path / "backup.tar", tmp_path / "new") == report
