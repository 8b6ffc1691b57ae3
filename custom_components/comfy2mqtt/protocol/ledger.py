"""A ledger of the results that were taken, and of those that may be acknowledged.

Numbers (`n`) rise with every message of a client. A bridge publishes its own in that order, so what
came while the connection stood is complete up to the last number, but for what the broker did not
take, and what another bridge of a group publishes late. No acknowledgement counts those: they are
listed later, under a higher number than that of the result. So a job is known by its id, and what
is acknowledged by the number under which it came. What was missed while the connection was away has
to be listed before anything newer may be acknowledged.
"""

from __future__ import annotations

from collections.abc import Iterable

# So many of the jobs whose results were acknowledged are remembered. What comes twice comes soon.
REMEMBERED = 1000


class Ledger:
    """The results of one client in one journal of a bridge.

    `after`: up to which number all were taken and acknowledged. `last`: the job whose result came
    under that number; None if nothing was acknowledged. `taken`: jobs whose results were taken.
    """

    def __init__(self, after: int = 0, last: str | None = None, taken: Iterable[str] = ()) -> None:
        self.after = after
        self.last = last
        self._taken = dict.fromkeys(taken)
        self._came: dict[int, str] = {}
        # Numbers that count for their own job alone.
        self._single: set[int] = set()
        self._whole = False

    @property
    def taken(self) -> list[str]:
        """The jobs whose results were taken, as many as are remembered."""
        return list(self._taken)

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

    def take(self, n: int, job_id: str, *, renumbered: bool = False) -> bool:
        """Return True for a result that is new; False for one that came before.

        `n` is the number under which it came; `renumbered`: the result itself has another one.
        """
        is_new = job_id not in self._taken and self._came.get(n) != job_id
        if n > self.after:
            self._came[n] = job_id
            if renumbered:
                self._single.add(n)
        # What comes again is remembered for longer.
        self._taken.pop(job_id, None)
        self._taken[job_id] = None
        if len(self._taken) > REMEMBERED:
            del self._taken[next(iter(self._taken))]
        return is_new

    def to_acknowledge(self) -> list[int]:
        """Return the numbers to acknowledge now, rising: each says that all before it is here.

        A result that the broker did not take counts as acknowledged only by its own number.
        """
        return sorted({*self._single, max(self._came)}) if self._whole and self._came else []

    def acknowledged(self, up_to: int) -> None:
        """Note that the bridge has an acknowledgement up to a number."""
        if up_to > self.after:
            self.after, self.last = up_to, self._came.get(up_to)
        self._came = {n: job_id for n, job_id in self._came.items() if n > self.after}
        self._single.discard(up_to)
