"""Keeps a connection: makes it again, ever more slowly, until it is closed here."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from bridge.aio import wait_set
from bridge.jobs.database import DatabaseError
from bridge.mqtt import (
    SESSION_TAKEN_OVER,
    Connection,
    ConnectionLost,
    ConnectionRefused,
    SubscribeRefused,
    Unreachable,
)
from bridge.retry import Backoff

log = logging.getLogger(__name__)

_GOOD_CONNECTION_S = 10.0
_ANOTHER = (
    "another program has connected under this bridge's client id, most likely a second bridge: "
    "stop one of them, give each its own mqtt_client_id and base_topic, or let them share a "
    "journal (docs/several-bridges.md)"
)

E = TypeVar("E", bound=Exception)


class Reconnect:
    """The loop of connections. Use `run` as a task."""

    def __init__(
        self,
        use: Callable[[], Awaitable[None]],
        lost: Callable[[ConnectionLost | None], None],
        *,
        backoff: Backoff | None = None,
    ) -> None:
        """`use` connects, calls `connected`, and returns or raises when the connection is over.

        `lost` is called then, with the reason, or None if we ended it.
        """
        self._use = use
        self._lost = lost
        self._backoff = backoff or Backoff()
        self._was_connected = False
        self._closing = asyncio.Event()

    def connected(self) -> None:
        """Note that the broker took us: from now on a refusal is its trouble, and passes."""
        self._was_connected = True

    def close(self) -> None:
        """Make no more connections, and end the one of `closable`."""
        self._closing.set()

    @property
    def closed(self) -> bool:
        """True if `close` was called."""
        return self._closing.is_set()

    async def closing(self) -> None:
        """Wait until `close` is called."""
        await self._closing.wait()

    @asynccontextmanager
    async def closable(self, connection: Connection) -> AsyncIterator[None]:
        """Disconnect if `close` is called while the block runs; its messages end then.

        What the block raises comes in an exception group.
        """

        async def disconnect() -> None:
            await self._closing.wait()
            await connection.disconnect()

        async with asyncio.TaskGroup() as tasks:
            closer = tasks.create_task(disconnect())
            yield
            closer.cancel()

    async def run(self) -> None:
        """Stay connected until `close`, with delays of 0.5 to 30 s between attempts.

        Raises ConnectionRefused, in an exception group, at the first attempt for a wrong name or
        password. Other errors of `use` are defects, and end the loop.
        """
        while not self._closing.is_set():
            since = time.monotonic()
            self._lost(await self._once())
            if time.monotonic() - since > _GOOD_CONNECTION_S:
                self._backoff.reset()
            await wait_set(self._closing, self._backoff.next())

    async def _once(self) -> ConnectionLost | None:
        loss: ConnectionLost | None = None
        try:
            await self._use()
        except* ConnectionLost as group:
            loss = _first(group)
            log.warning("%s", loss)
            if loss.code == SESSION_TAKEN_OVER:
                log.error("%s", _ANOTHER)  # noqa: TRY400 - it is no defect of ours
        except* ConnectionRefused as group:
            error = _first(group)
            if error.bad_credentials and not self._was_connected:
                raise
            log.error("%s", error)  # noqa: TRY400 - the broker's words say it all
        except* (Unreachable, SubscribeRefused, DatabaseError) as group:
            log.warning("%s", _first(group))
        return loss


def _first(group: ExceptionGroup[E]) -> E:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, ExceptionGroup) else error
