"""Jobs at a ComfyUI: their attempts, media and ends."""

from __future__ import annotations

import asyncio
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from bridge.jobs.database import DatabaseError, TransientError
from bridge.jobs.job import Blob, Job, MediaInput, Plan
from bridge.jobs.queue import Key
from tests.jobs.dispatching import (
    ComfyUIWithoutMedia,
    QuickComfyUI,
    RunningDispatcher,
    SteeredComfyUI,
    running_dispatcher,
)
from tests.jobs.drafts import PLAN
from tests.support.patience import PATIENCE_S


@pytest.mark.parametrize("lasts", [False, True])
async def test_a_defect_while_a_job_is_concluded_costs_that_job(
    tmp_path: Path, *, lasts: bool
) -> None:
    async with running_dispatcher(tmp_path, comfyui=QuickComfyUI()) as dispatcher:
        recorder = dispatcher.recorder
        recorder.fault = ValueError("no such topic")
        finish = dispatcher.journal.finish
        if lasts:

            async def never(*_: object, **__: object) -> bytes:
                raise ValueError("no such column")

            dispatcher.journal.finish = never  # type: ignore[method-assign]
        await dispatcher.take("j1")
        if not lasts:
            result = await recorder.outcome("j1")
            assert (result["state"], result["outputs"]) == ("failed", [])
        while dispatcher.book.job(Key("alice", "j1")) is not None:  # noqa: ASYNC110 - nothing reports it
            await asyncio.sleep(0)
        dispatcher.journal.finish = finish  # type: ignore[method-assign]
        recorder.fault = None
        await dispatcher.take("j2")
        assert (await recorder.outcome("j2"))["state"] == "succeeded"


async def test_a_retry_is_counted(tmp_path: Path) -> None:
    comfyui = SteeredComfyUI()
    async with running_dispatcher(tmp_path, comfyui=comfyui) as dispatcher:
        await dispatcher.take("j1")
        first = await comfyui.began.get()
        comfyui.lost.add(first)
        comfyui.finish(first)
        second = await comfyui.began.get()
        assert second != first
        comfyui.finish(second)
        result = await dispatcher.recorder.outcome("j1")
        assert result["attempts"] == 2
        assert dispatcher.counters.retried == 1


async def died_under(comfyui: SteeredComfyUI) -> None:
    """Let the next prompt begin, and its ComfyUI end under it."""
    prompt = await comfyui.began.get()
    comfyui.lost.add(prompt)
    comfyui.finish(prompt)


async def test_a_prompt_that_ended_its_comfyui_twice_is_not_run_a_third_time(
    tmp_path: Path,
) -> None:
    """Neither of its job nor of another that waits, whoever sent it; others go on."""
    comfyui = SteeredComfyUI()
    comfyui.dies = True
    bad = replace(PLAN, prompt={"1": {"class_type": "Bad", "inputs": {"seed": 1}}})
    reseeded = replace(PLAN, prompt={"1": {"class_type": "Bad", "inputs": {"seed": 2}}})
    async with running_dispatcher(tmp_path, comfyui=comfyui) as dispatcher:
        await dispatcher.take("first", plan=bad)
        for _ in range(2):
            await died_under(comfyui)
        await dispatcher.take("second", client="bob", plan=reseeded)
        for job_id in ("first", "second"):
            result = await dispatcher.recorder.outcome(job_id)
            assert (result["state"], result["error"]["code"]) == ("failed", "quarantined")
            assert "restarted" in result["error"]["details"]["reason"]
        await dispatcher.take("other")
        comfyui.finish(await comfyui.began.get())
        assert (await dispatcher.recorder.outcome("other"))["state"] == "succeeded"
        assert dispatcher.quarantine.release() == 1
        await dispatcher.take("again", plan=bad)
        comfyui.finish(await comfyui.began.get())
        assert (await dispatcher.recorder.outcome("again"))["state"] == "succeeded"


async def test_a_comfyui_that_others_stop_quarantines_nothing(tmp_path: Path) -> None:
    comfyui = SteeredComfyUI()
    async with running_dispatcher(tmp_path, comfyui=comfyui) as dispatcher:
        await dispatcher.take("j1")
        for _ in range(2):
            await died_under(comfyui)
        comfyui.finish(await comfyui.began.get())
        assert (await dispatcher.recorder.outcome("j1"))["state"] == "succeeded"


async def test_a_job_that_was_stopped_at_comfyui_itself_says_so(tmp_path: Path) -> None:
    comfyui = SteeredComfyUI()
    comfyui.stopped = True
    async with running_dispatcher(tmp_path, comfyui=comfyui) as dispatcher:
        await dispatcher.take("theirs")
        comfyui.finish(await comfyui.began.get())
        result = await dispatcher.recorder.outcome("theirs")
        assert (result["state"], result["error"]["code"]) == ("cancelled", "interrupted")
        comfyui.stopped = False
        job = await dispatcher.take("mine")
        await comfyui.began.get()
        await dispatcher.cancel(job.key)
        assert "error" not in await dispatcher.recorder.outcome("mine")


