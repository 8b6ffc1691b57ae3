"""The reasons for which jobs wait, as their clients know them. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from msgspec import UNSET

from bridge.contract.messages import JobStatus
from bridge.jobs.core.book import Book
from bridge.jobs.core.pool import NEVER
from bridge.jobs.job import Job
from bridge.jobs.queue import Key

# A ComfyUI that is offline for less than this many seconds is not worth a message.
SETTLES_S = 5.0
# How many jobs have their reasons published, the next ones first: of thousands of messages at once
# a broker would drop some.
AT_ONCE = 100


class Reasons:
    """Published reasons, and when they are compared next, in seconds by the steady clock."""

    def __init__(self, book: Book, *, alone: bool) -> None:
        """`alone`: no other bridge has ComfyUIs that jobs may wait for."""
        self._book = book
        self._alone = alone
        self._published: dict[Key, str] = {}
        self.due = NEVER

    def compare_soon(self, now: float) -> None:
        """Compare once what happens now has settled."""
        if self.due == NEVER:
            self.due = now + SETTLES_S

    def status(self, job: Job, n: int, now: float) -> JobStatus:
        """Return a status that is published: when its reason has passed, another has to follow."""
        status = self._book.status(job, n)
        if status.reason is not UNSET:
            self._published[job.key] = status.reason
            self.compare_soon(now)
        return status

    def forget(self, key: Key) -> None:
        """Forget a job that left."""
        self._published.pop(key, None)

    def changed(self, now: float) -> Iterator[Job]:
        """Yield the next jobs whose reason has changed, for their status to be published."""
        if self.due > now:
            return
        self.due = NEVER
        published, self._published = self._published, {}
        if not self._book.leads():
            return
        all_take_jobs = self._alone and all(instance.takes_jobs for instance in self._book.pool)
        if not published and self._book.held is None and all_take_jobs:
            return
        for key in islice(self._book.queue.in_order(), AT_ONCE):
            job = self._book.entries[key].job
            reason = self._book.why_waiting(job)
            if reason is not None:
                self._published[key] = reason
            if published.get(key) != reason:
                yield job
