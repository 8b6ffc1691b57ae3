"""Keeps the connection to one ComfyUI open, and follows every prompt of ours to its end.

`prompt_tracker` decides; the socket, the requests and the clock are here. A prompt usually costs
one POST, and the frames that ComfyUI sends anyway. When frames may have been missed,
ComfyUI's queue and history are read.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import msgspec

from bridge.aio import wait_set
from bridge.comfyui import frames
from bridge.comfyui.client import ComfyClient
from bridge.comfyui.connection import ComfyUISocket, connected
from bridge.comfyui.errors import (
    ComfyUIError,
    ComfyUIUnreachable,
    NotFound,
    OutputGone,
    ReplyTooLarge,
    UnexpectedAnswer,
)
from bridge.comfyui.events import Event, PromptLost, PromptPreview, Succeeded, Terminal
from bridge.comfyui.execution import Execution, socket_nodes
from bridge.comfyui.prompt_tracker import Prompt, PromptTracker
from bridge.comfyui.state import Connected, Disconnected, QueueLength
from bridge.retry import Backoff


class EventQueue:
    """Unbounded, one reader. The prompt bounds it: a job has only so many steps and outputs."""

    def __init__(self) -> None:
        self._events: deque[Event | None] = deque()
        self._preview: PromptPreview | None = None
        self._arrived: asyncio.Future[None] | None = None

    def put(self, event: Event) -> None:
        """Add an event and wake the reader; never waits. Call it on the event loop's thread."""
        if isinstance(event, PromptPreview):
            # None holds the preview's place in the queue, so that a newer one takes it.
            waiting, self._preview = self._preview, event
            if waiting is not None:
                return
            self._events.append(None)
        else:
            self._events.append(event)
        if self._arrived is not None and not self._arrived.done():
            self._arrived.set_result(None)

    async def get(self) -> Event:
        """Wait for the next event. Cancelling it loses none."""
        while not self._events:
            self._arrived = asyncio.get_running_loop().create_future()
            try:
                await self._arrived
            finally:
                self._arrived = None
        event = self._events.popleft()
        if event is not None:
            return event
        preview, self._preview = self._preview, None
        if preview is None:
            raise AssertionError("a place in the queue without its preview")
        return preview


# How long a submission waits for a connection that is just being made.
_CONNECTION_WAIT_S = 5.0
_RECONNECT_FIRST_S = 0.1
# After a connection that lasted this long, the next attempt is made as after the first cut.
_GOOD_AFTER_S = 1.0
_RETRY_S = 1.0
_QUEUE_WAIT_S = 0.5


class WorkerDied(msgspec.Struct, frozen=True):
    """ComfyUI answers, but the thread that runs prompts has ended."""


class PromptSucceeded(msgspec.Struct, frozen=True):
    """A prompt of ours ran to its end: this ComfyUI works."""


SessionEvent: TypeAlias = Connected | Disconnected | QueueLength | WorkerDied | PromptSucceeded


class QueueSnapshot(msgspec.Struct, frozen=True):
    """Prompt ids in ComfyUI's queue, in its order; `foreign` are those that are not ours."""

    running: tuple[str, ...]
    pending: tuple[str, ...]
    foreign: tuple[str, ...]


