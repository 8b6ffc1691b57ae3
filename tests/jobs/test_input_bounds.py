from __future__ import annotations

import asyncio
import hashlib
import threading
from pathlib import Path

import pytest

from bridge.contract.errors import Busy
from bridge.jobs.input_bounds import LOOKED_AT_S, MAX_LOOKED_AT, InputBounds
from bridge.jobs.job import Blob
from bridge.jobs.journal import Journal
from bridge.media.extents import MediaLimits
from bridge.media.files import Folder
from tests.support.patience import PATIENCE_S


class Slow(Folder):
    """Files that take until their test says so."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.go = threading.Event()

    def read(self, sha256: str, offset: int = 0, count: int = -1) -> bytes:
        assert sha256
        assert self.go.wait(PATIENCE_S)
        return b"GIF89a".ljust(offset + count, b"\0")[offset : offset + count]


def blob(number: int) -> Blob:
    return Blob(hashlib.sha256(str(number).encode()).hexdigest(), 100_000, "image/gif", "gif")


async def test_a_client_whose_files_take_long_is_to_ask_again_and_no_other(tmp_path: Path) -> None:
    now = 0.0
    files = Slow(tmp_path)
    bounds = InputBounds(Journal(tmp_path / "journal.db"), files, MediaLimits(), clock=lambda: now)
    looks = [
        asyncio.create_task(bounds.check("mallory", "i", "image", blob(number), None))
        for number in range(MAX_LOOKED_AT)
    ]
    await asyncio.sleep(0)
    bounds.check_room("mallory")  # many at once are no fault
    now = LOOKED_AT_S + 0.1
    try:
        with pytest.raises(Busy) as refused:
            bounds.check_room("mallory")
        assert refused.value.details["retry"]
        bounds.check_room("alice")
    finally:
        files.go.set()
    await asyncio.gather(*looks)
    bounds.check_room("mallory")
    assert bounds._looks == {}
