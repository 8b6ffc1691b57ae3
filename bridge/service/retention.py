"""Retention: deletes results, outputs and uploads whose time is over, and the bytes behind them.

Ages are measured by the journal's clock, which does not follow the wall clock where that is set.
Files have the wall clock's times: after a jump none is deleted until it is old enough by any clock.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from bridge.comfyui.cleanup import sweep_attempts
from bridge.config import Config
from bridge.jobs.database import DatabaseError
from bridge.jobs.journal import Journal
from bridge.jobs.uploads import Uploads
from bridge.media.files import Files
from bridge.requests.permissions import Permissions

log = logging.getLogger(__name__)

INTERVAL_S = 60.0
# A file is on disk before the row that needs it, but never by as much.
_AGE_S = 3600.0
# A folder that nothing was written into for this many seconds belongs to no running attempt.
_ATTEMPT_AGE_S = 3600.0


class Retention:
    """Deletes what is kept no longer, every `INTERVAL_S`. Use `run` as a task."""

    def __init__(
        self,
        config: Config,
        *,
        permissions: Permissions,
        journal: Journal,
        files: Files,
        uploads: Uploads,
        leads: Callable[[], bool],
        jumped: Callable[[float], None] = lambda _: None,
        attempts: Sequence[Path] = (),
        prompts: Callable[[], Collection[str]] = frozenset,
    ) -> None:
        """`leads` returns whether the journal is this bridge's to sweep: of several, one does.

        `jumped` is called when the wall clock was set, with by how many seconds. `attempts` are
        the folders below which ComfyUIs of ours save, each prompt into one of its name, and
        `prompts` returns those that are followed.
        """
        self._config = config
        self._permissions = permissions
        self._journal = journal
        self._files = files
        self._uploads = uploads
        self._leads = leads
        self._jumped = jumped
        # When the wall clock jumped last, by the journal's.
        self._jumped_at = float("-inf")
        self._attempts = attempts
        self._prompts = prompts

    async def run(self) -> None:
        """Delete every `INTERVAL_S`, until cancelled; wait while disk or database is away."""
        self._note_jump(self._journal.jumped_s)
        while True:
            await self.sweep()
            await asyncio.sleep(INTERVAL_S)

    async def sweep(self) -> None:
        """Delete once what is kept no longer; a sweep that fails is logged, and ends no other."""
        self._note_jump(self._journal.clock.check_jump())
        sweeps = (self._sweep_journal, self._sweep_blobs, self._sweep_uploads, self._sweep_attempts)
        for each in sweeps:
            try:
                await each()
            except (DatabaseError, OSError) as error:
                # A disk that deletes nothing is no reason to serve nobody.
                log.warning("cannot delete expired data: %s", error)

    async def _sweep_journal(self) -> None:
        if not self._leads():
            return
        config, now = self._config, self._journal.clock.now()
        await self._journal.note_time()
        await self._journal.sweep(
            now=now,
            results_before=now - config.keep_results_s,
            forget_before=now - config.remember_ids_s,
            max_outputs=config.max_outputs,
            max_outputs_of=lambda client: self._permissions.of(client).max_outputs,
        )

    async def _sweep_blobs(self) -> None:
        if self._leads() and self._since_jump_s() > _AGE_S:
            sweep = await asyncio.to_thread(self._files.sweeper, _AGE_S)
            await asyncio.to_thread(sweep, await self._journal.files())

    async def _sweep_uploads(self) -> None:
        if self._since_jump_s() > self._config.keep_uploads_s:
            await asyncio.to_thread(self._uploads.sweep, time.time())

    async def _sweep_attempts(self) -> None:
        if self._since_jump_s() > _ATTEMPT_AGE_S:
            before = time.time() - _ATTEMPT_AGE_S
            for folder in self._attempts:
                await asyncio.to_thread(sweep_attempts, folder, self._prompts(), before)

    def _since_jump_s(self) -> float:
        return self._journal.clock.now() - self._jumped_at

    def _note_jump(self, by_s: float) -> None:
        if by_s:
            # It was set; or the machine slept, or was off for days.
            log.warning(
                "the wall clock jumped by %+.0f s; ages of jobs and results do not change", by_s
            )
            self._jumped_at = self._journal.clock.now()
            self._jumped(by_s)
