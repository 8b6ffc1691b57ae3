"""Decides when a bridge that has no connection lets another one take a group's requests. Pure.

The broker may refuse this bridge alone: its password was changed, a file of its machine is gone,
the network between the two is broken. If it refuses all of them, each tries in turn, for twice as
long as before, so that the requests do not move on and on.
"""

from __future__ import annotations

# For how many leases a bridge tries before it releases the intake: at first, and at most. With the
# heartbeats before and after, the first time is shorter than the delay of the will that says that
# nobody takes requests (`subscriber.WILL_DELAY_LEASES`).
FIRST_LEASES, MOST_LEASES = 2, 60


class RefusedIntake:
    """Decides whether this bridge keeps the intake while it cannot connect.

    Times are in seconds by a steady clock.
    """

    def __init__(self, lease_s: float) -> None:
        self.receives = False
        """True while the broker sends this bridge the group's requests."""
        self._lease_s = lease_s
        self._patience_s = FIRST_LEASES * lease_s
        self._since: float | None = None

    def gives_up(self, now: float, *, has_intake: bool, others: bool) -> bool:
        """True if another bridge is to take the requests; asked at each heartbeat.

        `others`: another one lives. Who is alone, or loses the intake, begins again.
        """
        if self.receives:
            self._patience_s = FIRST_LEASES * self._lease_s
        if self.receives or not (has_intake and others):
            self._since = None
            return False
        if self._since is None:
            self._since = now
        if now - self._since < self._patience_s:
            return False
        self._since = None
        self._patience_s = min(2 * self._patience_s, MOST_LEASES * self._lease_s)
        return True
