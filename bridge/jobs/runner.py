"""Runs jobs at ComfyUIs, and writes how they ended.

The core decides when a job starts, stops, returns to the queue, and has ended. When a job has left
its ComfyUI, which then begins the next one, its outputs are converted and delivered.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from bridge.aio import first
from bridge.comfyui.errors import ComfyUIError
from bridge.comfyui.instance import Instance
from bridge.contract.errors import ExecutionError, Expired
from bridge.jobs import attempt
from bridge.jobs.attempt import Attempt
from bridge.jobs.core import Core, JobLimits, effects, events
from bridge.jobs.core.entry import StopReason
from bridge.jobs.durable import until_on_disk
from bridge.jobs.finalizer import Completion, Finalizer
from bridge.jobs.input_files import InputFiles
from bridge.jobs.job import Job, Plan
from bridge.jobs.journal import Journal
from bridge.jobs.listener import Listener
from bridge.jobs.output_delivery import OutputDelivery, Undelivered
from bridge.jobs.quarantine import Quarantine
from bridge.jobs.queue import Key
from bridge.jobs.reporter import Reporter
from bridge.jobs.tasks import JobTasks
from bridge.media.files import BlobDamaged, Files, read_kept
from bridge.workflows.binding import FOLDER

log = logging.getLogger(__name__)

# Plans of jobs that were just accepted: most start at once, and need not be read again.
_PLANS_AT_HAND = 64
# How many jobs that never ran are concluded at the same time, so that their outcomes share writes.
_FINISHED_AT_ONCE = 100


class _Concluded(Struct, frozen=True):
    """An attempt that has ended, until its outcome is written."""

    ended: Completion
    instance: str
    prompt_id: str
    saved_files: bool


class Runner:
    """Executes the effects StartJob, StopJob, Requeue and Finish."""

    def __init__(
        self,
        tasks: JobTasks,
        core: Core,
        *,
        journal: Journal,
        files: Files,
        instances: Mapping[str, Instance],
        listener: Listener,
        limits: JobLimits,
        finalizer: Finalizer,
        quarantine: Quarantine,
        delivery: OutputDelivery,
        input_files: InputFiles,
    ) -> None:
        self._tasks = tasks
        self._core = core
        self._journal = journal
        self._files = files
        self._instances = instances
        self._listener = listener
        self._limits = limits
        self._finalizer = finalizer
        self._quarantine = quarantine
        self._delivery = delivery
        self._input_files = input_files
        # By job, while its outputs are delivered: set when the job is cancelled.
        self._stopping: dict[Key, asyncio.Event] = {}
        self._plans: dict[Key, Plan] = {}
        self._attempts: dict[Key, Attempt] = {}
        self._concluded: dict[Key, _Concluded] = {}
        self._finishing = asyncio.Semaphore(_FINISHED_AT_ONCE)

    def cache_plan(self, key: Key, plan: Plan) -> None:
        """Keep a job's plan in memory until it starts, if there is room."""
        if len(self._plans) < _PLANS_AT_HAND:
            self._plans[key] = plan

    def wanted_plan(self, key: Key) -> Callable[[Plan], None] | None:
        """Return what keeps the plan of a job that is to start, None if that is there.

        It is kept however many are: a job that is claimed starts now.
        """
        if key in self._plans or self._core.book.entries[key].withdrawn is not None:
            return None
        return partial(self._plans.__setitem__, key)

    def attempt_at(self, key: Key) -> Attempt | None:
        """Return the attempt at a job that is under way, or whose outcome is being written."""
        return self._attempts.get(key)

    def forget(self, key: Key) -> None:
        """Drop what is kept for a job: it has ended, or another bridge has it."""
        self._plans.pop(key, None)
        self._attempts.pop(key, None)
        self._concluded.pop(key, None)
        self._input_files.release(key)

    def start(self, start: effects.StartJob) -> None:
        """Begin an attempt at a job, in a task."""
        key = start.key
        job, instance = self._core.book.entries[key].job, self._instances[start.instance]
        reporter = Reporter(
            job,
            self._listener,
            self._core.book.estimates,
            began=lambda: self._tasks.handle(events.Began(key)),
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
        self._tasks.start_for(key, self._attempt, job, instance, made, start)

    def stop(self, effect: effects.StopJob) -> None:
        """Cancel the attempt at a job, or the delivery of its outputs."""
        if effect.key in self._stopping:
            self._stop_delivery(effect.key)
        else:
            self._attempts[effect.key].cancel()

    def _stop_delivery(self, key: Key) -> None:
        """End a delivery if its job is cancelled. Other reasons to stop concern ComfyUI only."""
        entry = self._core.book.entry(key)
        if entry is not None and entry.stop is StopReason.CANCEL:
            self._stopping[key].set()

    async def _attempt(
        self, job: Job, instance: Instance, made: Attempt, start: effects.StartJob
    ) -> None:
        key = job.key
        plan = self._plans.pop(key, None)
        if plan is None:
            plan = await until_on_disk(lambda: self._journal.plan(key))
        if self._delivery.has_sinks(job) and await self._resumed(job, plan):
            return
        await self._input_files.take(key, plan.uploads, instance.name)
        refused = None if start.adopt else self._quarantine.refusal(plan.prompt, time.monotonic())
        ending = (
            self._judged(plan, made, await made.run(plan))
            if refused is None
            else attempt.Failure(refused)
        )
        if made.used_key:
            self._core.counters.used_key(key.client)
        # Before the outputs are converted and written, so that ComfyUI can begin the next job.
        self._tasks.handle(events.LeftComfyUI(key))
        ended = Completion(plan=plan, times=made.times, comfyui_version=instance.state.version)
        ended, event = await self._outcome_of(job, ending, ended)
        # An attempt that did not succeed may have saved files that no message named.
        saved_files = made.saved_files or not isinstance(ending, attempt.Success)
        if isinstance(event, events.AttemptSucceeded) and self._delivery.has_sinks(job):
            undelivered = Undelivered(
                [each.info for each in ended.outputs],
                self._finalizer.timings(job, ended, time.monotonic()),
                ended.shown,
                [*ended.missing],
                ended.reused,
                ended.comfyui_version,
                instance.name,
                made.prompt_id,
                saved_files,
                event.run_s,
            )
            keeping = self._delivery.keep(job, ended, undelivered, self._unwritten(key))
            await self._deliver(job, keeping, undelivered)
            return
        self._concluded[key] = _Concluded(
            ended, instance.name, made.prompt_id, saved_files=saved_files
        )
        self._tasks.handle(event)

    async def _outcome_of(
        self, job: Job, ending: attempt.Ending, ended: Completion
    ) -> tuple[Completion, events.Event]:
        """Return an attempt's completion, its outputs converted, and the event that reports it."""
        key = job.key
        match ending:
            case attempt.Success(outputs, reused, missing):
                ended = replace(ended, reused=reused, missing=missing)
                try:
                    ended = await self._finalizer.formed(job, outputs, ended)
                except ExecutionError as error:
                    return ended, events.AttemptFailed(key, error)
                return ended, events.AttemptSucceeded(key, None if reused else ended.run_s)
            case attempt.Failure(error, counts):
                return ended, events.AttemptFailed(key, error, counts)
            case attempt.Interruption():
                return ended, events.AttemptStopped(key, _new_prompt_id())
            case attempt.Retry(error, free_memory, counts, no_room):
                prompt_id = _new_prompt_id()
                return ended, events.AttemptBroke(
                    key, error, prompt_id, counts, free_memory, no_room
                )

    async def _resumed(self, job: Job, plan: Plan) -> bool:
        """Deliver the outputs that an earlier process stored for a job; False if there are none."""
        left = await self._delivery.left(job)
        if left is None:
            return False
        resuming = self._delivery.resume(job, plan, left)
        try:
            await self._deliver(job, resuming, left)
        except FileNotFoundError as gone:
            log.warning("an output is gone before its delivery, the job runs again: %s", gone)
            return False
        return True

    async def _deliver(
        self, job: Job, keeping: Coroutine[Any, Any, Completion], what: Undelivered
    ) -> None:
        """Deliver a job's outputs once they are stored, and conclude the job; a cancel ends that.

        Raises FileNotFoundError if the stored outputs are gone.
        """
        key = job.key
        stopping = self._stopping[key] = asyncio.Event()
        self._stop_delivery(key)  # it may have been cancelled just before
        try:
            ended = await keeping
            self._tasks.handle(events.OutputsStored(key))
            self._tasks.handle(events.LeftComfyUI(key))
            delivered = await first(self._delivery.deliver(job, ended), stopping.wait())
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
        self._tasks.handle(event)

    def _judged(self, plan: Plan, made: Attempt, ending: attempt.Ending) -> attempt.Ending:
        """Return how an attempt ends: a prompt that ended its ComfyUI twice is not tried again."""
        now = time.monotonic()
        if made.killed is not None:
            self._quarantine.ended(plan.prompt, made.killed, now)
            refused = self._quarantine.refusal(plan.prompt, now)
            if refused is not None and isinstance(ending, attempt.Retry):
                return attempt.Failure(refused, counts=ending.counts)
        elif isinstance(ending, attempt.Success):
            self._quarantine.survived(plan.prompt)
        return ending

    async def _load_media(self, sha256: str) -> bytes:
        async def load() -> bytes:
            return await read_kept(self._files, sha256, await self._journal.blob(sha256))

        try:
            return await until_on_disk(load)
        except FileNotFoundError as gone:
            why = "damaged" if isinstance(gone, BlobDamaged) else "no longer kept"
            raise Expired(f"the bytes of an input are {why}", sha256=sha256) from None

    async def requeue(self, effect: effects.Requeue) -> None:
        """Write that a job returns to the queue."""
        job = self._core.book.entries[effect.key].job
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
        self._tasks.handle(events.Requeued(job.key, n))

    async def finish(self, effect: effects.Finish) -> None:
        """Publish the outputs of a job, write its outcome, and let ComfyUI drop its data."""
        job = self._core.book.entries[effect.key].job
        concluded, failed = self._concluded.get(job.key), self._unwritten(job.key)
        if concluded is None:
            ended = Completion(error=effect.error)
            async with self._finishing:
                await self._finalizer.write(job, effect.outcome, ended, failed)
        else:
            ended = replace(concluded.ended, error=effect.error, expect_s=effect.expect_s)
            if effect.outcome != "succeeded":
                ended = replace(ended, outputs=())
            await self._finalizer.write(job, effect.outcome, ended, failed)
        self._clean_up(concluded)
        self._tasks.handle(events.Finished(job.key))

    def _unwritten(self, key: Key) -> Callable[[], None]:
        return lambda: self._tasks.handle(events.WriteFailed(key))

    def _clean_up(self, concluded: _Concluded | None) -> None:
        """Remove a prompt's data from ComfyUI, now that its outcome is on disk."""
        if concluded is not None:
            folder = f"{FOLDER}/{concluded.prompt_id}" if concluded.saved_files else None
            instance = self._instances.get(concluded.instance)
            if instance is not None:  # another bridge's, which died
                instance.clean_up(concluded.prompt_id, folder)


def _new_prompt_id() -> str:
    return str(uuid.uuid4())
