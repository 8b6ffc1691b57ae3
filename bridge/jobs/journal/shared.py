"""The journal as several bridges share it: members, the intake, whose a job is."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from bridge.contract.messages import State
from bridge.jobs import state as transitions
from bridge.jobs.database import SURE, Steps, Transaction
from bridge.jobs.job import Job, Plan
from bridge.jobs.journal import acceptance, membership, queries, rows, touched
from bridge.jobs.journal.base import ASK_NODES, CHANNEL, Base, Notice, any_of
from bridge.jobs.journal.membership import HeartbeatResult
from bridge.jobs.journal.rows import Record
from bridge.jobs.presence import DeadMember
from bridge.jobs.queue import Key
from bridge.jobs.state import Transition


class Shared(Base):
    """A journal of several bridges."""

    async def join(self, name: str, life: str, lease_s: float) -> float | None:
        """Become a member of the group: what this bridge does is its own from now on.

        Returns until when the lease of another member of that name runs, if it does: then this
        bridge is none. `life` is another one after each start, 32 hexadecimal digits. PostgreSQL
        alone has groups.
        """

        def work(db: Transaction) -> float | None:
            until = membership.join(db, name, life, lease_s)
            if until is None:
                db.notify(CHANNEL, f"{life}:")  # from now on somebody wants to know of jobs
            return until

        until = await self._database.run(work)
        if until is None:
            self.member(life)
        return until

    def member(self, life: str) -> None:
        """Be the member of that life from now on."""
        self._life = life
        self._database.guard(membership.guard(life))

    async def beat(
        self, lease_s: float, *, staying: bool, dead: Sequence[DeadMember] = ()
    ) -> HeartbeatResult:
        """Renew the lease, and see how the group is; one not `staying` takes no requests.

        `dead` are others that died, as far as was seen.
        """
        life, last, steady = self._owner, self._last_beat, time.monotonic()
        seen = await self._database.run_stepped(
            lambda db: membership.renew(db, life, lease_s), touched.member(life)
        )
        beat = HeartbeatResult(staying and seen.intake, seen.others, at=seen.at)
        if dead or not membership.is_settled(
            seen, lease_s, staying=staying, last=last, steady=steady
        ):
            steady = time.monotonic()

            def work(db: Transaction) -> HeartbeatResult:
                beat = membership.settle(
                    db, life, lease_s, staying=staying, dead=dead, last=last, steady=steady
                )
                for record in beat.requeued:
                    self._notify_of(db, record.job.key)
                return beat

            beat = await self._database.run(work)
        self._last_beat = membership.HeartbeatTimes(beat.at, steady)
        self._has_peers = bool(beat.others)
        return beat

    async def holds_intake(self) -> bool:
        """True if this member takes the group's requests."""
        life = self._owner
        return await self._read(lambda db: membership.holds_intake(db, life))

    async def hand_over(self) -> bool:
        """Release the intake; returns whether another member is there to take it."""
        life = self._owner

        def work(db: Transaction) -> bool:
            others = membership.hand_over(db, life)
            self._notify(db)
            return others

        return await self._database.run(work)

    async def leave(self) -> None:
        """Be a member no longer; what this bridge still has, somebody else will run."""
        life = self._owner

        def work(db: Transaction) -> None:
            membership.leave(db, life)
            self._notify(db)

        await self._database.run(work)

    async def ask_nodes(self) -> None:
        """Ask the other bridges to look which nodes their ComfyUIs have."""
        await self._database.run(lambda db: self._notify(db, ASK_NODES), touched.OFFERS)

    async def claim(self, job: Job, take_plan: Callable[[Plan], None] | None = None) -> bool:
        """Take a job before it is run or concluded; False if another bridge has it, or it ended.

        What another bridge may have changed of it is brought up to date. `take_plan` is called with
        its plan, if that was read on the way.
        """
        if self._life is None:
            return True
        with_plan = int(take_plan is not None)

        def work(db: Transaction) -> Steps[Any]:
            claimed = db.execute(queries.CLAIM, (self._life, *job.key, self._life, with_plan))
            yield SURE
            row = claimed.fetchone()
            if row is not None:
                self._notify_of(db, job.key, Notice.TAKEN)
            return row

        row = await self._database.run_stepped(work, touched.client(job.key.client))
        if row is None:
            return False
        job.attempt, job.prompt_id, plan = row
        if take_plan is not None and plan is not None:
            take_plan(rows.decode_plan(plan))
        return True

    async def claim_to_cancel(self, key: Key) -> Job | State | None:
        """Claim a job in order to cancel it; the bridge that has it already is asked to stop it.

        Returns the job if it is this bridge's now, its state if another bridge has it, and None if
        it is unknown or has ended.
        """
        if self._life is None:
            return None

        def work(db: Transaction) -> Job | State | None:
            found = acceptance.find(db, queries.JOB, key)
            if found is None or found.ended:
                return None
            if found.owner is None:
                db.execute(queries.CLAIM_TO_CANCEL, (self._life, *key))
                self._notify_of(db, key, Notice.TAKEN)
                return found.job
            db.execute(queries.ASK_TO_CANCEL, key)
            self._notify_of(db, key)
            return found.job.state

        return await self._database.run(work, touched.client(key.client))

    async def records(self, keys: Sequence[Key]) -> list[Record]:
        """Return the rows of those of these jobs that exist."""

        def work(db: Transaction) -> Steps[list[Record]]:
            found = [db.execute(queries.JOB, key) for key in keys]
            yield SURE
            records = map(acceptance.read, found)
            return [record for record in records if record is not None]

        return await self._database.run_stepped(work, touched.NOTHING)

    async def unowned(self, *, waiting: bool) -> set[Key]:
        """Every job that nobody has; those that wait for something only if asked for."""
        wanted = transitions.before(Transition.START)
        if waiting:
            wanted |= transitions.before(Transition.RELEASE)
        return {Key(*row) for row in await self._rows(queries.UNOWNED, any_of(wanted))}

    async def to_cancel(self) -> set[Key]:
        """Every job that this bridge has and that another one was asked to cancel."""
        return {Key(*row) for row in await self._rows(queries.TO_CANCEL, (self._owner,))}
