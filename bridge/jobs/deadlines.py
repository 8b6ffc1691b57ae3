"""Until when jobs may start."""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Awaitable, Callable

from bridge.aio import wait_set
from bridge.jobs.queue import Key


class Deadlines:
    """Calls for each job whose time has come. Use `run` as a task."""

    def __init__(self, expire: Callable[[Key], Awaitable[None]]) -> None:
        self._expire = expire
        self._times: list[tuple[float, Key]] = []
        self._added = asyncio.Event()

    def add(self, at: float, key: Key) -> None:
        """Note a time, in seconds since the epoch; one that is past is called for at once."""
        heapq.heappush(self._times, (at, key))
        self._added.set()

    async def run(self) -> None:
        """Call in time, for ever."""
        while True:
            self._added.clear()
            wait = self._times[0][0] - time.time() if self._times else None
            if wait is None or wait > 0:
                await wait_set(self._added, wait)
                continue
            _, key = heapq.heappop(self._times)
            await self._expire(key)
