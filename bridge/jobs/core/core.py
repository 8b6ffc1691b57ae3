"""The book of all jobs that have not ended, and every decision about them. Pure.

What clients see follows two rules. A job gets one outcome: it leaves the book once, when the
journal has the outcome that one `Finish` asked for. And a job runs once at a time: it is in the
queue, or in one place that a `StartJob` gave it, never in both.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from msgspec import Struct

from bridge.contract.errors import (
    BridgeError,
    ComfyUIUnavailable,
    Expired,
    Interrupted,
    Lost,
    Replaced,
    internal,
)
from bridge.contract.messages import JobStatus, State, or_none
from bridge.jobs import job_messages
from bridge.jobs.core import effects, events
from bridge.jobs.core.adoption import Adoption
from bridge.jobs.core.book import Book
from bridge.jobs.core.deadlines import Deadlines
from bridge.jobs.core.entry import Entry, Phase, StopReason, Withdrawal
from bridge.jobs.core.latest_wins import LatestWins
from bridge.jobs.core.pool import NEVER, CanRun, Member, Pool
from bridge.jobs.core.reasons import Reasons
from bridge.jobs.counters import Counters
from bridge.jobs.job import Job
from bridge.jobs.queue import Key
from bridge.jobs.state import Transition, after

# An attempt that never reached ComfyUI is not made again at once.
RETRY_PAUSE_S = 0.5
# A job that fills the disk each time itself is given up after this many attempts: some hours.
MAX_NO_ROOM = 20


class JobLimits(Struct, frozen=True):
    """Bounds for all jobs: counts and seconds."""

    max_attempts: int
    timeout_s: float
    silence_s: float
    reorder_s: float
    quarantine_s: float = 86_400.0


class Moment(Struct, frozen=True):
    """The time in seconds: `journal` by the journal's clock, `steady` by a monotonic one.

    `ahead`: by how much the wall clock is ahead of the journal's.
    """

    journal: float
    steady: float
    ahead: float = 0.0


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
        self.counters = Counters()
        self._limits = limits
        self._alone = alone
        self._deadlines = Deadlines()
        self._latest_wins = LatestWins()
        self._reasons = Reasons(self.book, alone=alone)
        self._adoption = Adoption(self.book)
        self._gated = False
        self.must_schedule = False
        self._now = Moment(0.0, 0.0)
        self._effects: list[effects.Effect] = []
        self._general = self._general_events()
        self._of_job = self._job_events()

    def wakes_at(self) -> Moment:
        """Return when a Tick is due, by each of the clocks; infinity if none is."""
        due = self._reasons.due
        for member in self.book.pool:
            due = min(due, member.rests_until)
        return Moment(self._deadlines.next, due)

    # -- events --

    def handle(self, event: events.Event, now: Moment) -> list[effects.Effect]:
        """Handle an event; returns its effects, in the order in which to execute them.

        An event about a job that is not here, or that comes too late for it, changes nothing.
        If `must_schedule` is set afterwards, the caller has to pass a Schedule, once for all
        events of the same moment.

        A defect of ours fails the job that the event is about; effects decided before it stay.
        """
        self._now = now
        self._effects = []
        try:
            if isinstance(event, events.JobEvent):
                entry = self.book.entries.get(event.key)
                phases, take_in = self._of_job[type(event)]
                if entry is not None and entry.phase in phases:
                    take_in(entry, event)
            else:
                self._general[type(event)](event)
        except Exception as error:  # noqa: BLE001 - it is reported
            self._report(error, event.key if isinstance(event, events.JobEvent) else None)
        return self._effects

    def _report(self, error: Exception, key: Key | None) -> None:
        self._do(effects.ReportDefect(error))
        entry = None if key is None else self.book.entries.get(key)
        if entry is not None:
            self._give_up(entry, events.Defect(entry.job.key, internal(error)))

    def _general_events(self) -> Mapping[type, Callable[[Any], None]]:
        """The events that are not about one job, and their handlers."""
        return {
            events.JobAccepted: self._accepted,
            events.Recovered: self._recovered,
            events.CancelRequested: self._cancel_requested,
            events.ClearRequested: self._clear_requested,
            events.RequeueRequested: self._send_back,
            events.Paused: self._paused,
            events.Draining: self._stops,
            events.InstanceChanged: self._instance_changed,
            events.PromptsListed: self._prompts_known,
            events.CatalogueChanged: self._catalogue_changed,
            events.OthersChanged: self._others_changed,
            events.ModelsLoaded: self._models_loaded,
            events.Held: self._held,
            events.Schedule: self._schedule,
            events.Tick: self._tick,
        }

    def _job_events(self) -> Mapping[type, tuple[Collection[Phase], Callable[[Entry, Any], None]]]:
        """The events about a job: the phases in which each counts, and its handler.

        In any other phase it comes too late: another event came first, and its effects are being
        executed.
        """
        resolving, releasing, claiming = {Phase.RESOLVING}, {Phase.RELEASING}, {Phase.CLAIMING}
        active, every = {Phase.ACTIVE}, set(Phase)
        # In the other phases an answer of the journal is on its way, and decides.
        unclaimed = {Phase.RESOLVING, Phase.QUEUED}
        return {
            events.Resolved: (resolving, self._resolved),
            events.Unresolvable: ({Phase.RESOLVING, Phase.RELEASING}, self._unresolvable),
            events.Released: (releasing, self._released),
            events.Claimed: (claiming, self._claim_answered),
            events.ClaimLost: (claiming, self._claim_answered),
            events.Began: (active, self._began),
            events.LeftComfyUI: (every, self._left_comfyui),
            events.AttemptSucceeded: (active, self._succeeded),
            events.AttemptFailed: (active, self._failed),
            events.AttemptStopped: (active, self._stopped),
            events.AttemptBroke: (active, self._broke),
            events.Requeued: ({Phase.REQUEUING}, self._requeued),
            events.Finished: ({Phase.FINISHING}, self._finished),
            events.WriteFailed: ({Phase.ACTIVE, Phase.FINISHING}, self._unwritten),
            events.OutputsStored: (active, self._kept),
            events.Vanished: (every, self._vanished),
            events.Defect: (every, self._give_up),
            events.TakenElsewhere: (unclaimed, self._known_elsewhere),
            events.EndedElsewhere: (unclaimed, self._known_elsewhere),
        }

    def _do(self, effect: effects.Effect) -> None:
        self._effects.append(effect)

    # -- into the book, into the queue, and out --

    def _add(self, job: Job, *, adopt: bool = False) -> None:
        if job.key in self.book.entries:
            return  # another bridge's notice of it, or our own once more
        entry = self.book.entries[job.key] = Entry(job, Phase.RESOLVING)
        if job.state == "waiting":
            self._deadlines.add(job, self.book.entries)
            self._do(effects.Resolve(job.key))
        else:
            if adopt:
                self._adoption.add(entry)
            self._enqueue(entry)
        self._replace(entry)

    def _accepted(self, event: events.JobAccepted) -> None:
        self._add(event.job)

    def _recovered(self, event: events.Recovered) -> None:
        for job in event.jobs:
            self._add(job, adopt=True)

    def _known_elsewhere(
        self, entry: Entry, _event: events.TakenElsewhere | events.EndedElsewhere
    ) -> None:
        if entry.phase is Phase.RESOLVING:
            self._do(effects.StopResolving(entry.job.key))
        self._leave(entry, None)

    def _vanished(self, entry: Entry, _event: events.Vanished) -> None:
        self._leave(entry, None)

    def _enqueue(self, entry: Entry) -> None:
        self.book.enqueue(entry)
        self._deadlines.add(entry.job, self.book.entries)
        self.must_schedule = True

    def _leave(self, entry: Entry, outcome: State | None) -> None:
        job = entry.job
        self._free_place(entry)
        was_stuck = self.book.stuck
        self.book.remove(entry)
        self._look_if_changed(was_stuck=was_stuck)
        self._reasons.forget(job.key)
        if job.replace is not None:
            self._latest_wins.forget(job, job.replace)
        self._do(effects.Left(job.key, outcome))
        # It may have been the last job that waited for a ComfyUI.
        self.must_schedule |= self._gated

    def _replace(self, entry: Entry) -> None:
        """Cancel the older of two jobs of which only the newest is wanted."""
        if entry.job.replace is None:
            return
        pair = self._latest_wins.add(entry.job, entry.job.replace)
        if pair is None:
            return
        older, newer = self.book.entries[pair[0].key], pair[1].key.job_id
        if older.not_started and older.phase is not Phase.ACTIVE:
            error = Replaced(f"job {newer!r} replaced it", by=newer)
            self._withdraw(older.job.key, Withdrawal(Transition.CANCEL, error))

    # -- jobs that end before they start --

    def _withdraw(self, key: Key, how: Withdrawal) -> None:
        """End a job. A job at a ComfyUI is stopped there first, and may succeed before that."""
        entry = self.book.entries.get(key)
        if entry is None:
            return
        match entry.phase:
            case Phase.ACTIVE:
                if entry.stop is not StopReason.CANCEL:
                    entry.stop = StopReason(how.transition.value)
                self._do(effects.StopJob(key))
            case Phase.FINISHING:
                pass  # its outcome is being written
            case Phase.RELEASING | Phase.CLAIMING | Phase.REQUEUING:
                entry.withdrawn = entry.withdrawn or how
            case Phase.RESOLVING:
                entry.withdrawn = how
                self._do(effects.StopResolving(key))
                self._claim(entry)
            case Phase.QUEUED:
                entry.withdrawn = how
                self.book.dequeue(entry)
                member = self.book.pool.get(entry.pinned or entry.job.instance)
                if entry.adopt and member is not None:
                    self._do(effects.CancelPrompt(member.name, entry.job.prompt_id))
                self._claim(entry)

    def _cancel_requested(self, event: events.CancelRequested) -> None:
        self._withdraw(event.key, Withdrawal(Transition.CANCEL))

    def _clear_requested(self, event: events.ClearRequested) -> None:
        for key in self.book.clearable(event.client):
            self._withdraw(key, Withdrawal(Transition.CANCEL))

    def _expire(self, key: Key) -> None:
        entry = self.book.entries.get(key)
        if entry is not None and entry.not_started:
            self._withdraw(key, Withdrawal(Transition.EXPIRE, _expired(entry.job, self._now.ahead)))

    def _resolved(self, entry: Entry, event: events.Resolved) -> None:
        entry.phase = Phase.RELEASING
        self._do(effects.ReleaseJob(entry.job.key, event.plan, event.media))

    def _unresolvable(self, entry: Entry, event: events.Unresolvable) -> None:
        entry.withdrawn = entry.withdrawn or Withdrawal(Transition.FAIL, event.error)
        self._claim(entry)

    def _released(self, entry: Entry, event: events.Released) -> None:
        n = event.n
        entry.step(Transition.RELEASE)
        if entry.withdrawn is not None:
            self._do(effects.PublishStatus(entry.job.key, job_messages.status(entry.job, n)))
            self._claim(entry)
            return
        self._enqueue(entry)
        self._do(effects.PublishStatus(entry.job.key, self.announced(entry.job, n)))

    def _claim(self, entry: Entry) -> None:
        """Make sure that a job is this bridge's, before it is run or ended."""
        entry.phase = Phase.CLAIMING
        if self._alone:
            self._claimed(entry)
        else:
            self._do(effects.Claim(entry.job.key))

    def _claim_answered(self, entry: Entry, event: events.Claimed | events.ClaimLost) -> None:
        if isinstance(event, events.ClaimLost):
            self._leave(entry, None)
            return
        entry.job.attempt, entry.job.prompt_id = event.attempt, event.prompt_id
        self._claimed(entry)

    def _claimed(self, entry: Entry) -> None:
        if entry.withdrawn is not None:
            self._free_place(entry)
            self._finish(entry, entry.withdrawn.transition, entry.withdrawn.error)
        else:
            self._start(entry)

    # -- jobs at a ComfyUI --

    def _paused(self, event: events.Paused) -> None:
        self.book.paused = event.paused
        self.must_schedule = True
        self._look_at_reasons()

    def _stops(self, _event: events.Draining) -> None:
        self.book.stopping = self.must_schedule = True
        if not self._alone:
            # Another bridge starts it sooner than this one, which ends.
            for entry in self.book.active.values():
                if entry.phase is Phase.ACTIVE and entry.not_started and entry.stop is None:
                    entry.stop = StopReason.SEND_BACK
                    self._do(effects.StopJob(entry.job.key))

    def _catalogue_changed(self, _event: events.CatalogueChanged) -> None:
        self.must_schedule = True

    def _others_changed(self, _event: events.OthersChanged) -> None:
        self.must_schedule = True
        self._look_at_reasons()

    def _models_loaded(self, event: events.ModelsLoaded) -> None:
        self.book.pool[event.instance].loaded(event.needs)

    def _held(self, event: events.Held) -> None:
        member = self.book.pool[event.instance]
        self._gated = member.gated = True
        if member.held != event.reason:
            member.held = event.reason
            self._look_at_reasons()
        self.must_schedule = True

    def _schedule(self, _event: events.Schedule) -> None:
        """Start the next jobs at each ComfyUI that has room, one after the other in turn."""
        self.must_schedule = False
        if not self.book.starts_nothing:
            self._give_jobs()
        for member in self.book.pool:
            if member.gated:
                self._report_wanted(member)
            why = self.book.why_blocked(member)
            if why != member.blocked:
                member.blocked = why
                self._do(effects.ReportBlocked(member.name, why))

    def _report_wanted(self, member: Member) -> None:
        waits = not self.book.starts_nothing and self.book.pool.wanted(member, self.book.queue)
        wanted = waits or bool(member.jobs)
        if wanted != member.wanted:
            member.wanted = wanted
            self._do(effects.ReportDemand(member.name, wanted))

    def _give_jobs(self) -> None:
        if not self.book.queued:
            return
        places, busy = self.book.elsewhere()
        given = True
        while given and self.book.queued:
            given = False
            for member in self.book.pool:
                if member.has_room:
                    given = self._give(member, places - busy) or given

    def _give(self, member: Member, idle_elsewhere: int) -> bool:
        key: Key | None = None
        try:
            key = self.book.pool.take(
                member, self.book.queue, self._limits.reorder_s, self._now.steady, idle_elsewhere
            )
            if key is not None:
                self._give_job(member, self.book.entries[key])
        except Exception as error:  # noqa: BLE001 - it costs one job, not those given before
            self._report(error, key)
        return key is not None

    def _give_job(self, member: Member, entry: Entry) -> None:
        key = entry.job.key
        self.book.estimates.left(entry.job.workflow)
        entry.instance = member.name
        entry.holds_place = True
        member.enter()
        self.book.active[key] = entry
        self._claim(entry)

    def _start(self, entry: Entry) -> None:
        job = entry.job
        member = self.book.pool[entry.instance or ""]
        if job.state == "queued" and job.attempt >= self._limits.max_attempts:
            self._free_place(entry)
            lost = Lost("each bridge that ran it died", attempts=job.attempt)
            self._finish(entry, Transition.FAIL, lost)
            return
        entry.phase = Phase.ACTIVE
        self._do(
            effects.StartJob(job.key, member.name, adopt=entry.adopt, began=job.state == "running")
        )
        if entry.adopt:
            self._adoption.starts(entry, member)

    def _began(self, entry: Entry, _event: events.Began) -> None:
        job = entry.job
        member = self.book.pool[entry.instance or ""]
        member.loaded(job.needs)
        if job.state == "running":
            return  # adopted: this attempt was counted when it began
        self._count_start(entry)
        eta_s = self.book.estimates.run_s(job.workflow)
        self._do(effects.MarkStarted(job.key, job_messages.status(job, eta_s=eta_s)))

    def _count_start(self, entry: Entry) -> None:
        entry.step(Transition.START)
        entry.job.attempt += 1
        entry.job.instance = entry.instance

    def _free_place(self, entry: Entry) -> None:
        if entry.holds_place:
            entry.holds_place = False
            self.book.pool[entry.instance or ""].leave(self._now.steady)
            self.must_schedule = True

    def _left_comfyui(self, entry: Entry, _event: events.LeftComfyUI) -> None:
        self._free_place(entry)

    def _send_back(self, event: events.RequeueRequested) -> None:
        for entry in self.book.active.values():
            if entry.phase is Phase.ACTIVE and entry.instance == event.instance:
                if entry.stop is None:
                    entry.stop, entry.taken_for = StopReason.SEND_BACK, event.waits_for
                self._do(effects.StopJob(entry.job.key))

    def _succeeded(self, entry: Entry, event: events.AttemptSucceeded) -> None:
        self.book.pool[entry.instance or ""].succeeded()
        self._free_place(entry)
        run_s = event.run_s
        expect_s = None if run_s is None else self.book.estimates.ran(entry.job.workflow, run_s)
        self._finish(entry, Transition.SUCCEED, expect_s=expect_s, run_s=run_s)

    def _failed(self, entry: Entry, event: events.AttemptFailed) -> None:
        if event.counts:
            self.book.pool[entry.instance or ""].died()
        self._free_place(entry)
        if event.counts and entry.job.state == "queued":
            entry.job.attempt += 1
        self._finish(entry, Transition.FAIL, event.error)

    def _stopped(self, entry: Entry, event: events.AttemptStopped) -> None:
        self._free_place(entry)
        if not self._end_as_requested(entry, event.prompt_id):
            text = "somebody stopped it at ComfyUI itself"
            self._finish(entry, Transition.CANCEL, Interrupted(text, instance=entry.instance))

    def _broke(self, entry: Entry, event: events.AttemptBroke) -> None:
        if event.counts:
            self.book.pool[entry.instance or ""].died()
        self._free_place(entry)
        if self._end_as_requested(entry, event.prompt_id):
            return
        job = entry.job
        if event.no_room and entry.no_room < MAX_NO_ROOM:
            self._wait_for_room(entry, event)
            return
        if event.counts and job.state == "queued":
            job.attempt += 1
        # A second attempt with the memory freed is enough: a third would fail like it.
        most = 2 if event.free_memory else self._limits.max_attempts
        if event.no_room or job.attempt >= most:
            self._finish(entry, Transition.FAIL, event.error)
            return
        self.counters.retried += 1
        self._requeue(entry, event.error, event.prompt_id, free_memory=event.free_memory)

    def _wait_for_room(self, entry: Entry, event: events.AttemptBroke) -> None:
        """Return a job to the queue if a ComfyUI could not save it; the attempt does not count."""
        entry.no_room += 1
        if entry.job.state == "running":
            entry.job.attempt -= 1
        self.book.pool[entry.instance or ""].rest(self._now.steady)
        self._look_at_reasons()
        self.counters.retried += 1
        self._requeue(entry, event.error, event.prompt_id)

    def _end_as_requested(self, entry: Entry, prompt_id: str) -> bool:
        """End an attempt that did not succeed as its stop requires; False if nobody stopped it."""
        job = entry.job
        match entry.stop:
            case StopReason.CANCEL:
                self._finish(entry, Transition.CANCEL)
            case StopReason.EXPIRE if job.state == "queued":
                self._finish(entry, Transition.EXPIRE, _expired(job, self._now.ahead))
            case StopReason.EXPIRE:
                # It began while it was being stopped: it goes back, to end as it was to.
                late = _expired(job, self._now.ahead)
                entry.withdrawn = entry.withdrawn or Withdrawal(Transition.EXPIRE, late)
                self._requeue(entry, late, prompt_id)
            case StopReason.SEND_BACK:
                taken = f"the operator took it from {entry.instance}"
                if entry.taken_for is not None:
                    taken = f"it was taken from {entry.instance}, which waits for {entry.taken_for}"
                self._requeue(entry, ComfyUIUnavailable(taken), prompt_id)
            case _:
                return False
        return True

    def _requeue(
        self, entry: Entry, why: BridgeError, prompt_id: str, *, free_memory: bool = False
    ) -> None:
        """Return a job to its place under a new prompt id: the old one may still run somewhere."""
        sent_back = entry.stop is StopReason.SEND_BACK
        never_there = entry.job.state == "queued"
        entry.phase = Phase.REQUEUING
        entry.reason = why.message
        entry.job.prompt_id = prompt_id
        self._do(
            effects.Requeue(
                entry.job.key,
                why.message,
                delay_s=RETRY_PAUSE_S if never_there and not sent_back else 0.0,
                free=entry.instance if free_memory else None,
                expected=sent_back or entry.withdrawn is not None,
            )
        )

    def _requeued(self, entry: Entry, event: events.Requeued) -> None:
        job, n = entry.job, event.n
        if job.state == "running":
            entry.step(Transition.REQUEUE)
        self._do(effects.PublishStatus(job.key, job_messages.status(job, n, reason=entry.reason)))
        entry.stop = entry.reason = entry.instance = entry.pinned = None
        del self.book.active[job.key]
        if entry.withdrawn is not None:
            self._claim(entry)
        else:
            self._enqueue(entry)
            self._replace(entry)

    # -- outcomes --

    def _finish(
        self,
        entry: Entry,
        transition: Transition,
        error: BridgeError | None = None,
        *,
        expect_s: float | None = None,
        run_s: float | None = None,
    ) -> None:
        if transition is Transition.SUCCEED and entry.job.state == "queued":
            self._count_start(entry)  # it had ended before its start was seen
        entry.phase = Phase.FINISHING
        entry.ending = transition
        entry.run_s = run_s or 0.0
        outcome = after(entry.job.state, transition)
        self._do(effects.Finish(entry.job.key, outcome, error, expect_s))

    def _finished(self, entry: Entry, _event: events.Finished) -> None:
        if entry.ending is None:
            return
        job = entry.job
        entry.step(entry.ending)
        self.counters.ended(
            job.state,
            client=job.key.client,
            workflow=job.workflow,
            instance=job.instance,
            run_s=entry.run_s,
        )
        self._leave(entry, job.state)

    def _unwritten(self, entry: Entry, _event: events.WriteFailed) -> None:
        was_stuck = self.book.stuck
        self.book.unwritten.add(entry.job.key)
        self._look_if_changed(was_stuck=was_stuck)

    def _kept(self, entry: Entry, _event: events.OutputsStored) -> None:
        was_stuck = self.book.stuck
        self.book.unwritten.discard(entry.job.key)
        self._look_if_changed(was_stuck=was_stuck)

    def _look_if_changed(self, *, was_stuck: bool) -> None:
        """Look at the queue and at the reasons again if outcomes can be stored, or not any more."""
        if was_stuck != self.book.stuck:
            self.must_schedule = True
            self._look_at_reasons()

    def _give_up(self, entry: Entry, event: events.Defect) -> None:
        """Fail a job over a defect of ours; at the second one leave it to the next start."""
        if entry.gave_up:
            self._leave(entry, None)
            return
        entry.gave_up = True
        if entry.phase is Phase.RESOLVING:
            self._do(effects.StopResolving(entry.job.key))
        self.book.dequeue(entry)
        self._free_place(entry)
        self._finish(entry, Transition.FAIL, event.error)

    # -- ComfyUIs --

    def _instance_changed(self, event: events.InstanceChanged) -> None:
        member, availability = self.book.pool[event.name], event.availability
        before, member.availability = member.availability, availability
        if not (before.usable and availability.usable):
            # Also at the start, and if it is offline for another reason than before.
            self._look_at_reasons()
        if availability.usable and not before.usable:
            self._effects += self._adoption.usable(member)
        self.must_schedule = True

    def _prompts_known(self, event: events.PromptsListed) -> None:
        member = self.book.pool[event.instance]
        self._effects += self._adoption.listed(member, event.prompt_ids)
        self.must_schedule = True

    # -- time --

    def _tick(self, _event: events.Tick) -> None:
        for key in self._deadlines.due(self._now.journal):
            self._expire(key)
        for member in self.book.pool:
            if member.rests_until <= self._now.steady:
                member.rests_until = NEVER
                self.must_schedule = True
                self._look_at_reasons()
        for job in self._reasons.changed(self._now.steady):
            self._do(effects.Announce(job.key, self.book.status(job)))

    def _look_at_reasons(self) -> None:
        self._reasons.look_soon(self._now.steady)

    def announced(self, job: Job, n: int) -> JobStatus:
        """Return a job's status message, to be published."""
        status = self.book.status(job, n)
        self._reasons.will_publish(job.key, or_none(status.reason), self._now.steady)
        return status


def _expired(job: Job, ahead: float) -> Expired:
    at = None if job.start_before is None else round(job.start_before + ahead, 3)
    return Expired("it could not start in time", start_before=at)
