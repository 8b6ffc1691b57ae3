"""The dispatcher: takes jobs from the queue, has them run, and sees each to its one outcome.

Two jobs at most are at each ComfyUI, one that runs and one that waits, so that it never idles
between jobs and the order stays ours.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress

from msgspec import Struct
from msgspec.structs import replace

from bridge import logs
from bridge.comfyui.errors import ComfyUIError
from bridge.comfyui.instance import Instance
from bridge.contract.errors import (
    BridgeError,
    ComfyUIUnavailable,
    ExecutionError,
    Expired,
    Lost,
    Replaced,
    UnknownJob,
)
from bridge.contract.messages import JobStatus, State
from bridge.jobs import reports, state
from bridge.jobs.absence import Absence
from bridge.jobs.backlog import Backlog
from bridge.jobs.counters import Counters
from bridge.jobs.database import Fenced
from bridge.jobs.deadlines import Deadlines
from bridge.jobs.job import Job, Plan
from bridge.jobs.journal import Journal
from bridge.jobs.listener import Listener
from bridge.jobs.outcome import Ended, Outcomes, until_on_disk
from bridge.jobs.outputs import Output
from bridge.jobs.posts import CanRun, Post
from bridge.jobs.queue import Key
from bridge.jobs.records import AlreadyEnded
from bridge.jobs.releases import Releases
from bridge.jobs.replacing import Replacing
from bridge.jobs.run import Again, Ending, Failure, Interrupted, Run, Success, Watcher
from bridge.jobs.state import Happening
from bridge.jobs.waiting import Waiting
from bridge.media.files import Files

log = logging.getLogger(__name__)

# One runs, one waits behind it.
JOBS_AT_COMFYUI = 2
PLANS_AT_HAND = 64
_RETRY_PAUSE_S = 0.5
# So many jobs are cancelled side by side: their outcomes share the disk's time.
_CANCELLED_AT_ONCE = 100


class Limits(Struct, frozen=True):
    """Bounds for all jobs: counts and seconds."""

    max_attempts: int
    timeout_s: float
    silence_s: float
    reorder_s: float


class _Active(Struct):
    """A job at a ComfyUI. `run` is None until its plan is here."""

    job: Job
    post: Post
    run: Run | None = None
    cancelled: bool = False
    expired: bool = False
    sent_back: bool = False

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
        can_run: CanRun,
        limits: Limits,
        outcomes: Outcomes,
    ) -> None:
        """`can_run` tells whether the ComfyUI of a name has what a job needs."""
        self.counters = Counters()
        self.backlog = Backlog(instances, can_run, limits.reorder_s, alone=not journal.shared)
        self._journal = journal
        self._files = files
        self._listener = listener
        self._limits = limits
        self._outcomes = outcomes
        self._waiting = waiting
        self._releases = Releases(journal, waiting, release=self._release, fail=self._fail)
        self._jobs: dict[Key, Job] = {}
        # Of jobs that were just accepted: most start at once, and need not be read again.
        self._plans: dict[Key, Plan] = {}
        self._replacing = Replacing()
        self._active: dict[Key, _Active] = {}
        # To be cancelled as soon as they are in the queue.
        self._cancelled: set[Key] = set()
        # Perhaps at a ComfyUI, from before this process; and by prompt id, where they then went.
        self._recovered: set[Key] = set()
        self._taken_over: dict[str, str] = {}
        self._work = asyncio.Event()
        self._to_replace: asyncio.Queue[tuple[Job, Key]] = asyncio.Queue()
        self._draining = False
        self._ended = asyncio.Event()
        self._deadlines = Deadlines(self._expire)
        self._absence = Absence(self.backlog, self._tell_absence)

    # What doors ask.

    @property
    def running(self) -> int:
        """How many jobs are at a ComfyUI."""
        return len(self._active)

    def status(self, job: Job, n: int) -> JobStatus:
        """Say where a job stands that is not at a ComfyUI."""
        position, eta_s = self.backlog.outlook(job)
        why = self._absence.told(job)
        return reports.status(job, n, position=position, eta_s=eta_s, reason=why)

    def why_waiting(self, job: Job) -> str | None:
        """Why a job does not start though its turn may have come."""
        return None if job.key in self._active else self._absence.why(job)

    def job(self, key: Key) -> Job | None:
        """A job that has not ended."""
        return self._jobs.get(key)

    def add(self, job: Job, plan: Plan | None = None) -> None:
        """Take a job that the journal has accepted; its plan, if it is at hand."""
        if self._jobs.setdefault(job.key, job) is not job:
            return  # seen already, by way of another bridge
        replaced = self._replacing.add(job)
        if replaced is not None:
            self._to_replace.put_nowait((replaced, job.key))
        if plan is not None and job.state == "queued" and len(self._plans) < PLANS_AT_HAND:
            self._plans[job.key] = plan
        if job.state == "waiting":
            self._releases.add(job)
        else:
            self.backlog.add(job)
            self._work.set()
        if job.start_before is not None:
            self._deadlines.add(job.start_before, job.key)

    async def recover(self) -> None:
        """Take what the journal has from before this process: jobs, and how long they take."""
        self.backlog.recover(await self._journal.estimates(), paused=await self._journal.paused())
        jobs = await self._journal.unfinished()
        if await self._journal.restored():
            jobs = await self._lose(jobs)
        for job in jobs:
            self._recovered.add(job.key)
            self.add(job)
            if job.instance is not None and self.backlog.posts.is_attached(job.instance):
                # If that one is away for long, what became of the job is known only there.
                self.backlog.put_first(job, job.instance)

    def unended(self) -> Iterator[Job]:
        """Give all jobs: at a ComfyUI, then in the order of their turns, then what waits first."""
        yield from [active.job for active in self._active.values()]
        yield from self.backlog
        yield from [job for job in self._jobs.values() if job.state == "waiting"]

    def send_back(self, instance: str) -> None:
        """Have the jobs at a ComfyUI stopped and put back in their places, by the operator."""
        for active in self._active.values():
            if active.post.name == instance:
                active.sent_back = True
                active.stop()

    async def _lose(self, jobs: Sequence[Job]) -> list[Job]:
        """Conclude what a backup that was restored had not ended; nothing is left to run."""
        for job in jobs:
            error = Lost("the bridge was restored from a backup in which it had not ended")
            await self._conclude(job, Happening.FAIL, Ended(error=error))
        await self._journal.taken_up()
        return []

    async def pause(self) -> None:
        """Start nothing more, also after a restart; what runs goes on."""
        self.backlog.paused = True
        self._absence.look()
        await self._journal.pause(paused=True)

    async def resume(self) -> None:
        """Start jobs again."""
        await self._journal.pause(paused=False)
        self.backlog.paused = False
        self._absence.look()
        self._work.set()

    async def clear(self, client: str | None = None) -> int:
        """Cancel all jobs that have not started, of one client or of all; returns how many."""
        keys = [
            key
            for key, job in self._jobs.items()
            if key not in self._active and client in (None, key.client) and _not_started(job)
        ]
        done = 0
        for start in range(0, len(keys), _CANCELLED_AT_ONCE):
            some = keys[start : start + _CANCELLED_AT_ONCE]
            states = await asyncio.gather(*(self.cancel(key) for key in some))
            done += sum(each is not None for each in states)
        return done

    def look(self) -> None:
        """Look at the queue anew: what the ComfyUIs have, or how they are, has changed."""
        self._work.set()

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
            if job is not None and job is self._jobs.get(key) and job.state == "waiting":
                self._cancelled.add(key)  # it is on its way into the queue
                return job.state
            found = await self._journal.seize(key)
            if key in self._active:
                return await self.cancel(key)  # it had just left
            if not isinstance(found, Job):
                return found
            job = found
        await self._conclude(job, Happening.CANCEL, Ended())
        return job.state

    def forget(self, key: Key) -> None:
        """Leave a job to another bridge, which has it now, or saw it to its end."""
        job = None if key in self._active else self._jobs.pop(key, None)
        if job is not None:
            self.backlog.remove(job)
            self._replacing.ended(job)
            self._plans.pop(key, None)
            self._recovered.discard(key)
            self._cancelled.discard(key)

    def unclaimed(self) -> set[Key]:
        """Every job here that is not at a ComfyUI, or on its way there."""
        waiting = {key for key, job in self._jobs.items() if job.state == "waiting"}
        return waiting | {job.key for job in self.backlog}

    def hold(self, *, paused: bool) -> None:
        """Start nothing more, or start jobs again, as another bridge was told."""
        self.backlog.paused = paused
        self._work.set()

    def ended_elsewhere(self, key: Key) -> None:
        """Note that another bridge saw a job to its end: others may have waited for it."""
        self.forget(key)
        self._waiting.ended(key)

    async def drain(self) -> None:
        """Start nothing more, and wait until nothing runs; what has not started stays queued."""
        self._draining = True
        while any(active.job.state == "running" for active in self._active.values()):
            self._ended.clear()
            await self._ended.wait()
        for post in self.backlog.posts:
            await post.tidying.finish()

    # The task.

    async def run(self) -> None:
        """Serve all instances until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._deadlines.run())
            tasks.create_task(self._absence.run())
            tasks.create_task(self._releases.run())
            tasks.create_task(self._replace_for_ever())
            for post in self.backlog.posts:
                tasks.create_task(self._serve(post))
                if len(self.backlog.posts) > 1:
                    tasks.create_task(self._watch(post))

    async def _serve(self, post: Post) -> None:
        slots = asyncio.Semaphore(JOBS_AT_COMFYUI)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(post.tidying.run())
            while True:
                await slots.acquire()
                active = await self._next(post)
                room = _Once(lambda: self._make_room(post, slots))
                attempt = tasks.create_task(self._attempt(active, room))
                attempt.add_done_callback(room)

    def _make_room(self, post: Post, slots: asyncio.Semaphore) -> None:
        post.leave()
        slots.release()

    async def _watch(self, post: Post) -> None:
        """Have the queue looked at anew when a ComfyUI changes: a job may now go elsewhere."""
        state = post.instance.state
        while True:
            state = await post.instance.changed(state)
            self._work.set()

    async def _next(self, post: Post) -> _Active:
        """Wait until the ComfyUI can take a job and there is one for it."""
        while True:
            await post.instance.ready()
            await self._claim_known(post)
            if not post.instance.state.usable:
                continue
            job = None if self._draining else self.backlog.take(post)
            if job is not None:
                if not await self._claim(job):
                    continue
                post.enter()
                active = self._active[job.key] = _Active(job, post)
                if len(self.backlog.posts) > 1:
                    self._work.set()  # another may have left it what comes next
                return active
            post.looking = True
            self._work.clear()
            await self._work.wait()
            post.looking = False

    async def _claim(self, job: Job) -> bool:
        """Take a job before it is run or concluded; False where another bridge was faster."""
        if job.key in self._active:
            return False
        if await until_on_disk(lambda: self._journal.claim(job)):
            return True
        self.forget(job.key)
        return False

    async def _claim_known(self, post: Post) -> None:
        """Put first what this ComfyUI has in its queue from before this process.

        What another one took over meanwhile, because this one was away, is taken out here.
        """
        if not (self._recovered or self._taken_over):
            return
        with suppress(ComfyUIError):
            known = await post.instance.known()
            there = {*known.running, *known.pending}
            for key in self._recovered:
                job = self._jobs.get(key)
                if job is not None and job.prompt_id in there:
                    self.backlog.put_first(job, post.name)
            for prompt_id in there & self._taken_over.keys():
                if self._taken_over[prompt_id] != post.name:
                    await post.instance.cancel(prompt_id)

    async def _attempt(self, active: _Active, room: Callable[[], None]) -> None:
        """See one job through one attempt, whatever happens in it.

        `room` is called once ComfyUI is through with it, before the outcome is written.
        """
        with logs.about(active.job.key.client, active.job.key.job_id):
            await self._attempt_it(active, room)

    async def _attempt_it(self, active: _Active, room: Callable[[], None]) -> None:
        job = active.job
        try:
            if job.state == "queued" and job.attempt >= self._limits.max_attempts:
                lost = Lost("each bridge that ran it died", attempts=job.attempt)
                await self._conclude(job, Happening.FAIL, Ended(error=lost))
                return
            plan = self._plans.pop(job.key, None) or await self._plan(job.key)
            active.run = run = self._new_run(job, plan, active.post)
            if active.cancelled or active.expired or active.sent_back:
                run.cancel()
            prompt_id = job.prompt_id
            ending = await run.run()
            room()
            await self._settle(active, plan, ending)
            active.post.tidying.add(prompt_id, saved_files=run.saved_files)
        except (UnknownJob, AlreadyEnded) as error:
            log.warning("%s", error)
            self._jobs.pop(job.key, None)
        except Fenced:
            raise
        except Exception as error:
            # A defect of ours must cost this job, not the bridge and all others with it.
            log.exception("a defect")
            await self._give_up(job, error)
        finally:
            if self._active.get(job.key) is active:
                del self._active[job.key]
            self._ended.set()

    async def _give_up(self, job: Job, defect: Exception) -> None:
        """Fail a job over a defect, wherever in its life that was met."""
        if state.is_outcome(job.state):
            job.state = "running"  # that outcome was not written
        error = BridgeError(f"internal error: {type(defect).__name__}: {defect}")
        try:
            await self._conclude(job, Happening.FAIL, Ended(error=error))
        except Fenced:
            raise
        except Exception:  # it was written, and could not be told; or it stays for the next start
            log.exception("a defect, once more")
            self._jobs.pop(job.key, None)
            self._replacing.ended(job)
            self._waiting.ended(job.key)

    def _new_run(self, job: Job, plan: Plan, post: Post) -> Run:
        adopt = job.key in self._recovered
        if adopt and len(self.backlog.posts) > 1:
            self._taken_over[job.prompt_id] = post.name
        self._recovered.discard(job.key)
        reporter = reports.Reporter(self._listener, job, self.backlog.estimates)
        return Run(
            job,
            plan,
            post.instance,
            watcher=Watcher(
                started=lambda: self._started(job, post),
                output=lambda output: self._outcomes.offer(job, output),
                progress=reporter.progress,
                preview=reporter.preview,
            ),
            load_media=self._load_media,
            timeout_s=job.timeout_s or self._limits.timeout_s,
            silence_s=self._limits.silence_s,
            adopt=adopt,
        )

    async def _plan(self, key: Key) -> Plan:
        return await until_on_disk(lambda: self._journal.plan(key))

    async def _load_media(self, sha256: str) -> bytes:
        data = await until_on_disk(lambda: self._journal.blob(sha256))
        if data is not None:
            return data
        # Large bytes may lie in the same database: where it is away, it is waited for as well.
        return await until_on_disk(lambda: asyncio.to_thread(self._files.read, sha256))

    def _started(self, job: Job, post: Post) -> None:
        post.loaded(job.needs)
        if job.state == "running":  # adopted: this attempt was counted when it began
            return
        job.state = state.after(job.state, Happening.START)
        job.attempt += 1
        job.instance = post.name
        # Made now: by the time that it has its number, the job may be over.
        status = reports.status(job, 0, eta_s=self.backlog.estimates.run_s(job.workflow))
        self._tell(job, status, self._journal.started(job))

    def _tell_absence(self, job: Job) -> None:
        status = self.status(job, 0)
        self._tell(job, status, self._journal.told(job))

    def _tell(self, job: Job, status: JobStatus, drawn: asyncio.Future[int]) -> None:
        """Publish a status once it has its number; without one it is not published."""

        def tell(done: asyncio.Future[int]) -> None:
            if done.cancelled():
                return
            if (error := done.exception()) is not None:
                log.error("no number for a status: %s", error)
            else:
                self._listener.status(job, replace(status, n=done.result()))

        drawn.add_done_callback(tell)

    async def _settle(self, active: _Active, plan: Plan, ending: Ending) -> None:
        job, instance = active.job, active.post.instance
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
            case Interrupted() | Again() if active.sent_back and not active.cancelled:
                why = f"the operator took it from {instance.name}"
                await self._requeue(active, ComfyUIUnavailable(why))
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
            shown = await self._outcomes.show(job, outputs)
            await self._conclude(
                job, Happening.SUCCEED, replace(ended, outputs=shaped, shown=shown)
            )

    def _may_retry(self, job: Job, ending: Again) -> bool:
        if ending.counts and job.state == "queued":
            job.attempt += 1
        # What freeing memory once did not mend, freeing it twice will not.
        return job.attempt < (2 if ending.free_memory else self._limits.max_attempts)

    async def _requeue(self, active: _Active, reason: BridgeError) -> None:
        """Put a job back in its place, under a new prompt id: the old one may still turn up."""
        job = active.job
        level = logging.INFO if active.sent_back else logging.WARNING
        log.log(level, "job %s of %s again: %s", job.key.job_id, job.key.client, reason.message)
        if job.state == "running":
            job.state = state.after(job.state, Happening.REQUEUE)
        elif not active.sent_back:
            await asyncio.sleep(_RETRY_PAUSE_S)  # it never got there: not at once again
        job.prompt_id = str(uuid.uuid4())
        n = await until_on_disk(lambda: self._journal.requeued(job))
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
        if happening is Happening.SUCCEED and ended.run_s is not None and not ended.reused:
            ended = replace(ended, expect_s=self.backlog.estimates.ran(job.workflow, ended.run_s))
        await self._outcomes.write(job, ended)
        self._jobs.pop(job.key, None)
        self._replacing.ended(job)
        self._plans.pop(job.key, None)
        self._recovered.discard(job.key)
        self._cancelled.discard(job.key)
        self._waiting.ended(job.key)
        self.counters.ended(
            job.state,
            client=job.key.client,
            workflow=job.workflow,
            instance=job.instance,
            run_s=ended.run_s or 0.0,
        )

    # Jobs that wait for something.

    async def _fail(self, job: Job, error: BridgeError) -> None:
        if await self._claim(job):
            await self._conclude(job, Happening.FAIL, Ended(error=error))

    async def _release(self, job: Job, plan: Plan, media: Mapping[str, bytes]) -> None:
        """Queue a job, now that all that it waited for is here."""
        try:
            n = await until_on_disk(lambda: self._journal.released(job, plan, media))
        except AlreadyEnded:
            self.forget(job.key)
            return
        job.state = state.after(job.state, Happening.RELEASE)
        self.add(job)
        self._listener.status(job, self.status(job, n))
        if job.key in self._cancelled:
            self._cancelled.discard(job.key)
            await self.cancel(job.key)

    async def _replace_for_ever(self) -> None:
        """Cancel what has not started and was replaced by a newer job."""
        while True:
            job, by = await self._to_replace.get()
            if _not_started(job) and await self._withdraw(job):
                error = Replaced(f"job {by.job_id!r} replaced it", by=by.job_id)
                await self._conclude(job, Happening.CANCEL, Ended(error=error))

    async def _withdraw(self, job: Job) -> bool:
        """Take a job that is not at a ComfyUI out of what it waits in; False if it just left."""
        there = await self._releases.withdraw(job.key) or self.backlog.remove(job)
        return there and await self._claim(job)

    # Deadlines.

    async def _expire(self, key: Key) -> None:
        job, active = self._jobs.get(key), self._active.get(key)
        if job is None or not _not_started(job):
            return
        if active is not None:
            active.expired = True
            active.stop()
        elif await self._withdraw(job):
            await self._expired(job, None)

    async def _expired(self, job: Job, plan: Plan | None) -> None:
        error = Expired("it could not start in time", start_before=job.start_before)
        await self._conclude(job, Happening.EXPIRE, Ended(plan=plan, error=error))


def _not_started(job: Job) -> bool:
    return job.state in ("waiting", "queued")
