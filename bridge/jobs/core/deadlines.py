"""The times before which jobs have to start. Pure."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterator

from bridge.jobs.job import Job
from bridge.jobs.queue import Key

# How many outdated deadlines may remain: removing each at once would cost more.
_SPARE = 100


class Deadlines:
    """A heap of times by the journal's clock, in seconds."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, Key]] = []

    def __len__(self) -> int:
        return len(self._heap)

    @property
    def next(self) -> float:
        """The earliest time; infinity if there is none. Its job may have left long ago."""
        return self._heap[0][0] if self._heap else float("inf")

    def add(self, job: Job, known: Collection[Key]) -> None:
        """Add a job's deadline, if it has one and has not started; `known` are all jobs."""
        if job.start_before is None or job.state not in ("waiting", "queued"):
            return
        if len(self._heap) > 2 * len(known) + _SPARE:
            # Most are of jobs that have ended, or stand here twice.
            self._heap = sorted({each for each in self._heap if each[1] in known})
            # A sorted list is a heap.
        heapq.heappush(self._heap, (job.start_before, job.key))

    def due(self, now: float) -> Iterator[Key]:
        """Remove and yield the jobs whose time is over, some of which may have left."""
        while self._heap and self._heap[0][0] <= now:
            yield heapq.heappop(self._heap)[1]
