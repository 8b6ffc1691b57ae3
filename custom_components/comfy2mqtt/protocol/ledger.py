"""A ledger of the results that were taken, and of those that may be acknowledged.

Numbers (`n`) rise with every message of a client, and none is published before one with a lower
number. So what came while the connection stood is complete up to the last number; what was missed
while it did not has to be listed before anything newer may be acknowledged.
"""

from __future__ import annotations


class Ledger:
    """The results of one client in one journal of a bridge.

    `after`: up to which number all were taken and acknowledged. `last`: the job whose result has
    that number; None if it is not known.
    """

    def __init__(self, after: int = 0, last: str | None = None) -> None:
        self.after = after
        self.last = last
        self._taken: dict[int, str] = {}
        self._whole = False

    @property
    def is_whole(self) -> bool:
        """True if nothing can have been missed since `after`."""
        return self._whole

    def interrupted(self) -> None:
        """Note that messages may have been missed: acknowledge nothing until they are listed."""
        self._whole = False

    def listed(self) -> None:
        """Note that everything after `after` has been listed, and handed to `take`."""
        self._whole = True

    def take(self, n: int, job_id: str) -> bool:
        """Return True for a result that is new; False for one that came before."""
        if n <= self.after or n in self._taken:
            return False
        self._taken[n] = job_id
        return True

    def to_acknowledge(self) -> int | None:
        """Return up to which number to acknowledge now; None if there is nothing, or not yet."""
        return max(self._taken) if self._whole and self._taken else None

    def acknowledged(self, up_to: int) -> None:
        """Note that the bridge has an acknowledgement up to a number."""
        if up_to > self.after:
            self.after, self.last = up_to, self._taken.get(up_to)
        self._taken = {n: job_id for n, job_id in self._taken.items() if n > self.after}
