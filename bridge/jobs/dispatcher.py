"""The dispatcher: carries out what the core decides, and reports to the core what has happened.

All decisions about jobs are in `jobs/core/`. Here are the tasks, the clock, the journal and the
ComfyUIs. Each effect of the core has one method here, and each ends in an event.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from bridge import logs
from bridge.aio import first
from bridge.comfyui.errors import ComfyUIError
from bridge.comfyui.instance import Instance
from bridge.comfyui.state import InstanceState
from bridge.contract.errors import BridgeError, ExecutionError, Expired, Lost, UnknownJob, internal
from bridge.contract.messages import JobStatus, State
from bridge.jobs import attempt, state
from bridge.jobs.attempt import Attempt
from bridge.jobs.core import Book, Core, Limits, Moment, Phase, effects, events
from bridge.jobs.core.entry import StopReason
from bridge.jobs.core.pool import Availability, CanRun
from bridge.jobs.counters import Counters
from bridge.jobs.database import Fenced
from bridge.jobs.delivering import Deliver, Delivering, Undelivered
from bridge.jobs.dependencies import Dependencies
from bridge.jobs.durable import until_on_disk
from bridge.jobs.finalizer import Completion, Finalizer
from bridge.jobs.input_files import InputFiles
from bridge.jobs.job import Job, Plan
from bridge.jobs.journal import MARK_AFTER_S, AlreadyEnded, Journal
from bridge.jobs.listener import Listener
from bridge.jobs.outputs import CollectedOutput
from bridge.jobs.quarantine import Quarantine
from bridge.jobs.queue import Key
from bridge.jobs.reporter import Reporter
from bridge.jobs.state import Happening
from bridge.media.files import Damaged, Files, put_large, read_kept
from bridge.retry import retry
from bridge.workflows.binding import FOLDER

log = logging.getLogger(__name__)

# Plans of jobs that were just accepted: most start at once, and need not be read again.
_PLANS_AT_HAND = 64
# So many jobs that never ran are concluded side by side: their outcomes share the disk's time.
_FINISHED_AT_ONCE = 100
# A machine that sleeps stops the timers: a deadline is looked at again at least this often.
_LOOK_AGAIN_S = 10.0
# So often a ComfyUI is asked for its queue before it is given jobs all the same.
_QUEUE_READ_ATTEMPTS = 3


class _Concluded(Struct, frozen=True):
    """An attempt that has ended, until its outcome is written."""

    ended: Completion
    instance: str
    prompt_id: str
    saved_files: bool


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
        limits: Limits,
        finalizer: Finalizer,
        input_files: InputFiles | None = None,
        deliver: Deliver | None = None,
    ) -> None:
        """`can_run` says whether the ComfyUI of a name has what a job needs.

        `deliver` brings outputs to the sinks of their jobs. `input_files` is run elsewhere; without
        one, what is uploaded for jobs stays.
        """
        attached = {each.name: each.output_folder is None for each in instances}
        self.core = Core(attached, can_run, limits, alone=not journal.shared)
        self._journal = journal
        self._files = files
        self._instances = {each.name: each for each in instances}
        self._listener = listener
        self._limits = limits
        self.quarantine = Quarantine(limits.quarantine_s)
        self._finalizer = finalizer
        self.delivering = Delivering(journal, files, finalizer, deliver)
        # By job, while its outputs are delivered: set where it is cancelled.
        self._stopping: dict[Key, asyncio.Event] = {}
        self.input_files = input_files or InputFiles((), 0.0)
        self._dependencies = dependencies
        # Called with each job that has ended, here or elsewhere.
        self.on_ended: Callable[[Key], None] = lambda _: None
        # Called when jobs wait for a ComfyUI that may be held (events.Held), or none any more.
        self.on_wanted: Callable[[str, bool], None] = lambda _name, _wanted: None
        self._tasks: asyncio.TaskGroup | None = None
        self._postponed: list[effects.Effect] = []  # until `run`
        self._plans: dict[Key, Plan] = {}
        self._resolving: dict[Key, asyncio.Task[None]] = {}
        self._attempts: dict[Key, Attempt] = {}
        self._concluded: dict[Key, _Concluded] = {}
        self._leaving: dict[Key, asyncio.Future[State | None]] = {}
        self._finishing = asyncio.Semaphore(_FINISHED_AT_ONCE)
        self._settled = asyncio.Event()
        self._scheduling = False
        self._wakes_at = Moment(float("inf"), float("inf"))
        self._wakes_earlier = asyncio.Event()
        self._work = self._by_tasks()
        self._calls = self._at_once()

    # -- for adapters and requests --

    @property
    def counters(self) -> Counters:
        """Counts of what has happened since the start."""
        return self.core.counters

    def shown(self, at: float) -> float:
        """Return the wall clock's time of one of the journal's."""
        return self._journal.clock.shown(at)

    @property
    def book(self) -> Book:
        """All jobs that have not ended, to be asked where they stand."""
        return self.core.book

    def accept(self, job: Job, plan: Plan) -> None:
        """Take a job that the journal has just accepted."""
        self.core.counters.accepted += 1
        if job.state == "queued" and len(self._plans) < _PLANS_AT_HAND:
            self._plans[job.key] = plan
        self.add(job)

    def add(self, job: Job) -> None:
        """Take a job that the journal has; one that is here already stays as it is."""
        self.handle(events.Accepted(job))

    def announce(self, job: Job, n: int) -> None:
        """Publish the status of a job that waits, under the number that the journal gave."""
        self._listener.status(job, self.core.announced(job, n))

    async def cancel(self, key: Key) -> State | None:
        """Cancel a job; returns its state after that, None for one that is not there or ended.

        A job that waits is cancelled when this returns. One that is at a ComfyUI is being
        cancelled: its result says whether that came in time.
        """
        while True:
            self.handle(events.CancelAsked(key))
            entry = self.book.entry(key)
            if entry is None:
                found = await self._journal.seize(key)
                if not isinstance(found, Job):
                    return found
                self.add(found)
                continue
            if entry.phase is Phase.RELEASING:
                self._spawn(key, self._cancel_once_released(key, self._left(key)))
                return entry.job.state
            if entry.withdrawn is None:
                return entry.outcome or entry.job.state
            outcome = await self._left(key)
            if outcome is not None:
                return outcome

    async def _cancel_once_released(self, key: Key, left: asyncio.Future[State | None]) -> None:
        """Cancel a job also where another bridge takes it as soon as it is in the queue."""
        if await left is None:
            await until_on_disk(lambda: self.cancel(key))

    async def clear(self, client: str | None = None) -> int:
        """Cancel all jobs that have not started, of one client or of all; returns how many."""
        keys = self.book.clearable(client)
        leaving = [self._left(key) for key in keys]
        self.handle(events.ClearAsked(client))
        outcomes = await asyncio.gather(*leaving)
        return sum(outcome == "cancelled" for outcome in outcomes)

    def send_back(self, instance: str, waits_for: str | None = None) -> None:
        """Stop the jobs at a ComfyUI and requeue them. Returns at once; no attempt is counted.

        `waits_for` is what that ComfyUI waits for; None where the operator wants it.
        """
        self.handle(events.SendBackAsked(instance, waits_for))

    async def pause(self) -> None:
        """Start nothing more, also after a restart; what runs may end."""
        self.hold(paused=True)
        await self._journal.pause(paused=True)

    async def resume(self) -> None:
        """Start jobs again."""
        await self._journal.pause(paused=False)
        self.hold(paused=False)

    def look(self) -> None:
        """Look at the queue again after a change of the ComfyUIs' nodes or models."""
        self.handle(events.CatalogueChanged())

    # -- for the cluster --

    def hold(self, *, paused: bool) -> None:
        """Start nothing more, or start jobs again, as the journal says."""
        if paused != self.book.paused:
            self.handle(events.Paused(paused))

    def ended_elsewhere(self, key: Key) -> None:
        """Note that another bridge saw a job to its end: others may have waited for it."""
        self.handle(events.EndedElsewhere(key))
        self._dependencies.ended(key)
        self.on_ended(key)

    def awaited(self) -> set[Key]:
        """Return the jobs of other bridges whose end jobs here wait for."""
        return {key for key in self._dependencies.awaited() if key not in self.book}

    # -- start and stop --

    async def recover(self) -> None:
        """Load the jobs and estimates that the journal has from before this process."""
        self.book.estimates.learn(await self._journal.estimates())
        self.hold(paused=await self._journal.paused())
        jobs = await self._journal.unfinished()
        if await self._journal.restored():
            await self._lose(jobs)
        else:
            self.handle(events.Recovered(jobs))

    async def _lose(self, jobs: Sequence[Job]) -> None:
        """Fail what a backup that was restored had not ended; nothing is left to run."""
        for job in jobs:
            error = Lost("the bridge was restored from a backup in which it had not ended")
            outcome = state.after(job.state, Happening.FAIL)
            await self._finalizer.write(job, outcome, Completion(error=error))
        await self._journal.taken_up()

    async def run(self) -> None:
        """Run jobs until cancelled. Raises Fenced, in a group, where others took over."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            for instance in self._instances.values():
                tasks.create_task(self._follow(instance))
            tasks.create_task(self._keep_time())
            postponed, self._postponed = self._postponed, []
            for effect in postponed:
                self._carry_out(effect)

    async def drain(self) -> None:
        """Start nothing more, and wait until nothing runs; what has not started stays queued."""
        self.handle(events.Draining())
        while self.book.is_busy:
            self._settled.clear()
            await self._settled.wait()
        for instance in self._instances.values():
            await instance.finish_cleanup()
        await self.input_files.finish()

    # -- events in --

    def _now(self) -> Moment:
        clock = self._journal.clock
        return Moment(clock.now(), time.monotonic(), clock.ahead)

    def handle(self, event: events.Event) -> None:
        """Pass an event to the core, and carry out what it wants done."""
        for effect in self.core.handle(event, self._now()):
            self._carry_out(effect)
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
            limit_s = None if delay == float("inf") else min(delay, _LOOK_AGAIN_S)
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
        if self._tasks is None:
            self._postponed.append(effect)
            return
        try:
            work = self._work.get(type(effect))
            if work is not None and isinstance(effect, effects.JobEffect):
                self._spawn(effect.key, work(effect))
            else:
                self._calls[type(effect)](effect)
        except Exception as error:
            # A defect of ours costs this job, never the bridge and all others with it.
            log.exception("defect in the bridge")
            if isinstance(effect, effects.JobEffect):
                self.handle(events.Defect(effect.key, internal(error)))

    def _by_tasks(self) -> Mapping[type, Callable[[Any], Coroutine[Any, Any, None]]]:
        """The effects that take time: each is a task of its job."""
        return {
            effects.Release: self._release,
            effects.Claim: self._claim,
            effects.Requeue: self._requeue,
            effects.Finish: self._finish,
        }

    def _at_once(self) -> Mapping[type, Callable[[Any], None]]:
        """The effects that are carried out at once."""
        return {
            effects.Resolve: self._start_resolving,
            effects.StopResolving: self._stop_resolving,
            effects.Start: self._start,
            effects.Stop: self._stop,
            effects.MarkStarted: self._mark_started,
            effects.Announce: self._announce,
            effects.Publish: self._publish,
            effects.AskPrompts: self._ask_prompts,
            effects.CancelPrompt: self._cancel_prompt,
            effects.Wanted: self._tell_wanted,
            effects.Left: self._forget,
            effects.Report: self._report,
        }

    def _tell_wanted(self, effect: effects.Wanted) -> None:
        self.on_wanted(effect.instance, effect.wanted)

    def _report(self, effect: effects.Report) -> None:
        log.error("defect in the bridge", exc_info=effect.error)

    def _job(self, key: Key) -> Job:
        job = self.book.job(key)
        if job is None:
            raise LookupError(f"the core wants something done for {key}, which it does not have")
        return job

    def _task(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        if self._tasks is None:
            raise RuntimeError("the dispatcher does not run")
        return self._tasks.create_task(work)

    def _spawn(self, key: Key, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._task(self._guarded(key, work))
        # One that is cancelled before its first step never comes to await it.
        task.add_done_callback(lambda _: work.close())
        return task

    async def _guarded(self, key: Key, work: Coroutine[Any, Any, None]) -> None:
        """Do work for one job, so that whatever goes wrong in it costs that job alone."""
        with logs.about(key.client, key.job_id):
            try:
                await work
            except (UnknownJob, AlreadyEnded) as error:
                log.warning("%s", error)
                self.handle(events.Vanished(key))
            except Fenced:
                raise
            except Exception as error:
                log.exception("defect in the bridge")
                self.handle(events.Defect(key, internal(error)))

    def _mark_started(self, effect: effects.MarkStarted) -> None:
        job = self._job(effect.key)
        if job.envelope.set_id is None or self._journal.shared:
            self._publish_when(self._journal.started(job), job, effect.status)
            return
        # Of thousands that are over in an instant it is not worth a message.
        begun = self._attempts.get(effect.key)

        def mark() -> None:
            entry = self.book.entry(effect.key)
            same = begun is not None and begun is self._attempts.get(effect.key)
            if same and entry is not None and entry.phase is Phase.ACTIVE:
                self._publish_when(self._journal.started(job), job, effect.status)

        asyncio.get_running_loop().call_later(MARK_AFTER_S, mark)

    def _announce(self, effect: effects.Announce) -> None:
        job = self._job(effect.key)
        self._publish_when(self._journal.status_number(job), job, effect.status)

    def _publish(self, effect: effects.Publish) -> None:
        self._listener.status(self._job(effect.key), effect.status)

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
        """Return a future of a job's outcome; None where another bridge has the job."""
        future = self._leaving.get(key)
        if future is None:
            future = self._leaving[key] = asyncio.get_running_loop().create_future()
        return asyncio.shield(future)

    def _forget(self, effect: effects.Left) -> None:
        key = effect.key
        self._plans.pop(key, None)
        self._attempts.pop(key, None)
        self._concluded.pop(key, None)
        leaving = self._leaving.pop(key, None)
        if leaving is not None:
            leaving.set_result(effect.outcome)
        self._dependencies.ended(key)
        if effect.outcome is not None:
            self.on_ended(key)
        self.input_files.release(key)
        self._settled.set()

    # -- what a job depends on --

    def _start_resolving(self, effect: effects.Resolve) -> None:
        self._resolving[effect.key] = self._spawn(effect.key, self._resolve(effect.key))

    def _stop_resolving(self, effect: effects.StopResolving) -> None:
        resolving = self._resolving.pop(effect.key, None)
        if resolving is not None:
            resolving.cancel()

    async def _resolve(self, key: Key) -> None:
        async def gather() -> tuple[Plan, dict[str, bytes]]:
            return await self._dependencies.gather(key, await self._journal.plan(key))

        try:
            plan, media = await until_on_disk(gather)
        except BridgeError as error:
            self._resolving.pop(key, None)
            self.handle(events.Unresolvable(key, error))
        else:
            self._resolving.pop(key, None)
            self.handle(events.Resolved(key, plan, media))

    async def _release(self, effect: effects.Release) -> None:
        job = self._job(effect.key)

        async def release() -> int:
            # With each attempt: what was put long ago is swept unless a row names it.
            await put_large(self._files, effect.media)
            return await self._journal.released(job, effect.plan, effect.media)

        try:
            n = await until_on_disk(release)
        except Expired as error:  # bytes of it were swept meanwhile
            self.handle(events.Unresolvable(effect.key, error))
        else:
            self.handle(events.Released(effect.key, n))

    async def _claim(self, effect: effects.Claim) -> None:
        key = effect.key
        job = self._job(key)
        if await until_on_disk(lambda: self._journal.claim(job)):
            self.handle(events.Claimed(key, job.attempt, job.prompt_id))
        else:
            self.handle(events.ClaimLost(key))

    # -- attempts --

    def _start(self, start: effects.Start) -> None:
        key = start.key
        job, instance = self._job(key), self._instances[start.instance]
        reporter = Reporter(
            job,
            self._listener,
            self.book.estimates,
            began=lambda: self.handle(events.Began(key)),
            offer=lambda output: self._finalizer.offer(job, output),
        )
        self._attempts[key] = made = Attempt(
            job,
            instance,
            observer=reporter,
            load_media=self._load_media,
            timeout_s=job.timeout_s or self._limits.timeout_s,
            silence_s=self._limits.silence_s,
            adopt=start.adopt,
            began=start.began,
        )
        self._spawn(key, self._attempt(job, instance, made, adopt=start.adopt))

    def _stop(self, effect: effects.Stop) -> None:
        if effect.key in self._stopping:
            self._stop_delivery(effect.key)
        else:
            self._attempts[effect.key].cancel()

    def _stop_delivery(self, key: Key) -> None:
        """End a delivery where the job is cancelled; what else ends a job is about ComfyUI."""
        entry = self.book.entry(key)
        if entry is not None and entry.stop is StopReason.CANCEL:
            self._stopping[key].set()

    async def _attempt(self, job: Job, instance: Instance, made: Attempt, *, adopt: bool) -> None:
        key = job.key
        plan = self._plans.pop(key, None)
        if plan is None:
            plan = await until_on_disk(lambda: self._journal.plan(key))
        if self.delivering.has(job) and await self._resumed(job, plan):
            return
        await self.input_files.take(key, plan.uploads, instance.name)
        refused = None if adopt else self.quarantine.refusal(plan.prompt, time.monotonic())
        ending = attempt.Failure(refused) if refused else await self._judged(plan, made)
        if made.used_key:
            self.counters.used_key(key.client)
        # Before the outputs are brought into form, and all is written: ComfyUI is not to idle.
        self.handle(events.LeftComfyUI(key))
        ended = Completion(plan=plan, times=made.times, comfyui_version=instance.state.version)
        event: events.Event
        match ending:
            case attempt.Success(outputs, reused, missing):
                ended = replace(ended, reused=reused, missing=missing)
                event, ended = await self._formed(job, outputs, ended)
            case attempt.Failure(error, counts):
                event = events.AttemptFailed(key, error, counts)
            case attempt.Stopped():
                event = events.AttemptStopped(key, _new_prompt_id())
            case attempt.Retry(error, free_memory, counts, no_room):
                event = events.AttemptBroke(
                    key, error, _new_prompt_id(), counts, free_memory, no_room
                )
        # What did not succeed may have saved files that no message named.
        saved_files = made.saved_files or not isinstance(ending, attempt.Success)
        if isinstance(event, events.AttemptSucceeded) and self.delivering.has(job):
            undelivered = Undelivered(
                [each.info for each in ended.outputs],
                self._finalizer.timings(job, ended),
                ended.shown,
                [*ended.missing],
                ended.reused,
                ended.comfyui_version,
                instance.name,
                made.prompt_id,
                saved_files,
                event.run_s,
            )
            keeping = self.delivering.keep(job, ended, undelivered)
            await self._deliver(job, keeping, undelivered)
            return
        self._concluded[key] = _Concluded(
            ended, instance.name, made.prompt_id, saved_files=saved_files
        )
        self.handle(event)

    async def _resumed(self, job: Job, plan: Plan) -> bool:
        """Deliver the outputs of a job that were kept before; False where none were."""
        left = await self.delivering.left(job)
        if left is None:
            return False
        resuming = self.delivering.resume(job, plan, left)
        try:
            await self._deliver(job, resuming, left)
        except FileNotFoundError as gone:
            log.warning("an output is gone before its delivery, the job runs again: %s", gone)
            return False
        return True

    async def _deliver(
        self, job: Job, keeping: Coroutine[Any, Any, Completion], what: Undelivered
    ) -> None:
        """Deliver what a job gave, once it is kept, and conclude it; a cancel ends that.

        Raises FileNotFoundError where it is gone.
        """
        key = job.key
        stopping = self._stopping[key] = asyncio.Event()
        self._stop_delivery(key)  # it may have been cancelled just before
        try:
            ended = await keeping
            self.handle(events.LeftComfyUI(key))
            delivered = await first(self.delivering.deliver(job, ended), stopping.wait())
        finally:
            del self._stopping[key]
        event: events.Event = events.AttemptSucceeded(key, what.run_s)
        if isinstance(delivered, Completion):
            ended = delivered
        else:
            event = events.AttemptStopped(key, _new_prompt_id())
        self._concluded[key] = _Concluded(
            ended, what.instance, what.prompt_id, saved_files=what.saved_files
        )
        self.handle(event)

    async def _judged(self, plan: Plan, made: Attempt) -> attempt.Ending:
        """Run an attempt; a prompt that ended its ComfyUI twice is not tried again."""
        ending = await made.run(plan)
        now = time.monotonic()
        if made.killed is not None:
            self.quarantine.ended(plan.prompt, made.killed, now)
            refused = self.quarantine.refusal(plan.prompt, now)
            if refused is not None and isinstance(ending, attempt.Retry):
                return attempt.Failure(refused, counts=ending.counts)
        elif isinstance(ending, attempt.Success):
            self.quarantine.survived(plan.prompt)
        return ending

    async def _formed(
        self, job: Job, outputs: Sequence[CollectedOutput], ended: Completion
    ) -> tuple[events.Event, Completion]:
        """Bring the images into the form that was asked for; without it the job has failed."""
        try:
            formed = await self._finalizer.in_form(job, outputs)
        except ExecutionError as error:
            return events.AttemptFailed(job.key, error), ended
        shown = await self._finalizer.show(job, outputs)
        run_s = None if ended.reused else ended.run_s
        return (
            events.AttemptSucceeded(job.key, run_s),
            replace(ended, outputs=formed, shown=shown),
        )

    async def _load_media(self, sha256: str) -> bytes:
        async def load() -> bytes:
            return await read_kept(self._files, sha256, await self._journal.blob(sha256))

        try:
            return await until_on_disk(load)
        except FileNotFoundError as gone:
            why = "damaged" if isinstance(gone, Damaged) else "no longer kept"
            raise Expired(f"the bytes of an input are {why}", sha256=sha256) from None

    async def _requeue(self, effect: effects.Requeue) -> None:
        job = self._job(effect.key)
        level = logging.INFO if effect.expected else logging.WARNING
        log.log(
            level,
            "job %s of client %s returns to the queue: %s",
            job.key.job_id,
            job.key.client,
            effect.reason,
        )
        if effect.free is not None:
            with suppress(ComfyUIError):
                await self._instances[effect.free].free()
        if effect.delay_s:
            await asyncio.sleep(effect.delay_s)
        n = await until_on_disk(lambda: self._journal.requeued(job))
        self._clean_up(self._concluded.pop(job.key, None))
        self._attempts.pop(job.key, None)
        self.handle(events.Requeued(job.key, n))
        self._settled.set()

    async def _finish(self, effect: effects.Finish) -> None:
        job = self._job(effect.key)
        concluded = self._concluded.get(job.key)
        if concluded is None:
            async with self._finishing:
                await self._finalizer.write(job, effect.outcome, Completion(error=effect.error))
        else:
            ended = replace(concluded.ended, error=effect.error, expect_s=effect.expect_s)
            if effect.outcome != "succeeded":
                ended = replace(ended, outputs=())
            await self._finalizer.write(job, effect.outcome, ended)
        self._clean_up(concluded)
        self.handle(events.Finished(job.key))

    def _clean_up(self, concluded: _Concluded | None) -> None:
        """Let ComfyUI drop a prompt's data, now that its outcome is on disk."""
        if concluded is not None:
            folder = f"{FOLDER}/{concluded.prompt_id}" if concluded.saved_files else None
            instance = self._instances.get(concluded.instance)
            if instance is not None:  # another bridge's, which died
                instance.clean_up(concluded.prompt_id, folder)

    # -- prompts from before this process --

    def _ask_prompts(self, effect: effects.AskPrompts) -> None:
        self._task(self._asked_prompts(self._instances[effect.instance]))

    async def _asked_prompts(self, instance: Instance) -> None:
        prompt_ids: frozenset[str] | None = None
        with _nothing_lost():
            # What it has already would be run elsewhere once more.
            known = await retry(instance.known, ComfyUIError, attempts=_QUEUE_READ_ATTEMPTS)
            prompt_ids = frozenset([*known.running, *known.pending])
        self.handle(events.PromptsKnown(instance.name, prompt_ids))

    def _cancel_prompt(self, effect: effects.CancelPrompt) -> None:
        self._task(self._cancelled_prompt(self._instances[effect.instance], effect.prompt_id))

    async def _cancelled_prompt(self, instance: Instance, prompt_id: str) -> None:
        with _nothing_lost():
            await instance.cancel(prompt_id)


@contextmanager
def _nothing_lost() -> Iterator[None]:
    """Continue where a ComfyUI does not answer, or after a defect of ours: no job hangs on it."""
    try:
        yield
    except ComfyUIError:
        pass
    except Exception:
        log.exception("defect in the bridge")


def _new_prompt_id() -> str:
    return str(uuid.uuid4())


def _availability(now: InstanceState) -> Availability:
    return Availability(usable=now.usable, state=now.state, memory=(now.epoch, now.unloads))
