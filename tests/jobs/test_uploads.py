from __future__ import annotations

import asyncio
import hashlib
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from bridge.contract.errors import Busy, Conflict, InvalidInput, QuotaExceeded, TooLarge
from bridge.contract.messages import BeginUpload
from bridge.jobs.journal import Journal
from bridge.jobs.uploads import COMPLETED_AT_ONCE, MAX_BEGUN, UploadRules, Uploads
from bridge.media.files import Folder


@pytest.fixture
async def uploads(tmp_path: Path) -> AsyncIterator[Uploads]:
    """Uploads of at most 1000 bytes, 1500 of one client."""
    journal, files = Journal(tmp_path / "journal.db"), Folder(tmp_path / "blobs")
    await journal.open()
    files.open()
    yield Uploads(tmp_path / "uploads", journal, files, UploadRules(1000, lambda _: 1500, 60.0))
    await journal.close()


def announced(data: bytes, size: int | None = None) -> BeginUpload:
    sha256 = hashlib.sha256(data).hexdigest()
    return BeginUpload(size=len(data) if size is None else size, sha256=sha256)


async def test_an_upload_with_other_bytes_than_announced_is_refused(uploads: Uploads) -> None:
    await uploads.begin("alice", "u", announced(b"right"))
    await uploads.part("alice", "u", 0, b"wrong")
    with pytest.raises(InvalidInput, match="SHA-256"):
        await uploads.finish("alice", "u")
    with pytest.raises(InvalidInput):
        await uploads.get("alice", "u")
    # It is taken after it was begun again.
    await uploads.begin("alice", "u", announced(b"right"))
    await uploads.part("alice", "u", 0, b"right")
    assert (await uploads.finish("alice", "u")).complete


async def test_what_is_announced_counts_before_it_has_come(uploads: Uploads) -> None:
    await uploads.begin("alice", "first", announced(b"x", size=900))
    with pytest.raises(QuotaExceeded):
        await uploads.begin("alice", "second", announced(b"y", size=900))
    with pytest.raises(QuotaExceeded):
        await uploads.put("alice", "third", bytes(900))
    await uploads.begin("bob", "second", announced(b"y", size=900))
    with pytest.raises(TooLarge):
        await uploads.begin("bob", "third", announced(b"z", size=1001))
    with pytest.raises(TooLarge):
        await uploads.part("alice", "first", 0, bytes(901))


async def test_no_more_than_so_many_uploads_of_a_client_are_begun(uploads: Uploads) -> None:
    for number in range(MAX_BEGUN):
        await uploads.begin("alice", f"u{number}", announced(b"x"))
    with pytest.raises(QuotaExceeded) as caught:
        await uploads.begin("alice", "more", announced(b"x"))
    assert caught.value.details["limit"] == MAX_BEGUN
    await uploads.begin("bob", "more", announced(b"x"))


async def test_who_asks_for_an_upload_that_is_just_being_taken_gets_it(tmp_path: Path) -> None:
    journal, files = Journal(tmp_path / "journal.db"), Folder(tmp_path / "blobs")
    await journal.open()
    files.open()
    uploads = Uploads(
        tmp_path / "uploads", journal, files, UploadRules(1_000_000, lambda _: 1_000_000, 60.0)
    )
    for size in (100, 100_000):
        name = f"u{size}"
        # As two messages do that come right behind each other.
        taking = asyncio.create_task(uploads.put("alice", name, b"\x89PNG\r\n\x1a\n" * size))
        found = await asyncio.gather(taking, uploads.get("alice", name))
        assert found[1].size == 8 * size
    await journal.close()


