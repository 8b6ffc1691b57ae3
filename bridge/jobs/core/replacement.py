"""Jobs of which only the newest is wanted. Pure."""

from __future__ import annotations

from bridge.jobs.job import Job


class NewestJobs:
    """The newest job of each client and word of `replace`."""

    def __init__(self) -> None:
        self._newest: dict[tuple[str, str], Job] = {}

    def add(self, job: Job) -> tuple[Job, Job] | None:
        """Add a job; returns the older and the newer one of two that share a word.

        A job that comes back from a ComfyUI may be the older one.
        """
        if job.replace is None:
            return None
        word = (job.key.client, job.replace)
        known = self._newest.setdefault(word, job)
        if known.key == job.key:
            return None
        older, newer = sorted((known, job), key=lambda each: each.seq)
        self._newest[word] = newer
        return older, newer

    def forget(self, job: Job) -> None:
        """Forget a job that left."""
        if job.replace is None:
            return
        word = (job.key.client, job.replace)
        newest = self._newest.get(word)
        if newest is not None and newest.key == job.key:
            del self._newest[word]
