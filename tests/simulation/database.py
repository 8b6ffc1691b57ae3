"""A model of the PostgreSQL that bridges share: how long transactions take, and on what they wait.

Each bridge has one transaction at a time, as `bridge.jobs.database` has it: what comes meanwhile is
in the next one. A transaction takes processor time of the server, waits for the network and the
disk, and for locks: the journal's, shared or alone, and those of its clients.
"""

from __future__ import annotations

from collections.abc import Collection

from msgspec import Struct


class Costs(Struct, frozen=True):
    """Seconds; `_s` of work is the server's processor time, of which it has so many `cores`.

    `look_s` is for a job that a bridge looks at, one of many, `compare_s` for a comparison of a
    bridge's view and `row_s` for each job that waits then, `notice_s` for a notice to one listener.
    The defaults are the middle of what `python -m tests.simulation.costs` measured for the table in
    docs/scale.md; network, disk and cores are those of a usual server of its own.
    """

    cores: int = 16
    round_trip_s: float = 0.0005
    sync_s: float = 0.001
    transaction_s: float = 215e-6
    work_s: float = 115e-6
    beat_s: float = 290e-6
    look_s: float = 20e-6
    compare_s: float = 290e-6
    row_s: float = 0.9e-6
    notice_s: float = 23e-6


class Database:
    """Tells when a transaction is over that begins now. Calls come in the order of time."""

    def __init__(self, costs: Costs) -> None:
        self.costs = costs
        self.used_s = 0.0
        self.transactions = 0
        self.alone_s = 0.0
        self._busy_until = 0.0
        self._shared_until = 0.0
        self._alone_until = 0.0
        self._locks: dict[str, float] = {}

    def write(self, now: float, works: int, locks: Collection[str]) -> float:
        """Run works in one transaction, under locks; returns when its commit is on disk."""
        costs = self.costs
        work_s = costs.transaction_s + works * costs.work_s
        ends = self._ends(now, self.has_locks(now, locks), work_s, round_trips=1) + costs.sync_s
        for each in locks:
            self._locks[each] = ends
        return self._share(ends)

    def has_locks(self, now: float, locks: Collection[str]) -> float:
        """Return when a transaction that begins now has locks: those of clients, or of a job."""
        return max(now, self._alone_until, *(self._locks.get(each, 0.0) for each in locks))

    def renew(self, now: float) -> float:
        """Renew a lease, beside others' transactions."""
        begins = max(now, self._alone_until)
        ends = self._ends(now, begins, self.costs.beat_s, round_trips=1) + self.costs.sync_s
        return self._share(ends)

    def settle(self, now: float, orphans: int) -> float:
        """Take the intake or delete dead members, alone, and return so many jobs to the queue."""
        costs = self.costs
        begins = max(now, self._alone_until, self._shared_until)
        work_s = costs.beat_s + orphans * costs.work_s
        ends = self._ends(now, begins, work_s, round_trips=6 + 2 * orphans) + costs.sync_s
        self._alone_until = ends
        self.alone_s += ends - begins
        return ends

    def look(self, now: float, jobs: int) -> float:
        """Read where jobs stand, all together."""
        begins = max(now, self._alone_until)
        return self._share(self._ends(now, begins, jobs * self.costs.look_s, round_trips=1))

    def compare(self, now: float, rows: int) -> float:
        """Read which jobs nobody has, and whether the queue is paused."""
        begins = max(now, self._alone_until)
        work_s = self.costs.compare_s + rows * self.costs.row_s
        return self._share(self._ends(now, begins, work_s, round_trips=3))

    def notify(self, now: float, listeners: int) -> float:
        """Send a notice to so many; returns when they have it."""
        return self._ends(now, now, listeners * self.costs.notice_s, round_trips=0.5)

    def _share(self, ends: float) -> float:
        self._shared_until = max(self._shared_until, ends)
        return ends

    def _ends(self, now: float, begins: float, work_s: float, *, round_trips: float) -> float:
        """Return when work is done that may begin then: what was asked before comes first."""
        self.transactions += 1
        self.used_s += work_s
        waits_s = max(0.0, self._busy_until - now)
        self._busy_until = now + waits_s + work_s / self.costs.cores
        return begins + waits_s + work_s + round_trips * self.costs.round_trip_s
