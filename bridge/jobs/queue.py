"""The order of the queue: who is next.

Within a client the highest priority goes first, and within a priority the one accepted first.
Between clients turns go round: each time, the client that has waited longest for a turn. So a
client's first waiting job starts after at most one job of each other client.

Pure: keys and numbers in, keys out. The journal is the truth; this is its order, kept in memory.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from typing import NamedTuple

# A place in the order of acceptance after every job that there is.
_LAST = 2**63


class Key(NamedTuple):
    """A job's name: unique, and what the journal knows it by."""

    client: str
    job_id: str


class Entry(NamedTuple):
    """One waiting job. Tuples of this form sort in the order of their turns."""

    rank: int  # the priority, negated: a higher one sorts first
    seq: int  # the order of acceptance
    key: Key


class Queue:
    """Waiting jobs in their order."""

    def __init__(self) -> None:
        self._lanes: dict[str, list[Entry]] = {}  # by client, in the order of turns
        self._entries: dict[Key, Entry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: Key) -> bool:
        return key in self._entries

    def __iter__(self) -> Iterator[Key]:
        """Give all keys, in no particular order."""
        return iter(self._entries)

    def count(self, client: str) -> int:
        """How many jobs of a client wait."""
        return len(self._lanes.get(client, ()))

    def add(self, key: Key, *, seq: int, priority: int) -> None:
        """Put a job in its place. One that waits already stays where it is."""
        if key in self._entries:
            return
        entry = Entry(-priority, seq, key)
        bisect.insort(self._lanes.setdefault(key.client, []), entry)
        self._entries[key] = entry

    def remove(self, key: Key) -> bool:
        """Take a job out, wherever it stands; False if it does not wait."""
        entry = self._entries.pop(key, None)
        if entry is None:
            return False
        lane = self._lanes[key.client]
        del lane[bisect.bisect_left(lane, entry)]
        if not lane:
            del self._lanes[key.client]
        return True

    def take(self) -> Key | None:
        """Take the next job; its client's next turn comes after everybody else's."""
        client = next(iter(self._lanes), None)
        if client is None:
            return None
        lane = self._lanes.pop(client)
        entry = lane.pop(0)
        if lane:
            self._lanes[client] = lane  # a dict keeps its order: now the last
        del self._entries[entry.key]
        return entry.key

    def position(self, key: Key) -> int | None:
        """How many jobs start before this one, if nothing more is accepted.

        With k jobs of its own before it, each client ahead in the round gets k + 1 turns first,
        each one behind gets k.
        """
        entry = self._entries.get(key)
        if entry is None:
            return None
        return self._before(key.client, bisect.bisect_left(self._lanes[key.client], entry))

    def position_of_next(self, client: str, priority: int) -> int:
        """How many jobs start before one that would be added now."""
        last = Entry(-priority, _LAST, Key(client, ""))
        return self._before(client, bisect.bisect_left(self._lanes.get(client, []), last))

    def _before(self, client: str, own: int) -> int:
        before = own
        turns = own + 1
        for other, lane in self._lanes.items():
            if other == client:
                turns = own
            else:
                before += min(len(lane), turns)
        return before
