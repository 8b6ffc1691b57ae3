"""The rules by which the bridges of a group notice within seconds that one of them died. Pure.

Each bridge holds a lock by a session of the database, which ends with the process, and the lock
with it. The others observe whether it is held. `Presence` decides what a bridge may assume about
itself, `FailureDetector` what it may assume about others. docs/several-bridges.md proves that they
never disagree: no bridge is counted as dead before it has stopped to count itself as a member.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

# How often a bridge observes the others, in seconds.
OBSERVE_S = 0.5
# A bridge counts itself as a member for this long after it asked the session that has its lock, if
# that session answered ...
VALID_S = 1.5
# ... and nobody counts it as dead sooner after it was first seen without the lock.
GONE_S = VALID_S


class MemberState(NamedTuple):
    """A member as it was observed: when its lease expires, and whether its lock is held."""

    life: str
    expires: float
    present: bool


class DeadMember(NamedTuple):
    """A member that is to be counted as dead, unless it has renewed its lease since."""

    life: str
    expires: float


class Presence:
    """Decides until when a bridge may count itself as a member: `until`, by its steady clock.

    A bridge that never asked for the lock was never seen with it: only its lease counts.
    """

    def __init__(self) -> None:
        self.until = math.inf
        self.session: int | None = None
        """The number of the session that has the lock, as far as is known."""
        self._sessions = 0
        self._counts = False

    def lock_requested(self, now: float) -> None:
        """Note that a new session is going to ask for the lock."""
        self.until = min(self.until, now + VALID_S)
        self.session, self._counts = None, False

    def lock_acquired(self) -> None:
        """Note that the session has the lock; it counts with the next heartbeat."""
        self._sessions += 1
        self.session = self._sessions

    def lease_renewed(self, session: int | None) -> None:
        """Note that a heartbeat renewed the lease, which began when `session` had the lock.

        Whoever observed this bridge without the lock before that has to observe it again.
        """
        if session is not None and session == self.session:
            self._counts = True

    def answered(self, asked: float) -> None:
        """Note that the session answered a question that it was asked at `asked`."""
        if self._counts:
            self.until = asked + VALID_S


class FailureDetector:
    """Finds out which other members died; times are seconds by this bridge's steady clock."""

    def __init__(self) -> None:
        self._present: set[str] = set()
        # When a member was first seen without its lock, and the end of its lease then.
        self._missing: dict[str, tuple[float, float]] = {}

    def observe(
        self, asked: float, answered: float, found: Iterable[MemberState]
    ) -> list[DeadMember]:
        """Return the members to count as dead, observed by a query between these times.

        A member never seen with a lock has none: it is of an older version, or behind a pooler.
        """
        dead = []
        present, missing = self._present, self._missing
        self._present, self._missing = set(), {}
        for each in found:
            if each.present:
                self._present.add(each.life)
            elif each.life in present:
                self._present.add(each.life)
                since, expires = missing.get(each.life, (answered, each.expires))
                if expires != each.expires:
                    since = answered
                self._missing[each.life] = since, each.expires
                if asked - since >= GONE_S:
                    dead.append(DeadMember(each.life, each.expires))
        return dead
