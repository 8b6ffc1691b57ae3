"""Estimates how long jobs will take, from the runs of the same workflow. Pure.

The newest runs count most: a workflow's inputs change over time, and so does the machine.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

# How much of the estimate the newest run is.
_NEWEST = 0.3
_MIN_PERCENT = 10.0


class Estimates:
    """Seconds that a run takes, by workflow; `known` are those from before."""

    def __init__(self, known: Mapping[str, float] | None = None) -> None:
        self._run_s = dict(known or {})
        self._queued: Counter[str] = Counter()

    def learn(self, known: Mapping[str, float]) -> None:
        """Take the expected seconds of workflows from before this process."""
        self._run_s.update(known)

    def ran(self, workflow: str, seconds: float) -> float:
        """Learn the duration of a run; returns the expected seconds of the next one."""
        known = self._run_s.get(workflow, seconds)
        self._run_s[workflow] = found = known + _NEWEST * (seconds - known)
        return found

    def queued(self, workflow: str) -> None:
        """Count a job that waits."""
        self._queued[workflow] += 1

    def left(self, workflow: str) -> None:
        """Count one waiting job less."""
        self._queued[workflow] -= 1
        if self._queued[workflow] <= 0:
            del self._queued[workflow]

    def run_s(self, workflow: str) -> float | None:
        """Return the seconds that a run takes; None for a workflow that has not run yet."""
        return self._run_s.get(workflow)

    def until_end(self, workflow: str, position: int, active: int, instances: int) -> float | None:
        """Seconds until a job that waits has ended, with `position` jobs before it in the queue.

        `instances` is how many ComfyUIs work, `active` how many jobs are at them: one at each runs,
        and counts as half done.
        """
        own = self._run_s.get(workflow)
        if own is None or not instances:
            return None
        total = sum(self._queued.values())
        known = sum(count * self._run_s.get(each, own) for each, count in self._queued.items())
        average = known / total if total else own
        before = position + active - 0.5 * min(active, instances)
        return own + before * average / instances

    def left_of(self, workflow: str, percent: float, elapsed: float) -> float | None:
        """Return the seconds left of a run, `elapsed` seconds after its start; None if unknown."""
        if percent >= _MIN_PERCENT:
            return elapsed * (100.0 - percent) / percent
        own = self._run_s.get(workflow)
        return None if own is None else max(0.0, own - elapsed)
