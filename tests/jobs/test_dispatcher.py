"""Cancelled, replaced and recovered jobs, and faults of ours: each costs one job at most."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from bridge.comfyui import events
from bridge.comfyui.errors import ComfyUIUnreachable
from bridge.comfyui.session import QueueSnapshot
from bridge.jobs.core.events import Recovered, TakenElsewhere
from bridge.jobs.job import Job
from bridge.jobs.journal import Journal
from bridge.jobs.queue import Key
from tests.jobs.dispatching import SteeredComfyUI, running_dispatcher
from tests.jobs.drafts import draft
from tests.support.patience import PATIENCE_S


async def test_a_replaced_job_names_the_one_that_replaced_it(tmp_path: Path) -> None:
    comfyui = SteeredComfyUI()
    async with running_dispatcher(tmp_path, comfyui=comfyui) as dispatcher:
        await dispatcher.take("older", replace="sensor")
        prompt = await comfyui.began.get()
        comfyui.lost.add(prompt)
        await dispatcher.pause()  # so that the newer one, and the older once requeued, wait
        await dispatcher.take("newer", replace="sensor")
        comfyui.finish(prompt)
        result = await dispatcher.recorder.outcome("older")
        assert result["state"] == "cancelled"
        assert result["error"]["details"]["by"] == "newer"


async def test_a_clear_leaves_alone_what_starts_meanwhile(tmp_path: Path) -> None:
    comfyui = SteeredComfyUI()
    async with running_dispatcher(tmp_path, comfyui=comfyui) as dispatcher:
        await dispatcher.pause()
        for number in range(150):
            await dispatcher.take(f"j{number}")
        await dispatcher.take("mine", client="bob")
        clearing = asyncio.create_task(dispatcher.clear("alice"))
        await asyncio.sleep(0)
        await dispatcher.resume()
        began = await asyncio.wait_for(comfyui.began.get(), 5)
        assert await clearing == 150
        assert began not in comfyui.cancelled
        comfyui.finish(began)
        assert (await dispatcher.recorder.outcome("mine"))["state"] == "succeeded"


async def test_what_others_do_with_jobs_that_are_not_here_costs_no_decision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_dispatcher(tmp_path) as dispatcher:
        ended: list[Key] = []
        dispatcher.on_ended = ended.append

        def unwanted(*_: object) -> NoReturn:
            raise AssertionError("the core was asked")

        monkeypatch.setattr(dispatcher.core, "handle", unwanted)
        elsewhere = Key("alice", "j9")
        dispatcher.handle(TakenElsewhere(elsewhere))
        dispatcher.ended_elsewhere(elsewhere)
        assert ended == [elsewhere]
        monkeypatch.undo()


async def test_a_defect_at_a_deadline_costs_that_job_not_the_bridge(tmp_path: Path) -> None:
    async with running_dispatcher(tmp_path) as dispatcher:
        write = dispatcher._finalizer.write

        async def defect(*_: object, **__: object) -> None:
            raise KeyError("a defect")

        dispatcher._finalizer.write = defect  # type: ignore[method-assign]
        await dispatcher.take("j1", start_before=1.0)
        while dispatcher.book.job(Key("alice", "j1")) is not None:  # noqa: ASYNC110 - nothing reports it
            await asyncio.sleep(0)
        dispatcher._finalizer.write = write  # type: ignore[method-assign]
        await dispatcher.take("j2", start_before=1.0)
        assert (await dispatcher.recorder.outcome("j2"))["state"] == "expired"


class Asked(SteeredComfyUI):
    """It has no prompt from before; its queue cannot be read `failures` times, by `error`."""

    def __init__(self, error: Exception, failures: int) -> None:
        super().__init__()
        self.error, self.failures, self.asked = error, failures, 0

    async def known(self) -> QueueSnapshot:
        self.asked += 1
        if self.asked <= self.failures:
            raise self.error
        return QueueSnapshot((), (), ())

    async def adopt(self, _prompt_id: str) -> AsyncGenerator[events.Event, None]:
        yield events.PromptLost("it is unknown")


async def recovered(folder: Path) -> Job:
    """Return a job that a bridge accepted before it was killed."""
    journal = Journal(folder / "journal.db")
    await journal.open()
    job = (await journal.accept(draft("j1"), 1.0)).record.job
    await journal.close()
    return job


@pytest.mark.parametrize(
    ("error", "failures", "asked"),
    [(ComfyUIUnreachable("no answer", sent=True), 1, 2), (KeyError("a defect"), 1, 1)],
)
async def test_a_queue_that_cannot_be_read_costs_no_more_than_time(
    tmp_path: Path, error: Exception, failures: int, asked: int
) -> None:
    job = await recovered(tmp_path)
    comfyui = Asked(error, failures)
    async with running_dispatcher(tmp_path, comfyui=comfyui) as dispatcher:
        dispatcher.handle(Recovered([job]))
        async with asyncio.timeout(PATIENCE_S):
            comfyui.finish(await comfyui.began.get())
        assert comfyui.asked == asked
        assert (await dispatcher.recorder.outcome("j1"))["state"] == "succeeded"


async def test_a_cancelled_prompt_that_makes_trouble_does_not_end_the_bridge(
    tmp_path: Path,
) -> None:
    class Troubled(Asked):
        async def cancel(self, prompt_id: str, **_: Any) -> bool:
            await super().cancel(prompt_id)
            raise KeyError(prompt_id)

    job = await recovered(tmp_path)
    job.instance = "main"
    comfyui = Troubled(KeyError(), 0)
    async with running_dispatcher(tmp_path, comfyui=comfyui) as dispatcher:
        dispatcher.set_paused(paused=True)
        dispatcher.handle(Recovered([job]))
        assert await dispatcher.cancel(job.key) == "cancelled"
        async with asyncio.timeout(PATIENCE_S):
            while not comfyui.cancelled:  # noqa: ASYNC110 - nothing reports it
                await asyncio.sleep(0)
        await dispatcher.resume()
        await dispatcher.take("j2")
        async with asyncio.timeout(PATIENCE_S):
            comfyui.finish(await comfyui.began.get())
        assert (await dispatcher.recorder.outcome("j2"))["state"] == "succeeded"
