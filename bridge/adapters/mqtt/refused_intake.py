"""Decides when a bridge that cannot connect lets another one take a group's requests. Pure.

The broker may refuse this bridge alone: its password was changed, a file of its machine is gone,
the network between the two is broken. If it refuses all of them, each tries in turn, for twice as
long as before, so that the requests do not move on and on.
"""

from __future__ import annotations

# For how many leases a bridge tries before it gives the requests up: at first, and at most.
FIRST_LEASES, MOST_LEASES = 3, 60


class RefusedIntake:
    """Times are by a steady clock."""

    def __init__(self, lease_s: float) -> None:
        self._lease_s = lease_s
        self._patience_s = FIRST_LEASES * lease_s
        self._since: float | None = None

    def accepted(self) -> None:
        """Note that the broker took the bridge, and all that it subscribed to."""
        self._since = None
        self._patience_s = FIRST_LEASES * self._lease_s

    def tries(self, now: float) -> None:
        """Note that the bridge, which takes the requests, is about to connect."""
        if self._since is None:
            self._since = now

    def gives_up(self, now: float, *, has_intake: bool, others: bool) -> bool:
        """True if another bridge is to take the requests; asked before each further attempt.

        `others`: another one lives. Whoever lost the intake meanwhile begins again.
        """
        if not has_intake:
            self._since = None
        if self._since is None or not others or now - self._since < self._patience_s:
            return False
        self._since = None
        self._patience_s = min(2 * self._patience_s, MOST_LEASES * self._lease_s)
        return True
