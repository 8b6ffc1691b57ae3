"""Drives sets: makes their jobs as there is room for them, and ends each when its jobs have ended.

The journal is the truth: how many jobs of a set were made, and where each stands. Here is which of
them are under way, so that a few more can follow; it is read from the journal at the start, and now
and then where several bridges work on it. Of several, the one that takes requests drives.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import time
import uuid
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Protocol

import msgspec
from msgspec import Struct

from bridge import logs
from bridge.aio import succeeded, wait_set
from bridge.contract import expansion
from bridge.contract.errors import BridgeError
from bridge.contract.reading import UNREADABLE
from bridge.contract.sets import Counts, SetState, SetStatus
from bridge.jobs.database import DatabaseError, LeaseLost
from bridge.jobs.dispatcher import Dispatcher
from bridge.jobs.job import Draft, Envelope, Plan
from bridge.jobs.journal import Journal
from bridge.jobs.journal.sets import NewSet, SetRecord
from bridge.jobs.queue import Key
from bridge.jobs.sets import messages, progress
from bridge.jobs.sets.collect import Collected, SetCollector
from bridge.jobs.sets.plan import SetSpec, unknown
from bridge.workflows.catalogue import NodeCatalogue

log = logging.getLogger(__name__)

# A status a set in so many seconds, at most.
STATUS_S = 1.0
# Between bridges notices may be missed: then all is read again, after this.
COMPARE_S = 10.0
# A disk that is full, or a database that is away, is tried again after this.
RETRY_S = 1.0
# What so many sets are made of is held in memory.
_SPECS_AT_HAND = 8
_WAITING = "waiting"


class SetListener(Protocol):
    """Receives what happens to sets; all calls return at once."""

    def set_status(self, key: Key, envelope: Envelope, status: SetStatus) -> None:
        """Publish a set's status."""

    def set_result(self, key: Key, envelope: Envelope, result: bytes) -> None:
        """Publish the result of a set that has ended, as these bytes."""

    def set_result_room(self, key: Key, envelope: Envelope) -> int | None:
        """Return how many bytes a set's result may have; None: any number."""


class QueueLimits(Struct, frozen=True):
    """The limits of waiting jobs: of all clients, and of one."""

    max_queue: int
    of_client: Callable[[str], int]


class _ActiveSet(Struct):
    """A set that has not ended, and its jobs that are under way.

    `status_at` is when its status was last published, in seconds by a steady clock.
    """

    record: SetRecord
    under_way: dict[Key, None]
    changed: bool = True
    last_status: SetStatus | None = None
    status_at: float = float("-inf")
    cancelled: bool = False
    collecting: asyncio.Task[Collected] | None = None

    @property
    def key(self) -> Key:
        return self.record.key

    @property
    def to_make(self) -> int:
        record = self.record
        return record.total - record.made if record.state == "running" else 0

    @property
    def may_end(self) -> bool:
        record = self.record
        all_made = record.made == record.total or record.state == "cancelling"
        return all_made and not self.under_way


