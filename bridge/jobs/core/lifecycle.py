"""The life of each job: what follows from the events that are about it alone. Pure.

What clients see follows two rules. A job gets one outcome: it leaves the book once, when the
journal has the outcome that one `Finish` asked for. And a job runs once at a time: it is in the
queue, or in one place that a `StartJob` gave it, never in both.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from msgspec import Struct

from bridge.contract.errors import BridgeError, Lost, Replaced
from bridge.contract.messages import State
from bridge.jobs import job_messages
from bridge.jobs.core import effects, events
from bridge.jobs.core.adoption import Adoption
from bridge.jobs.core.book import Book
from bridge.jobs.core.deadlines import Deadlines
from bridge.jobs.core.entry import Entry, Phase, StopReason, Withdrawal
from bridge.jobs.core.latest_wins import LatestWins
from bridge.jobs.core.pool import PoolInstance
from bridge.jobs.core.reasons import Reasons
from bridge.jobs.core.retry_policy import JobReturns, Unsuccessful, after_attempt, expired
from bridge.jobs.counters import Counters
from bridge.jobs.job import Job
from bridge.jobs.queue import Key
from bridge.jobs.state import Transition, after

# An attempt that never reached ComfyUI is not made again at once.
RETRY_PAUSE_S = 0.5


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


class JobLifecycle:
    """Has a handler for each event about a job. The core sets `now`, and takes what was decided."""

    def __init__(self, book: Book, limits: JobLimits, *, alone: bool) -> None:
        """`alone`: no other bridge shares the jobs, so that none has to be claimed."""
        self.counters = Counters()
        self.deadlines = Deadlines()
        self.reasons = Reasons(book, alone=alone)
        self.adoption = Adoption(book)
        self.now = Moment(0.0, 0.0)
        # What was decided since the core took it, and whether jobs can be given to ComfyUIs.
        self.effects: list[effects.Effect] = []
        self.must_schedule = False
        # Whether it is to be reported that jobs wait for a ComfyUI, or none any more.
        self.gated = False
        self._book = book
        self._limits = limits
        self._alone = alone
        self._latest_wins = LatestWins()
        self.handlers = self._job_events()

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
            events.AttemptFailed: (active, self._unsuccessful),
            events.AttemptStopped: (active, self._unsuccessful),
            events.AttemptBroke: (active, self._unsuccessful),
            events.Requeued: ({Phase.REQUEUING}, self._requeued),
            events.Finished: ({Phase.FINISHING}, self._finished),
            events.WriteFailed: ({Phase.ACTIVE, Phase.FINISHING}, self._unwritten),
            events.OutputsStored: (active, self._outputs_stored),
            events.Vanished: (every, self._vanished),
            events.Defect: (every, self._defect),
            events.TakenElsewhere: (unclaimed, self._known_elsewhere),
            events.EndedElsewhere: (unclaimed, self._known_elsewhere),
        }

    def do(self, effect: effects.Effect) -> None:
        """Append an effect, for the dispatcher to carry out once the event is handled."""
        self.effects.append(effect)

    def compare_reasons_soon(self) -> None:
        """Compare soon why jobs wait with what their clients know."""
        self.reasons.compare_soon(self.now.steady)

    # -- into the book, into the queue, and out --

    def add(self, job: Job, *, adopt: bool = False) -> None:
        """Take a job that the journal has; `adopt`: from before this process."""
        if job.key in self._book.entries:
            return  # another bridge's notice of it, or our own once more
        entry = self._book.entries[job.key] = Entry(job, Phase.RESOLVING)
        if job.state == "waiting":
            self.deadlines.add(job, self._book.entries)
            self.do(effects.Resolve(job.key))
        else:
            if adopt:
                self.adoption.add(entry)
            self._enqueue(entry)
        self._replace(entry)
        if job.damaged:
            error = BridgeError("its row in the journal is damaged; the bridge's log has more")
            self.withdraw(job.key, Withdrawal(Transition.FAIL, error))

    def _known_elsewhere(
        self, entry: Entry, _event: events.TakenElsewhere | events.EndedElsewhere
    ) -> None:
        if entry.phase is Phase.RESOLVING:
            self.do(effects.StopResolving(entry.job.key))
        self._leave(entry, None)

    def _vanished(self, entry: Entry, _event: events.Vanished) -> None:
        self._leave(entry, None)

    def _enqueue(self, entry: Entry) -> None:
        self._book.enqueue(entry)
        self.deadlines.add(entry.job, self._book.entries)
        self.must_schedule = True

    def _leave(self, entry: Entry, outcome: State | None) -> None:
        job = entry.job
        self._free_slot(entry)
        was_stuck = self._book.stuck
        self._book.remove(entry)
        self._reconsider_if_changed(was_stuck=was_stuck)
        self.reasons.forget(job.key)
        if job.replace is not None:
            self._latest_wins.forget(job, job.replace)
        self.do(effects.JobLeft(job.key, outcome))
        # It may have been the last job that waited for a ComfyUI.
        self.must_schedule |= self.gated

    def _replace(self, entry: Entry) -> None:
        """Cancel the older of two jobs of which only the newest is wanted."""
        if entry.job.replace is None:
            return
        pair = self._latest_wins.add(entry.job, entry.job.replace)
        if pair is None:
            return
        older, newer = self._book.entries[pair[0].key], pair[1].key.job_id
        if older.not_started and older.phase is not Phase.ACTIVE:
            error = Replaced(f"job {newer!r} replaced it", by=newer)
            self.withdraw(older.job.key, Withdrawal(Transition.CANCEL, error))

    # -- jobs that end before they start --

    def withdraw(self, key: Key, how: Withdrawal) -> None:
        """End a job. A job at a ComfyUI is stopped there first, and may succeed before that."""
        entry = self._book.entries.get(key)
        if entry is None:
            return
        match entry.phase:
            case Phase.ACTIVE:
                if entry.stop is not StopReason.CANCEL:
                    entry.stop = StopReason(how.transition.value)
                self.do(effects.StopJob(key))
            case Phase.FINISHING:
                pass  # its outcome is being written
            case Phase.RELEASING | Phase.CLAIMING | Phase.REQUEUING:
                entry.withdrawn = entry.withdrawn or how
            case Phase.RESOLVING:
                entry.withdrawn = how
                self.do(effects.StopResolving(key))
                self._claim(entry)
            case Phase.QUEUED:
                entry.withdrawn = how
                self._book.dequeue(entry)
                instance = self._book.pool.get(entry.pinned or entry.job.instance)
                if entry.adopt and instance is not None:
                    self.do(effects.CancelPrompt(instance.name, entry.job.prompt_id))
                self._claim(entry)

    def expire_due(self) -> None:
        """End the jobs that could not start in time."""
        for key in self.deadlines.due(self.now.journal):
            entry = self._book.entries.get(key)
            if entry is not None and entry.not_started:
                late = expired(entry.job, self.now.ahead)
                self.withdraw(key, Withdrawal(Transition.EXPIRE, late))

    def _resolved(self, entry: Entry, event: events.Resolved) -> None:
        entry.phase = Phase.RELEASING
        self.do(effects.ReleaseJob(entry.job.key, event.plan, event.media))

    def _unresolvable(self, entry: Entry, event: events.Unresolvable) -> None:
        entry.withdrawn = entry.withdrawn or Withdrawal(Transition.FAIL, event.error)
        self._claim(entry)

    def _released(self, entry: Entry, event: events.Released) -> None:
        job = entry.job
        entry.step(Transition.RELEASE)
        if entry.withdrawn is not None:
            self.do(effects.PublishStatus(job.key, job_messages.status(job, event.n)))
            self._claim(entry)
            return
        self._enqueue(entry)
        status = self.reasons.status(job, event.n, self.now.steady)
        self.do(effects.PublishStatus(job.key, status))

    def _claim(self, entry: Entry) -> None:
        """Make sure that a job is this bridge's, before it is run or ended."""
        entry.phase = Phase.CLAIMING
        if self._alone:
            self._claimed(entry)
        else:
            self.do(effects.Claim(entry.job.key))

    def _claim_answered(self, entry: Entry, event: events.Claimed | events.ClaimLost) -> None:
        if isinstance(event, events.ClaimLost):
            self._leave(entry, None)
            return
        entry.job.attempt, entry.job.prompt_id = event.attempt, event.prompt_id
        self._claimed(entry)

    def _claimed(self, entry: Entry) -> None:
        if entry.withdrawn is not None:
            self._free_slot(entry)
            self._finish(entry, entry.withdrawn.transition, entry.withdrawn.error)
        else:
            self._start(entry)

    # -- jobs at a ComfyUI --

    def assign(self, entry: Entry, instance: PoolInstance) -> None:
        """Assign a job that was taken out of the queue to a ComfyUI."""
        self._book.estimates.left(entry.job.workflow)
        entry.instance = instance.name
        entry.holds_slot = True
        instance.enter()
        self._book.active[entry.job.key] = entry
        self._claim(entry)

    def _start(self, entry: Entry) -> None:
        job = entry.job
        instance = self._book.pool[entry.instance or ""]
        if job.state == "queued" and job.attempt >= self._limits.max_attempts:
            self._free_slot(entry)
            lost = Lost("each bridge that ran it died", attempts=job.attempt)
            self._finish(entry, Transition.FAIL, lost)
            return
        entry.phase = Phase.ACTIVE
        self.do(
            effects.StartJob(
                job.key, instance.name, adopt=entry.adopt, began=job.state == "running"
            )
        )
        if entry.adopt:
            self.adoption.starts(entry, instance)
        if self._book.stopping:
            self.give_back(entry)

    def _began(self, entry: Entry, _event: events.Began) -> None:
        job = entry.job
        instance = self._book.pool[entry.instance or ""]
        instance.loaded(job.needs)
        if job.state == "running":
            return  # adopted: this attempt was counted when it began
        self._count_start(entry)
        eta_s = self._book.estimates.run_s(job.workflow)
        self.do(effects.MarkStarted(job.key, job_messages.status(job, eta_s=eta_s)))

    def _count_start(self, entry: Entry) -> None:
        entry.step(Transition.START)
        entry.job.attempt += 1
        entry.job.instance = entry.instance

    def _free_slot(self, entry: Entry) -> None:
        if entry.holds_slot:
            entry.holds_slot = False
            self._book.pool[entry.instance or ""].leave(self.now.steady)
            self.must_schedule = True

    def _left_comfyui(self, entry: Entry, _event: events.LeftComfyUI) -> None:
        self._free_slot(entry)

    def send_back(self, entry: Entry, why: str) -> None:
        """Stop the attempt at a job, to return it to the queue; one that is being stopped stays so.

        `why` is for its client.
        """
        if entry.phase is Phase.ACTIVE:
            if entry.stop is None:
                entry.stop, entry.sent_back = StopReason.SEND_BACK, why
            self.do(effects.StopJob(entry.job.key))

    def give_back(self, entry: Entry) -> None:
        """Send a job that has not begun back, as this bridge stops: another one starts it sooner.

        A bridge alone has it again at its next start.
        """
        if not self._alone and entry.not_started:
            self.send_back(entry, f"the bridge of {entry.instance} stops")

    def _succeeded(self, entry: Entry, event: events.AttemptSucceeded) -> None:
        self._book.pool[entry.instance or ""].succeeded()
        self._free_slot(entry)
        run_s = event.run_s
        expect_s = None if run_s is None else self._book.estimates.ran(entry.job.workflow, run_s)
        self._finish(entry, Transition.SUCCEED, expect_s=expect_s, run_s=run_s)

    def _unsuccessful(self, entry: Entry, event: Unsuccessful) -> None:
        instance = self._book.pool[entry.instance or ""]
        if not isinstance(event, events.AttemptStopped) and event.counts:
            instance.died()
        self._free_slot(entry)
        follows = after_attempt(
            entry, event, max_attempts=self._limits.max_attempts, ahead=self.now.ahead
        )
        entry.job.attempt = follows.attempt
        if not isinstance(follows, JobReturns):
            self._finish(entry, follows.transition, follows.error)
            return
        if follows.no_room:
            entry.no_room += 1
            instance.back_off(self.now.steady)
            self.compare_reasons_soon()
        self.counters.retried += follows.retried
        entry.withdrawn = entry.withdrawn or follows.withdrawn
        self._requeue(entry, follows)

    def _requeue(self, entry: Entry, follows: JobReturns) -> None:
        """Return a job to its place under a new prompt id: the old one may still run somewhere."""
        sent_back = entry.stop is StopReason.SEND_BACK
        never_there = entry.job.state == "queued"
        entry.phase = Phase.REQUEUING
        entry.reason = follows.error.message
        entry.job.prompt_id = follows.prompt_id
        self.do(
            effects.Requeue(
                entry.job.key,
                entry.reason,
                delay_s=RETRY_PAUSE_S if never_there and not sent_back else 0.0,
                free=entry.instance if follows.free_memory else None,
                expected=sent_back or entry.withdrawn is not None,
            )
        )

    def _requeued(self, entry: Entry, event: events.Requeued) -> None:
        job, n = entry.job, event.n
        if job.state == "running":
            entry.step(Transition.REQUEUE)
        self.do(effects.PublishStatus(job.key, job_messages.status(job, n, reason=entry.reason)))
        entry.stop = entry.reason = entry.instance = entry.pinned = None
        del self._book.active[job.key]
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
        self.do(effects.Finish(entry.job.key, outcome, error, expect_s))

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
        was_stuck = self._book.stuck
        self._book.unwritten.add(entry.job.key)
        self._reconsider_if_changed(was_stuck=was_stuck)

    def _outputs_stored(self, entry: Entry, _event: events.OutputsStored) -> None:
        was_stuck = self._book.stuck
        self._book.unwritten.discard(entry.job.key)
        self._reconsider_if_changed(was_stuck=was_stuck)

    def _reconsider_if_changed(self, *, was_stuck: bool) -> None:
        """Schedule again, and compare the reasons, if outcomes can be stored, or not any more."""
        if was_stuck != self._book.stuck:
            self.must_schedule = True
            self.compare_reasons_soon()

    def _defect(self, entry: Entry, event: events.Defect) -> None:
        self.give_up(entry, event.error)

    def give_up(self, entry: Entry, error: BridgeError) -> None:
        """Fail a job over a defect of ours; at the second one leave it to the next start."""
        if entry.gave_up:
            self._leave(entry, None)
            return
        entry.gave_up = True
        if entry.phase is Phase.RESOLVING:
            self.do(effects.StopResolving(entry.job.key))
        self._book.dequeue(entry)
        self._free_slot(entry)
        self._finish(entry, Transition.FAIL, error)
