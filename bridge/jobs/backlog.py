"""The jobs that wait for their turn: in which order, for which ComfyUI, and for how long.

The journal is the truth; this is what of it has to be at hand.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from bridge.comfyui.instance import Instance
from bridge.jobs.estimates import Estimates
from bridge.jobs.job import Job
from bridge.jobs.posts import At, CanRun, Post, Posts
from bridge.jobs.queue import Key, Queue
from bridge.workflows.catalogue import Needs

# Above every priority that a request can have.
_FIRST = 1_000_000


class Backlog:
    """While it is `paused` nothing is taken."""

    def __init__(
        self, instances: Sequence[Instance], can_run: CanRun, reorder_s: float, *, alone: bool
    ) -> None:
        """`alone`: no other bridge could run what this one cannot."""
        self.paused = False
        self.estimates = Estimates()
        self._queue = Queue()
        self._jobs: dict[Key, Job] = {}
        self.posts = Posts(instances, self._queue, can_run, reorder_s, alone=alone)

    def __len__(self) -> int:
        return len(self._queue)

    def __iter__(self) -> Iterator[Job]:
        """Give the jobs in the order of their turns."""
        return (self._jobs[key] for key in self._queue.in_order())

    def recover(self, run_s: Mapping[str, float], *, paused: bool) -> None:
        """Take how long workflows took before this process, and whether it was paused."""
        self.estimates = Estimates(run_s)
        self.paused = paused

    def add(self, job: Job) -> None:
        """Put a job in its place."""
        self._add(job, job.priority, job.needs)

    def put_first(self, job: Job, at: str) -> None:
        """Have a job taken first, and by that ComfyUI alone: it has it already."""
        if self.remove(job):
            self._add(job, _FIRST, At(at))

    def _add(self, job: Job, priority: int, lane: Needs | At) -> None:
        self._jobs[job.key] = job
        self._queue.add(job.key, seq=job.seq, priority=priority, lane=lane, ordered=job.ordered)
        self.estimates.queued(job.workflow)

    def remove(self, job: Job) -> bool:
        """Take a job out, wherever it stands; False if it does not wait."""
        if not self._queue.remove(job.key):
            return False
        self._left(job)
        return True

    def take(self, post: Post) -> Job | None:
        """Take the next job for a ComfyUI; None if there is none for it now."""
        key = None if self.paused else self.posts.take(post)
        if key is None:
            return None
        job = self._jobs[key]
        self._left(job)
        return job

    def _left(self, job: Job) -> None:
        del self._jobs[job.key]
        self.estimates.left(job.workflow)

    # What doors ask.

    def count(self, client: str) -> int:
        """How many jobs of a client wait."""
        return self._queue.count(client)

    def position(self, key: Key) -> int | None:
        """How many jobs start before this one; None for one that does not wait."""
        return self._queue.position(key)

    def position_of_next(self, client: str, priority: int) -> int:
        """How many jobs would start before one that is accepted now."""
        return self._queue.position_of_next(client, priority)

    def outlook(self, job: Job) -> tuple[int | None, float | None]:
        """How many jobs start before one that waits, and in how many seconds it has ended.

        The latter as far as past runs tell; both None for a job that does not wait.
        """
        position = self._queue.position(job.key)
        return position, None if position is None else self.eta_of_next(job.workflow, position)

    def eta_of_next(self, workflow: str, position: int) -> float | None:
        """The same for one that would be accepted now, and have so many before it."""
        if self.paused:
            return None
        places = sum(post.instance.state.usable for post in self.posts)
        return self.estimates.until_end(workflow, position, places)

    def able(self, needs: Needs) -> list[str]:
        """The names of the ComfyUIs that have what is needed."""
        return self.posts.able(needs)
