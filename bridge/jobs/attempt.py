"""One attempt at one job on one ComfyUI: from its prompt to how it ended.

An attempt changes nothing but what ComfyUI holds. The core (`jobs/core/`) decides what follows for
the job, and the journal stores that.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import aclosing
from datetime import datetime
from typing import Any, Protocol, TypeAlias

from msgspec import Struct

from bridge.aio import first
from bridge.comfyui import events
from bridge.comfyui.errors import ComfyUIError, ComfyUIUnreachable, PromptRejected
from bridge.comfyui.instance import Instance
from bridge.contract.errors import (
    BridgeError,
    ExecutionError,
    Lost,
    OutOfMemory,
    Timeout,
)
from bridge.contract.messages import MissingOutput
from bridge.jobs import failures, reuse
from bridge.jobs.job import Blob, Job, MediaInput, Plan
from bridge.jobs.outputs import CollectedOutput, Collector
from bridge.jobs.progress import Meter, Snapshot
from bridge.workflows.binding import FOLDER, isolate, upload_name
from bridge.workflows.embedded import without_folder

# After this long a ComfyUI that was asked to stop a prompt is taken to be stuck.
STOP_GRACE_S = 10.0


class AttemptTimes(Struct):
    """An attempt's times: sent, begun and ended at ComfyUI, in seconds by a monotonic clock."""

    sent: float
    started: float | None = None
    ended: float | None = None


class Success(Struct, frozen=True):
    """The job succeeded, but for `missing` outputs. `reused`: all came from ComfyUI's cache."""

    outputs: list[CollectedOutput]
    reused: bool
    missing: list[MissingOutput] = []


class Failure(Struct, frozen=True):
    """The job failed, and would fail again. `counts` is as in Retry."""

    error: BridgeError
    counts: bool = False


class Retry(Struct, frozen=True):
    """The attempt failed for a reason that may not affect the next one.

    Attempts that began at ComfyUI count; `counts`: so does this one, even if it did not begin.
    `free_memory`: ComfyUI is to free its memory first. `no_room`: its disk is full.
    """

    error: BridgeError
    free_memory: bool = False
    counts: bool = False
    no_room: bool = False


class Interruption(Struct, frozen=True):
    """The attempt was interrupted, by us or at ComfyUI."""


Ending: TypeAlias = Success | Failure | Retry | Interruption


class Observer(Protocol):
    """Receives an attempt's progress. All calls come from the event loop, and must not block."""

    def began(self) -> None:
        """ComfyUI began to run the prompt; called once, unless it ended unseen."""

    def output(self, output: CollectedOutput) -> CollectedOutput:
        """An output is complete, its index final. Returns it, with its topic if published."""
        ...

    def progress(self, snapshot: Snapshot) -> None:
        """The prompt made progress."""

    def preview(self, preview: events.PromptPreview) -> None:
        """ComfyUI sent an image of the unfinished work."""


