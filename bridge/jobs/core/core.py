"""Every decision about the jobs that have not ended. Pure.

`lifecycle.py` handles what happens to single jobs. Here is what happens around them: clients' and
the operator's requests, the states of ComfyUIs, time, and the choice of the jobs to start next.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from bridge.contract.errors import internal
from bridge.contract.messages import JobStatus
from bridge.jobs.core import effects, events
from bridge.jobs.core.book import Book
from bridge.jobs.core.entry import Withdrawal
from bridge.jobs.core.lifecycle import JobLifecycle, JobLimits, Moment
from bridge.jobs.core.pool import NEVER, CanRun, Pool, PoolInstance
from bridge.jobs.job import Job
from bridge.jobs.queue import Key
from bridge.jobs.state import Transition


class Core:
    """Jobs that have not ended. Only `handle` and `announced` change anything."""

    def __init__(
        self, instances: Mapping[str, bool], can_run: CanRun, limits: JobLimits, *, alone: bool
    ) -> None:
        """`instances` maps each ComfyUI's name to whether it is attached, not started by us.

        `can_run` says whether the ComfyUI of a name has what a job needs; it must be pure.
        `alone`: no other bridge shares the jobs, so that none has to be claimed.
        """
        self.book = Book(Pool(instances, can_run, alone=alone))
        self._life = JobLifecycle(self.book, limits, alone=alone)
        self.counters = self._life.counters
        self._limits = limits
        self._handlers = self._general_events()
        # The caller has to pass a Schedule, once for all events of the same moment.
        self.must_schedule = False

    def wakes_at(self) -> Moment:
        """Return when a Tick is due, by each of the clocks; infinity if none is."""
        due = self._life.reasons.due
        for instance in self.book.pool:
            due = min(due, instance.backs_off_until)
        return Moment(self._life.deadlines.next, due)

    def announced(self, job: Job, n: int) -> JobStatus:
        """Return a job's status message, to be published."""
        return self._life.reasons.status(job, n, self._life.now.steady)

    # -- events --

    def handle(self, event: events.Event, now: Moment) -> list[effects.Effect]:
        """Handle an event; returns its effects, in the order in which to execute them.

        An event about a job that is not here, or that comes too late for it, changes nothing.
        Read `must_schedule` afterwards.

        A defect of ours fails the job that the event is about; effects decided before it stay.
        """
        self._life.now = now
        self._life.effects = []
        try:
            if isinstance(event, events.JobEvent):
                entry = self.book.entries.get(event.key)
                phases, handler = self._life.handlers[type(event)]
                if entry is not None and entry.phase in phases:
                    handler(entry, event)
            else:
                self._handlers[type(event)](event)
        except Exception as error:  # noqa: BLE001 - it is reported
            self._report(error, event.key if isinstance(event, events.JobEvent) else None)
        self.must_schedule = self._life.must_schedule
        return self._life.effects

    def _report(self, error: Exception, key: Key | None) -> None:
        self._life.do(effects.ReportDefect(error))
        entry = None if key is None else self.book.entries.get(key)
        if entry is not None:
            self._life.give_up(entry, internal(error))

    def _general_events(self) -> Mapping[type, Callable[[Any], None]]:
        """The events that are not about one job, and their handlers."""
        return {
            events.JobAccepted: self._accepted,
            events.Recovered: self._recovered,
            events.CancelRequested: self._cancel_requested,
            events.ClearRequested: self._clear_requested,
            events.RequeueRequested: self._requeue_requested,
            events.Paused: self._paused,
            events.Draining: self._stops,
            events.InstanceChanged: self._instance_changed,
            events.PromptsListed: self._prompts_known,
            events.CatalogueChanged: self._catalogue_changed,
            events.OthersChanged: self._others_changed,
            events.ModelsLoaded: self._models_loaded,
            events.InstanceHeld: self._held,
            events.Schedule: self._schedule,
            events.Tick: self._tick,
        }

    # -- what the journal has, and what clients and the operator ask for --

    def _accepted(self, event: events.JobAccepted) -> None:
        self._life.add(event.job)

    def _recovered(self, event: events.Recovered) -> None:
        for job in event.jobs:
            self._life.add(job, adopt=True)

    def _cancel_requested(self, event: events.CancelRequested) -> None:
        self._life.withdraw(event.key, Withdrawal(Transition.CANCEL))

    def _clear_requested(self, event: events.ClearRequested) -> None:
        for key in self.book.clearable(event.client):
            self._life.withdraw(key, Withdrawal(Transition.CANCEL))

    def _requeue_requested(self, event: events.RequeueRequested) -> None:
        why = f"the operator took it from {event.instance}"
        if event.waits_for is not None:
            why = f"it was taken from {event.instance}, which waits for {event.waits_for}"
        for entry in self.book.active.values():
            if entry.instance == event.instance:
                self._life.send_back(entry, why)

    def _paused(self, event: events.Paused) -> None:
        self.book.paused = event.paused
        self._reconsider()

    def _stops(self, _event: events.Draining) -> None:
        self.book.stopping = self._life.must_schedule = True
        for entry in self.book.active.values():
            self._life.give_back(entry)

    # -- ComfyUIs --

    def _instance_changed(self, event: events.InstanceChanged) -> None:
        instance, availability = self.book.pool[event.name], event.availability
        before, instance.availability = instance.availability, availability
        if not (before.usable and availability.usable):
            # Also at the start, and if it is offline for another reason than before.
            self._life.compare_reasons_soon()
        if availability.usable and not before.usable:
            self._life.effects += self._life.adoption.usable(instance)
        self._life.must_schedule = True

    def _prompts_known(self, event: events.PromptsListed) -> None:
        instance = self.book.pool[event.instance]
        self._life.effects += self._life.adoption.listed(instance, event.prompt_ids)
        self._life.must_schedule = True

    def _catalogue_changed(self, _event: events.CatalogueChanged) -> None:
        self._life.must_schedule = True

    def _others_changed(self, _event: events.OthersChanged) -> None:
        self._reconsider()

    def _models_loaded(self, event: events.ModelsLoaded) -> None:
        self.book.pool[event.instance].loaded(event.needs)

    def _held(self, event: events.InstanceHeld) -> None:
        instance = self.book.pool[event.instance]
        self._life.gated = instance.gated = True
        if instance.held != event.reason:
            instance.held = event.reason
            self._life.compare_reasons_soon()
        self._life.must_schedule = True

    # -- the jobs to start next --

    def _reconsider(self) -> None:
        """Schedule again, and compare soon why jobs wait with what their clients know."""
        self._life.must_schedule = True
        self._life.compare_reasons_soon()

    def _schedule(self, _event: events.Schedule) -> None:
        """Start the next jobs at each ComfyUI that has room, one after the other in turn."""
        self._life.must_schedule = False
        if not self.book.starts_nothing:
            self._give_jobs()
        for instance in self.book.pool:
            if instance.gated:
                self._report_wanted(instance)
            why = self.book.why_blocked(instance)
            if why != instance.blocked:
                instance.blocked = why
                self._life.do(effects.ReportBlocked(instance.name, why))

    def _report_wanted(self, instance: PoolInstance) -> None:
        waits = not self.book.starts_nothing and self.book.pool.wanted(instance, self.book.queue)
        wanted = waits or bool(instance.jobs)
        if wanted != instance.wanted:
            instance.wanted = wanted
            self._life.do(effects.ReportDemand(instance.name, wanted))

    def _give_jobs(self) -> None:
        if not self.book.queued:
            return
        others, busy = self.book.capacity_elsewhere()
        given = True
        while given and self.book.queued:
            given = False
            for instance in self.book.pool:
                if instance.has_room:
                    given = self._start_next(instance, others - busy) or given

    def _start_next(self, instance: PoolInstance, idle_elsewhere: int) -> bool:
        key: Key | None = None
        try:
            key = self.book.pool.take(
                instance,
                self.book.queue,
                self._limits.reorder_s,
                self._life.now.steady,
                idle_elsewhere,
            )
            if key is not None:
                self._life.assign(self.book.entries[key], instance)
        except Exception as error:  # noqa: BLE001 - it costs one job, not those given before
            self._report(error, key)
        return key is not None

    # -- time --

    def _tick(self, _event: events.Tick) -> None:
        self._life.expire_due()
        now = self._life.now.steady
        for instance in self.book.pool:
            if instance.backs_off_until <= now:
                instance.backs_off_until = NEVER
                self._reconsider()
        for job in self._life.reasons.changed(now):
            self._life.do(effects.Announce(job.key, self.book.status(job)))
