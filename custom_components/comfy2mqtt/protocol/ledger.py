"""A ledger of the results that were taken, and of those that may be acknowledged.

Numbers (`n`) rise with every message of a client. A bridge publishes its own in that order, so what
came while the connection stood is complete up to the last number, but for what the broker did not
take, and what another bridge of a group publishes late. No acknowledgement counts those: they are
listed later, under a higher number than that of the result. So a result is known by its job and its
own number, and what is acknowledged by the number under which it came. What was missed while the
connection was away has to be listed before anything newer may be acknowledged.
"""

from __future__ import annotations

from collections.abc import Mapping

# So many of the jobs whose results were acknowledged are remembered. What comes twice comes soon.
REMEMBERED = 1000


class Ledger:
    """The results of one client in one journal of a bridge.

    `after`: up to which number all were taken and acknowledged. `last`: the job whose result came
    under that number; None if nothing was acknowledged. `taken`: jobs whose results were taken,
    with the results' own numbers, None where a number is not known.
    """

    def __init__(
        self,
        after: int = 0,
        last: str | None = None,
        taken: Mapping[str, int | None] | None = None,
    ) -> None:
        self.after = after
        self.last = last
        self._taken = dict(taken or {})
        self._received: dict[int, str] = {}
        # Numbers that count for their own job alone.
        self._single: set[int] = set()
        self._settled = False

    @property
    def taken(self) -> dict[str, int | None]:
        """The jobs whose results were taken, with the results' own numbers."""
        return dict(self._taken)

    @property
    def is_settled(self) -> bool:
        """True if nothing can have been missed, and the bridge has nothing of ours left to list."""
        return self._settled

    def interrupted(self) -> None:
        """Note that messages may have been missed: all that comes is remembered until `settled`."""
        self._settled = False

    def settled(self) -> None:
        """Note that a list had nothing: all before it has been taken and acknowledged."""
        self._settled = True
        self._forget_old()

    def take(self, n: int, job_id: str, own: int | None) -> bool:
        """Return True for a result that is new; False for one that came before.

        `n` is the number under which it came, `own` the result's own, None where it is not known:
        of an entry of a list without its result.
        """
        is_known = job_id in self._taken
        before = self._taken.pop(job_id, None)
        # What comes again is remembered for longer.
        self._taken[job_id] = before if own is None else own
        if n > self.after:
            self._received[n] = job_id
            if own not in (None, n):
                self._single.add(n)
        # A bridge forgets ids in time, and a person may give one again.
        return not is_known or (None not in (before, own) and before != own)

    def to_acknowledge(self) -> list[int]:
        """Return the numbers to acknowledge, rising: each says that all before it is here.

        A result that the broker did not take counts as acknowledged only by its own number; what is
        left is in the next list, so that list by list the last one is acknowledged at least.
        Nothing is to be acknowledged between an interruption and the next list.
        """
        return sorted({*self._single, max(self._received)}) if self._received else []

    def acknowledged(self, up_to: int) -> None:
        """Note that the bridge has an acknowledgement up to a number."""
        if up_to > self.after:
            self.after, self.last = up_to, self._received.get(up_to)
        self._received = {n: job_id for n, job_id in self._received.items() if n > self.after}
        self._single.discard(up_to)
        self._forget_old()

    def _forget_old(self) -> None:
        # What the broker did not take comes again, in the list that follows its acknowledgement.
        if self._settled and not self._received:
            for job_id in [*self._taken][:-REMEMBERED]:
                del self._taken[job_id]