class ComfySession:
    """Use `run` as a task; the rest works while it runs.

    `report` is called on the event loop's thread with what happens to the connection; it must not
    block. A cut is not reported if connecting again succeeds at once. `epoch` names the process at
    the other end, None where only our nodes can. After `silence_s` seconds without a frame of a
    prompt, ComfyUI is asked about it; `clock` gives monotonic seconds.
    """

    def __init__(
        self,
        client: ComfyClient,
        *,
        report: Callable[[SessionEvent], None],
        epoch: str | None = None,
        reconnect_cap_s: float = 5.0,
        silence_s: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.client = client
        self._report = report
        self._epoch = epoch
        self._reconnect_cap_s = reconnect_cap_s
        self._silence_s = silence_s
        self._clock = clock
        self._tracker = PromptTracker(silence_s=silence_s)
        self._queues: dict[Prompt, EventQueue] = {}
        self._in_doubt = asyncio.Event()
        # Set while no prompt is followed.
        self._unused = asyncio.Event()
        self._unused.set()
        self._connection: ComfyUISocket | None = None
        # Set while it is known whether there is a connection; not so just after a cut.
        self._attempted = asyncio.Event()
        self._queue_changed = asyncio.Event()
        self._has_nodes = False

    # -- for callers ----------------------------------------------------------------------------

    async def execute(
        self,
        prompt_id: str,
        prompt: Mapping[str, Any],
        *,
        preview: bool,
        extra_data: Mapping[str, Any] | None,
    ) -> AsyncGenerator[Event, None]:
        """Submit a prompt and yield its events, the last being a Terminal.

        Raises PromptRejected, AlreadyFollowed, and another ComfyUIError if ComfyUI certainly does
        not have it. Cancelling or closing it leaves the prompt at ComfyUI.
        """
        connection = await self._connected()
        execution = Execution(socket_nodes=socket_nodes(prompt), preview=preview)
        followed, queue = self._follow(prompt_id, execution, blind=False)
        useless: ComfyUIError | None = None
        try:
            try:
                await self.client.submit(prompt, prompt_id, connection.client_id, extra_data)
            except ComfyUIError as error:
                if not error.may_have_arrived:
                    raise
                # The queue will show it.
                useless = None if isinstance(error, ComfyUIUnreachable) else error
                self._tracker.question(followed)
                self._submitted(followed)
            else:
                self._submitted(followed)
                for event in execution.enqueue():
                    yield event
            event = await queue.get()
            if useless is not None and isinstance(event, PromptLost) and not event.died:
                raise useless  # it never arrived: that answer was a refusal
            while not isinstance(event, Terminal):
                yield event
                event = await queue.get()
            yield event
        finally:
            self._drop(followed)

    async def adopt(self, prompt_id: str) -> AsyncGenerator[Event, None]:
        """Yield the events of a prompt that ComfyUI has already; ends and closes as `execute`."""
        execution = Execution()
        execution.disconnected()
        followed, queue = self._follow(prompt_id, execution, blind=True)
        try:
            self._tracker.question(followed)
            self._submitted(followed)
            while not isinstance(event := await queue.get(), Terminal):
                yield event
            yield event
        finally:
            self._drop(followed)

    async def cancel(self, prompt_id: str, *, within_s: float) -> bool:
        """Stop this prompt and no other; True once ComfyUI neither runs nor queues it.

        Raises ComfyUIError if ComfyUI does not answer. Cancelling it leaves the prompt as it is.
        """
        followed = self._tracker.withdraw(prompt_id)
        try:
            return await self.client.withdraw(
                prompt_id, within_s=within_s, pause=self._queue_changes
            )
        finally:
            if followed is not None:
                self._tracker.question(followed)
                self._apply(())

    async def known(self) -> QueueSnapshot:
        """Return the prompts in ComfyUI's queue now. Raises ComfyUIError."""
        queue = await self.client.queue()
        foreign = (one for one in (*queue.running, *queue.pending) if one not in self._tracker)
        return QueueSnapshot(queue.running, queue.pending, tuple(foreign))

    async def forget(self, prompt_ids: Collection[str]) -> None:
        """Delete what ComfyUI keeps of prompts of ours: held outputs, history entries.

        Raises ComfyUIError; it may be repeated.
        """
        if self._has_nodes:
            await self.client.confirm_outputs(*prompt_ids)
        await self.client.forget_history(prompt_ids)

    def silence(self, prompt_id: str) -> float | None:
        """Return for how many seconds a prompt has sent nothing; None if it is not followed."""
        return self._tracker.silence(prompt_id, self._clock())

    def fail_all(self, reason: str, *, died: bool, alone: bool = True) -> None:
        """End every prompt: its ComfyUI is gone, by itself if it `died`.

        `alone`: no prompts of others are there.
        """
        self._apply(self._tracker.fail_all(reason, died=died, alone=alone))

    async def unused(self) -> None:
        """Wait until no prompt is followed."""
        await self._unused.wait()

    # -- prompts --------------------------------------------------------------------------------

    def _follow(
        self, prompt_id: str, execution: Execution, *, blind: bool
    ) -> tuple[Prompt, EventQueue]:
        now = self._clock()
        prompt = self._tracker.follow(prompt_id, execution, blind=blind, now=now)
        queue = self._queues[prompt] = EventQueue()
        self._unused.clear()
        return prompt, queue

    def _submitted(self, prompt: Prompt) -> None:
        self._tracker.submitted(prompt, self._clock())
        self._apply(())

    def _drop(self, prompt: Prompt) -> None:
        self._tracker.drop(prompt)
        del self._queues[prompt]
        if not self._queues:
            self._unused.set()

    def _apply(self, deliveries: Iterable[tuple[Prompt, Event]]) -> None:
        """Deliver the tracker's events; wake the reconciling task if a prompt is in doubt."""
        for prompt, event in deliveries:
            queue = self._queues.get(prompt)
            if queue is not None:
                queue.put(event)
            if isinstance(event, Succeeded):
                self._report(PromptSucceeded())
        if self._tracker.doubt:
            self._tracker.doubt = False
            self._in_doubt.set()

    # -- the connection -------------------------------------------------------------------------

    async def run(self) -> None:
        """Stay connected and reconcile, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._stay_connected())
            tasks.create_task(self._reconcile_for_ever())

    async def _stay_connected(self) -> None:
        backoff = Backoff(_RECONNECT_FIRST_S, self._reconnect_cap_s)
        while True:
            began_at = self._clock()
            was_connected = await self._connect_once()
            if was_connected and self._clock() - began_at >= _GOOD_AFTER_S:
                backoff.reset()
            await asyncio.sleep(backoff.next())

    async def _connect_once(self) -> bool:
        """Connect, and read until the connection is gone; returns whether there was one."""
        try:
            async with connected(self.client.base_url, headers=self.client.headers) as connection:
                server = await self._identify()
                self._connection = connection
                self._report(server)
                self._attempted.set()
                self._tracker.connected()
                self._apply(())
                await connection.deliver_frames(self._received)
        except ComfyUIError as error:
            if self._connection is not None:
                # A cut is not worth reporting if the next attempt succeeds, which is made at once.
                self._attempted.clear()
                return True
            self._attempted.set()
            self._report(Disconnected(str(error), error.code))
            return False
        finally:
            self._connection = None
            self._tracker.disconnected()

    async def _identify(self) -> Connected:
        """Ask ComfyUI for its version, and our nodes, if it has them, for its process."""
        stats = await self.client.system_stats()
        hello = await self.client.hello()
        self._has_nodes = hello is not None
        system = stats.get("system")
        version = system.get("comfyui_version") if isinstance(system, dict) else None
        named = None if hello is None else hello.process or str(hello.pid)
        return Connected(version if isinstance(version, str) else None, self._epoch or named)

    async def _connected(self) -> ComfyUISocket:
        await wait_set(self._attempted, _CONNECTION_WAIT_S)
        if self._connection is None:
            raise ComfyUIUnreachable("no connection", sent=False)
        return self._connection

    def _received(self, frame: frames.Frame) -> None:
        if isinstance(frame, frames.StatusMessage):
            prompts = frame.status.exec_info.queue_remaining
            self._queue_changed.set()
            self._report(QueueLength(prompts))
            self._tracker.queue_length(prompts)
            self._apply(())
        else:
            self._apply(self._tracker.received(frame, self._clock()))

    async def _queue_changes(self) -> None:
        """Wait until the queue changes, or half a second."""
        self._queue_changed.clear()
        await wait_set(self._queue_changed, _QUEUE_WAIT_S)

    # -- reconciling ----------------------------------------------------------------------------

    async def _reconcile_for_ever(self) -> None:
        pause = self._silence_s
        while True:
            await wait_set(self._in_doubt, pause)
            self._in_doubt.clear()
            doubtful = self._tracker.doubtful(self._clock())
            pause = self._silence_s
            if not doubtful or self._connection is None:
                continue  # connecting raises the doubt again
            try:
                await self._reconcile(doubtful)
                if self._tracker.any_silent(self._clock()):
                    await self._check_worker()
            except ComfyUIError:
                pause = min(_RETRY_S, self._silence_s)

    async def _reconcile(self, doubtful: Sequence[Prompt]) -> None:
        """Bring these up to date. Raises ComfyUIError if that failed for some; they stay in doubt.

        A useless answer about one prompt keeps none of the others from being settled.
        """
        useless: list[ComfyUIError] = []
        unknown: list[Prompt] = []
        for prompt in doubtful:
            if prompt.incomplete:
                await self._complete(prompt, useless)
            else:
                unknown.append(prompt)
        # Twice: a prompt may be put into the queue, or move on from there, between two looks.
        for _ in range(2):
            if unknown:
                queue = await self.client.queue()
                now = self._clock()
                deliveries, others = self._tracker.queue_read(unknown, queue, now)
                self._apply(deliveries)
                unknown = [each for each in others if not await self._remembered(each, useless)]
        for prompt in unknown:
            self._apply(self._tracker.vanished(prompt))
        if useless:
            raise useless[0]

    async def _remembered(self, prompt: Prompt, useless: list[ComfyUIError]) -> bool:
        """Bring a prompt up to date from the history; False if it is surely not there.

        The error of an answer that cannot be used is added to `useless`.
        """
        try:
            entry = await self.client.history(prompt.prompt_id)
        except (UnexpectedAnswer, ReplyTooLarge) as error:
            useless.append(error)
            return True
        if entry is None:
            return False
        self._apply(self._tracker.history_read(prompt, entry, self._clock()))
        if prompt.incomplete:
            await self._complete(prompt, useless)
        return True

    async def _complete(self, prompt: Prompt, useless: list[ComfyUIError]) -> None:
        """Fetch the outputs of ours that did not come over the socket, and end the prompt.

        If an answer cannot be used, its error is added to `useless`; the prompt stays in doubt.
        """
        for header in prompt.execution.missing():
            try:
                data = await self.client.held_output(prompt.prompt_id, header.node, header.index)
            except (UnexpectedAnswer, ReplyTooLarge) as error:
                final = isinstance(error, NotFound | OutputGone | ReplyTooLarge)
                self._apply(self._tracker.output_failed(prompt, str(error), final=final))
                if self._tracker.follows(prompt):
                    useless.append(error)
                return
            self._apply(self._tracker.output_fetched(prompt, header, data))
        self._apply(self._tracker.complete(prompt))

    async def _check_worker(self) -> None:
        """Ask our nodes whether the thread that runs prompts has ended."""
        hello = await self.client.hello() if self._has_nodes else None
        if hello is not None and hello.worker is False:
            self._report(WorkerDied())
