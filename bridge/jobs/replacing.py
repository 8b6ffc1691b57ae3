"""Jobs of which only the newest is wanted: a chatty sensor's. Pure."""

from __future__ import annotations

from bridge.jobs.job import Job


class Replacing:
    """For each client's word, the newest job under it that has not ended."""

    def __init__(self) -> None:
        self._newest: dict[tuple[str, str], Job] = {}

    def add(self, job: Job) -> Job | None:
        """Note a job; returns the one that is wanted no longer, if it has not started."""
        if job.replace is None:
            return None
        word = (job.key.client, job.replace)
        known = self._newest.get(word)
        if known is None or known is job:
            self._newest[word] = job
            return None
        # One that comes back from a ComfyUI may be the older one.
        older, self._newest[word] = sorted((known, job), key=lambda each: each.seq)
        return older if older.state in ("waiting", "queued") else None

    def ended(self, job: Job) -> None:
        """Forget a job that has ended."""
        if job.replace is not None:
            word = (job.key.client, job.replace)
            if self._newest.get(word) is job:
                del self._newest[word]
