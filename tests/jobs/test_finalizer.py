"""Publishing and storing the outputs of a job."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple, cast

import pytest

from bridge.contract.messages import OutputInfo
from bridge.jobs.database import DatabaseError
from bridge.jobs.finalizer import Completion, Finalizer
from bridge.jobs.journal import Journal
from bridge.jobs.outputs import CollectedOutput
from bridge.media.files import Folder
from bridge.media.transcode import Transcoder
from tests.jobs.dispatching import Recorder
from tests.jobs.drafts import draft


class Kept(NamedTuple):
    """A journal and the files beside it, both open."""

    journal: Journal
    files: Folder


@pytest.fixture
async def kept(tmp_path: Path) -> AsyncIterator[Kept]:
    journal, files = Journal(tmp_path / "journal.db"), Folder(tmp_path / "blobs")
    await journal.open()
    files.open()
    yield Kept(journal, files)
    await journal.close()


class Trial:
    """Notes which sizes were tried, and whether anything had been published by then."""

    def __init__(self, recorder: Recorder) -> None:
        self.tried: list[tuple[int, int]] = []
        self._recorder = recorder

    def is_known(self, size: int) -> bool:
        return any(size == tried for tried, _ in self.tried)

    async def find_out(self, size: int) -> None:
        self.tried.append((size, self._recorder.outputs))


async def test_a_large_output_is_there_however_long_its_result_could_not_be_written(
    kept: Kept,
) -> None:
    """A sweep may come between two attempts: no row names the file yet."""
    journal, files, recorder = kept.journal, kept.files, Recorder()
    finalizer = Finalizer(
        journal, files, recorder, 60.0, show=cast("Any", None), transcoder=Transcoder()
    )
    data = b"x" * 1_000_000
    sha256 = hashlib.sha256(data).hexdigest()
    info = OutputInfo(
        index=0, name="x", kind="image", content_type="image/png", size=len(data), sha256=sha256
    )
    job = (await journal.accept(draft("j1"), 1.0)).record.job
    finish = journal.finish

    async def fails_once(*_: object, **__: object) -> bytes:
        journal.finish = finish  # type: ignore[method-assign]
        files.sweeper(older_than_s=-1)(await journal.files())
        raise DatabaseError("the disk is full")

    journal.finish = fails_once  # type: ignore[method-assign]
    await finalizer.write(job, "succeeded", Completion(outputs=[CollectedOutput(info, data)]))
    stored = await journal.output(job.key, 0)
    assert stored is not None
    assert files.read(stored.sha256) == data


async def test_an_output_waits_until_it_is_known_whether_its_size_passes(kept: Kept) -> None:
    journal, files, recorder = kept.journal, kept.files, Recorder()
    trial = Trial(recorder)
    finalizer = Finalizer(
        journal,
        files,
        recorder,
        60.0,
        show=cast("Any", None),
        transcoder=Transcoder(),
        trial=trial,
    )
    info = OutputInfo(
        index=0, name="x", kind="image", content_type="image/png", size=5, sha256="0" * 64
    )
    output = CollectedOutput(info, b"12345")
    for job_id in ("j1", "j2"):
        job = (await journal.accept(draft(job_id), 1.0)).record.job
        offered = finalizer.offer(job, output)
        assert offered.offered is (job_id == "j2")
        await finalizer.write(job, "succeeded", Completion(outputs=[offered]))
    assert trial.tried == [(5, 0)]
    assert recorder.outputs == 2