async def with_media(dispatcher: RunningDispatcher, job_id: str, data: bytes) -> Job:
    """Take a job whose input is some bytes that the bridge keeps."""
    sha256 = hashlib.sha256(data).hexdigest()
    dispatcher.files.put(sha256, data)
    blob = Blob(sha256, len(data), "image/png", "png")
    media = MediaInput("image", "image", "1", "image", "media", [blob])
    plan = Plan(PLAN.prompt, {}, {}, PLAN.outputs, [media])
    return await dispatcher.take(job_id, plan=plan, media={sha256: data})


async def test_large_media_are_waited_for_while_the_database_is_away(tmp_path: Path) -> None:
    comfyui = ComfyUIWithoutMedia()
    comfyui.until.set()
    async with running_dispatcher(tmp_path, comfyui=comfyui) as dispatcher:
        read, times = dispatcher.files.read, 0

        def away_once(*arguments: Any) -> bytes:
            nonlocal times
            times += 1
            if times == 1:
                raise DatabaseError("the database is away")
            return read(*arguments)

        dispatcher.files.read = away_once  # type: ignore[method-assign, assignment]
        await with_media(dispatcher, "j1", b"y" * 100_000)
        comfyui.finish(await comfyui.began.get())
        assert (await dispatcher.recorder.outcome("j1"))["state"] == "succeeded"


async def test_media_that_are_gone_cost_the_job_and_name_no_path(tmp_path: Path) -> None:
    comfyui = ComfyUIWithoutMedia()
    async with running_dispatcher(tmp_path, comfyui=comfyui) as dispatcher:
        await dispatcher.pause()
        await with_media(dispatcher, "j1", b"y" * 100_000)
        for path in (tmp_path / "blobs").rglob("*"):
            if path.is_file():
                path.unlink()
        await dispatcher.resume()
        result = await dispatcher.recorder.outcome("j1")
        assert (result["state"], result["error"]["code"]) == ("failed", "expired")
        assert str(tmp_path) not in json.dumps(result)


async def test_a_job_whose_input_the_disk_has_damaged_fails_and_says_so(tmp_path: Path) -> None:
    """It never runs with other bytes than were given."""
    comfyui = ComfyUIWithoutMedia()
    async with running_dispatcher(tmp_path, comfyui=comfyui) as dispatcher:
        await dispatcher.pause()
        await with_media(dispatcher, "j1", b"y" * 100_000)
        for path in (tmp_path / "blobs").iterdir():
            path.write_bytes(b"z" * 100_000)
        await dispatcher.resume()
        result = await dispatcher.recorder.outcome("j1")
    assert (result["state"], result["error"]["code"]) == ("failed", "expired")
    assert "damaged" in result["error"]["message"]
    assert not comfyui.uploading.is_set()


async def test_a_cancel_does_not_wait_for_an_upload_to_comfyui(tmp_path: Path) -> None:
    comfyui = ComfyUIWithoutMedia()
    async with running_dispatcher(tmp_path, comfyui=comfyui) as dispatcher:
        await with_media(dispatcher, "j1", b"z" * 1000)
        await comfyui.uploading.wait()
        await dispatcher.cancel(Key("alice", "j1"))
        assert (await dispatcher.recorder.outcome("j1"))["state"] == "cancelled"
        assert comfyui.began.empty()


async def test_jobs_wait_while_the_outcomes_of_others_cannot_be_written(tmp_path: Path) -> None:
    async with running_dispatcher(tmp_path, comfyui=QuickComfyUI()) as dispatcher:
        finish = dispatcher.journal.finish

        async def refuse(*_: object, **__: object) -> bytes:
            raise TransientError("the bucket is away")

        dispatcher.journal.finish = refuse  # type: ignore[method-assign]
        jobs = [f"j{number}" for number in range(10)]
        for job_id in jobs:
            await dispatcher.take(job_id)
        async with asyncio.timeout(PATIENCE_S):
            while dispatcher.book.held is None or any(  # noqa: ASYNC110 - nothing reports it
                each.holds_slot for each in dispatcher.book.entries.values()
            ):
                await asyncio.sleep(0.01)
        # At most those that were at the ComfyUI when the third could not be written.
        assert len(dispatcher.book.unwritten) <= 3 + 2
        assert len(dispatcher.book.entries) == 10
        dispatcher.journal.finish = finish  # type: ignore[method-assign]
        for job_id in jobs:
            assert (await dispatcher.recorder.outcome(job_id))["state"] == "succeeded"
