"""Gathers the inputs that a job waits for, and puts the job into the queue when all are there."""

from __future__ import annotations

import asyncio

from bridge.contract.errors import BridgeError, Expired
from bridge.jobs.core import Book, effects, events
from bridge.jobs.dependencies import Dependencies
from bridge.jobs.durable import until_on_disk
from bridge.jobs.job import Plan
from bridge.jobs.journal import Journal
from bridge.jobs.queue import Key
from bridge.jobs.tasks import JobTasks
from bridge.media.files import Files, put_large


class Resolver:
    """Executes the effects Resolve, StopResolving and ReleaseJob."""

    def __init__(
        self,
        tasks: JobTasks,
        book: Book,
        *,
        journal: Journal,
        files: Files,
        dependencies: Dependencies,
    ) -> None:
        self._tasks = tasks
        self._book = book
        self._journal = journal
        self._files = files
        self._dependencies = dependencies
        self._resolving: dict[Key, asyncio.Task[None]] = {}

    def start(self, effect: effects.Resolve) -> None:
        """Gather a job's inputs in a task."""
        key = effect.key
        self._resolving[key] = self._tasks.start_for(key, self._resolve, key)

    def stop(self, effect: effects.StopResolving) -> None:
        """Stop gathering a job's inputs."""
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
            self._tasks.handle(events.Unresolvable(key, error))
        else:
            self._resolving.pop(key, None)
            self._tasks.handle(events.Resolved(key, plan, media))

    async def release(self, effect: effects.ReleaseJob) -> None:
        """Write that a job is queued, with the inputs that were gathered."""
        job = self._book.entries[effect.key].job

        async def release() -> int:
            # Again at each attempt: the sweep removes old blobs that no row names.
            await put_large(self._files, effect.media)
            return await self._journal.released(job, effect.plan, effect.media)

        try:
            n = await until_on_disk(release)
        except Expired as error:  # bytes of it were swept meanwhile
            self._tasks.handle(events.Unresolvable(effect.key, error))
        else:
            self._tasks.handle(events.Released(effect.key, n))
