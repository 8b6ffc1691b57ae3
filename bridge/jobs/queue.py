"""The order of the queue: who is next.

Of a client's jobs the highest priority goes first, and within a priority the one accepted first.
Clients take turns (round robin): the next turn is that of the client that has waited longest for
one. So a client's first waiting job starts after at most one job of each other client.

Jobs with the same placement (what they need of a ComfyUI) are in one bucket: what cannot run on the
ComfyUI that asks is skipped by the bucket, not one by one. A job whose model is loaded there may
pass earlier ones of its client and priority: each of those for a limited time, and none that is
`ordered`.

Pure: keys, numbers and times in, keys out. The journal is the truth; this is its order, in memory.
"""

from __future__ import annotations

import bisect
import heapq
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterator
from typing import NamedTuple, TypeAlias

# A place in the order of acceptance after every job that there is.
_LAST = 2**63

# With more clients than this a position is an upper bound: to find it, nobody walks over all.
MAX_EXACT = 256

# What a job needs of a ComfyUI, or which one it needs: jobs for the same ones have equal ones.
Placement: TypeAlias = Hashable
Test: TypeAlias = Callable[[Placement], bool]


class Key(NamedTuple):
    """The unique name of a job, also in the journal."""

    client: str
    job_id: str


class Turn(NamedTuple):
    """A waiting job's place. Tuples of this form sort in the order in which jobs start."""

    rank: int  # the priority, negated: a higher one sorts first
    seq: int  # the order of acceptance
    key: Key


class _OvertakeLog:
    """The times at which jobs of one client and priority were first passed by a later one.

    Only jobs accepted later than all that passed before are noted: `marks` and `times` both rise.
    """

    def __init__(self) -> None:
        self._marks: list[int] = []
        self._times: list[float] = []

    def note(self, seq: int, now: float) -> None:
        if not self._marks or seq > self._marks[-1]:
            self._marks.append(seq)
            self._times.append(now)

    def since(self, seq: int) -> float | None:
        place = bisect.bisect_right(self._marks, seq)
        return self._times[place] if place < len(self._marks) else None


class _ClientQueue:
    """One client's waiting jobs."""

    def __init__(self) -> None:
        self.placements: dict[Placement, list[Turn]] = {}
        self.size = 0
        self._ordered: list[Turn] = []
        self._passing: dict[int, _OvertakeLog] = {}

    def add(self, entry: Turn, placement: Placement, *, ordered: bool) -> None:
        bisect.insort(self.placements.setdefault(placement, []), entry)
        self.size += 1
        if ordered:
            bisect.insort(self._ordered, entry)

    def remove(self, entry: Turn, placement: Placement) -> None:
        entries = self.placements[placement]
        del entries[bisect.bisect_left(entries, entry)]
        self.size -= 1
        if not entries:
            del self.placements[placement]
        place = bisect.bisect_left(self._ordered, entry)
        if place < len(self._ordered) and self._ordered[place] == entry:
            del self._ordered[place]

    def before(self, entry: Turn) -> int:
        """Return the number of this client's jobs before `entry`."""
        return sum(bisect.bisect_left(entries, entry) for entries in self.placements.values())

    def first(
        self, may_take: Test | None, prefer: Test | None, reorder_s: float, now: float
    ) -> Turn | None:
        heads = {
            entries[0]: placement
            for placement, entries in self.placements.items()
            if may_take is None or may_take(placement)
        }
        if not heads:
            return None
        first = min(heads)
        if prefer is None or len(heads) == 1 or prefer(heads[first]):
            return first
        passing = self._passing.get(first.rank)
        since = None if passing is None else passing.since(first.seq)
        if now - (now if since is None else since) >= reorder_s:
            return first
        preferred = [
            head
            for head, placement in heads.items()
            if head.rank == first.rank
            and prefer(placement)
            and not self._passes_ordered(first, head)
        ]
        if not preferred:
            return first
        chosen = min(preferred)
        self._passing.setdefault(first.rank, _OvertakeLog()).note(chosen.seq, now)
        return chosen

    def _passes_ordered(self, first: Turn, head: Turn) -> bool:
        place = bisect.bisect_left(self._ordered, first)
        return place < len(self._ordered) and self._ordered[place] <= head