class Attempt:
    """One run of a job's prompt at one ComfyUI, with its limits of time and of silence.

    Call `run` once; `cancel` may be called at any time, also before `run`. For the event loop's
    thread.
    """

    def __init__(
        self,
        job: Job,
        instance: Instance,
        *,
        observer: Observer,
        load_media: Callable[[str], Awaitable[bytes]],
        timeout_s: float,
        silence_s: float,
        adopt: bool,
        began: bool,
    ) -> None:
        """`adopt`: ComfyUI may have the prompt already, from before this process.

        `began`: it was seen to run there. It may run for `timeout_s` seconds, and send
        nothing for `silence_s` seconds.
        """
        self.times = AttemptTimes(time.monotonic())
        self.saved_files = False
        self.used_key = False
        # Why ComfyUI ended by itself while it ran the prompt; None if it did not.
        self.killed: str | None = None
        self.prompt_id = job.prompt_id
        self._job = job
        self._instance = instance
        self._observer = observer
        self._load_media = load_media
        self._timeout_s = timeout_s
        self._silence_s = silence_s
        self._adopt = adopt
        self._began_before = began
        self._exceeded: Timeout | None = None  # why it is being stopped
        self._hung = False
        self._stop = asyncio.Event()
        self._sent = False
        self._began = False
        # While it is followed: its tasks, and what ends with it.
        self._tasks: asyncio.TaskGroup | None = None
        self._watches: list[asyncio.TimerHandle | asyncio.Task[Any]] = []
        self._cached: set[str] = set()
        self._ran: set[str] = set()

    async def run(self, plan: Plan) -> Ending:
        """Run the prompt to its end. Cancelling this leaves it at ComfyUI, to be adopted later."""
        try:
            if self._adopt:
                ending = await self._follow(plan, self._instance.adopt(self.prompt_id))
                if not _is_lost(ending) or self._began_before or self._began:
                    return ending
            try:
                return await self._execute(plan)
            except PromptRejected as error:
                uploaded = {media.node for media in plan.media if media.via == "upload"}
                if not uploaded & error.node_errors.keys():
                    raise
                # Its file may have been removed between the two requests, for another job.
                return await self._execute(plan)
        except PromptRejected as error:
            return Failure(self._without_key(failures.rejected(error, plan.names)))
        except BridgeError as error:
            return Failure(error)
        except ComfyUIError as error:
            away = isinstance(error, ComfyUIUnreachable)
            lost = self._without_key(failures.unavailable(error, self._instance.name))
            no_room = not away and self._instance.disk_is_full
            return Retry(lost, counts=not away and not no_room, no_room=no_room)

    def _extra_data(self, plan: Plan) -> dict[str, Any]:
        """Return what ComfyUI's page sends beside the graph: the drawing, and an account's key."""
        extra: dict[str, Any] = {}
        if plan.drawing:
            # For nodes that read the workflow or save it.
            extra["extra_pnginfo"] = {"workflow": plan.drawing}
        if plan.partner and self._instance.api_key is not None:
            self.used_key = True
            extra["api_key_comfy_org"] = self._instance.api_key
        return extra

    def _without_key(self, error: BridgeError) -> BridgeError:
        """Return the error without the API key, which texts from others might contain."""
        key = self._instance.api_key
        return error if key is None else failures.without(error, key)

    def cancel(self) -> None:
        """Stop the attempt. What `run` returns tells whether this came in time."""
        if not self._stop.is_set():
            self._stop.set()
            self._stop_there()

    async def _execute(self, plan: Plan) -> Ending:
        if plan.media:
            await first(self._stop.wait(), self._send_media(plan))
        if self._stop.is_set():
            return Interruption()
        prompt = self._instance.execute(
            self.prompt_id,
            isolate(plan.prompt, self.prompt_id, datetime.now().astimezone()),
            preview=self._job.envelope.preview,
            extra_data=self._extra_data(plan),
        )
        return await self._follow(plan, prompt)

    async def _send_media(self, plan: Plan) -> None:
        """Upload what ComfyUI lacks of the inputs."""
        for media in plan.media:
            for blob in media.blobs:
                await self._send(media, blob)

    async def _send(self, media: MediaInput, blob: Blob) -> None:
        """Upload bytes that ComfyUI does not have; after a restart it may lack all."""
        client = self._instance.client
        if media.via == "upload":
            data = await self._load_media(blob.sha256)
            name = upload_name(blob.sha256, blob.extension)
            await client.upload_image(data, name, subfolder=FOLDER, type="input", overwrite=True)
        elif not await client.has_media(blob.sha256):
            data = await self._load_media(blob.sha256)
            await client.put_media(blob.sha256, data, blob.content_type)

    async def _view(self, filename: str, subfolder: str, type_: str) -> bytes:
        """Fetch a file, without the name of this prompt's folder in a picture's metadata."""
        data = await self._instance.client.view(filename, subfolder, type_)
        return without_folder(data, f"{FOLDER}/{self.prompt_id}")

    async def _follow(self, plan: Plan, prompt: AsyncGenerator[events.Event, None]) -> Ending:
        try:
            async with aclosing(prompt), asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                collector = Collector(tasks, self._view, plan.outputs, self._observer.output)
                try:
                    return await self._take_events(plan, prompt, collector)
                finally:
                    self._tasks = None
                    for watch in self._watches:
                        watch.cancel()
                    self._watches.clear()
        except BaseExceptionGroup as group:
            # The first error cancelled the other tasks: it is the one that counts.
            raise group.exceptions[0] from None

    def _stop_there(self) -> None:
        """Make ComfyUI stop the prompt, if that was requested and ComfyUI has the prompt."""
        if self._tasks is not None and self._sent and self._stop.is_set():
            stopping = self._tasks.create_task(self._instance.cancel(self.prompt_id))
            self._watches.append(stopping)

    def _watch(self, delay_s: float, limit: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Start the task of a limit only when it may be reached: most prompts end before."""

        def begin() -> None:
            if self._tasks is not None:
                self._watches.append(self._tasks.create_task(limit()))

        self._watches.append(asyncio.get_running_loop().call_later(delay_s, begin))

    async def _limit_time(self) -> None:
        """Stop a prompt that takes longer than allowed."""
        text = f"it ran longer than {self._timeout_s:g} s"
        if not await self._end_prompt(Timeout(text, timeout_s=self._timeout_s)):
            raise ComfyUIUnreachable(self._instance.state.last_error or "no answer", sent=True)

    async def _limit_silence(self) -> None:
        """Stop a prompt that sends nothing any more.

        While an attached ComfyUI is offline, silence means nothing: the prompt may have ended.
        """
        text = f"it sent nothing for {self._silence_s:g} s"
        while True:
            left = self._silence_s - (self._instance.silence(self.prompt_id) or 0.0)
            if left > 0:
                await asyncio.sleep(left)
            elif await self._end_prompt(Timeout(text, silence_s=self._silence_s)):
                return
            else:
                await asyncio.sleep(self._silence_s)

    async def _end_prompt(self, error: Timeout) -> bool:
        """End the prompt because of `error`; False if an attached ComfyUI is offline.

        A supervised ComfyUI that is stuck is killed, and the prompt is lost with it. Raises Timeout
        for a prompt that does not stop in an attached one.
        """
        self._exceeded = error
        grace = min(STOP_GRACE_S, self._silence_s)
        end = await self._instance.end(self.prompt_id, within_s=grace)
        self._hung = end == "hung"
        if self._hung and not self._instance.supervised:
            raise error
        if end == "useless":
            self._exceeded = None
        return end != "useless" or self._instance.supervised

    async def _take_events(
        self, plan: Plan, prompt: AsyncGenerator[events.Event, None], collector: Collector
    ) -> Ending:
        meter = Meter(plan.prompt)
        async for event in prompt:
            if not self._sent:
                self._sent = True
                self._stop_there()
            match event:
                case events.Succeeded():
                    self.times.ended = time.monotonic()
                    return self._success(plan, await collector.all(), collector.missing)
                case events.Failed() | events.PromptInterrupted() | events.PromptLost():
                    return self._failure(event)
                case events.NodeOutput() | events.SocketImage():
                    collector.received(event)
                case events.Executed():
                    collector.executed(event)
                    self.saved_files = collector.saved_files
                case _:
                    self._report(meter, event)
        raise AssertionError("the events of a prompt end with how it ended")

    def _report(
        self,
        meter: Meter,
        event: events.Queued
        | events.Started
        | events.Cached
        | events.NodeStarted
        | events.Step
        | events.PromptPreview,
    ) -> None:
        match event:
            case events.Started():
                self.times.started = time.monotonic()
                self._began = True
                self._watch(self._timeout_s, self._limit_time)
                self._watch(self._silence_s, self._limit_silence)
                self._observer.began()
            case events.Cached(nodes):
                self._cached.update(nodes)
                self._observer.progress(meter.cached(nodes))
            case events.NodeStarted(_, display_node):
                self._ran.add(display_node)
                self._observer.progress(meter.node(display_node))
            case events.Step(node, value, maximum):
                self._observer.progress(meter.step(node, value, maximum))
            case events.PromptPreview():
                self._observer.preview(event)
            case events.Queued():
                pass

    def _success(
        self, plan: Plan, outputs: list[CollectedOutput], missing: list[MissingOutput]
    ) -> Success | Failure:
        if missing and not outputs:
            error = missing[0].error
            return Failure(ExecutionError(error.message, missing=[each.name for each in missing]))
        if not outputs:
            missing = reuse.not_given(plan)
        reused = reuse.nothing_new(plan, cached=self._cached, ran=self._ran)
        return Success(outputs, reused=reused, missing=missing)

    def _failed(self, event: events.Failed) -> Ending:
        error = self._without_key(failures.execution_failed(event))
        if failures.is_full_disk(event):
            return Retry(error, no_room=True)
        if isinstance(error, OutOfMemory):
            return Retry(error, free_memory=True)
        return Failure(error)

    def _failure(
        self, event: events.Failed | events.PromptInterrupted | events.PromptLost
    ) -> Ending:
        if isinstance(event, events.PromptLost) and event.died:
            self.killed = failures.short(event.reason)
        match event:
            case events.Failed():
                return self._failed(event)
            case events.PromptInterrupted() if self._exceeded and not self._stop.is_set():
                return Failure(self._exceeded)
            case events.PromptLost() if self._exceeded and self._hung and not self._stop.is_set():
                return Failure(self._exceeded)
            case events.PromptInterrupted():
                return Interruption()
            case events.PromptLost(reason, died):
                # A prompt may end its ComfyUI before its start was reported: that counts too.
                return Retry(failures.prompt_lost(reason), counts=died)


def _is_lost(ending: Ending) -> bool:
    return isinstance(ending, Retry) and isinstance(ending.error, Lost)
