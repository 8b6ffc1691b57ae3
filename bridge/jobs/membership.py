"""Who is in a group of bridges, as the database knows it: works for PostgreSQL alone.

A member has a lease for itself, and renews it by heartbeats; time is the database's. Whoever finds
that a lease has run out takes the member for dead: it deletes the member's row, and from then on
the database refuses that member everything (`guard`). So nothing that a frozen bridge does once it
wakes can count, and one decision, taken in one transaction, frees all that it had.
"""

from __future__ import annotations

import uuid
from typing import NamedTuple

from msgspec import Struct

from bridge.jobs.database import Transaction
from bridge.jobs.job import Job
from bridge.jobs.numbers import next_number
from bridge.jobs.records import JOB_COLUMNS, read_job

_NOW = "EXTRACT(EPOCH FROM clock_timestamp())"
# While the database was away nobody could renew a lease: all have one lease's time to do so.
_DEAD = (
    f"expires < {_NOW} AND "
    "pg_postmaster_start_time() < clock_timestamp() - make_interval(secs => ?)"
)


class Requeued(NamedTuple):
    """A job that a dead member had, back in the queue, and the number of that."""

    job: Job
    n: int
    cancelling: bool


class Beat(Struct, frozen=True):
    """What a heartbeat found. `others` are the names of the other members that live."""

    intake: bool
    others: frozenset[str]
    requeued: list[Requeued] = []


def guard(life: str) -> str:
    """Return the query that finds something as long as a member is not taken for dead."""
    return f"SELECT 1 FROM members WHERE life = '{uuid.UUID(life).hex}'"  # noqa: S608 - hex digits


def join(db: Transaction, name: str, life: str, lease_s: float) -> float | None:
    """Become a member; returns until when the lease of another of that name runs, if it does.

    What a dead one of the same name had is ours again: most likely it was this bridge.
    """
    row = db.execute(
        f"SELECT life, expires, expires < {_NOW} FROM members WHERE name = ?",  # noqa: S608
        (name,),
    ).fetchone()
    if row is not None:
        before, expires, expired = row
        if not expired:
            return float(expires)
        db.execute(
            "UPDATE jobs SET owner = ? WHERE owner = ? AND (finished_at IS NULL OR published = 0)",
            (life, before),
        )
        db.execute("DELETE FROM members WHERE life = ?", (before,))
    db.execute(
        f"INSERT INTO members VALUES (?, ?, {_NOW} + ?)",  # noqa: S608
        (life, name, lease_s),
    )
    return None


def beat(db: Transaction, life: str, lease_s: float, *, staying: bool) -> Beat:
    """Renew the lease; take the intake where nobody has it; bury the dead if we have it.

    One that is not `staying` has handed the intake over.
    """
    db.execute(f"UPDATE members SET expires = {_NOW} + ? WHERE life = ?", (lease_s, life))  # noqa: S608
    intake = staying and _take_intake(db, life, lease_s)
    requeued = []
    if intake:
        db.execute(f"DELETE FROM members WHERE {_DEAD} AND life <> ?", (lease_s, life))  # noqa: S608
        requeued = _requeue_orphans(db)
    rows = db.execute(
        f"SELECT name FROM members WHERE life <> ? AND expires > {_NOW}",  # noqa: S608
        (life,),
    )
    return Beat(intake, frozenset(row[0] for row in rows), requeued)


def hand_over(db: Transaction, life: str) -> bool:
    """Let go of the intake; returns whether another member is there to take it."""
    db.execute("DELETE FROM intake WHERE life = ?", (life,))
    others = db.execute(
        f"SELECT 1 FROM members WHERE life <> ? AND expires > {_NOW}",  # noqa: S608
        (life,),
    )
    return others.fetchone() is not None


def leave(db: Transaction, life: str) -> None:
    """Be a member no longer; what we still have, somebody else will run."""
    db.execute("DELETE FROM intake WHERE life = ?", (life,))
    db.execute("DELETE FROM members WHERE life = ?", (life,))


def holds_intake(db: Transaction, life: str) -> bool:
    """Whether a member takes the group's requests."""
    return db.execute("SELECT 1 FROM intake WHERE life = ?", (life,)).fetchone() is not None


def _take_intake(db: Transaction, life: str, lease_s: float) -> bool:
    """Whether the intake is ours now."""
    if holds_intake(db, life):
        return True
    held = db.execute(
        f"SELECT 1 FROM intake JOIN members ON members.life = intake.life WHERE NOT ({_DEAD})",  # noqa: S608
        (lease_s,),
    )
    if held.fetchone() is not None:
        return False
    db.execute(
        "INSERT INTO intake VALUES (1, ?) ON CONFLICT (one) DO UPDATE SET life = excluded.life",
        (life,),
    )
    return True


def _requeue_orphans(db: Transaction) -> list[Requeued]:
    """Put back into the queue what nobody has any more, under new prompt ids.

    The old ones may still be at a ComfyUI that nobody of us can reach.
    """
    rows = db.execute(
        f"SELECT cancelling, {JOB_COLUMNS} FROM jobs WHERE finished_at IS NULL "  # noqa: S608
        "AND owner IS NOT NULL AND NOT EXISTS (SELECT 1 FROM members WHERE life = jobs.owner)"
    )
    requeued = []
    for cancelling, *columns in list(rows):
        job = read_job(columns)
        if job.state == "running":
            job.state = "queued"
        job.prompt_id, job.instance = str(uuid.uuid4()), None
        n = next_number(db, job.key.client)
        db.execute(
            "UPDATE jobs SET owner = NULL, state = ?, prompt_id = ?, instance = NULL, n = ? "
            "WHERE client = ? AND job_id = ?",
            (job.state, job.prompt_id, n, *job.key),
        )
        requeued.append(Requeued(job, n, bool(cancelling)))
    return requeued
