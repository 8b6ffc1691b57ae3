"""The jobs that have not ended: one entry each, and every index of them. Pure.

Only the core changes it; adapters and requests read it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import islice

from bridge.contract.messages import JobStatus, or_none
from bridge.contract.retained import ComfyUIState
from bridge.jobs import job_messages
from bridge.jobs.core.entry import Entry, Phase
from bridge.jobs.core.pool import PinnedTo, Pool, PoolInstance
from bridge.jobs.estimates import Estimates
from bridge.jobs.job import Job
from bridge.jobs.queue import Key, Queue
from bridge.workflows.catalogue import Needs

# A place before every priority that a request can have.
_FIRST = 1_000_000
# No more jobs are started while this many outcomes cannot be written.
UNWRITTEN_MAX = 3
# How many ComfyUIs of other bridges are named in a reason.
_NAMED = 3
_PAUSED = "the operator paused the queue"
_STUCK = "the outcomes of earlier jobs cannot be stored at present"

_AWAY: Mapping[str, str] = {
    "stopped": "is stopped",
    "starting": "is starting",
    "unreachable": "is unreachable",
    "yielded": "is left to others",
    "restarting": "is starting",
    "crash_loop": "does not start",
}


class Book:
    """All jobs of this bridge, the ComfyUIs that they wait for, and whether the queue is paused."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.estimates = Estimates()
        self.paused = False
        # This bridge ends: what it has not begun is for others, or for its next start.
        self.stopping = False
        self.queue = Queue()
        self.entries: dict[Key, Entry] = {}
        self.active: dict[Key, Entry] = {}  # at a ComfyUI, or on their way there or back
        # What they gave could not be written so far, and is in memory alone.
        self.unwritten: set[Key] = set()
        self.adopting: set[Key] = set()  # may be at a ComfyUI from before this process
        # Of several bridges: whether this one tells clients why their jobs wait.
        self.leads: Callable[[], bool] = lambda: True
        # ... how many ComfyUIs of the others take jobs, and how many of them run one.
        self.capacity_elsewhere: Callable[[], tuple[int, int]] = lambda: (0, 0)
        # ... and which of them have what is needed, with their states; None of one that is gone.
        self.capable_elsewhere: Callable[[Needs], Mapping[str, ComfyUIState | None]] = lambda _: {}

    # -- for the core alone --

    def enqueue(self, entry: Entry) -> None:
        """Add a job to the queue; a pinned job goes before all others."""
        job = entry.job
        entry.phase = Phase.QUEUED
        pinned = entry.pinned is not None
        self.queue.add(
            job.key,
            seq=job.seq,
            priority=_FIRST if pinned else job.priority,
            placement=job.needs if entry.pinned is None else PinnedTo(entry.pinned),
            ordered=job.ordered,
        )
        self.estimates.queued(job.workflow)

    def dequeue(self, entry: Entry) -> None:
        """Take a job out of the queue, if it is there."""
        if self.queue.remove(entry.job.key):
            self.estimates.left(entry.job.workflow)

    def remove(self, entry: Entry) -> None:
        """Remove a job from queue and book."""
        self.dequeue(entry)
        del self.entries[entry.job.key]
        self.active.pop(entry.job.key, None)
        self.adopting.discard(entry.job.key)
        self.unwritten.discard(entry.job.key)

    # -- for everybody --

    def __contains__(self, key: Key) -> bool:
        return key in self.entries

    def entry(self, key: Key) -> Entry | None:
        """Return the entry of a job that has not ended."""
        return self.entries.get(key)

    def job(self, key: Key) -> Job | None:
        """Return a job that has not ended."""
        entry = self.entries.get(key)
        return None if entry is None else entry.job

    @property
    def queued(self) -> int:
        """The number of jobs that wait for their turn."""
        return len(self.queue)

    @property
    def running(self) -> int:
        """The number of jobs that are at a ComfyUI, or whose outcome is being written."""
        return len(self.active)

    @property
    def is_busy(self) -> bool:
        """True if ComfyUI has begun a job whose outcome is not written yet, or a job leaves it."""
        return any(
            entry.job.state == "running" or entry.stop is not None for entry in self.active.values()
        )

    def unended(self) -> Iterator[Job]:
        """Yield all jobs: at a ComfyUI, then in the order of their turns, then those that wait."""
        yield from (entry.job for entry in self.active.values())
        yield from (self.entries[key].job for key in self.queue.in_order())
        for entry in self.entries.values():
            if entry.phase in (Phase.RESOLVING, Phase.RELEASING):
                yield entry.job

    def unclaimed(self) -> set[Key]:
        """Return every job that no bridge has claimed, as far as this one knows."""
        return {
            key
            for key, entry in self.entries.items()
            if entry.phase in (Phase.RESOLVING, Phase.QUEUED)
        }

    def clearable(self, client: str | None) -> list[Key]:
        """Return the jobs that have not started, of one client or of all."""
        return [
            key
            for key, entry in self.entries.items()
            if client in (None, key.client)
            and entry.not_started
            and entry.phase in (Phase.RESOLVING, Phase.RELEASING, Phase.QUEUED)
        ]

    def count(self, client: str) -> int:
        """Return the number of jobs of a client that wait for their turn."""
        return self.queue.count(client)

    def position(self, key: Key) -> int | None:
        """Return the number of jobs that start before this one; None if it does not wait."""
        return self.queue.position(key)

    def position_of_next(self, client: str, priority: int) -> int:
        """Return the number of jobs that would start before one that is accepted now."""
        return self.queue.position_of_next(client, priority)

    @property
    def stuck(self) -> bool:
        """True if no job starts at a ComfyUI of this bridge because outcomes cannot be stored.

        Outcomes that wait take memory, and a crash would run their jobs again; but a single one
        that can never be written blocks nobody.
        """
        return len(self.unwritten) >= UNWRITTEN_MAX

    @property
    def starts_nothing(self) -> bool:
        """True if no job starts at a ComfyUI of this bridge."""
        return self.stopping or self.paused or self.stuck

    @property
    def held_here(self) -> str | None:
        """The reason for which no job starts at a ComfyUI of this bridge; None if there is none."""
        if self.paused:
            return _PAUSED
        return _STUCK if self.stuck else None

    @property
    def held(self) -> str | None:
        """The reason for which no job starts, at whichever bridge; None if there is none."""
        goes_on_elsewhere = not self.paused and self.capacity_elsewhere()[0] > 0
        return None if goes_on_elsewhere else self.held_here

    def why_blocked(self, instance: PoolInstance) -> str | None:
        """Return why a ComfyUI gets no jobs, apart from its state and a paused queue."""
        if self.stopping:
            return "belongs to a bridge that stops"
        if self.stuck:
            return "waits until the outcomes of its jobs can be stored"
        return instance.why_blocked

    def outlook(self, job: Job) -> tuple[int | None, float | None]:
        """Return the number of jobs before this one, and the seconds until it will have ended.

        Both are None for a job that is not queued, the seconds also if no past run is known.
        """
        position = self.queue.position(job.key)
        return position, None if position is None else self.eta_of_next(job.workflow, position)

    def eta_of_next(self, workflow: str, position: int) -> float | None:
        """Return the seconds until a job would end that is accepted now at `position`."""
        if self.held is not None:
            return None
        others, busy = self.capacity_elsewhere()
        ours = 0 if self.stuck else self.pool.usable
        return self.estimates.until_end(
            workflow, position, active=self.running + busy, instances=ours + others
        )

    def status(self, job: Job, n: int = 0) -> JobStatus:
        """The status message of a job that is not at a ComfyUI."""
        position, eta_s = self.outlook(job)
        reason = self.why_waiting(job)
        return job_messages.status(job, n, position=position, eta_s=eta_s, reason=reason)

    def why_waiting(self, job: Job) -> str | None:
        """Return why a job does not start even if its turn has come; None if it could."""
        if job.state != "queued" or job.key in self.active:
            return None
        if self.held is not None:
            return self.held
        others = self.capable_elsewhere(job.needs)
        if any(state is not None and state.takes_jobs for state in others.values()):
            return None
        if not others and not self.stuck and all(instance.takes_jobs for instance in self.pool):
            return None  # as nearly always: nobody has to look what the job needs
        return self._why_none_takes(job, others)

    def _why_none_takes(self, job: Job, others: Mapping[str, ComfyUIState | None]) -> str | None:
        """Return why no ComfyUI takes a job, as none of `others` does; None if one of ours does."""
        capable = set(self.pool.capable(job.needs))
        if others and not capable:
            return _all_away(others)
        if self.stuck:
            return _STUCK
        instances = [instance for instance in self.pool if instance.name in capable] or list(
            self.pool
        )
        if any(instance.takes_jobs for instance in instances):
            return None
        return ", ".join(
            f"ComfyUI {instance.name} {_why_no_jobs(instance)}" for instance in instances
        )


def _all_away(states: Mapping[str, ComfyUIState | None]) -> str:
    """Return why ComfyUIs of other bridges take no jobs, of the first few."""
    return ", ".join(
        f"ComfyUI {name} {_away_elsewhere(state)}" for name, state in islice(states.items(), _NAMED)
    )


def _away_elsewhere(state: ComfyUIState | None) -> str:
    if state is None:
        return "is away"
    word = "yielded" if state.yielding is True else state.state
    return or_none(state.held) or _AWAY.get(word, "takes no jobs")


def _why_no_jobs(instance: PoolInstance) -> str:
    """Return why a ComfyUI takes no jobs."""
    return instance.why_blocked or _AWAY.get(instance.availability.state, "takes no jobs")
