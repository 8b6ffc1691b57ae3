from __future__ import annotations

import asyncio
from pathlib import Path

from bridge.jobs.journal import Journal
from bridge.jobs.uploads import UploadRules, Uploads
from bridge.media.files import Folder


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
        taking = asyncio.create_task(uploads.whole("alice", name, b"\x89PNG\r\n\x1a\n" * size))
        found = await asyncio.gather(taking, uploads.get("alice", name))
        assert found[1].size == 8 * size
    await journal.close()
