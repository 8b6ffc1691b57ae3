"""Retention: deletes results, outputs and uploads whose time is over, and the bytes behind them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

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
        ours: Callable[[], bool],
    ) -> None:
        """`ours` returns whether the journal is this bridge's to sweep: of several, one does."""
        self._config = config
        self._permissions = permissions
        self._journal = journal
        self._files = files
        self._uploads = uploads
        self._ours = ours

    async def run(self) -> None:
        """Delete every `INTERVAL_S`, until cancelled; wait while disk or database is away."""
        while True:
            now = time.time()
            try:
                if self._ours():
                    await self._sweep(now)
                await asyncio.to_thread(self._uploads.sweep, now)
            except (DatabaseError, OSError) as error:
                # A disk that deletes nothing is no reason to serve nobody.
                log.warning("nothing is deleted now: %s", error)
            await asyncio.sleep(INTERVAL_S)

    async def _sweep(self, now: float) -> None:
        config = self._config
        await self._journal.sweep(
            now=now,
            results_before=now - config.keep_results_s,
            forget_before=now - config.remember_ids_s,
            max_outputs=config.max_outputs,
            max_outputs_of=lambda client: self._permissions.of(client).max_outputs,
        )
        kept = await self._journal.files()
        await asyncio.to_thread(self._files.sweep, kept, now - _AGE_S)
