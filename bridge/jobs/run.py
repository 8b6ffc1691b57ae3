"""One attempt at one job on one ComfyUI: from its prompt to how it ended.

A run changes nothing outside but what ComfyUI holds; what becomes of the job is for the
dispatcher to decide and for the journal to keep.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeAlias

from msgspec import Struct

from bridge.comfyui import events
from bridge.comfyui.errors import ComfyUIError, Gone, PromptRejected, Unreachable
from bridge.comfyui.instance import Instance
from bridge.contract.errors import BridgeError, ComfyUIUnavailable, Lost, OutOfMemory, Timeout
from bridge.jobs import failures
from bridge.jobs.job import Blob, Job, MediaInput, Plan
from bridge.jobs.outputs import Collector, Offer, Output
from bridge.jobs.progress import Meter, Standing
from bridge.workflows.binding import FOLDER, isolate, upload_name

# After this long a ComfyUI that was told to stop a prompt is taken to be stuck.
STOP_GRACE_S = 10.0


class Times(Struct):
    """When a run got where, by a monotonic clock in seconds."""

    sent: float
    started: float | None = None
    ended: float | None = None


class Success(Struct, frozen=True):
    """All outputs are here; `reused` says that ComfyUI had them all from before."""

    outputs: list[Output]
    reused: bool


class Failure(Struct, frozen=True):
    """It failed, and would again."""

    error: BridgeError


class Again(Struct, frozen=True):
    """It failed for a reason that another attempt may mend; `error` tells it if none is left.

    An attempt counts from its start at ComfyUI on; `counts` says that this one does without.
    """

    error: BridgeError
    free_memory: bool = False
    counts: bool = False


class Interrupted(Struct, frozen=True):
    """It was stopped, by us or at ComfyUI."""


Ending: TypeAlias = Success | Failure | Again | Interrupted


class Watcher(Struct, frozen=True):
    """Whom a run tells how it goes."""

    started: Callable[[], None]
    output: Offer
    progress: Callable[[Standing], None]
    preview: Callable[[events.Preview], None]


class Run:
    """Call `run` once. `cancel` may come at any time, before it too."""

    def __init__(
        self,
        job: Job,
        plan: Plan,
        instance: Instance,
        *,
        watcher: Watcher,
        load_media: Callable[[str], Awaitable[bytes]],
        timeout_s: float,
        silence_s: float,
        adopt: bool,
    ) -> None:
        """With `adopt`, ComfyUI may have the prompt already, from before this process.

        It may run for `timeout_s`, and nothing be heard of it for `silence_s`.
        """
        self.times = Times(time.monotonic())
        self.saved_files = False
        self._job = job
        self._plan = plan
        self._instance = instance
        self._watcher = watcher
        self._load_media = load_media
        self._timeout_s = timeout_s
        self._silence_s = silence_s
        self._adopt = adopt
        self._cut: Timeout | None = None  # why it is being stopped
        self._hung = False
        self._stop = asyncio.Event()
        self._sent = asyncio.Event()
        self._began = asyncio.Event()
        self._meter = Meter(plan.prompt)
        self._cached = False
        self._ran: set[str] = set()

    async def run(self) -> Ending:
        """Run it to its end."""
        try:
            if self._adopt:
                ending = await self._follow(self._instance.adopt(self._job.prompt_id))
                if not _is_lost(ending) or self._job.state == "running":
                    return ending
            if self._stop.is_set():
                return Interrupted()
            await self._send_media()
            return await self._follow(
                self._instance.execute(
                    self._job.prompt_id,
                    isolate(self._plan.prompt, self._job.prompt_id),
                    preview=self._job.envelope.preview,
                )
            )
        except PromptRejected as error:
            return Failure(failures.rejected(error, self._plan.names))
        except Timeout as error:
            return Failure(error)
        except ComfyUIError as error:
            kind = Lost if isinstance(error, Gone) else ComfyUIUnavailable
            away = isinstance(error, Unreachable)
            return Again(kind(str(error), instance=self._instance.name), counts=not away)

    def cancel(self) -> None:
        """Have it stopped; its ending tells whether that came in time."""
        self._stop.set()

    async def _send_media(self) -> None:
        for media in self._plan.media:
            for blob in media.blobs:
                await self._send(media, blob)

    async def _send(self, media: MediaInput, blob: Blob) -> None:
        """Give ComfyUI bytes that it does not have, or no longer: it may have been restarted."""
        client = self._instance.client
        if media.via == "upload":
            data = await self._load_media(blob.sha256)
            name = upload_name(blob.sha256, blob.extension)
            await client.upload_image(data, name, subfolder=FOLDER, type="input", overwrite=True)
        elif not await client.has_media(blob.sha256):
            data = await self._load_media(blob.sha256)
            await client.put_media(blob.sha256, data, blob.content_type)

    async def _follow(self, happening: AsyncIterator[events.Event]) -> Ending:
        try:
            async with asyncio.TaskGroup() as tasks:
                limits = [
                    tasks.create_task(self._limit_time()),
                    tasks.create_task(self._limit_silence()),
                    tasks.create_task(self._stop_when_told()),
                ]
                collector = Collector(
                    tasks, self._instance.client.view, self._plan.outputs, self._watcher.output
                )
                ending = await self._events(happening, collector)
                for task in limits:
                    task.cancel()
        except BaseExceptionGroup as group:
            # One fault fails the group; the first tells.
            raise group.exceptions[0] from None
        return ending

    async def _stop_when_told(self) -> None:
        await self._stop.wait()
        await self._sent.wait()  # before, ComfyUI would know of nothing to stop
        await self._instance.cancel(self._job.prompt_id)

    async def _limit_time(self) -> None:
        """Stop a run that takes longer than allowed."""
        await self._began.wait()
        await asyncio.sleep(self._timeout_s)
        text = f"it ran longer than {self._timeout_s:g} s"
        if not await self._cut_short(Timeout(text, timeout_s=self._timeout_s)):
            raise Unreachable(self._instance.state.last_error or "no answer", sent=True)

    async def _limit_silence(self) -> None:
        """Stop a run of which nothing is heard any more.

        While a ComfyUI of somebody else's is away that says nothing: the job may be done there.
        """
        await self._began.wait()
        text = f"nothing was heard of it for {self._silence_s:g} s"
        while True:
            left = self._silence_s - (self._instance.silence(self._job.prompt_id) or 0.0)
            if left > 0:
                await asyncio.sleep(left)
            elif await self._cut_short(Timeout(text, silence_s=self._silence_s)):
                return
            else:
                await asyncio.sleep(self._silence_s)

    async def _cut_short(self, error: Timeout) -> bool:
        """Have it ended; False where somebody else's ComfyUI is away or of no use.

        Where ComfyUI is ours and stuck, it is lost with that process. Raises Timeout for a prompt
        that does not stop in somebody else's.
        """
        self._cut = error
        grace = min(STOP_GRACE_S, self._silence_s)
        end = await self._instance.end(self._job.prompt_id, within_s=grace)
        self._hung = end == "hung"
        if self._hung and not self._instance.supervised:
            raise error
        if end == "useless":
            self._cut = None
        return end != "useless" or self._instance.supervised

    async def _events(self, happening: AsyncIterator[events.Event], collector: Collector) -> Ending:
        async for event in happening:
            self._sent.set()
            match event:
                case events.Succeeded():
                    self.times.ended = time.monotonic()
                    return Success(await collector.all(), reused=self._reused())
                case events.Failed() | events.Interrupted() | events.Lost():
                    return self._failure(event)
                case events.NodeOutput() | events.SocketImage():
                    collector.received(event)
                case events.Executed():
                    collector.executed(event)
                    self.saved_files = collector.saved_files
                case _:
                    self._tell(event)
        raise AssertionError("the events of a prompt end with how it ended")

    def _tell(
        self,
        event: events.Queued
        | events.Started
        | events.Cached
        | events.NodeStarted
        | events.Step
        | events.Preview,
    ) -> None:
        match event:
            case events.Started():
                self.times.started = time.monotonic()
                self._began.set()
                self._watcher.started()
            case events.Cached(nodes):
                self._cached = True
                self._watcher.progress(self._meter.cached(nodes))
            case events.NodeStarted(_, display_node):
                self._ran.add(display_node)
                self._watcher.progress(self._meter.node(display_node))
            case events.Step(node, value, maximum):
                self._watcher.progress(self._meter.step(node, value, maximum))
            case events.Preview():
                self._watcher.preview(event)
            case events.Queued():
                pass

    def _reused(self) -> bool:
        """Whether nothing but output nodes ran: an empty list of cached nodes means nothing."""
        return self._cached and self._ran <= {output.node for output in self._plan.outputs}

    def _failure(self, event: events.Failed | events.Interrupted | events.Lost) -> Ending:
        match event:
            case events.Failed():
                error = failures.failed(event)
                if isinstance(error, OutOfMemory):
                    return Again(error, free_memory=True)
                return Failure(error)
            case events.Interrupted() if self._cut and not self._stop.is_set():
                return Failure(self._cut)
            case events.Lost() if self._cut and self._hung and not self._stop.is_set():
                return Failure(self._cut)
            case events.Interrupted():
                return Interrupted()
            case events.Lost(reason):
                return Again(Lost(f"ComfyUI lost the job: {reason}"))


def _is_lost(ending: Ending) -> bool:
    return isinstance(ending, Again) and isinstance(ending.error, Lost)
