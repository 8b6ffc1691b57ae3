from __future__ import annotations

import asyncio
import hashlib
import threading
from pathlib import Path

import pytest

from bridge.contract.errors import Busy, InvalidInput
from bridge.jobs.input_bounds import MAX_MEASURED, MEASURED_S, InputBounds
from bridge.jobs.job import Blob
from bridge.jobs.journal import Journal
from bridge.media.extents import Extent, MediaLimits
from bridge.media.files import Folder
from bridge.media.pipe import Measured
from bridge.media.transcode import CannotTranscode, Read, Transcoder
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
    bounds = InputBounds(
        Journal(tmp_path / "journal.db"), files, MediaLimits(), Transcoder(), clock=lambda: now
    )
    looks = [
        asyncio.create_task(bounds.check("mallory", "i", "image", blob(number), None))
        for number in range(MAX_MEASURED)
    ]
    await asyncio.sleep(0)
    bounds.check_room("mallory")  # many at once are no fault
    now = MEASURED_S + 0.1
    try:
        with pytest.raises(Busy) as refused:
            bounds.check_room("mallory")
        assert refused.value.details["retry"]
        bounds.check_room("alice")
    finally:
        files.go.set()
    await asyncio.gather(*looks)
    bounds.check_room("mallory")
    assert bounds._measuring == {}


GIF = b"GIF89a" + bytes((8, 0, 8, 0, 0, 0, 0)) + b"\x21\xf9"
PARTS = GIF + b"\x01\x01" * 100_000


class Elsewhere(Transcoder):
    """A process that answers what its test says, and notes the bytes that it was given."""

    def __init__(self, answer: Measured | None) -> None:
        super().__init__()
        self.answer = answer
        self.measured: list[bytes] = []

    async def measure(self, size: int, read: Read) -> Measured:
        self.measured.append(read(0, size))
        if self.answer is None:
            raise CannotTranscode("it ended")
        return self.answer


def bounds_of(folder: Path, elsewhere: Transcoder, spent: list[float] | None = None) -> InputBounds:
    journal, files = Journal(folder / "journal.db"), Folder(folder)
    bounds = InputBounds(journal, files, MediaLimits(), elsewhere)
    if spent is not None:
        bounds.spend = lambda _client, seconds: spent.append(seconds)
    return bounds


async def looked_at(bounds: InputBounds, data: bytes, *, here: bool = True) -> None:
    sha256 = hashlib.sha256(data).hexdigest()
    if not here:
        bounds._files.put(sha256, data)
    of = Blob(sha256, len(data), "image/gif", "gif")
    await bounds.check("mallory", "i", "image", of, data if here else None)


@pytest.mark.parametrize("here", [True, False])
async def test_a_file_of_many_parts_is_looked_at_in_another_process(
    tmp_path: Path,
    here: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    spent: list[float] = []
    elsewhere = Elsewhere(Measured(Extent(8, 8, 1), 0.25))
    bounds = bounds_of(tmp_path, elsewhere, spent)
    await looked_at(bounds, PARTS, here=here)
    assert elsewhere.measured == [PARTS]
    assert spent == [0.25]
    assert bounds._measuring == {}


async def test_a_file_of_few_parts_needs_no_other_process(tmp_path: Path) -> None:
    elsewhere = Elsewhere(None)
    bounds = bounds_of(tmp_path, elsewhere)
    await looked_at(bounds, GIF + bytes(200_000))
    await looked_at(bounds, GIF + bytes(200_001), here=False)
    assert elsewhere.measured == []


@pytest.mark.parametrize(
    ("answer", "why"), [(Measured(None, 0.1), "more parts than"), (None, "cannot be determined")]
)
async def test_a_file_that_the_other_process_gives_up_is_refused(
    tmp_path: Path, answer: Measured | None, why: str
) -> None:
    bounds = bounds_of(tmp_path, Elsewhere(answer))
    with pytest.raises(InvalidInput, match=why):
        await looked_at(bounds, PARTS)