class SetDriver:
    """Makes the jobs of sets as there is room for them, and ends each set.

    Use `run` as a task, once jobs were recovered. All methods are for the event loop's thread.
    """

    def __init__(
        self,
        journal: Journal,
        dispatcher: Dispatcher,
        listener: SetListener,
        *,
        catalogue: Callable[[], NodeCatalogue],
        limits: QueueLimits,
        collector: SetCollector,
        leads: Callable[[], bool] = lambda: True,
    ) -> None:
        """`catalogue` returns what the ComfyUIs have, as it is now.

        `leads`: True while this bridge is the one to drive the sets.
        """
        self._journal = journal
        self._dispatcher = dispatcher
        self._listener = listener
        self._catalogue = catalogue
        self._limits = limits
        self._collector = collector
        self._leads = leads
        self._live: dict[Key, _ActiveSet] = {}
        self._set_of: dict[Key, Key] = {}  # by job
        self._specs: dict[Key, SetSpec] = {}
        self._pace: dict[str, progress.Pace] = {}
        self._broken: set[Key] = set()
        self._stopping: set[asyncio.Task[Collected]] = set()
        self._wake = asyncio.Event()
        self._read = False
        self._read_at = 0.0
        dispatcher.on_ended = self._ended

    # -- for requests --

    async def accept(self, new: NewSet, spec: SetSpec) -> tuple[SetRecord, bool]:
        """Take a set: it is in the journal when this returns; False if it was there before.

        Nothing is awaited after the journal has answered.
        """
        key = new.record.key
        plan = spec.plan(0)
        draft = self._draft(spec, key, 0, plan)
        draft = msgspec.structs.replace(
            draft,
            delivery=new.delivery,
            redelivered=new.redelivered,
            media=dict(new.media),
        )
        record, job = await self._journal.sets.accept(new, draft, self._journal.clock.now())
        if job is None:
            return record, False
        live = self._live[key] = _ActiveSet(record, {})
        self._keep_spec(key, spec)
        self._enter(live, job.job.key)
        self._dispatcher.accept(job.job, plan)
        self._wake.set()
        return record, True

    async def enter(self, key: Key, state: SetState) -> SetRecord:
        """Pause a set, resume it, or cancel it. Raises UnknownJob."""
        record = await self._journal.sets.enter(key, state)
        live = self._live.get(key)
        if live is not None:
            live.record = msgspec.structs.replace(live.record, state=record.state)
            live.changed, live.status_at = True, float("-inf")
        elif not record.ended:
            self._read = False
        self._wake.set()
        return record

    async def counts_and_eta(self, record: SetRecord) -> tuple[Counts, float | None]:
        """Return how many jobs of a set are in each state, and in how many seconds it ends."""
        counts = await self._counts(record)
        return counts, self._eta_s(record, counts)

    # -- the task --

    async def open(self) -> None:
        """Delete what an earlier run left half made."""
        await self._collector.remove_leftovers()

    async def run(self) -> None:
        """Make jobs and end sets, until cancelled. Raises LeaseLost."""
        self._wake.set()
        try:
            while True:
                await wait_set(self._wake, self._patience())
                self._wake.clear()
                try:
                    await self._turn()
                except DatabaseError as error:
                    log.warning("sets wait for the database: %s", error)
                    await asyncio.sleep(RETRY_S)
                    self._wake.set()
        finally:
            for live in self._live.values():
                self._stop_collecting(live)
            await asyncio.gather(*self._stopping, return_exceptions=True)

    def _patience(self) -> float:
        """Return after how many seconds there is something to do, whatever happens."""
        if not self._read:
            return STATUS_S  # somebody else drives: until that one is gone
        now = time.monotonic()
        due = [live.status_at + STATUS_S - now for live in self._live.values() if live.changed]
        return max(0.0, min([COMPARE_S, *due]))

    async def _turn(self) -> None:
        if not self._leads():
            for live in list(self._live.values()):
                self._drop(live)
            self._read = False
            return
        stale = self._journal.shared and time.monotonic() - self._read_at >= COMPARE_S
        if stale or not self._read:
            await self._read_all()
        clients = dict.fromkeys(key.client for key in self._live)
        for client in clients:
            await self._make_jobs(client)
        for live in list(self._live.values()):
            await self._guarded(live.key, self._advance(live))

    async def _guarded(self, key: Key, work: Coroutine[Any, Any, None]) -> None:
        """Do work for one set, so that whatever goes wrong in it costs that set alone."""
        with logs.about(key.client, key.job_id):
            try:
                await work
            except (DatabaseError, LeaseLost):
                raise
            except BridgeError as error:
                log.warning("the set is cancelled: %s", error.message)
                await self.enter(key, "cancelling")
            except Exception:
                log.exception("defect in the bridge: the set waits for the next start")
                self._broken.add(key)
                if key in self._live:
                    self._drop(self._live[key])

    async def _advance(self, live: _ActiveSet) -> None:
        """Cancel or end a set, or publish its status, whatever is due."""
        if live.record.state == "cancelling" and not live.cancelled:
            await self._cancel_jobs(live)
        if live.may_end:
            await self._finish(live)
        elif live.changed and time.monotonic() >= live.status_at + STATUS_S:
            await self._publish_status(live)

    async def _read_all(self) -> None:
        """Read which sets there are, and which of their jobs are under way."""
        self._read, self._read_at = True, time.monotonic()
        found = await self._journal.sets.unfinished()
        # From here nothing is awaited: a set may be paused or cancelled meanwhile.
        there = {record.key for record, _ in found} - self._broken
        for key in self._live.keys() - there:
            self._drop(self._live[key])
        for record, under_way in found:
            if record.key not in there:
                continue
            live = self._live.setdefault(record.key, _ActiveSet(record, {}))
            live.record = record
            for job in list(live.under_way):
                self._leave(live, job)
            for job in under_way:
                self._enter(live, job)
            live.changed, live.cancelled = True, False

    # -- making jobs --

    async def _make_jobs(self, client: str) -> None:
        """Make as many jobs of a client's sets as there is room for, in turn."""
        lives = [live for live in self._live.values() if live.key.client == client]
        taken, wanted, waiting = 0, {}, {}
        for live in lives:
            states = [self._state(key) for key in live.under_way]
            taken += sum(state != _WAITING for state in states)
            if live.record.waits:
                # Its jobs wait for others, which must not wait for them.
                room = min(live.to_make, progress.MOST_WAITING - len(states))
                waiting[live.key] = max(room, 0)
            else:
                wanted[live.key] = live.to_make
        given = progress.share(self._room(client, taken), wanted)
        for key, number in (waiting | given).items():
            live = self._live[key]
            if number:
                # Whoever got something is behind the others the next time.
                self._live[key] = self._live.pop(key)
                await self._guarded(key, self._make(live, number))

    def _room(self, client: str, taken: int) -> int:
        book, limits = self._dispatcher.book, self._limits
        per_s = self._pace[client].per_s(time.monotonic()) if client in self._pace else 0.0
        return min(
            progress.room(book.pool.usable, per_s, taken),
            limits.max_queue - book.queued,
            limits.of_client(client) - book.count(client),
        )

    def _state(self, key: Key) -> str:
        job = self._dispatcher.book.job(key)
        return "" if job is None else job.state

    async def _make(self, live: _ActiveSet, number: int) -> None:
        key, made = live.key, live.record.made
        spec = await self._spec(key)
        if spec is None:
            self._read = False
            return
        plans = {index: spec.plan(index) for index in range(made, made + number)}
        drafts = [self._draft(spec, key, index, plan) for index, plan in plans.items()]
        records = await self._journal.sets.expand(key, made, drafts, self._journal.clock.now())
        # From here to the end nothing is awaited.
        if records is None:
            self._read = False
            self._wake.set()
            return
        live.record = msgspec.structs.replace(live.record, made=made + number)
        live.changed = True
        for record, plan in zip(records, plans.values(), strict=True):
            self._enter(live, record.job.key)
            self._dispatcher.accept(record.job, plan)

    def _draft(self, spec: SetSpec, key: Key, index: int, plan: Plan) -> Draft:
        needs = self._catalogue().needs(plan.prompt)
        return spec.draft(key, index, plan, prompt_id=str(uuid.uuid4()), needs=needs)

    async def _spec(self, key: Key) -> SetSpec | None:
        """Return how a set's jobs are made, None once it has ended. Raises BridgeError."""
        found = self._specs.get(key)
        if found is None:
            encoded = await self._journal.sets.spec(key)
            if encoded is None:
                return None
            try:
                found = msgspec.json.decode(encoded, type=SetSpec)
            except UNREADABLE as error:
                raise BridgeError(f"its row in the journal is damaged: {error}") from None
            self._keep_spec(key, found)
        return found

    def _keep_spec(self, key: Key, spec: SetSpec) -> None:
        self._specs[key] = spec
        if len(self._specs) > _SPECS_AT_HAND:
            del self._specs[next(iter(self._specs))]

    # -- jobs that end --

    def _ended(self, job: Key) -> None:
        """Note that a job has ended, here or at another bridge."""
        set_key = self._set_of.get(job)
        live = None if set_key is None else self._live.get(set_key)
        if live is None:
            return
        self._leave(live, job)
        live.changed = True
        self._pace.setdefault(job.client, progress.Pace()).ended(time.monotonic())
        self._wake.set()

    def _enter(self, live: _ActiveSet, job: Key) -> None:
        live.under_way[job] = None
        self._set_of[job] = live.key

    def _leave(self, live: _ActiveSet, job: Key) -> None:
        live.under_way.pop(job, None)
        self._set_of.pop(job, None)

    def _drop(self, live: _ActiveSet) -> None:
        for job in list(live.under_way):
            self._leave(live, job)
        self._stop_collecting(live)
        self._live.pop(live.key, None)
        self._specs.pop(live.key, None)
        client = live.key.client
        if not any(key.client == client for key in self._live):
            self._pace.pop(client, None)

    async def _cancel_jobs(self, live: _ActiveSet) -> None:
        for job in list(live.under_way):
            with suppress(BridgeError):
                await self._dispatcher.cancel(job)
        live.cancelled = True

    async def _finish(self, live: _ActiveSet) -> None:
        key, envelope = live.key, live.record.envelope
        try:
            spec = await self._spec(key)
        except BridgeError as error:
            log.warning("the set's result comes without its inputs: %s", error.message)
            spec = unknown(live.record.workflow, live.record.total)
        ended = None
        if spec is not None:
            collected = self._collected(live, spec)
            if collected is None:
                return
            clock = self._journal.clock
            now = clock.now()
            keep_until = now + collected.keep_s
            room = self._listener.set_result_room(key, envelope)
            work = functools.partial(
                messages.result,
                spec=spec,
                room=room,
                outputs=await self._collector.linked(
                    key, collected.outputs, clock.shown(keep_until)
                ),
                missing=collected.missing,
                shown=collected.shown,
                delivered=collected.delivered,
            )
            ended = await self._journal.sets.finish(
                key,
                work,
                now,
                clock.shown(now),
                outputs=collected.kept,
                keep_until=keep_until,
            )
        # From here nothing is awaited: numbers leave in their order.
        if ended is None:
            # A job of it is under way that was not known of here, or another bridge ended it.
            self._read = False
            return
        self._drop(live)
        self._listener.set_result(key, envelope, ended)
        for awaited in self._dispatcher.awaited():
            # Jobs of other sets may wait for those that were never made.
            named = expansion.of_job_id(awaited.job_id)
            if awaited.client == key.client and named is not None and named[0] == key.job_id:
                self._dispatcher.ended_elsewhere(awaited)

    def _collected(self, live: _ActiveSet, spec: SetSpec) -> Collected | None:
        """Return the collected outputs of a set; None while they are made.

        Raises whatever making them raised.
        """
        if not spec.collect or live.record.state == "cancelling":
            self._stop_collecting(live)
            return Collected()
        making = live.collecting
        if making is None:
            making = live.collecting = asyncio.create_task(
                self._collector.collect(live.record, spec)
            )
            making.add_done_callback(lambda _: self._wake.set())
        if not making.done():
            return None
        if not succeeded(making):
            live.collecting = None  # tried again later, if that may help
        return making.result()

    def _stop_collecting(self, live: _ActiveSet) -> None:
        making, live.collecting = live.collecting, None
        if making is not None and not making.done():
            making.cancel()
            self._stopping.add(making)
            making.add_done_callback(self._stopping.discard)

    # -- how far --

    async def _publish_status(self, live: _ActiveSet) -> None:
        live.changed, live.status_at = False, time.monotonic()
        counts, eta_s = await self.counts_and_eta(live.record)
        status = messages.status(live.record, counts, eta_s)
        before, live.last_status = live.last_status, status
        if before is None or (before.state, before.counts) != (status.state, status.counts):
            self._listener.set_status(live.key, live.record.envelope, status)

    async def _counts(self, record: SetRecord) -> Counts:
        states = await self._journal.sets.counts(record.key)
        cancelled = record.state in ("cancelling", "cancelled")
        return progress.tally(states, record.total, cancelled=cancelled)

    def _eta_s(self, record: SetRecord, counts: Counts) -> float | None:
        left = progress.unended(counts)
        if record.state != "running" or not left:
            return None
        return self._dispatcher.book.eta_of_next(record.workflow, left - 1)
