"""Jobs that a newer one replaces: those with the same word in `replace`. Pure."""

from __future__ import annotations

from bridge.jobs.job import Job


class LatestWins:
    """The newest job of each client and `replace` word."""

    def __init__(self) -> None:
        self._newest: dict[tuple[str, str], Job] = {}

    def add(self, job: Job, replace: str) -> tuple[Job, Job] | None:
        """Add a job. If another one has its word, return both: first the older, then the newer.

        The job added may be the older one, if it returns from a ComfyUI.
        """
        word = (job.key.client, replace)
        known = self._newest.setdefault(word, job)
        if known.key == job.key:
            return None
        older, newer = sorted((known, job), key=lambda each: each.seq)
        self._newest[word] = newer
        return older, newer

    def forget(self, job: Job, replace: str) -> None:
        """Forget a job that left the book."""
        word = (job.key.client, replace)
        newest = self._newest.get(word)
        if newest is not None and newest.key == job.key:
            del self._newest[word]
