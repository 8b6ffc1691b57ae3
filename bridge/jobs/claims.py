"""Whose a job is, among several bridges: the part of the journal that lets each run once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bridge.contract.messages import State
from bridge.jobs.database import Transaction
from bridge.jobs.job import Job
from bridge.jobs.ledger import Ledger, Notice
from bridge.jobs.queue import Key
from bridge.jobs.records import JOB_COLUMNS, Standing, read_job


class Claims(Ledger):
    """For one bridge alone every job is its own."""

    async def claim(self, job: Job) -> bool:
        """Take a job before it is run or concluded; False if another bridge has it, or it ended.

        What another bridge may have changed of it is brought up to date.
        """
        if self._life is None:
            return True

        def work(db: Transaction) -> Any:
            row = db.execute(
                "UPDATE jobs SET owner = ? WHERE client = ? AND job_id = ? "
                "AND finished_at IS NULL AND (owner IS NULL OR owner = ?) "
                "RETURNING attempt, prompt_id",
                (self._life, *job.key, self._life),
            ).fetchone()
            if row is not None:
                self.tell_of(db, job.key, Notice.TAKEN)
            return row

        row = await self._database.run(work)
        if row is None:
            return False
        job.attempt, job.prompt_id = row
        return True

    async def seize(self, key: Key) -> Job | State | None:
        """Get hold of a job to cancel it: it is ours now, or whoever has it is told to stop it.

        Returns the job in the one case, its state in the other, None if it is not there or ended.
        """
        if self._life is None:
            return None

        def work(db: Transaction) -> Job | State | None:
            standing = _standing(db, key)
            if standing is None or standing.ended:
                return None
            if standing.owner is None:
                db.execute(
                    "UPDATE jobs SET owner = ? WHERE client = ? AND job_id = ?", (self._life, *key)
                )
                self.tell_of(db, key, Notice.TAKEN)
                return standing.job
            db.execute("UPDATE jobs SET cancelling = 1 WHERE client = ? AND job_id = ?", key)
            self.tell_of(db, key)
            return standing.job.state

        return await self._database.run(work)

    async def standings(self, keys: Sequence[Key]) -> list[Standing]:
        """Where jobs stand, those that are there."""

        def work(db: Transaction) -> list[Standing]:
            found = (_standing(db, key) for key in keys)
            return [each for each in found if each is not None]

        return await self._database.run(work)

    async def unowned(self, *, waiting: bool) -> set[Key]:
        """Every job that nobody has; those that wait for something only if asked for."""
        states = "('queued', 'waiting')" if waiting else "('queued')"

        def work(db: Transaction) -> set[Key]:
            rows = db.execute(
                "SELECT client, job_id FROM jobs WHERE finished_at IS NULL AND owner IS NULL "  # noqa: S608 - built of constants
                f"AND state IN {states}"
            )
            return {Key(*row) for row in rows}

        return await self._database.run(work)


def _standing(db: Transaction, key: Key) -> Standing | None:
    row = db.execute(
        f"SELECT {JOB_COLUMNS}, owner, cancelling, finished_at FROM jobs "  # noqa: S608 - a constant
        "WHERE client = ? AND job_id = ?",
        key,
    ).fetchone()
    if row is None:
        return None
    *columns, owner, cancelling, finished_at = row
    return Standing(read_job(columns), owner, bool(cancelling), finished_at is not None)
