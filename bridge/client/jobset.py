"""A set of jobs as its client sees it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable

import msgspec
from msgspec import UNSET, Raw

from bridge.client.fetching import JobOutput, Outputs
from bridge.client.job import Job, JobCancelled, happens
from bridge.client.session import Session
from bridge.contract.errors import BridgeError
from bridge.contract.messages import or_none
from bridge.contract.reading import UNREADABLE
from bridge.contract.sets import (
    CancelSet,
    KeepSet,
    KeepSetReport,
    PauseSet,
    ResumeSet,
    SetAccepted,
    SetResult,
    SetState,
    SetStatus,
    SetView,
    StatusSet,
)
from bridge.mqtt import Incoming

_log = logging.getLogger(__name__)


class Set:
    """A set of this client's jobs. Iterate for its jobs, each as it ends; or await its `result`.

    What is missed while the connection or the bridge is away is asked for as soon as somebody
    waits here and both are back.
    """

    def __init__(
        self, session: Session, set_id: str, topic: str, job_of: Callable[[str], Job]
    ) -> None:
        """`topic` is the filter of what is published about sets; `job_of` returns the job of an id.

        It has to return the same job for as long as somebody has it.
        """
        self.id = set_id
        self.workflow: str | None = None
        self.state: SetState | None = None
        self.total: int | None = None
        """The number of its jobs; None for a set resumed by its id until something is known."""
        self.status: SetStatus | None = None
        self._session = session
        self._topic = topic
        self._job_of = job_of
        self._held: dict[str, Job] = {}  # of which a message came, until they are given out
        self._given: set[str] = set()
        self._ended: list[str] = []
        self._result: SetResult | None = None
        self._outputs = Outputs(session, set_id=set_id)
        self._changed = asyncio.Event()
        self._stale = True

    def __repr__(self) -> str:
        return f"<Set {self.id} {self.workflow or '?'}: {self.state or 'unknown'}>"

    async def outcome(self) -> SetResult:
        """Wait for the set's end and return its result, however it ended. Raises UnknownJob."""
        while self._result is None:
            await self._wait()
        return self._result

    async def result(self) -> SetResult:
        """Wait for the set's end and return its result, if all jobs succeeded.

        Raises JobCancelled if it was cancelled, else BridgeError with the counts.
        """
        result = await self.outcome()
        if result.state == "succeeded":
            return result
        if result.state == "cancelled":
            raise JobCancelled(f"set {self.id!r} was cancelled", set_id=self.id)
        raise BridgeError(
            f"of {result.total} jobs of set {self.id!r} {result.counts.succeeded} succeeded",
            set_id=self.id,
            counts=msgspec.to_builtins(result.counts),
        )

    async def outputs(self) -> list[JobOutput]:
        """Wait for the set's end and return what it has collected, in the order of the result.

        What could not be collected is in the result, as `missing`. Raises UnknownJob, and Damaged.
        """
        found = or_none((await self.outcome()).outputs) or []
        if found:  # a client that was answered with the result has not listened for its parts yet
            await self._session.listen(self._topic)
        return [await self._outputs.get(info) for info in found]

    async def __aiter__(self) -> AsyncIterator[Job]:
        """Yield each job once it has ended, in that order; those that were never made are not.

        `await job.outputs()` and the like return at once then.
        """
        while True:
            while self._ended:
                yield self._give(self._ended.pop(0))
            if self._result is None:
                await self._wait()
                continue
            # The results of these did not come: they are asked for where they are wanted.
            left = [
                each.job_id
                for each in self._result.jobs
                if each.job_id not in self._given and each.state != "cancelled"
            ]
            for job_id in left:
                yield self._give(job_id)
            return

    async def cancel(self) -> SetView:
        """Ask to end the set and all of its jobs; its result says how it ended."""
        return self._view(await self._session.ask("cancel", CancelSet(set_id=self.id), SetView))

    async def pause(self) -> SetView:
        """Put no more of its jobs into the queue; the few that are there already run."""
        return self._view(await self._session.ask("pause", PauseSet(set_id=self.id), SetView))

    async def resume(self) -> SetView:
        """Continue a paused set."""
        return self._view(await self._session.ask("resume", ResumeSet(set_id=self.id), SetView))

    async def refresh(self) -> SetView:
        """Ask how far the set is. Raises UnknownJob."""
        return self._view(await self._session.ask("status", StatusSet(set_id=self.id), SetView))

    async def keep(self, keep_s: float) -> KeepSetReport:
        """Keep what it has collected, and its jobs' outputs, for so many seconds from now."""
        request = KeepSet(set_id=self.id, keep_s=keep_s)
        return await self._session.ask("keep", request, KeepSetReport)

    # Called by the client.

    def accepted(self, accepted: SetAccepted) -> None:
        """Note that the bridge has the set, or had it before."""
        self.workflow, self.total = accepted.workflow, accepted.total
        self.state = accepted.state
        self._stale = accepted.duplicate
        if accepted.result is not UNSET:
            self._end(accepted.result)

    def on_gap(self) -> None:
        """Ask how far the set is before the next wait: messages may have been lost."""
        self._stale = True
        self._changed.set()

    def on_message(self, levels: tuple[str, ...], message: Incoming) -> None:
        """Note a message on one of the set's topics; `levels` come after the set's id."""
        try:
            if levels == ("status",):
                self._take(msgspec.json.decode(message.payload, type=SetStatus))
            elif levels == ("result",):
                self._end(message.payload)
            else:
                self._outputs.on_message(levels, message)
        except (*UNREADABLE, ValueError) as error:
            _log.warning("cannot read the message on %s: %s", message.topic, error)
        self._changed.set()

    def hold(self, job_id: str) -> None:
        """Keep a job of the set, of which a message came, until it is given out."""
        if job_id not in self._given and job_id not in self._held:
            self._held[job_id] = self._job(job_id)

    def job_ended(self, job_id: str) -> None:
        """Note that the result of a job came."""
        if job_id not in self._given and job_id not in self._ended:
            self._ended.append(job_id)
            self._changed.set()

    def _give(self, job_id: str) -> Job:
        self._given.add(job_id)
        # From now on it is its receiver's to keep.
        return self._held.pop(job_id, None) or self._job(job_id)

    def _job(self, job_id: str) -> Job:
        job = self._job_of(job_id)
        job.workflow = job.workflow or self.workflow
        return job

    def _take(self, status: SetStatus) -> None:
        if self._result is None:
            self.workflow, self.total = status.workflow, status.total
            self.state, self.status = status.state, status

    def _view(self, view: SetView) -> SetView:
        self.workflow, self.total, self.state = view.workflow, view.total, view.state
        if view.result is not UNSET:
            self._end(view.result)
        self._changed.set()
        return view

    def _end(self, payload: bytes | Raw) -> None:
        # It may come more than once, always the same.
        if self._result is None:
            self._result = msgspec.json.decode(payload, type=SetResult)
            self.workflow, self.state = self._result.workflow, self._result.state
            self.total = self._result.total

    async def _wait(self) -> None:
        """Wait for something to happen; ask the bridge whenever it may have been missed."""
        if self._stale:
            self._stale = False
            try:
                await self._session.listen(self._topic)
                await self.refresh()
            except BaseException:
                self._stale = True
                raise
            return
        if not await happens(self._changed):
            self._stale = True
