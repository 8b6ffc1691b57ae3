"""This bridge as a member of a group: its lease, the intake, and the jobs in the shared journal.

The journal in PostgreSQL is the queue of the whole group; each bridge's dispatcher works on a view
of it in memory. Whoever changes a job notifies the others (a notice, sent with the commit), and
everything is compared regularly. The view may be late: only the claim in the journal decides.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from itertools import starmap
from typing import TYPE_CHECKING

from msgspec.structs import replace

from bridge.aio import wait_set
from bridge.jobs.core import events
from bridge.jobs.core.ownership import events_for
from bridge.jobs.database import DatabaseError, LeaseLost
from bridge.jobs.dispatcher import Dispatcher
from bridge.jobs.journal import ASK_NODES, CHANNEL, Journal, Notice, Record, queries
from bridge.jobs.journal.commands import PASSED_ON, REPORTED
from bridge.jobs.journal.membership import HeartbeatResult
from bridge.jobs.listener import Listener
from bridge.jobs.presence import OBSERVE_S, DeadMember, FailureDetector, MemberState, Presence
from bridge.jobs.queue import Key
from bridge.jobs.read_delay import read_delay_s
from bridge.jobs.refused_intake import RefusedIntake

if TYPE_CHECKING:
    from bridge.jobs.database.notices import Ask

log = logging.getLogger(__name__)

# How many heartbeats there are in the time of a lease.
BEATS = 4
# How many leases a bridge that released the intake leaves it to others.
DECLINED_LEASES = 2
# Notices may be missed; then all is compared, at the latest after this.
COMPARE_S = 10.0
_AT_ONCE = 200
# How often to see whether we are a member again.
_HELD_S = 0.05
_NOTICES = frozenset(Notice)


class Group:
    """Call `join`, then `run` as a task, and `leave` at the end."""

    def __init__(
        self,
        address: str,
        name: str,
        lease_s: float,
        *,
        journal: Journal,
        dispatcher: Dispatcher,
        listener: Listener,
    ) -> None:
        self.name = name
        self.others: frozenset[str] = frozenset()
        self._address = address
        self.lease_s = lease_s
        self.refused = RefusedIntake(lease_s)
        self._journal = journal
        self._dispatcher = dispatcher
        self._listener = listener
        self._life = uuid.uuid4().hex
        self._joining = False
        self.was_silent = False
        self._missed = False
        self._valid_until = 0.0
        self._presence = Presence()
        self._detector = FailureDetector()
        self._dead: list[DeadMember] = []
        self._intake = asyncio.Event()
        self._staying = True
        # Until then others are to take the requests, by the steady clock.
        self._declines_until = 0.0
        self._beat_now = asyncio.Event()
        self._beating = asyncio.Lock()
        self._changed: set[Key] = set()
        self._compare = True
        self._read_due = asyncio.Event()
        # Called when another bridge asks which nodes our ComfyUIs have, when it may have passed a
        # command on to us, and when it may have reported about one of ours.
        self.on_asked: Callable[[], None] = lambda: None
        self.on_command: Callable[[], None] = lambda: None
        self.on_report: Callable[[], None] = lambda: None
        self._on_beat: Callable[[HeartbeatResult], None] = lambda _: None

    # What the rest of the bridge asks.

    @property
    def has_intake(self) -> bool:
        """True if this bridge takes the group's requests, as far as it knows."""
        return self._intake.is_set()

    def holds_lease(self) -> bool:
        """True if we are certainly a member; if not, other bridges may have taken over."""
        return time.monotonic() < min(self._valid_until, self._presence.until)

    async def wait_for_lease(self) -> None:
        """Wait until `holds_lease`."""
        while not self.holds_lease():  # noqa: ASYNC110 - time alone tells it
            await asyncio.sleep(_HELD_S)

    async def wait_for_intake(self) -> None:
        """Wait until this bridge has the intake, and see in the journal that it still has."""
        while True:
            await self._intake.wait()
            with suppress(DatabaseError):
                if await self.confirm_intake():
                    return
            await asyncio.sleep(self.lease_s / BEATS)

    async def confirm_intake(self) -> bool:
        """True if the intake is still this bridge's. Raises DatabaseError, LeaseLost."""
        has = await self._journal.holds_intake()
        if not has:
            self._intake.clear()
        return has

    # Coming and going.

    async def join(self) -> None:
        """Become a member.

        Raises DatabaseError if another bridge has our name, or the database does not answer.
        """
        first: float | None = None
        self._joining = True
        while True:
            began = time.monotonic()
            until = await self._journal.join(self.name, self._life, self.lease_s)
            if until is None:
                break
            if first is not None and until > first:
                raise DatabaseError(
                    f"another bridge of the group is called {self.name!r}: each needs its own "
                    "setting `member`"
                )
            if first is None:
                log.info("waiting for the end of the lease of an earlier bridge %r", self.name)
            first = until
            await asyncio.sleep(self.lease_s / BEATS)
        self._valid_until = began + self.lease_s

    async def hand_over(self) -> bool:
        """Release the intake for good; returns whether another member takes it.

        A heartbeat that has begun would take it again, and ends before.
        """
        self._staying = False
        self._intake.clear()
        try:
            async with self._beating:
                self._intake.clear()
                return await self._journal.hand_over()
        except DatabaseError as error:
            log.warning("%s", error)
            return False

    async def leave(self) -> None:
        """Stop being a member: others may use our name, and take the jobs that we did not end."""
        if self._joining:
            with suppress(DatabaseError, LeaseLost):
                await self._journal.leave()

    # The tasks.

    async def run(self, on_beat: Callable[[HeartbeatResult], None]) -> None:
        """Keep the lease and follow the others, until cancelled. Raises LeaseLost.

        `on_beat` is called with the result of each heartbeat.
        """
        self._on_beat = on_beat
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._beat_for_ever())
            tasks.create_task(self._listen())
            tasks.create_task(self._follow())

    async def _beat_for_ever(self) -> None:
        while True:
            self._beat_now.clear()
            async with self._beating:
                await self._beat()
            await wait_set(self._beat_now, self.lease_s / BEATS)

    async def _beat(self) -> None:
        began, session = time.monotonic(), self._presence.session
        releases = self._releases(began)
        staying = self._staying and began >= self._declines_until
        dead, self._dead = self._dead if staying else [], []
        try:
            if releases:
                await self._journal.hand_over()
            beat = await self._journal.beat(self.lease_s, staying=staying, dead=dead)
        except DatabaseError as error:
            log.warning("cannot renew the lease: %s", error)
            return
        self._missed |= not self.holds_lease()
        self._valid_until = began + self.lease_s
        self._presence.lease_renewed(session)
        # What was to be said meanwhile was not: the others might have counted us as dead.
        self.was_silent = self._missed and self.holds_lease()
        self._missed = self._missed and not self.was_silent
        self._take(beat)

    def _releases(self, now: float) -> bool:
        """True if others are to take the requests, as the broker does not send them here."""
        if not self.refused.gives_up(now, has_intake=self.has_intake, others=bool(self.others)):
            return False
        log.warning("another bridge is to take the requests: this one cannot connect for them")
        self._declines_until = now + DECLINED_LEASES * self.lease_s
        self._intake.clear()
        return True

    def _take(self, beat: HeartbeatResult) -> None:
        self.others = beat.others
        if not beat.intake:
            self._intake.clear()
        elif not self._intake.is_set():
            log.info("%r receives the requests of the group", self.name)
            self._intake.set()
            self._compare_all()  # what waits for something is ours now
        for each in beat.requeued:
            self._requeued(each)
        self._on_beat(beat)

    def _requeued(self, each: Record) -> None:
        job = each.job
        log.warning(
            "job %s of client %s returns to the queue: its bridge died",
            job.key.job_id,
            job.key.client,
        )
        self._dispatcher.add(job)
        status = self._dispatcher.book.status(job, each.n)
        self._listener.status(job, replace(status, reason="the bridge that had it died"))
        if each.cancelling:
            self._changed.add(job.key)
            self._read_due.set()

    async def _listen(self) -> None:
        from bridge.jobs.database.notices import listen  # noqa: PLC0415 - an extra

        await listen(
            self._address,
            CHANNEL,
            self._receive,
            began=self._take_lock,
            poll=self._observe_others,
            every_s=OBSERVE_S,
        )

    def _receive(self, notice: str | None) -> None:
        """Handle a notice of a bridge; None: some may have been missed."""
        life, _, word = (notice or "").partition(":")
        if notice is None:
            self._compare_all()
            self.on_command()
        elif life == self._life:
            pass
        elif word == ASK_NODES:
            self.on_asked()
        elif word == PASSED_ON:
            self.on_command()
        elif word == REPORTED:
            self.on_report()
        elif word[:1] not in _NOTICES:
            self._beat_now.set()
            self._compare_all()
        else:
            client, _, job_id = word[1:].partition("/")
            self._noticed(Notice(word[0]), Key(client, job_id))

    async def _take_lock(self, ask: Ask) -> None:
        """Take the lock that shows the others that this process lives."""
        self._presence.lock_requested(time.monotonic())
        await ask(queries.HOLD_PRESENCE, (self._life,))
        self._presence.lock_acquired()
        self._beat_now.set()

    async def _observe_others(self, ask: Ask) -> None:
        """Observe which others live: all, if we have the intake, else the one that has it."""
        asked = time.monotonic()
        found = await ask(queries.OBSERVE_OTHERS, (self._life, self.has_intake))
        answered = time.monotonic()
        if not self.holds_lease():
            self._missed = True
            self._beat_now.set()
        self._presence.answered(asked)
        dead = self._detector.observe(asked, answered, starmap(MemberState, found))
        if dead:
            self._dead = dead
            self._beat_now.set()

    def _noticed(self, what: Notice, key: Key) -> None:
        if what is Notice.CHANGED:
            self._changed.add(key)
            self._read_due.set()
            return
        self._changed.discard(key)
        if what is Notice.TAKEN:
            self._dispatcher.handle(events.TakenElsewhere(key))
        else:
            self._dispatcher.ended_elsewhere(key)

    def _compare_all(self) -> None:
        self._compare = True
        self._read_due.set()

    async def _follow(self) -> None:
        read_at = float("-inf")
        while True:
            if not await wait_set(self._read_due, COMPARE_S):
                self._compare = True
            since_last_s = time.monotonic() - read_at
            await asyncio.sleep(read_delay_s(since_last_s, len(self.others), random.random()))  # noqa: S311
            self._read_due.clear()
            compare, self._compare = self._compare, False
            changed, self._changed = self._changed, set()
            try:
                if compare:
                    changed |= await self._differences()
                await self._read_jobs(list(changed))
                if compare:
                    await self._read_awaited()
            except DatabaseError as error:
                log.warning("cannot read the jobs of other bridges: %s", error)
                self._compare = True
            read_at = time.monotonic()

    async def _read_jobs(self, keys: list[Key]) -> set[Key]:
        """Read the owners and states of jobs, and act on them; returns the jobs that exist."""
        there = set()
        for start in range(0, len(keys), _AT_ONCE):
            for record in await self._journal.records(keys[start : start + _AT_ONCE]):
                there.add(record.job.key)
                self._apply(record)
        return there

    async def _read_awaited(self) -> None:
        """Read the jobs of other bridges that jobs here wait for: a notice may be missed."""
        awaited = self._dispatcher.awaited()
        for ended in awaited - await self._read_jobs(list(awaited)):
            self._dispatcher.ended_elsewhere(ended)

    async def _differences(self) -> set[Key]:
        """Find jobs that differ between our view and the journal, or have to end."""
        self._dispatcher.set_paused(paused=await self._journal.paused())
        self._dispatcher.book.estimates.learn(await self._journal.estimates())
        there = await self._journal.unowned(waiting=self.has_intake)
        differences = there ^ self._dispatcher.book.unclaimed()
        return differences | await self._journal.to_cancel()

    def _apply(self, record: Record) -> None:
        key = record.job.key
        for event in events_for(
            record.job,
            owner=record.owner,
            cancelling=record.cancelling,
            ended=record.ended,
            life=self._life,
            has_intake=self.has_intake,
            known=key in self._dispatcher.book,
        ):
            self._dispatcher.handle(event)
        if record.ended:
            self._dispatcher.ended_elsewhere(key)
