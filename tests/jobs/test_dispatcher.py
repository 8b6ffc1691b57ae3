"""What befalls single jobs between their lists, and faults of ours: none of it costs the bridge."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from bridge.comfyui import events
from bridge.comfyui.state import InstanceState
from bridge.contract.numbering import Numbered
from bridge.contract.sources import JobOutput, Url
from bridge.jobs.dispatcher import Dispatcher, Limits
from bridge.jobs.job import Envelope, Job, KeptOutput, MediaInput, Plan
from bridge.jobs.journal import Journal
from bridge.jobs.outcome import Outcomes
from bridge.jobs.queue import Key
from bridge.jobs.waiting import Suppliers, Waiting
from bridge.media.files import Folder
from bridge.media.transcode import Transcoder
from tests.jobs.drafts import PLAN, draft

PICTURE = b"\x89PNG\r\n\x1a\n" + b"x" * 100


class Told:
    """A listener; `fault` is raised where an output is told."""

    def __init__(self) -> None:
        self.results: dict[str, Any] = {}
        self.ended: dict[str, asyncio.Event] = {}
        self.fault: Exception | None = None

    def status(self, *_: object) -> None: ...

    def progress(self, *_: object) -> None: ...

    def preview(self, *_: object) -> None: ...

    def output(self, *_: object) -> None:
        if self.fault is not None:
            raise self.fault

    def result(self, key: Key, _envelope: Envelope, result: bytes) -> None:
        self.results[key.job_id] = json.loads(result)
        self.ended.setdefault(key.job_id, asyncio.Event()).set()

    async def outcome(self, job_id: str) -> Any:
        async with asyncio.timeout(10):
            await self.ended.setdefault(job_id, asyncio.Event()).wait()
        return self.results[job_id]


class Comfy:
    """A ComfyUI whose every prompt gives one text."""

    name = "main"
    supervised = False
    output_folder = None
    state = InstanceState(state="ready", since=0.0)

    def __init__(self) -> None:
        self.client = cast("Any", self)

    async def changed(self, _seen: object = None) -> InstanceState:
        await asyncio.Event().wait()
        raise AssertionError

    async def ready(self) -> None: ...

    async def view(self, *_: object) -> bytes:
        return b""

    async def forget(self, _prompt_ids: object) -> None: ...

    def silence(self, _prompt_id: str) -> float:
        return 0.0

    async def execute(
        self, _prompt_id: str, _prompt: Mapping[str, Any], *, preview: bool
    ) -> AsyncIterator[events.Event]:
        del preview
        yield events.Queued()
        yield events.Started()
        output = {"text": ["a barn"]}
        yield events.Executed("1", "1", output)
        yield events.Succeeded({"1": output})


class House(Dispatcher):
    """A dispatcher with its journal, on a real disk."""

    journal: Journal
    told: Told

    async def take(self, job_id: str, **changes: Any) -> Job:
        wanted = draft(job_id, **changes)
        job = (await self.journal.accept(wanted, 1.0)).record.job
        self.add(job, wanted.plan)
        return job


Fetch = Callable[[str, Url], Awaitable[bytes]]


@asynccontextmanager
async def house(
    folder: Path, *, fetch: Fetch | None = None, comfyui: Comfy | None = None
) -> AsyncIterator[House]:
    journal, files, told = Journal(folder / "journal.db"), Folder(folder / "blobs"), Told()
    await journal.open()
    files.open()
    waiting = Waiting(journal, files, Suppliers(cast("Any", fetch), cast("Any", None)))
    dispatcher = House(
        journal=journal,
        files=files,
        instances=[] if comfyui is None else [cast("Any", comfyui)],
        listener=told,
        waiting=waiting,
        can_run=lambda _name, _needs: True,
        limits=Limits(3, 60.0, 60.0, 60.0),
        outcomes=Outcomes(
            journal, files, told, 60.0, show=cast("Any", None), transcoder=Transcoder()
        ),
    )
    dispatcher.journal, dispatcher.told = journal, told
    running = asyncio.create_task(dispatcher.run())
    try:
        yield dispatcher
        assert not running.done()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await journal.close()


def waits_for(*items: JobOutput | Url) -> Plan:
    media = MediaInput("image", "image", "1", "image", "media", [*items])
    return Plan(PLAN.prompt, {}, {}, PLAN.outputs, [media])


async def test_a_defect_while_a_job_waits_costs_that_job(tmp_path: Path) -> None:
    async def fetch(_client: str, url: Url) -> bytes:
        raise KeyError(url.url)

    async with house(tmp_path, fetch=fetch) as dispatcher:
        await dispatcher.take("j1", plan=waits_for(Url("http://x/y.png")))
        result = await dispatcher.told.outcome("j1")
        assert result["state"] == "failed"
        assert "KeyError" in result["error"]["message"]
        assert dispatcher.job(Key("alice", "j1")) is None


async def test_a_cancel_on_the_way_into_the_queue_counts(tmp_path: Path) -> None:
    async def fetch(_client: str, _url: Url) -> bytes:
        return PICTURE

    async with house(tmp_path, fetch=fetch) as dispatcher:
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
        assert (await dispatcher.told.outcome("j1"))["state"] == "cancelled"
        assert len(dispatcher.backlog) == 0


@pytest.mark.parametrize("lasts", [False, True])
async def test_a_defect_while_a_job_is_concluded_costs_that_job(
    tmp_path: Path, *, lasts: bool
) -> None:
    async with house(tmp_path, comfyui=Comfy()) as dispatcher:
        told = dispatcher.told
        told.fault = ValueError("no such topic")
        finish = dispatcher.journal.finish
        if lasts:

            async def never(*_: object, **__: object) -> bytes:
                raise ValueError("no such column")

            dispatcher.journal.finish = never  # type: ignore[method-assign]
        await dispatcher.take("j1")
        if not lasts:
            result = await told.outcome("j1")
            assert (result["state"], result["outputs"]) == ("failed", [])
        while dispatcher.job(Key("alice", "j1")) is not None:  # noqa: ASYNC110 - nobody is told
            await asyncio.sleep(0)
        dispatcher.journal.finish = finish  # type: ignore[method-assign]
        told.fault = None
        await dispatcher.take("j2")
        assert (await told.outcome("j2"))["state"] == "succeeded"


async def test_all_who_wait_for_a_job_learn_that_it_has_ended(tmp_path: Path) -> None:
    journal, files = Journal(tmp_path / "journal.db"), Folder(tmp_path / "blobs")
    await journal.open()
    files.open()
    waiting = Waiting(journal, files, Suppliers(cast("Any", None), cast("Any", None)))
    key = Key("alice", "source")
    await journal.accept(draft("source"), 1.0)
    first = asyncio.create_task(waiting.gather(key, waits_for(JobOutput("source"))))
    while not waiting._endings:  # noqa: ASYNC110 - nobody is told
        await asyncio.sleep(0)
    output = KeptOutput(
        index=0,
        content_type="image/png",
        sha256=hashlib.sha256(PICTURE).hexdigest(),
        size=len(PICTURE),
        data=PICTURE,
    )
    await journal.finish(
        key,
        state="succeeded",
        result=Numbered(b"{", b"}"),
        now=1.0,
        outputs=[output],
        keep_until=2.0,
    )
    # Another bridge saw it end: before that is told here, somebody else looks.
    await waiting.gather(key, waits_for(JobOutput("source")))
    async with asyncio.timeout(10):
        await first
    await journal.close()


async def test_who_waits_for_an_output_whose_file_is_gone_learns_it(tmp_path: Path) -> None:
    async with house(tmp_path) as dispatcher:
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
        assert (await dispatcher.told.outcome("j1"))["error"]["code"] == "expired"
