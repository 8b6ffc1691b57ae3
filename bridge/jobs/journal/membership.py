"""The members of a group of bridges in the database: works for PostgreSQL alone.

A member has a lease for itself, and renews it by heartbeats; time is the database's. Whoever finds
that a lease has run out, or that the session of a member has ended (`jobs.presence`), counts it as
dead: it deletes the member's row, and from then on the database refuses that member everything
(`guard`). So nothing that a frozen bridge does once it wakes can count, and one decision, taken in
one transaction, frees all that it had.

A heartbeat writes the bridge's own row alone (`renew`), and stops nobody. Only if it finds
something to put right, which `is_settled` decides, a second transaction does that (`settle`), alone
with the journal.

The database's clock may be set. A bridge sees that between two of its heartbeats, by its own steady
clock: it lengthens all leases by what went by too much, and shortens those that would run for ever.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from bridge.jobs import state
from bridge.jobs.database import SURE, Steps, Transaction
from bridge.jobs.journal import queries, rows
from bridge.jobs.journal.rows import Record
from bridge.jobs.journal.sequence import NextNumber, number
from bridge.jobs.presence import DeadMember
from bridge.jobs.state import Transition

# The database's clock was set if it is off by more seconds, and by more than a lease.
_JUMP_S = 5.0
# No lease runs for more than so many leases, and seconds: others may have a longer one.
_MOST_LEASES, _MOST_S = 10, 60.0
# After a start of the database nobody has a session: all have so long to make a new one.
_GRACE_S = 10.0


class HeartbeatTimes(Struct, frozen=True):
    """The database's time and a bridge's steady clock, at a heartbeat; seconds."""

    database: float
    steady: float


class HeartbeatResult(Struct, frozen=True):
    """A heartbeat's findings.

    `others` are the names of the other members that live, `requeued` the jobs that a dead member
    had and that are back in the queue.
    """

    intake: bool
    others: frozenset[str]
    requeued: list[Record] = []
    at: float = 0.0
    """The database's time."""


class GroupView(Struct, frozen=True):
    """The group as a member sees it when it has renewed its lease.

    `vacant`: nobody who lives has the intake. `overlong`: a lease runs longer than any may.
    `must_clean_up`: this member has the intake, and a dead one, or its jobs, are there.
    """

    at: float
    """The database's time."""
    intake: bool
    vacant: bool
    overlong: bool
    must_clean_up: bool
    others: frozenset[str]


def guard(life: str) -> str:
    """Return the query that divides by zero once a member counts as dead."""
    return queries.GUARD.replace("[life]", uuid.UUID(life).hex)


def join(db: Transaction, name: str, life: str, lease_s: float) -> float | None:
    """Become a member; returns until when the lease of another of that name runs, if it does.

    What a dead one of the same name had is ours again: most likely it was this bridge.
    """
    _correct_leases(db, lease_s, None, 0.0)
    row = db.execute(queries.MEMBER_OF_NAME, (name,)).fetchone()
    if row is not None:
        before, expires, expired = row
        if not expired:
            return float(expires)
        db.execute(queries.INHERIT_JOBS, (life, before))
        db.execute(queries.INHERIT_SETS, (life, before))
        db.execute(queries.DROP_MEMBER, (before,))
    db.execute(queries.INSERT_MEMBER, (life, name, lease_s))
    return None


def renew(db: Transaction, life: str, lease_s: float) -> Steps[GroupView]:
    """Renew the lease, and see how the group is; nothing else is written."""
    db.execute(queries.RENEW_LEASE, (lease_s, life))
    seen = db.execute(queries.SEE_GROUP, (life, lease_s, _most_s(lease_s), lease_s, life))
    others = db.execute(queries.OTHER_MEMBERS, (life,))
    yield SURE
    at, intake, vacant, overlong, must_clean_up = seen.fetchone()
    names = frozenset(name for (name,) in others)
    return GroupView(at, intake, vacant, overlong, must_clean_up, names)


def is_settled(
    seen: GroupView, lease_s: float, *, staying: bool, last: HeartbeatTimes | None, steady: float
) -> bool:
    """True if `settle` would change nothing, as far as was seen; its docstring has the rest."""
    if seen.overlong or _jumped_s(seen.at, lease_s, last, steady):
        return False
    return not (staying and (seen.vacant or seen.must_clean_up))


