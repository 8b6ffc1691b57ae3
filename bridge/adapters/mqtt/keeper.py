"""Keeping a connection: it is made again, ever more slowly, until it is wanted no longer."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from bridge.aio import wait_set
from bridge.jobs.database import DatabaseError
from bridge.mqtt import ConnectionLost, ConnectionRefused, SubscribeRefused, Unreachable
from bridge.retry import Backoff

log = logging.getLogger(__name__)

_GOOD_CONNECTION_S = 10.0


class Keeper:
    """Use `run` as a task."""

    def __init__(
        self, use: Callable[[], Awaitable[None]], lost: Callable[[ConnectionLost | None], None]
    ) -> None:
        """`use` connects, says so by `connected`, and returns or raises when that is over.

        `lost` is told then; why, if it was not by us.
        """
        self._use = use
        self._lost = lost
        self._was_connected = False
        self._closing = asyncio.Event()

    def connected(self) -> None:
        """Note that the broker took us: from now on a refusal is its trouble, and passes."""
        self._was_connected = True

    def close(self) -> None:
        """Make no more connections; who uses one is woken by `closing`."""
        self._closing.set()

    async def closing(self) -> None:
        """Wait until `close`."""
        await self._closing.wait()

    @property
    def is_closing(self) -> bool:
        """Whether `close` was called."""
        return self._closing.is_set()

    async def run(self) -> None:
        """Stay connected until `close`.

        Raises ConnectionRefused at the first attempt for a wrong name or password.
        """
        backoff = Backoff()
        while not self._closing.is_set():
            since = time.monotonic()
            self._lost(await self._once())
            if time.monotonic() - since > _GOOD_CONNECTION_S:
                backoff.reset()
            await wait_set(self._closing, backoff.next())

    async def _once(self) -> ConnectionLost | None:
        try:
            await self._use()
        except ConnectionLost as error:
            log.warning("%s", error)
            return error
        except ConnectionRefused as error:
            if error.bad_credentials and not self._was_connected:
                raise
            log.error("%s", error)  # noqa: TRY400 - the broker's words say it all
        except (Unreachable, SubscribeRefused, DatabaseError) as error:
            log.warning("%s", error)
        return None
