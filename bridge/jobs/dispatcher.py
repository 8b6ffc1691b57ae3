"""The dispatcher: executes what the core decides, and reports to the core what has happened.

All decisions about jobs are in `jobs/core/`. Here are the tasks, the clock, the journal and the
ComfyUIs. Each effect of the core has one method here, and each ends in an event.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from msgspec.structs import replace

from bridge.comfyui.errors import ComfyUIError
from bridge.comfyui.instance import Instance
from bridge.comfyui.state import InstanceState
from bridge.contract.errors import Lost, internal
from bridge.contract.messages import JobStatus, State
from bridge.jobs import state
from bridge.jobs.core import Core, JobLimits, Moment, Phase, effects, events
from bridge.jobs.core.pool import Availability, CanRun
from bridge.jobs.dependencies import Dependencies
from bridge.jobs.durable import until_on_disk
from bridge.jobs.finalizer import Completion, Finalizer
from bridge.jobs.input_files import InputFiles
from bridge.jobs.job import Job, Plan
from bridge.jobs.journal import MARK_AFTER_S, Journal
from bridge.jobs.listener import Listener
from bridge.jobs.output_delivery import DeliverOutputs, OutputDelivery
from bridge.jobs.quarantine import Quarantine
from bridge.jobs.queue import Key
from bridge.jobs.resolver import Resolver
from bridge.jobs.runner import Runner
from bridge.jobs.state import Transition
from bridge.jobs.tasks import JobTasks
from bridge.media.files import Files
from bridge.retry import retry

log = logging.getLogger(__name__)

# A machine that sleeps stops the timers: deadlines are checked at least this often.
_RECHECK_S = 10.0
# How often a ComfyUI is asked for its queue before it gets jobs without an answer.
_QUEUE_READ_ATTEMPTS = 3


class Dispatcher:
    """Owns the jobs that have not ended. Use `run` as a task, after `recover`.

    All methods are for the event loop's thread.
    """

    def __init__(
        self,
        *,
        journal: Journal,
        files: Files,
        instances: Sequence[Instance],
        listener: Listener,
        dependencies: Dependencies,
        can_run: CanRun,
        limits: JobLimits,
        finalizer: Finalizer,
        input_files: InputFiles | None = None,
        deliver: DeliverOutputs | None = None,
    ) -> None:
        """`can_run` tells whether the ComfyUI of a name has what a job needs.

        `deliver` brings outputs to the sinks of their jobs. The caller runs `input_files`; without
        it, files uploaded to ComfyUIs are not removed.
        """
        attached = {each.name: each.output_folder is None for each in instances}
        self.core = Core(attached, can_run, limits, alone=not journal.shared)
        self.book = self.core.book
        """All jobs that have not ended, with their states, places and estimates."""
        self.counters = self.core.counters
        """Counts of what has happened since the start."""
        self._journal = journal
        self._instances = {each.name: each for each in instances}
        self._listener = listener
        self.quarantine = Quarantine(limits.quarantine_s)
        self._finalizer = finalizer
        self.delivery = OutputDelivery(journal, files, finalizer, deliver)
        self.input_files = input_files or InputFiles((), 0.0)
        self._dependencies = dependencies
        # Called with each job that has ended, here or elsewhere.
        self.on_ended: Callable[[Key], None] = lambda _: None
        # Called when jobs wait for a ComfyUI that may be held (InstanceHeld), or none any more.
        self.on_wanted: Callable[[str, bool], None] = lambda _name, _wanted: None
        # Called with why no job is given to a ComfyUI, when that changes (effects.ReportBlocked).
        self.on_blocked: Callable[[str, str | None], None] = lambda _name, _why: None
        self._postponed: list[effects.Effect] = []  # until `run`
        self._leaving: dict[Key, asyncio.Future[State | None]] = {}
        # Set with each event: whoever waits for the jobs to end checks again.
        self._handled = asyncio.Event()
        self._scheduling = False
        self._wakes_at = Moment(float("inf"), float("inf"))
        self._wakes_earlier = asyncio.Event()
        self._tasks = JobTasks(self.handle)
        self._resolver = Resolver(
            self._tasks, self.book, journal=journal, files=files, dependencies=dependencies
        )
        self._runner = Runner(
            self._tasks,
            self.core,
            journal=journal,
            files=files,
            instances=self._instances,
            listener=listener,
            limits=limits,
            finalizer=finalizer,
            quarantine=self.quarantine,
            delivery=self.delivery,
            input_files=self.input_files,
        )
        self._work = self._by_tasks()
        self._calls = self._at_once()

    # -- for adapters and requests --

    def shown(self, at: float) -> float:
        """Return the wall clock's time of one of the journal's."""
        return self._journal.clock.shown(at)

    def accept(self, job: Job, plan: Plan) -> None:
        """Take a job that the journal has just accepted."""
        self.counters.accepted += 1
        if job.state == "queued":
            self._runner.cache_plan(job.key, plan)
        self.add(job)

    def add(self, job: Job) -> None:
        """Take a job that the journal has; a job that is here already is not changed."""
        self.handle(events.JobAccepted(job))

    def announce(self, job: Job, n: int) -> None:
        """Publish the status of a job that waits, with `n` as the journal gave it."""
        self._listener.status(job, self.core.announced(job, n))

    async def cancel(self, key: Key) -> State | None:
        """Cancel a job. Returns its state after that; None if it is unknown or has ended.

        A waiting job is cancelled when this returns. A job at a ComfyUI is stopped later: its
        result tells whether the cancel came in time. Cancelling this await changes nothing for
        the job.
        """
        while True:
            self.handle(events.CancelRequested(key))
            entry = self.book.entry(key)
            if entry is None:
                found = await self._journal.claim_to_cancel(key)
                if not isinstance(found, Job):
                    return found
                self.add(found)
                continue
            if entry.phase is Phase.RELEASING:
                self._tasks.start_for(key, self._cancel_once_released, key, self._left(key))
                return entry.job.state
            if entry.withdrawn is None:
                return entry.outcome or entry.job.state
            outcome = await self._left(key)
            if outcome is not None:
                return outcome

    async def _cancel_once_released(self, key: Key, left: asyncio.Future[State | None]) -> None:
        """Cancel a job even if another bridge takes it as soon as it is in the queue."""
        if await left is None:
            await until_on_disk(lambda: self.cancel(key))

    async def clear(self, client: str | None = None) -> int:
        """Cancel all jobs of one client, or of all, that have not started; returns their number."""
        keys = self.book.clearable(client)
        leaving = [self._left(key) for key in keys]
        self.handle(events.ClearRequested(client))
        outcomes = await asyncio.gather(*leaving)
        return sum(outcome == "cancelled" for outcome in outcomes)

    def send_back(self, instance: str, waits_for: str | None = None) -> None:
        """Stop the jobs at a ComfyUI and requeue them. Returns at once; no attempt is counted.

        `waits_for` is what that ComfyUI waits for; None if an operator asked for this.
        """
        self.handle(events.RequeueRequested(instance, waits_for))

    async def pause(self) -> None:
        """Start no more jobs, even after a restart; running jobs continue."""
        self.set_paused(paused=True)
        await self._journal.pause(paused=True)

    async def resume(self) -> None:
        """Start jobs again."""
        await self._journal.pause(paused=False)
        self.set_paused(paused=False)

    def catalogue_changed(self) -> None:
        """Schedule again: the ComfyUIs' nodes or models have changed."""
        self.handle(events.CatalogueChanged())

    # -- for the cluster --

    def set_paused(self, *, paused: bool) -> None:
        """Pause or resume, as the journal has it."""
        if paused != self.book.paused:
            self.handle(events.Paused(paused))

    def ended_elsewhere(self, key: Key) -> None:
        """Note that a job ended at another bridge: jobs here may wait for its output."""
        self.handle(events.EndedElsewhere(key))
        self._dependencies.ended(key)
        self.on_ended(key)

    def awaited(self) -> set[Key]:
        """Return the jobs of other bridges that jobs here wait for."""
        return {key for key in self._dependencies.awaited() if key not in self.book}

    # -- start and stop --

    async def recover(self) -> None:
        """Load the jobs and estimates that the journal has from before this process."""
        self.book.estimates.learn(await self._journal.estimates())
        self.set_paused(paused=await self._journal.paused())
        jobs = await self._journal.unfinished()
        if await self._journal.restored():
            await self._fail_restored(jobs)
        else:
            self.handle(events.Recovered(jobs))

    async def _fail_restored(self, jobs: Sequence[Job]) -> None:
        """Fail the jobs that a restored backup has as not ended: they may have run since."""
        for job in jobs:
            error = Lost("the bridge was restored from a backup in which it had not ended")
            outcome = state.after(job.state, Transition.FAIL)
            await self._finalizer.write(job, outcome, Completion(error=error))
        await self._journal.backup_reported()

    async def run(self) -> None:
        """Run jobs until cancelled. Raises LeaseLost if the other bridges of a group took over."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks.group = tasks
            for instance in self._instances.values():
                tasks.create_task(self._follow(instance))
            tasks.create_task(self._keep_time())
            postponed, self._postponed = self._postponed, []
            for effect in postponed:
                self._carry_out(effect)

    async def drain(self) -> None:
        """Start no more jobs, and wait until none runs; jobs that have not started stay queued."""
        self.handle(events.Draining())
        while self.book.is_busy:
            self._handled.clear()
            await self._handled.wait()
        for instance in self._instances.values():
            await instance.finish_cleanup()
        await self.input_files.finish()

    # -- events in --

    def _now(self) -> Moment:
        clock = self._journal.clock
        return Moment(clock.now(), time.monotonic(), clock.ahead)

    def handle(self, event: events.Event) -> None:
        """Pass an event to the core, and execute the effects."""
        if isinstance(event, events.JobEvent) and event.key not in self.book.entries:
            return  # it has no effect: most of what others notify us of is about such jobs
        for effect in self.core.handle(event, self._now()):
            self._carry_out(effect)
        self._handled.set()
        if self.core.must_schedule and not self._scheduling:
            # Once for all that happens in this turn of the loop.
            self._scheduling = True
            asyncio.get_running_loop().call_soon(self._schedule)
        due = self.core.wakes_at()
        if due.journal < self._wakes_at.journal or due.steady < self._wakes_at.steady:
            self._wakes_at = due
            self._wakes_earlier.set()

    def _schedule(self) -> None:
        self._scheduling = False
        self.handle(events.Schedule())

    async def _keep_time(self) -> None:
        while True:
            self._wakes_earlier.clear()
            self._wakes_at = due = self.core.wakes_at()
            now = self._now()
            delay = min(due.journal - now.journal, due.steady - now.steady)
            if delay <= 0:
                self.handle(events.Tick())
                continue
            limit_s = None if delay == float("inf") else min(delay, _RECHECK_S)
            with suppress(TimeoutError):
                async with asyncio.timeout(limit_s):
                    await self._wakes_earlier.wait()

    async def _follow(self, instance: Instance) -> None:
        seen: Availability | None = None
        now = instance.state
        while True:
            available = _availability(now)
            if available != seen:
                seen = available
                self.handle(events.InstanceChanged(instance.name, available))
            now = await instance.changed(now)

    # -- effects out --

    def _carry_out(self, effect: effects.Effect) -> None:
        if self._tasks.group is None:
            self._postponed.append(effect)
            return
        try:
            work = self._work.get(type(effect))
            if work is None:
                self._calls[type(effect)](effect)
            elif isinstance(effect, effects.JobEffect):
                self._tasks.start_for(effect.key, work, effect)
            else:
                self._tasks.start(work(effect))
        except Exception as error:
            # A defect of ours costs this job, never the bridge and all others with it.
            log.exception("defect in the bridge")
            if isinstance(effect, effects.JobEffect):
                self.handle(events.Defect(effect.key, internal(error)))

    def _by_tasks(self) -> Mapping[type, Callable[[Any], Coroutine[Any, Any, None]]]:
        """The effects that take time: each is a task, of its job if it concerns one."""
        return {
            effects.ReleaseJob: self._resolver.release,
            effects.Claim: self._claim,
            effects.Requeue: self._runner.requeue,
            effects.Finish: self._runner.finish,
            effects.ListPrompts: self._list_prompts,
            effects.CancelPrompt: self._cancel_prompt,
        }

    def _at_once(self) -> Mapping[type, Callable[[Any], None]]:
        """The effects that are carried out at once."""
        return {
            effects.Resolve: self._resolver.start,
            effects.StopResolving: self._resolver.stop,
            effects.StartJob: self._runner.start,
            effects.StopJob: self._runner.stop,
            effects.MarkStarted: self._mark_started,
            effects.Announce: self._announce,
            effects.PublishStatus: self._publish,
            effects.ReportDemand: self._report_wanted,
            effects.ReportBlocked: self._report_blocked,
            effects.JobLeft: self._forget,
            effects.ReportDefect: self._report,
        }

    def _report_wanted(self, effect: effects.ReportDemand) -> None:
        self.on_wanted(effect.instance, effect.wanted)

    def _report_blocked(self, effect: effects.ReportBlocked) -> None:
        self.on_blocked(effect.instance, effect.why)

    def _report(self, effect: effects.ReportDefect) -> None:
        log.error("defect in the bridge", exc_info=effect.error)

    def _mark_started(self, effect: effects.MarkStarted) -> None:
        job = self.book.entries[effect.key].job
        if job.envelope.set_id is None or self._journal.shared:
            self._publish_when(self._journal.started(job), job, effect.status)
            return
        # Of thousands that are over in an instant it is not worth a message.
        begun = self._runner.attempt_at(effect.key)

        def mark() -> None:
            entry = self.book.entry(effect.key)
            same = begun is not None and begun is self._runner.attempt_at(effect.key)
            if same and entry is not None and entry.phase is Phase.ACTIVE:
                self._publish_when(self._journal.started(job), job, effect.status)

        asyncio.get_running_loop().call_later(MARK_AFTER_S, mark)

    def _announce(self, effect: effects.Announce) -> None:
        job = self.book.entries[effect.key].job
        self._publish_when(self._journal.status_number(job), job, effect.status)

    def _publish(self, effect: effects.PublishStatus) -> None:
        self._listener.status(self.book.entries[effect.key].job, effect.status)

    def _publish_when(self, numbered: asyncio.Future[int], job: Job, status: JobStatus) -> None:
        def publish(done: asyncio.Future[int]) -> None:
            if done.cancelled():
                return
            error = done.exception()
            if error is not None:
                log.error("cannot store the state of job %s: %s", job.key.job_id, error)
            else:
                self._listener.status(job, replace(status, n=done.result()))

        numbered.add_done_callback(publish)

    def _left(self, key: Key) -> asyncio.Future[State | None]:
        """Return a future of a job's outcome; its result is None if another bridge has the job."""
        future = self._leaving.get(key)
        if future is None:
            future = self._leaving[key] = asyncio.get_running_loop().create_future()
        return asyncio.shield(future)

    def _forget(self, effect: effects.JobLeft) -> None:
        key = effect.key
        self._runner.forget(key)
        leaving = self._leaving.pop(key, None)
        if leaving is not None:
            leaving.set_result(effect.outcome)
        self._dependencies.ended(key)
        if effect.outcome is not None:
            self.on_ended(key)

    async def _claim(self, effect: effects.Claim) -> None:
        key = effect.key
        job = self.book.entries[key].job
        take_plan = self._runner.wanted_plan(key)
        if await until_on_disk(lambda: self._journal.claim(job, take_plan)):
            self.handle(events.Claimed(key, job.attempt, job.prompt_id))
        else:
            self.handle(events.ClaimLost(key))

    # -- prompts from before this process --

    async def _list_prompts(self, effect: effects.ListPrompts) -> None:
        prompt_ids: frozenset[str] | None = None
        with _nothing_lost():
            # What it has already would be run elsewhere once more.
            instance = self._instances[effect.instance]
            known = await retry(instance.known, ComfyUIError, attempts=_QUEUE_READ_ATTEMPTS)
            prompt_ids = frozenset([*known.running, *known.pending])
        self.handle(events.PromptsListed(effect.instance, prompt_ids))

    async def _cancel_prompt(self, effect: effects.CancelPrompt) -> None:
        with _nothing_lost():
            await self._instances[effect.instance].cancel(effect.prompt_id)


@contextmanager
def _nothing_lost() -> Iterator[None]:
    """Ignore a ComfyUI that does not answer, and a defect of ours: no job depends on the result."""
    try:
        yield
    except ComfyUIError:
        pass
    except Exception:
        log.exception("defect in the bridge")


def _availability(now: InstanceState) -> Availability:
    return Availability(usable=now.usable, state=now.state, memory=(now.epoch, now.unloads))
