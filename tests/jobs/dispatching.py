"""A dispatcher that runs, with a journal on a real disk, and ComfyUIs that a test steers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

from bridge.comfyui import events
from bridge.comfyui.state import InstanceState
from bridge.contract.sources import JobOutput, Url
from bridge.jobs.core import JobLimits
from bridge.jobs.dependencies import Dependencies, Sources
from bridge.jobs.dispatcher import Dispatcher
from bridge.jobs.finalizer import Finalizer
from bridge.jobs.job import Envelope, Job, MediaInput, Plan
from bridge.jobs.journal import Journal
from bridge.jobs.output_delivery import DeliverOutputs
from bridge.jobs.queue import Key
from bridge.media.files import Folder
from bridge.media.transcode import Transcoder
from tests.jobs.drafts import PLAN, draft
from tests.support.journals import with_tables
from tests.support.patience import PATIENCE_S


class Recorder:
    """A listener; it raises `fault` at an output, if there is one."""

    def __init__(self) -> None:
        self.results: dict[str, Any] = {}
        self.ended: dict[str, asyncio.Event] = {}
        self.fault: Exception | None = None
        self.outputs = 0

    def status(self, *_: object) -> None: ...

    def progress(self, *_: object) -> None: ...

    def preview(self, *_: object) -> None: ...

    def output(self, *_: object) -> None:
        if self.fault is not None:
            raise self.fault
        self.outputs += 1

    def result(self, key: Key, _envelope: Envelope, result: bytes) -> None:
        self.results[key.job_id] = json.loads(result)
        self.ended.setdefault(key.job_id, asyncio.Event()).set()

    async def outcome(self, job_id: str) -> Any:
        async with asyncio.timeout(PATIENCE_S):
            await self.ended.setdefault(job_id, asyncio.Event()).wait()
        return self.results[job_id]


class QuickComfyUI:
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

    def clean_up(self, _prompt_id: str, _folder: str | None) -> None: ...

    def silence(self, _prompt_id: str) -> float:
        return 0.0

    async def execute(
        self, _prompt_id: str, _prompt: Mapping[str, Any], *, preview: bool, extra_data: Any
    ) -> AsyncIterator[events.Event]:
        del preview, extra_data
        yield events.Queued()
        yield events.Started()
        output = {"text": ["a barn"]}
        yield events.Executed("1", "1", output)
        yield events.Succeeded({"1": output})


class SteeredComfyUI(QuickComfyUI):
    """Each prompt runs until `finish`; those of `lost` are lost then.

    With `dies` its process ended by itself under those; with `stopped` somebody interrupts all.
    """

    def __init__(self, name: str = "main") -> None:
        super().__init__()
        self.name = name
        self.running: dict[str, asyncio.Event] = {}
        self.began: asyncio.Queue[str] = asyncio.Queue()
        self.lost: set[str] = set()
        self.dies = False
        self.stopped = False
        self.cancelled: list[str] = []

    def finish(self, prompt_id: str) -> None:
        self.running.setdefault(prompt_id, asyncio.Event()).set()

    async def execute(
        self, prompt_id: str, _prompt: Mapping[str, Any], *, preview: bool, extra_data: Any
    ) -> AsyncGenerator[events.Event, None]:
        del preview, extra_data
        finished = self.running.setdefault(prompt_id, asyncio.Event())
        yield events.Queued()
        yield events.Started()
        await self.began.put(prompt_id)
        await finished.wait()
        if prompt_id in self.lost:
            yield events.PromptLost("it was restarted", died=self.dies)
        elif prompt_id in self.cancelled or self.stopped:
            yield events.PromptInterrupted()
        else:
            yield events.Executed("1", "1", {"text": ["x"]})
            yield events.Succeeded({"1": {"text": ["x"]}})

    async def cancel(self, prompt_id: str, **_: Any) -> bool:
        self.cancelled.append(prompt_id)
        self.finish(prompt_id)
        return True


class ComfyUIWithoutMedia(SteeredComfyUI):
    """It has no media; `uploading` is set when it is sent some, and takes `until` then."""

    def __init__(self) -> None:
        super().__init__()
        self.uploading = asyncio.Event()
        self.until = asyncio.Event()

    async def has_media(self, _sha256: str) -> bool:
        return False

    async def put_media(self, *_: object) -> None:
        self.uploading.set()
        await self.until.wait()


class RunningDispatcher(Dispatcher):
    """A dispatcher with its journal, on a real disk."""

    journal: Journal
    files: Folder
    recorder: Recorder

    async def take(self, job_id: str, **changes: Any) -> Job:
        wanted = draft(job_id, **changes)
        job = (await self.journal.accept(wanted, 1.0)).record.job
        self.accept(job, wanted.plan)
        return job


Fetch = Callable[[str, Url], Awaitable[bytes]]


@asynccontextmanager
async def running_dispatcher(
    folder: Path,
    *,
    fetch: Fetch | None = None,
    comfyui: QuickComfyUI | None = None,
    deliver: DeliverOutputs | None = None,
) -> AsyncIterator[RunningDispatcher]:
    journal = Journal(with_tables(folder / "journal.db"))
    files, recorder = Folder(folder / "blobs"), Recorder()
    await journal.open()
    files.open()
    dependencies = Dependencies(
        journal, files, Sources(cast("Any", fetch), cast("Any", None)), Transcoder()
    )
    dispatcher = RunningDispatcher(
        journal=journal,
        files=files,
        instances=[] if comfyui is None else [cast("Any", comfyui)],
        listener=recorder,
        dependencies=dependencies,
        can_run=lambda _name, _needs: True,
        limits=JobLimits(3, 60.0, 60.0, 60.0),
        finalizer=Finalizer(
            journal, files, recorder, 60.0, show=cast("Any", None), transcoder=Transcoder()
        ),
        deliver=deliver,
    )
    dispatcher.journal, dispatcher.files, dispatcher.recorder = journal, files, recorder
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
