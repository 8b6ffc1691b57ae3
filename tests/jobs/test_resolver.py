"""Inputs that jobs wait for, and the way into the queue."""

from __future__ import annotations

import asyncio
import gc
import hashlib
from pathlib import Path
from typing import Any, cast

import pytest

from bridge.contract.messages import State
from bridge.contract.numbering import Numbered
from bridge.contract.sources import JobOutput, Url
from bridge.jobs.database import DatabaseError
from bridge.jobs.dependencies import Dependencies, Sources
from bridge.jobs.job import KeptOutput
from bridge.jobs.journal import Journal
from bridge.jobs.queue import Key
from bridge.media.files import Folder
from bridge.media.transcode import Transcoder
from tests.jobs.dispatching import ComfyUIWithoutMedia, running_dispatcher, waits_for
from tests.jobs.drafts import KEPT_PICTURE, PICTURE, draft
from tests.support.patience import PATIENCE_S


async def test_a_url_that_gives_what_unpacks_to_gigabytes_costs_that_job(tmp_path: Path) -> None:
    async def fetch(_client: str, _url: Url) -> bytes:
        return b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + (13_000).to_bytes(4, "big") * 2 + bytes(9)

    async with running_dispatcher(tmp_path, fetch=fetch) as dispatcher:
        await dispatcher.take("j1", plan=waits_for(Url("http://x/y.png")))
        result = await dispatcher.recorder.outcome("j1")
        assert (result["state"], result["error"]["code"]) == ("failed", "invalid_input")
        assert result["error"]["details"]["limit"] == 8192 * 8192


async def test_pictures_that_are_too_much_together_cost_their_job(tmp_path: Path) -> None:
    async def fetch(_client: str, url: Url) -> bytes:
        png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + (8_000).to_bytes(4, "big") * 2
        return png + url.url.encode()

    async with running_dispatcher(tmp_path, fetch=fetch) as dispatcher:
        urls = [Url(f"http://x/{index}.png") for index in range(6)]
        await dispatcher.take("j1", plan=waits_for(*urls))
        result = await dispatcher.recorder.outcome("j1")
        assert result["error"]["details"] == {
            "found": 6 * 8_000 * 8_000 * 12,
            "limit": 4 * 1024**3,
            "setting": "max_input_unpacked",
        }


async def test_a_defect_while_a_job_waits_costs_that_job(tmp_path: Path) -> None:
    async def fetch(_client: str, url: Url) -> bytes:
        raise KeyError(url.url)

    async with running_dispatcher(tmp_path, fetch=fetch) as dispatcher:
        await dispatcher.take("j1", plan=waits_for(Url("http://x/y.png")))
        result = await dispatcher.recorder.outcome("j1")
        assert result["state"] == "failed"
        assert "KeyError" in result["error"]["message"]
        assert dispatcher.book.job(Key("alice", "j1")) is None


async def test_a_cancel_on_the_way_into_the_queue_counts(tmp_path: Path) -> None:
    async def fetch(_client: str, _url: Url) -> bytes:
        return PICTURE

    async with running_dispatcher(tmp_path, fetch=fetch) as dispatcher:
        writing, written = asyncio.Event(), asyncio.Event()
        released = dispatcher.journal.released

        async def slowly(*arguments: Any) -> int:
            n = await released(*arguments)
            writing.set()
            await written.wait()
            return n

        dispatcher.journal.released = slowly  # type: ignore[method-assign, assignment]
        await dispatcher.take("j1", plan=waits_for(Url("http://x/y.png")))
        await writing.wait()
        assert await dispatcher.cancel(Key("alice", "j1")) == "waiting"
        written.set()
        assert (await dispatcher.recorder.outcome("j1"))["state"] == "cancelled"
        assert dispatcher.book.queued == 0


async def test_all_who_wait_for_a_job_learn_that_it_has_ended(tmp_path: Path) -> None:
    journal, files = Journal(tmp_path / "journal.db"), Folder(tmp_path / "blobs")
    await journal.open()
    files.open()
    waiting = Dependencies(
        journal, files, Sources(cast("Any", None), cast("Any", None)), Transcoder()
    )
    key = Key("alice", "source")
    await journal.accept(draft("source"), 1.0)
    first = asyncio.create_task(waiting.gather(key, waits_for(JobOutput("source"))))
    while not waiting._endings:  # noqa: ASYNC110 - nothing reports it
        await asyncio.sleep(0)
    await journal.finish(
        key,
        state="succeeded",
        result=Numbered(b"{", b"}"),
        now=1.0,
        outputs=[KEPT_PICTURE],
        keep_until=2.0,
    )
    # Another bridge saw it end: somebody looks before this one is notified.
    await waiting.gather(key, waits_for(JobOutput("source")))
    async with asyncio.timeout(PATIENCE_S):
        await first
    await journal.close()