async def test_a_large_upload_is_hashed_beside_the_event_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal, files = Journal(tmp_path / "journal.db"), Folder(tmp_path / "blobs")
    await journal.open()
    files.open()
    rules = UploadRules(10_000_000, lambda _: 20_000_000, 60.0)
    uploads = Uploads(tmp_path / "uploads", journal, files, rules)
    threads: list[threading.Thread] = []
    sha256 = hashlib.sha256

    def noting(*data: bytes) -> object:
        threads.append(threading.current_thread())
        return sha256(*data)

    data = bytes(5_000_000)
    begin = announced(data)
    monkeypatch.setattr(hashlib, "sha256", noting)
    await uploads.put("alice", "whole", data)
    await uploads.begin("alice", "parts", begin)
    await uploads.part("alice", "parts", 0, data)
    await uploads.finish("alice", "parts")
    assert threads
    assert threading.main_thread() not in threads
    await journal.close()


async def test_an_unfinished_upload_is_not_read_however_often_its_end_is_sent(
    uploads: Uploads, monkeypatch: pytest.MonkeyPatch
) -> None:
    await uploads.begin("alice", "u", announced(b"whole"))
    await uploads.part("alice", "u", 0, b"who")
    opened = Path.open

    def announcements_only(path: Path, *given: Any, **named: Any) -> Any:
        assert path.suffix == ".begun", "the bytes of the upload are read"
        return opened(path, *given, **named)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", announcements_only)
        for _ in range(3):
            with pytest.raises(Conflict) as caught:
                await uploads.finish("alice", "u")
            assert caught.value.details["held"] == 3
    await uploads.part("alice", "u", 3, b"le")
    assert (await uploads.finish("alice", "u")).complete


async def test_few_uploads_are_in_memory_at_a_time(tmp_path: Path) -> None:
    class Counted(Folder):
        there, most = 0, 0

        def put(self, sha256: str, data: bytes | memoryview) -> None:
            self.there += 1
            self.most = max(self.most, self.there)
            time.sleep(0.01)
            super().put(sha256, data)
            self.there -= 1

    journal, files = Journal(tmp_path / "journal.db"), Counted(tmp_path / "blobs")
    await journal.open()
    files.open()
    rules = UploadRules(1_000_000, lambda _: 10_000_000, 60.0)
    uploads = Uploads(tmp_path / "uploads", journal, files, rules)
    for number in range(8):
        data = bytes([number]) * 100_000
        await uploads.begin("alice", f"u{number}", announced(data))
        await uploads.part("alice", f"u{number}", 0, data)
    await asyncio.gather(*(uploads.finish("alice", f"u{number}") for number in range(8)))
    assert files.most <= COMPLETED_AT_ONCE
    await journal.close()


async def test_the_folder_of_begun_uploads_is_read_once_and_what_lies_there_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal, files = Journal(tmp_path / "journal.db"), Folder(tmp_path / "blobs")
    await journal.open()
    files.open()
    rules = UploadRules(1000, lambda _: 1500, 60.0)
    reads = 0
    glob = Path.glob

    def counted(path: Path, pattern: str) -> Iterator[Path]:
        nonlocal reads
        reads += path.name == "uploads"
        return iter(list(glob(path, pattern)))

    monkeypatch.setattr(Path, "glob", counted)
    before = Uploads(tmp_path / "uploads", journal, files, rules)
    for number in range(50):
        await before.begin(f"c{number}", "first", announced(b"x", size=900))
    assert reads == 1
    uploads = Uploads(tmp_path / "uploads", journal, files, rules)  # after a restart
    with pytest.raises(QuotaExceeded):
        await uploads.begin("c7", "second", announced(b"y", size=900))
    await uploads.part("c7", "first", 0, b"x")
    uploads.sweep(time.time() + 120.0)
    await uploads.begin("c7", "second", announced(b"y", size=900))
    assert reads == 2
    await journal.close()


async def test_so_many_uploads_of_all_clients_may_be_begun(
    uploads: Uploads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.jobs.uploads.MAX_BEGUN_OF_ALL", 3)
    for number in range(3):
        await uploads.begin(f"c{number}", "u", announced(b"x"))
    with pytest.raises(Busy):
        await uploads.begin("c4", "u", announced(b"x"))
    await uploads.put("c4", "whole", b"x")
    await uploads.part("c0", "u", 0, b"x")
    await uploads.finish("c0", "u")
    await uploads.begin("c4", "u", announced(b"x"))
