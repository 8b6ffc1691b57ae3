"""The tasks of jobs: a defect in one fails only its job."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, TypeVarTuple

from bridge import logs
from bridge.contract.errors import UnknownJob, internal
from bridge.jobs.core import events
from bridge.jobs.database import LeaseLost
from bridge.jobs.journal import AlreadyEnded
from bridge.jobs.queue import Key

log = logging.getLogger(__name__)

Args = TypeVarTuple("Args")


class JobTasks:
    """Starts tasks in `group`, once that is set. `handle` receives their events."""

    def __init__(self, handle: Callable[[events.Event], None]) -> None:
        self.handle = handle
        self.group: asyncio.TaskGroup | None = None

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start work that is not guarded: if it fails, the bridge stops."""
        if self.group is None:
            raise RuntimeError("the dispatcher does not run")
        return self.group.create_task(work)

    def start_for(
        self, key: Key, work: Callable[[*Args], Coroutine[Any, Any, None]], *args: *Args
    ) -> asyncio.Task[None]:
        """Start work for a job. If it fails, the job has failed; LeaseLost stops the bridge."""
        return self.start(self._guarded(key, work, *args))

    async def _guarded(
        self, key: Key, work: Callable[[*Args], Coroutine[Any, Any, None]], *args: *Args
    ) -> None:
        with logs.about(key.client, key.job_id):
            try:
                await work(*args)
            except (UnknownJob, AlreadyEnded) as error:
                log.warning("%s", error)
                self.handle(events.Vanished(key))
            except LeaseLost:
                raise
            except Exception as error:
                log.exception("defect in the bridge")
                self.handle(events.Defect(key, internal(error)))