async def test_who_waits_for_an_output_whose_file_is_gone_learns_it(tmp_path: Path) -> None:
    async with running_dispatcher(tmp_path) as dispatcher:
        key = Key("alice", "source")
        await dispatcher.journal.accept(draft("source"), 1.0)
        gone = KeptOutput(index=0, content_type="image/png", sha256="a" * 64, size=10**6, data=None)
        await dispatcher.journal.finish(
            key,
            state="succeeded",
            result=Numbered(b"{", b"}"),
            now=1.0,
            outputs=[gone],
            keep_until=2.0,
        )
        await dispatcher.take("j1", plan=waits_for(JobOutput("source")))
        assert (await dispatcher.recorder.outcome("j1"))["error"]["code"] == "expired"


async def test_a_large_input_is_there_however_long_its_row_could_not_be_written(
    tmp_path: Path,
) -> None:
    """A sweep may come between two attempts: no row names the file yet."""
    data = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + (100).to_bytes(4, "big") * 2 + bytes(100_000)

    async def fetch(_client: str, _url: Url) -> bytes:
        return data

    comfyui = ComfyUIWithoutMedia()
    async with running_dispatcher(tmp_path, fetch=fetch, comfyui=comfyui) as dispatcher:
        released = dispatcher.journal.released

        async def fails_once(*_: object) -> int:
            dispatcher.journal.released = released  # type: ignore[method-assign]
            dispatcher.files.sweeper(-60.0)(await dispatcher.journal.files())
            raise DatabaseError("the database is away")

        dispatcher.journal.released = fails_once  # type: ignore[method-assign, assignment]
        await dispatcher.take("j1", plan=waits_for(Url("http://x/y.png")))
        comfyui.until.set()
        comfyui.finish(await comfyui.began.get())
        assert (await dispatcher.recorder.outcome("j1"))["state"] == "succeeded"
        assert dispatcher.files.read(hashlib.sha256(data).hexdigest()) == data


@pytest.mark.parametrize("cancelled", [False, True])
async def test_nothing_is_kept_of_a_job_that_was_waited_for_in_vain(
    tmp_path: Path, *, cancelled: bool
) -> None:
    async with running_dispatcher(tmp_path) as dispatcher:
        await dispatcher.pause()
        source = await dispatcher.take("source")
        await dispatcher.take("waiter", plan=waits_for(JobOutput("source")))
        while not dispatcher._dependencies.awaited():  # noqa: ASYNC110 - nothing reports it
            await asyncio.sleep(0)
        await dispatcher.cancel(Key("alice", "waiter") if cancelled else source.key)
        result = await dispatcher.recorder.outcome("waiter")
        assert result["state"] == ("cancelled" if cancelled else "failed")
        assert dispatcher._dependencies.awaited() == set()


async def test_a_cancel_follows_a_job_that_another_bridge_took_as_soon_as_it_was_released(
    tmp_path: Path,
) -> None:
    async def fetch(_client: str, _url: Url) -> bytes:
        return PICTURE

    async with running_dispatcher(tmp_path, fetch=fetch) as dispatcher:
        dispatcher.core._life._alone = False
        journal, writing, written = dispatcher.journal, asyncio.Event(), asyncio.Event()
        released, asked = journal.released, asyncio.Event()

        async def slowly(*arguments: Any) -> int:
            n = await released(*arguments)
            writing.set()
            await written.wait()
            return n

        async def lost(*_: object) -> bool:
            return False

        async def ask(_key: Key) -> State:
            asked.set()
            return "queued"

        journal.released, journal.claim, journal.claim_to_cancel = slowly, lost, ask  # type: ignore[method-assign, assignment]
        await dispatcher.take("j1", plan=waits_for(Url("http://x/y.png")))
        await writing.wait()
        assert await dispatcher.cancel(Key("alice", "j1")) == "waiting"
        written.set()
        async with asyncio.timeout(PATIENCE_S):
            await asked.wait()


async def test_a_job_that_is_replaced_before_its_input_is_asked_for_leaves_no_trace(
    tmp_path: Path,
) -> None:
    async with running_dispatcher(tmp_path) as dispatcher:
        await dispatcher.pause()
        await dispatcher.take("source")
        wanted = [
            draft(each, plan=waits_for(JobOutput("source")), replace="sensor")
            for each in ("older", "newer")
        ]
        accepted = [(await dispatcher.journal.accept(each, 1.0)).record.job for each in wanted]
        for job, each in zip(accepted, wanted, strict=True):  # as two that share a commit
            dispatcher.accept(job, each.plan)
        assert (await dispatcher.recorder.outcome("older"))["error"]["code"] == "replaced"
        gc.collect()  # what was made and never awaited is an error
