"""The progress of sets, and the number of their jobs that may wait at a time. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Mapping
from typing import TypeVar, get_args

from bridge.contract.messages import Outcome, State
from bridge.contract.sets import Counts

K = TypeVar("K", bound=Hashable)

# A client's sets have this many jobs in the queue for each ComfyUI, and `_MORE` besides: so ComfyUI
# never idles, and a later job waits for few of them.
_PER_COMFYUI = 2
_MORE = 2
# Of short jobs there are as many as end in `_AHEAD_S` seconds, up to `MOST`.
_AHEAD_S = 0.5
MOST = 64
# How many jobs of a set may wait for their input; those block no others.
MOST_WAITING = 16


class Pace:
    """The rate at which jobs end, by a clock in seconds that is never set."""

    def __init__(self) -> None:
        self._ends: deque[float] = deque(maxlen=4 * MOST)

    def ended(self, now: float) -> None:
        """Note that a job ended."""
        self._ends.append(now)

    def per_s(self, now: float) -> float:
        """Return how many ended in the last second."""
        while self._ends and self._ends[0] < now - 1.0:
            self._ends.popleft()
        return float(len(self._ends))


def window(instances: int, per_s: float) -> int:
    """Return how many jobs of one client's sets may be in the queue or run.

    `instances` is how many ComfyUIs take jobs, `per_s` how many of these jobs end in a second.
    """
    return max(_PER_COMFYUI * instances + _MORE, min(MOST, int(per_s * _AHEAD_S)))


def room(instances: int, per_s: float, taken: int) -> int:
    """Return how many jobs of a client's sets to make now, with so many of them under way.

    Where they are over in no time it is many at once, or none: that takes fewer writes.
    """
    found = window(instances, per_s)
    left = found - taken
    return 0 if found > window(instances, 0.0) and 2 * left < found else left


def share(free: int, wanted: Mapping[K, int]) -> dict[K, int]:
    """Deal jobs out to sets, one each in turn; who comes first in `wanted` gets one first."""
    given = dict.fromkeys(wanted, 0)
    while free > 0:
        open_ones = [name for name in wanted if given[name] < wanted[name]]
        if not open_ones:
            break
        for name in open_ones[:free]:
            given[name] += 1
        free -= len(open_ones)
    return {name: number for name, number in given.items() if number}


def tally(states: Mapping[State, int], total: int, *, cancelled: bool = False) -> Counts:
    """Return the counts of a set; jobs that were not made are queued, or cancelled with it."""
    counts: dict[State, int] = {state: states.get(state, 0) for state in get_args(State)}
    unmade: State = "cancelled" if cancelled else "queued"
    counts[unmade] += total - sum(counts.values())
    return Counts(**counts)


def unended(counts: Counts) -> int:
    """Return how many jobs have no outcome yet."""
    return counts.waiting + counts.queued + counts.running


def outcome(counts: Counts, total: int, *, cancelled: bool) -> Outcome:
    """Return the final state of a set whose jobs have all ended."""
    if counts.succeeded == total:
        return "succeeded"
    if cancelled:
        return "cancelled"
    if counts.failed:
        return "failed"
    return "expired" if counts.expired else "cancelled"
