"""The dispatcher: takes jobs from the queue, has them run, and sees each to its one outcome.

Two jobs at most are at a ComfyUI, one that runs and one that waits, so that it never idles between
jobs and the order stays ours.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress

from msgspec import Struct
from msgspec.structs import replace

from bridge.comfyui.errors import ComfyUIError
from bridge.comfyui.instance import Instance
from bridge.contract.errors import BridgeError, ExecutionError, Expired, UnknownJob
from bridge.contract.messages import State
from bridge.jobs import reports, state
from bridge.jobs.job import Job, Plan
from bridge.jobs.journal import Journal
from bridge.jobs.listener import Listener
from bridge.jobs.outcome import Ended, Outcomes, until_on_disk
from bridge.jobs.outputs import Output
from bridge.jobs.queue import Key, Queue
from bridge.jobs.records import AlreadyEnded
from bridge.jobs.run import Again, Ending, Failure, Interrupted, Run, Success, Watcher
from bridge.jobs.state import Happening
from bridge.jobs.tidying import Tidying
from bridge.jobs.waiting import Waiting
from bridge.media.files import Files

log = logging.getLogger(__name__)

# One runs, one waits behind it.
JOBS_AT_COMFYUI = 2
# Above every priority that a request can have.
_FIRST = 1_000_000
PLANS_AT_HAND = 64
MARK_AFTER_S = 0.1
_RETRY_PAUSE_S = 0.5


class Limits(Struct, frozen=True):
    """Bounds for all jobs: counts and seconds."""

    max_attempts: int
    timeout_s: float
    silence_s: float
    keep_outputs_s: float


class Counters(Struct):
    """What happened since the start."""

    succeeded: int = 0
    failed: int = 0


class _Active(Struct):
    """A job at a ComfyUI. `run` is None until its plan is here."""

    job: Job
    run: Run | None = None
    cancelled: bool = False
    expired: bool = False

    def stop(self) -> None:
        if self.run is not None:
            self.run.cancel()


class _Once:
    """A call that counts once."""

    def __init__(self, call: Callable[[], None]) -> None:
        self._call: Callable[[], None] | None = call

    def __call__(self, *_: object) -> None:
        call, self._call = self._call, None
        if call is not None:
            call()


class Dispatcher:
    """Owns the jobs that have not ended. `run` is its task."""

    def __init__(
        self,
        *,
        journal: Journal,
        files: Files,
        instances: Sequence[Instance],
        listener: Listener,
        waiting: Waiting,
        limits: Limits,
    ) -> None:
        self.counters = Counters()
        self._journal = journal
        self._files = files
        self._instances = instances
        self._listener = listener
        self._limits = limits
        self._outcomes = Outcomes(journal, files, listener, limits.keep_outputs_s)
        self._waiting = waiting
        self._to_release: asyncio.Queue[Job] = asyncio.Queue()
        self._releases: dict[Key, asyncio.Task[None] | None] = {}  # None: about to begin
        self._queue = Queue()
        self._jobs: dict[Key, Job] = {}
        # Of jobs that were just accepted: most start at once, and need not be read again.
        self._plans: dict[Key, Plan] = {}
        self._tidying = {instance.name: Tidying(instance) for instance in instances}
        self._active: dict[Key, _Active] = {}
        self._recovered: set[Key] = set()  # perhaps at a ComfyUI, from before this process
        self._work = asyncio.Event()
        self._draining = False
        self._ended = asyncio.Event()
        self._deadlines: list[tuple[float, Key]] = []
        self._deadline_added = asyncio.Event()

    # What doors ask.

    @property
    def queued(self) -> int:
        """How many jobs wait."""
        return len(self._queue)

    @property
    def running(self) -> int:
        """How many jobs are at a ComfyUI."""
        return len(self._active)

    def queued_of(self, client: str) -> int:
        """How many jobs of a client wait."""
        return self._queue.count(client)

    def position(self, key: Key) -> int | None:
        """How many jobs start before this one; None for one that does not wait."""
        return self._queue.position(key)

    def position_of_next(self, client: str, priority: int) -> int:
        """How many jobs would start before one that is accepted now."""
        return self._queue.position_of_next(client, priority)

    def job(self, key: Key) -> Job | None:
        """A job that has not ended."""
        return self._jobs.get(key)

    def add(self, job: Job, plan: Plan | None = None) -> None:
        """Take a job that the journal has accepted; its plan, if it is at hand."""
        self._jobs[job.key] = job
        if plan is not None and job.state == "queued" and len(self._plans) < PLANS_AT_HAND:
            self._plans[job.key] = plan
        if job.state == "waiting":
            self._releases[job.key] = None
            self._to_release.put_nowait(job)
        else:
            self._queue.add(job.key, seq=job.seq, priority=job.priority)
            self._work.set()
        if job.start_before is not None:
            heapq.heappush(self._deadlines, (job.start_before, job.key))
            self._deadline_added.set()

    def add_recovered(self, jobs: Sequence[Job]) -> None:
        """Take the jobs that the journal had when this process started."""
        for job in jobs:
            self.add(job)
            self._recovered.add(job.key)

    async def cancel(self, key: Key) -> State | None:
        """Cancel a job; returns its state after that, None for one that is not here.

        A job that waits is cancelled when this returns. One that is at a ComfyUI is being
        cancelled: its result tells whether that came in time.
        """
        active = self._active.get(key)
        if active is not None:
            active.cancelled = True
            active.stop()
            return active.job.state
        job = self._jobs.get(key)
        if job is None or not await self._withdraw(job):
            return None
        await self._conclude(job, Happening.CANCEL, Ended())
        return job.state

    async def drain(self) -> None:
        """Start nothing more, and wait until nothing runs; what has not started stays queued."""
        self._draining = True
        while any(active.job.state == "running" for active in self._active.values()):
            self._ended.clear()
            await self._ended.wait()
        for tidying in self._tidying.values():
            await tidying.finish()

    # The task.

    async def run(self) -> None:
        """Serve all instances until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._expire_for_ever())
            tasks.create_task(self._release_for_ever())
            for instance in self._instances:
                tasks.create_task(self._serve(instance))

    async def _serve(self, instance: Instance) -> None:
        slots = asyncio.Semaphore(JOBS_AT_COMFYUI)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._tidying[instance.name].run())
            while True:
                await slots.acquire()
                active = await self._next(instance)
                room = _Once(slots.release)
                attempt = tasks.create_task(self._attempt(active, instance, room))
                attempt.add_done_callback(room)

    async def _next(self, instance: Instance) -> _Active:
        """Wait until the instance can take a job and there is one."""
        while True:
            await instance.ready()
            await self._prefer_known(instance)
            if not instance.state.usable:
                continue
            key = None if self._draining else self._queue.take()
            if key is not None:
                active = self._active[key] = _Active(self._jobs[key])
                return active
            self._work.clear()
            await self._work.wait()

    async def _prefer_known(self, instance: Instance) -> None:
        """Put first what this ComfyUI has in its queue from before this process."""
        if not self._recovered:
            return
        with suppress(ComfyUIError):
            known = await instance.known()
            there = {*known.running, *known.pending}
            for key in self._recovered:
                job = self._jobs.get(key)
                if job is not None and job.prompt_id in there and self._queue.remove(key):
                    self._queue.add(key, seq=job.seq, priority=_FIRST)

    async def _attempt(self, active: _Active, instance: Instance, room: Callable[[], None]) -> None:
        """See one job through one attempt, whatever happens in it.

        `room` is called once ComfyUI is through with it, before the outcome is written.
        """
        job = active.job
        try:
            plan = self._plans.pop(job.key, None) or await self._journal.plan(job.key)
            active.run = run = self._new_run(job, plan, instance)
            if active.cancelled or active.expired:
                run.cancel()
            prompt_id = job.prompt_id
            ending = await run.run()
            room()
            await self._settle(active, plan, instance, ending)
            self._tidying[instance.name].add(prompt_id, saved_files=run.saved_files)
        except (UnknownJob, AlreadyEnded) as error:
            log.warning("job %s of %s: %s", job.key.job_id, job.key.client, error)
            self._jobs.pop(job.key, None)
        except Exception as error:
            # A defect of ours must cost this job, not the bridge and all others with it.
            log.exception("job %s of %s", job.key.job_id, job.key.client)
            failure = BridgeError(f"internal error: {type(error).__name__}: {error}")
            await self._conclude(job, Happening.FAIL, Ended(error=failure))
        finally:
            if self._active.get(job.key) is active:
                del self._active[job.key]
            self._ended.set()

    def _new_run(self, job: Job, plan: Plan, instance: Instance) -> Run:
        adopt = job.key in self._recovered
        self._recovered.discard(job.key)
        reporter = reports.Reporter(self._listener, job)
        return Run(
            job,
            plan,
            instance,
            watcher=Watcher(
                started=lambda: self._started(job, instance),
                output=lambda output: self._outcomes.offer(job, output),
                progress=reporter.progress,
                preview=reporter.preview,
            ),
            load_media=self._load_media,
            timeout_s=job.timeout_s or self._limits.timeout_s,
            silence_s=self._limits.silence_s,
            adopt=adopt,
        )

    async def _load_media(self, sha256: str) -> bytes:
        data = await self._journal.blob(sha256)
        return await asyncio.to_thread(self._files.read, sha256) if data is None else data

    def _started(self, job: Job, instance: Instance) -> None:
        if job.state == "running":  # adopted: this attempt was counted when it began
            return
        job.state = state.after(job.state, Happening.START)
        job.attempt += 1
        job.instance = instance.name
        n = self._journal.draw(job.key.client)
        status = reports.status(job, n)
        self._journal.in_order(lambda: self._listener.status(job, status))
        # Whether ComfyUI has a job is asked of ComfyUI. The mark bounds the attempts of a job that
        # takes everything down with it; for one that is over in an instant it is not worth a write.
        asyncio.get_running_loop().call_later(MARK_AFTER_S, self._mark_started, job, n)

    def _mark_started(self, job: Job, n: int) -> None:
        if job.state == "running" and self._jobs.get(job.key) is job:
            noted = self._journal.started(job, n)
            noted.add_done_callback(_log_failure)

    async def _settle(
        self, active: _Active, plan: Plan, instance: Instance, ending: Ending
    ) -> None:
        job = active.job
        ended = Ended(
            plan=plan,
            times=active.run.times if active.run is not None else None,
            comfyui_version=instance.state.version,
        )
        match ending:
            case Success(outputs, reused):
                await self._succeed(job, outputs, replace(ended, reused=reused))
            case Failure(error):
                await self._conclude(job, Happening.FAIL, replace(ended, error=error))
            case Interrupted() | Again() if active.expired and job.state == "queued":
                await self._expired(job, plan)
            case Interrupted():
                await self._conclude(job, Happening.CANCEL, ended)
            case Again() if active.cancelled:
                await self._conclude(job, Happening.CANCEL, ended)
            case Again(error) if self._may_retry(job, ending):
                if ending.free_memory:
                    with suppress(ComfyUIError):
                        await instance.free()
                await self._requeue(active, error)
            case Again(error):
                await self._conclude(job, Happening.FAIL, replace(ended, error=error))

    async def _succeed(self, job: Job, outputs: Sequence[Output], ended: Ended) -> None:
        """Give the images the form that was asked for; a job whose images cannot have it fails."""
        try:
            shaped = await self._outcomes.in_form(job, outputs)
        except ExecutionError as error:
            await self._conclude(job, Happening.FAIL, replace(ended, error=error))
        else:
            await self._conclude(job, Happening.SUCCEED, replace(ended, outputs=shaped))

    def _may_retry(self, job: Job, ending: Again) -> bool:
        if ending.counts and job.state == "queued":
            job.attempt += 1
        # What freeing memory once did not mend, freeing it twice will not.
        return job.attempt < (2 if ending.free_memory else self._limits.max_attempts)

    async def _requeue(self, active: _Active, reason: BridgeError) -> None:
        """Put a job back in its place, under a new prompt id: the old one may still turn up."""
        job = active.job
        log.warning("job %s of %s again: %s", job.key.job_id, job.key.client, reason.message)
        if job.state == "running":
            job.state = state.after(job.state, Happening.REQUEUE)
        else:
            await asyncio.sleep(_RETRY_PAUSE_S)  # it never got there: not at once again
        job.prompt_id = str(uuid.uuid4())

        async def note() -> int:
            n = self._journal.draw(job.key.client)
            await self._journal.requeued(job, n)
            return n

        n = await until_on_disk(note)
        self._listener.status(job, reports.status(job, n, reason=reason.message))
        if active.cancelled:
            await self._conclude(job, Happening.CANCEL, Ended())
            return
        del self._active[job.key]
        self.add(job)

    async def _conclude(self, job: Job, happening: Happening, ended: Ended) -> None:
        if happening is Happening.SUCCEED and job.state == "queued":
            # It ended before its start was told.
            job.state = state.after(job.state, Happening.START)
            job.attempt += 1
        job.state = state.after(job.state, happening)
        await self._outcomes.write(job, ended)
        self._jobs.pop(job.key, None)
        self._plans.pop(job.key, None)
        self._recovered.discard(job.key)
        self._waiting.ended(job.key)
        if happening is Happening.SUCCEED:
            self.counters.succeeded += 1
        elif happening is Happening.FAIL:
            self.counters.failed += 1

    # Jobs that wait for something.

    async def _release_for_ever(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            while True:
                job = await self._to_release.get()
                if job.key in self._releases:
                    self._releases[job.key] = tasks.create_task(self._release(job))

    async def _release(self, job: Job) -> None:
        """Queue a job once all that it waits for is here; conclude it where that cannot be."""
        try:
            try:
                plan = await self._journal.plan(job.key)
                plan, media = await self._waiting.gather(job.key, plan)
            finally:
                # From here on it is not to be cancelled: disk and memory must agree.
                self._releases.pop(job.key, None)
        except BridgeError as error:
            await self._conclude(job, Happening.FAIL, Ended(error=error))
            return

        async def note() -> int:
            n = self._journal.draw(job.key.client)
            await self._journal.released(job, plan, media, n)
            return n

        n = await until_on_disk(note)
        job.state = state.after(job.state, Happening.RELEASE)
        self.add(job)
        status = reports.status(job, n, position=self._queue.position(job.key))
        self._listener.status(job, status)

    async def _withdraw(self, job: Job) -> bool:
        """Take a job that is not at a ComfyUI out of what it waits in; False if it just left."""
        if job.key not in self._releases:
            return self._queue.remove(job.key)
        release = self._releases.pop(job.key)
        if release is not None:
            release.cancel()
            await asyncio.wait((release,))
        return True

    # Deadlines.

    async def _expire_for_ever(self) -> None:
        while True:
            self._deadline_added.clear()
            wait = self._deadlines[0][0] - time.time() if self._deadlines else None
            if wait is None or wait > 0:
                with suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        await self._deadline_added.wait()
                continue
            _, key = heapq.heappop(self._deadlines)
            await self._expire(key)

    async def _expire(self, key: Key) -> None:
        job, active = self._jobs.get(key), self._active.get(key)
        if job is None or job.state not in ("waiting", "queued"):
            return
        if active is not None:
            active.expired = True
            active.stop()
        elif await self._withdraw(job):
            await self._expired(job, None)

    async def _expired(self, job: Job, plan: Plan | None) -> None:
        error = Expired("it could not start in time", start_before=job.start_before)
        await self._conclude(job, Happening.EXPIRE, Ended(plan=plan, error=error))


def _log_failure(noted: asyncio.Future[None]) -> None:
    if not noted.cancelled() and noted.exception() is not None:
        log.error("%s", noted.exception())
