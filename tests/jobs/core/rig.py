"""A core with a clock, and what it wanted done."""

from __future__ import annotations

from typing import Any

from bridge.jobs.core import Core, JobLimits, Moment, effects, events
from bridge.jobs.core.pool import Availability
from bridge.jobs.job import Job
from bridge.jobs.queue import Key
from bridge.workflows.catalogue import Needs
from tests.jobs.drafts import draft

LIMITS = JobLimits(max_attempts=3, timeout_s=60.0, silence_s=60.0, reorder_s=60.0)

READY = Availability(usable=True, state="ready")

BUSY = Availability(usable=True, state="busy")

AWAY = Availability(usable=False, state="unreachable")

A, B = Needs(choices=(("L", "n", "a.ckpt"),)), Needs(choices=(("L", "n", "b.ckpt"),))


class Rig(Core):
    """A core with a clock, and what it wanted done; scheduling follows each event."""

    def __init__(self, *names: str, alone: bool = True, **capable: set[Needs]) -> None:
        self.clock = 100.0
        self.seq = 0
        self.done: list[effects.Effect] = []
        super().__init__(
            dict.fromkeys(names, True),
            lambda name, needs: name not in capable or needs in capable[name],
            LIMITS,
            alone=alone,
        )

    def feed(self, event: events.Event) -> list[effects.Effect]:
        done = self.handle(event, Moment(self.clock, self.clock))
        while self.must_schedule:
            done = done + self.handle(events.Schedule(), Moment(self.clock, self.clock))
        self.done += done
        return done

    def ready(self, *names: str, availability: Availability = READY) -> None:
        for name in names:
            self.feed(events.InstanceChanged(name, availability))

    def add(self, job_id: str, client: str = "alice", **changes: Any) -> Key:
        self.feed(events.JobAccepted(self.make(job_id, client, **changes)))
        return Key(client, job_id)

    def make(self, job_id: str, client: str = "alice", *, state: str = "", **changes: Any) -> Job:
        self.seq += 1
        job = draft(job_id, client, seq=self.seq, accepted_at=self.clock, **changes).job
        if state:
            job.state = state  # type: ignore[assignment]
        return job

    def started(self) -> list[tuple[str, str]]:
        """Return which jobs were started, and where, since the last look."""
        found = [
            (each.key.job_id, each.instance)
            for each in self.done
            if isinstance(each, effects.StartJob)
        ]
        self.done = []
        return found

    def wanted(self, kind: type) -> list[Any]:
        return [each for each in self.done if isinstance(each, kind)]