class Queue:
    """Waiting jobs in their order."""

    def __init__(self) -> None:
        self._lines: dict[str, _ClientQueue] = {}  # by client, in the order of turns
        self._entries: dict[Key, tuple[Turn, Placement]] = {}
        # How many clients have at least so many jobs, by that number; and all placements.
        self._having: list[int] = [0]
        self._placements: Counter[Placement] = Counter()

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: Key) -> bool:
        return key in self._entries

    def __iter__(self) -> Iterator[Key]:
        """Yield all keys, in no particular order."""
        return iter(self._entries)

    def placements(self) -> Collection[Placement]:
        """Return the placements of the jobs that wait."""
        return self._placements.keys()

    def count(self, client: str) -> int:
        """Return the number of jobs of a client that wait."""
        line = self._lines.get(client)
        return 0 if line is None else line.size

    def add(
        self,
        key: Key,
        *,
        seq: int,
        priority: int,
        placement: Placement = None,
        ordered: bool = False,
    ) -> None:
        """Add a job at its place; no effect if it is queued already.

        No job accepted later passes an `ordered` one, and an `ordered` one passes none.
        """
        if key in self._entries:
            return
        entry = Turn(-priority, seq, key)
        line = self._lines.get(key.client)
        if line is None:
            line = self._lines[key.client] = _ClientQueue()
        line.add(entry, placement, ordered=ordered)
        self._entries[key] = entry, placement
        self._placements[placement] += 1
        if line.size == len(self._having):
            self._having.append(0)
        self._having[line.size] += 1

    def remove(self, key: Key) -> bool:
        """Remove a job; False if it is not queued."""
        found = self._entries.pop(key, None)
        if found is None:
            return False
        line = self._lines[key.client]
        self._having[line.size] -= 1
        if not self._having[-1] and len(self._having) > 1:
            self._having.pop()
        line.remove(*found)
        self._placements[found[1]] -= 1
        if not self._placements[found[1]]:
            del self._placements[found[1]]
        if not line.size:
            del self._lines[key.client]
        return True

    def take(
        self,
        *,
        may_take: Test | None = None,
        prefer: Test | None = None,
        reorder_s: float = 0.0,
        now: float = 0.0,
    ) -> Key | None:
        """Take the next job; its client's next turn comes after everybody else's.

        `may_take` tells whether jobs of a placement may be taken; a client without such a job keeps
        its turn. `prefer` tells whether a placement's model is loaded: its jobs may pass earlier
        ones of their client and priority, each for `reorder_s` seconds by the clock of `now`.
        """
        if may_take is not None and not any(map(may_take, self._placements)):
            return None
        for client, line in self._lines.items():
            entry = line.first(may_take, prefer, reorder_s, now)
            if entry is None:
                continue
            self.remove(entry.key)
            if client in self._lines:
                self._lines[client] = self._lines.pop(client)  # a dict keeps its order: now last
            return entry.key
        return None

    def in_order(self) -> Iterator[Key]:
        """Yield all keys in the order of their turns, as if nothing more were accepted."""
        lines = [heapq.merge(*line.placements.values()) for line in self._lines.values()]
        while lines:
            left = []
            for line in lines:
                entry = next(line, None)
                if entry is not None:
                    yield entry.key
                    left.append(line)
            lines = left

    def position(self, key: Key) -> int | None:
        """Return the number of jobs that start before this one, if nothing more is accepted.

        With k jobs of its own before it, each client ahead in the round gets k + 1 turns first,
        each one behind gets k. Placements are not considered: which can run
        is not known beforehand. With more than `MAX_EXACT` clients all others count as ahead.
        """
        found = self._entries.get(key)
        if found is None:
            return None
        return self._before(key.client, self._lines[key.client].before(found[0]))

    def position_of_next(self, client: str, priority: int) -> int:
        """Return the number of jobs that start before one that would be added now."""
        line = self._lines.get(client)
        last = Turn(-priority, _LAST, Key(client, ""))
        return self._before(client, 0 if line is None else line.before(last))

    def _before(self, client: str, own: int) -> int:
        if len(self._lines) > MAX_EXACT:
            line = self._lines.get(client)
            mine = 0 if line is None else min(line.size, own + 1)
            return own + sum(self._having[1 : own + 2]) - mine
        before = own
        turns = own + 1
        for other, line in self._lines.items():
            if other == client:
                turns = own
            else:
                before += min(line.size, turns)
        return before
