"""A job as its client sees it: what is known of it, what happens to it, what it gave."""

from __future__ import annotations

import asyncio
import io
import logging
from collections import deque
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Final, TypeAlias

import msgspec
from msgspec import UNSET, Raw

from bridge.client.fetching import JobOutput, Outputs, ReceivedBytes
from bridge.client.session import Session
from bridge.contract.errors import BridgeError, UnknownJob, from_wire
from bridge.contract.messages import (
    Accepted,
    Cancel,
    CancelReport,
    JobStatus,
    JobView,
    OutputInfo,
    Progress,
    Result,
    State,
    Status,
)
from bridge.contract.reading import UNREADABLE
from bridge.mqtt import Incoming

if TYPE_CHECKING:
    from PIL import Image

_log = logging.getLogger(__name__)

# Nothing came for this long while somebody waits: ask. Brokers drop messages when queues are full.
_CHECK_S: Final = 30.0


class JobCancelled(BridgeError):
    """The job was cancelled."""

    code = "cancelled"


class Preview(msgspec.Struct, frozen=True):
    """A picture of the work so far."""

    content_type: str
    data: bytes


Event: TypeAlias = JobStatus | Progress | Preview | JobOutput | Result


class Job:
    """A job of this client. Iterate for what happens; await `result` or `outputs` for the end.

    What is missed while the connection or the bridge is away is asked for as soon as somebody
    waits here and both are back.
    """

    def __init__(self, session: Session, job_id: str, workflow: str | None = None) -> None:
        self.id = job_id
        self.workflow = workflow
        """The workflow's name; None for a job resumed by its id until something is known."""
        self.state: State | None = None
        self.status: JobStatus | None = None
        self.progress: Progress | None = None
        self._session = session
        self._n = 0
        self._result: Result | None = None
        self._failure: BridgeError | None = None
        self._outputs = Outputs(session, job_id=job_id)
        self._changed = asyncio.Event()
        self._streams: list[_Stream] = []
        # Something may have been missed: ask before waiting.
        self._stale = True
        # It lies in the outbox: the bridge may not know of it yet.
        self._posted = False

    def __repr__(self) -> str:
        return f"<Job {self.id} {self.workflow or '?'}: {self.state or 'unknown'}>"

    async def outcome(self) -> Result:
        """Wait for the job's end and return its result, however it ended.

        Raises UnknownJob when the bridge does not know the job (any more).
        """
        while self._result is None:
            await self._wait()
        return self._result

    async def result(self) -> Result:
        """Wait for the job's end and return its result, if it succeeded.

        Raises how it failed: ExecutionError, OutOfMemory, Timeout, Expired, ... or JobCancelled.
        """
        result = await self.outcome()
        if result.state == "succeeded":
            return result
        if result.error is not UNSET:
            raise from_wire(result.error)
        if result.state == "cancelled":
            raise JobCancelled(f"job {self.id!r} was cancelled", job_id=self.id)
        raise BridgeError(f"job {self.id!r} {result.state}", job_id=self.id)

    async def outputs(self) -> list[JobOutput]:
        """Wait for the job's end and return all its outputs, in the order of the result.

        What was not received, or not whole, is fetched. Raises as `result` does, and Damaged.
        """
        result = await self.result()
        return [await self.output(info) for info in result.outputs]

    async def images(self) -> list[Image.Image]:
        """Wait for the job's end and return its images as Pillow's, in the order of the result.

        Raises as `outputs` does, and ImportError if there is no Pillow.
        """
        result = await self.result()
        found = [await self.output(info) for info in result.outputs if info.kind == "image"]
        return [await asyncio.to_thread(_decoded, each.data) for each in found]

    async def output(self, info: OutputInfo) -> JobOutput:
        """Return the bytes of one output of the result, fetched if need be. Raises Damaged."""
        return await self._outputs.get(info)

    async def cancel(self) -> CancelReport:
        """Ask to end the job; its result says how it ended."""
        return await self._session.ask("cancel", Cancel(job_id=self.id), CancelReport)

    async def refresh(self) -> JobView:
        """Ask where the job stands. Raises UnknownJob."""
        view = await self._session.ask("status", Status(job_id=self.id), JobView)
        self._view(view)
        return view

    async def __aiter__(self) -> AsyncIterator[Event]:
        """Yield the state that is known, then events until the result, which is the last.

        Progress and previews that were not taken in time make room for the newest.
        """
        known = (self.status, self.progress, *self._outputs.received.values())
        stream = _Stream([event for event in known if event is not None])
        self._streams.append(stream)
        try:
            while stream.events or self._result is None:
                if not stream.events:
                    await self._wait()
                    continue
                event = stream.events.popleft()
                if not isinstance(event, ReceivedBytes):
                    yield event
                elif await event.match(event.info):
                    yield JobOutput(event.info, event.data)
            yield self._result
        finally:
            self._streams.remove(stream)

    # Called by the client.

    def posted(self, workflow: str | None) -> None:
        """Note that the job is on its way to the bridge."""
        self.workflow = self.workflow or workflow
        self._posted = True

    def refused(self, error: BridgeError) -> None:
        """Note that the bridge does not take the job: whoever waits for it gets the error."""
        self._posted = False
        self._failure = error
        self._changed.set()

    def accepted(self, accepted: Accepted) -> None:
        """Note that the bridge has the job, or had it before."""
        self._posted = False
        self.workflow = accepted.workflow
        self.state = self.state or accepted.state
        self._failure = None
        self._stale = False
        if accepted.result is not UNSET:
            self._end(accepted.result)
        self._changed.set()

    def on_gap(self) -> None:
        """Ask for the job's state before the next wait: messages may have been lost."""
        self._stale = True
        self._changed.set()

    def on_message(self, levels: tuple[str, ...], message: Incoming) -> None:
        """Note a message on one of the job's topics; `levels` come after the job's id."""
        try:
            self._receive(levels, message)
        except (*UNREADABLE, ValueError) as error:
            _log.warning("cannot read the message on %s: %s", message.topic, error)
        self._changed.set()

    def _receive(self, levels: tuple[str, ...], message: Incoming) -> None:
        match levels:
            case ("status",):
                status = msgspec.json.decode(message.payload, type=JobStatus)
                if status.n > self._n and self._result is None:
                    self._n = status.n
                    self.workflow, self.state, self.status = status.workflow, status.state, status
                    self._emit(status)
            case ("progress",):
                progress = msgspec.json.decode(message.payload, type=Progress)
                # It never decreases: a lower one was overtaken.
                if self.progress is None or progress.percent >= self.progress.percent:
                    self.progress = progress
                    self._emit(progress)
            case ("preview",):
                content_type = message.content_type or "application/octet-stream"
                self._emit(Preview(content_type, message.payload))
            case ("result",):
                self._end(message.payload)
            case _:
                received = self._outputs.on_message(levels, message)
                if received is not None:
                    self._emit(received)

    def _view(self, view: JobView) -> None:
        self.workflow, self.state = view.workflow, view.state
        self._n = max(self._n, view.n)
        if view.result is not UNSET:
            self._end(view.result)
        self._changed.set()

    def _end(self, payload: bytes | Raw) -> None:
        # It may come more than once, always the same.
        if self._result is not None:
            return
        try:
            self._result = msgspec.json.decode(payload, type=Result)
        except UNREADABLE as error:
            self._failure = BridgeError(
                f"the result of job {self.id!r} cannot be read: {error}", job_id=self.id
            )
            return
        self.workflow, self.state = self._result.workflow, self._result.state

    def _emit(self, event: JobStatus | Progress | Preview | ReceivedBytes) -> None:
        for stream in self._streams:
            stream.add(event)

    # Waiting.

    async def _wait(self) -> None:
        """Wait for something to happen; ask the bridge whenever it may have been missed."""
        if self._failure is not None:
            raise self._failure
        if self._stale and not self._posted:
            await self._ask()
            return
        if not await happens(self._changed):
            self._stale = True

    async def _ask(self) -> None:
        self._stale = False
        try:
            await self.refresh()
        except UnknownJob as error:
            self._failure = error
            self._changed.set()
        except BaseException:
            self._stale = True  # another who waits may have more patience
            self._changed.set()
            raise


async def happens(changed: asyncio.Event) -> bool:
    """Wait until an event is set from now on; False if that takes too long."""
    changed.clear()
    try:
        async with asyncio.timeout(_CHECK_S):
            await changed.wait()
    except TimeoutError:
        return False
    return True  # even if another who waits has cleared it already


def _decoded(data: bytes) -> Image.Image:
    """Return the image in some bytes; blocks. Raises what Pillow does, and ImportError without."""
    from PIL import Image  # noqa: PLC0415 - only programs that ask for images need it

    picture = Image.open(io.BytesIO(data))
    picture.load()
    return picture


class _Stream:
    """Events that one iteration has not taken yet."""

    def __init__(self, known: list[JobStatus | Progress | ReceivedBytes]) -> None:
        self.events: deque[JobStatus | Progress | Preview | ReceivedBytes] = deque(known)

    def add(self, event: JobStatus | Progress | Preview | ReceivedBytes) -> None:
        last = self.events[-1] if self.events else None
        if isinstance(event, (Progress, Preview)) and type(last) is type(event):
            self.events.pop()
        self.events.append(event)
