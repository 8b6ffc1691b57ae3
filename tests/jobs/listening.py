"""Somebody who receives notices of a real PostgreSQL, for tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from bridge.jobs.database.notices import Ask, listen
from tests.support.patience import PATIENCE_S


async def nothing(_: Ask) -> None:
    """Do nothing with a session."""


@asynccontextmanager
async def listening(address: str, **how: Any) -> AsyncIterator[asyncio.Queue[str | None]]:
    """Receive notices of the channel `x`, into a queue that has had its first None."""
    heard: asyncio.Queue[str | None] = asyncio.Queue()
    settings = {"began": nothing, "poll": nothing, "every_s": PATIENCE_S, **how}
    async with asyncio.timeout(PATIENCE_S):
        task = asyncio.create_task(listen(address, "x", heard.put_nowait, **settings))
        try:
            assert await heard.get() is None
            yield heard
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