def settle(
    db: Transaction,
    life: str,
    lease_s: float,
    *,
    staying: bool,
    dead: Sequence[DeadMember] = (),
    last: HeartbeatTimes | None = None,
    steady: float = 0.0,
) -> HeartbeatResult:
    """Correct leases; take the intake if nobody has it; delete dead members if we have it.

    One that is not `staying` has handed the intake over. `dead` are members that died as far as was
    seen, `last` is when this bridge's last heartbeat was, `steady` its steady clock now.
    """
    at = _correct_leases(db, lease_s, last, steady)
    db.execute(queries.RENEW_LEASE, (lease_s, life))
    for each in dead:
        db.execute(queries.DELETE_DEAD_MEMBER, (min(lease_s, _GRACE_S), *each))
    intake = staying and _take_intake(db, life, lease_s)
    requeued = []
    if intake:
        db.execute(queries.DELETE_EXPIRED_MEMBERS, (lease_s, life))
        requeued = _requeue_orphans(db, life)
    others = db.execute(queries.OTHER_MEMBERS, (life,))
    return HeartbeatResult(intake, frozenset(name for (name,) in others), requeued, at)


def _correct_leases(
    db: Transaction, lease_s: float, last: HeartbeatTimes | None, steady: float
) -> float:
    """Undo to the leases what was done to the database's clock; returns its time."""
    (at,) = map(float, db.execute(queries.DATABASE_TIME).fetchone())
    jumped_s = _jumped_s(at, lease_s, last, steady)
    if jumped_s:
        db.execute(queries.LENGTHEN_LEASES, (jumped_s,))
    most_s = _most_s(lease_s)
    db.execute(queries.SHORTEN_LEASES, (most_s, most_s))
    return at


def _jumped_s(at: float, lease_s: float, last: HeartbeatTimes | None, steady: float) -> float:
    """Return by how much the database's clock was set forward since `last`; 0 if it was not."""
    if last is None:
        return 0.0
    jumped_s = (at - last.database) - (steady - last.steady)
    return jumped_s if jumped_s > max(lease_s, _JUMP_S) else 0.0


def _most_s(lease_s: float) -> float:
    return _MOST_LEASES * lease_s + _MOST_S


def hand_over(db: Transaction, life: str) -> bool:
    """Release the intake; returns whether another member is there to take it."""
    db.execute(queries.RELEASE_INTAKE, (life,))
    return db.execute(queries.OTHER_MEMBERS, (life,)).fetchone() is not None


def leave(db: Transaction, life: str) -> None:
    """Be a member no longer; what we still have, somebody else will run."""
    db.execute(queries.RELEASE_INTAKE, (life,))
    db.execute(queries.DROP_MEMBER, (life,))


def holds_intake(db: Transaction, life: str) -> bool:
    """True if a member takes the group's requests."""
    return db.execute(queries.HAS_INTAKE, (life,)).fetchone() is not None


def _take_intake(db: Transaction, life: str, lease_s: float) -> bool:
    """True if the intake is ours now."""
    if holds_intake(db, life):
        return True
    if db.execute(queries.INTAKE_IS_HELD, (lease_s,)).fetchone() is not None:
        return False
    db.execute(queries.TAKE_INTAKE, (life,))
    return True


def _requeue_orphans(db: Transaction, life: str) -> list[Record]:
    """Return jobs without a bridge to the queue, under new prompt ids.

    The old ones may still be at a ComfyUI that nobody of us can reach.
    """
    requeued = []
    for record in [rows.read(row) for row in db.execute(queries.ORPHANS)]:
        job = record.job
        if job.state in state.before(Transition.REQUEUE):
            job.state = state.after(job.state, Transition.REQUEUE)
        job.prompt_id, job.instance = str(uuid.uuid4()), None
        n = number(db, NextNumber(job.key.client, drawer=life))
        db.execute(queries.REQUEUE_ORPHAN, (job.state, job.prompt_id, n, *job.key))
        requeued.append(replace(record, n=n, owner=None))
    return requeued
