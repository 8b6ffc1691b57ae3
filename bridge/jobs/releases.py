"""Jobs that wait for something, each until all of it is here or cannot come."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

from bridge.contract.errors import BridgeError
from bridge.jobs.database import Fenced
from bridge.jobs.job import Job, Plan
from bridge.jobs.journal import Journal
from bridge.jobs.outcome import until_on_disk
from bridge.jobs.queue import Key
from bridge.jobs.waiting import Waiting

log = logging.getLogger(__name__)

Release = Callable[[Job, Plan, Mapping[str, bytes]], Awaitable[None]]
Fail = Callable[[Job, BridgeError], Awaitable[None]]


class Releases:
    """Use `run` as a task. What becomes of a job is told by one of two calls, once."""

    def __init__(self, journal: Journal, waiting: Waiting, *, release: Release, fail: Fail) -> None:
        self._journal = journal
        self._waiting = waiting
        self._release = release
        self._fail = fail
        self._added: asyncio.Queue[Job] = asyncio.Queue()
        self._tasks: dict[Key, asyncio.Task[None] | None] = {}  # None: about to begin

    def __len__(self) -> int:
        return len(self._tasks)

    def __contains__(self, key: Key) -> bool:
        return key in self._tasks

    def add(self, job: Job) -> None:
        """Gather what a job waits for."""
        self._tasks[job.key] = None
        self._added.put_nowait(job)

    async def withdraw(self, key: Key) -> bool:
        """Wait no longer for a job's things; False if it does not wait here."""
        if key not in self._tasks:
            return False
        task = self._tasks.pop(key)
        if task is not None:
            task.cancel()
            await asyncio.wait((task,))
        return True

    async def run(self) -> None:
        """Gather side by side, for ever."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                job = await self._added.get()
                if job.key in self._tasks:
                    self._tasks[job.key] = tasks.create_task(self._gather(job))

    async def _collected(self, key: Key) -> tuple[Plan, dict[str, bytes]]:
        return await self._waiting.gather(key, await self._journal.plan(key))

    async def _gather(self, job: Job) -> None:
        try:
            try:
                plan, media = await until_on_disk(lambda: self._collected(job.key))
            finally:
                # From here on it is not to be cancelled: disk and memory must agree.
                self._tasks.pop(job.key, None)
        except BridgeError as error:
            await self._fail(job, error)
        except Fenced:
            raise
        except Exception as error:
            # A defect of ours must cost this job, not the bridge: after a restart it would again.
            log.exception("a defect")
            failure = BridgeError(f"internal error: {type(error).__name__}: {error}")
            await self._fail(job, failure)
        else:
            await self._release(job, plan, media)
