"""Keeps a connection: connects again, with growing delays, until `close`."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from bridge.adapters.mqtt.broker_address import CERTIFICATE
from bridge.aio import first, wait_set
from bridge.jobs.database import DatabaseError
from bridge.mqtt import (
    SESSION_TAKEN_OVER,
    BadAddress,
    BadCertificate,
    Connection,
    ConnectionLost,
    ConnectionRefused,
    SubscribeRefused,
    Unreachable,
)
from bridge.retry import Backoff

log = logging.getLogger(__name__)

_GOOD_CONNECTION_S = 10.0
# After this many connections in a row that the broker accepted and soon closed, the log names the
# likely reason, which mosquitto does not send.
_CUT_SHORT = 3
_ANOTHER = (
    "another program seems to connect under this bridge's client id, most likely a second bridge: "
    "stop one of them, give each its own mqtt_client_id and base_topic, or let them share a "
    "journal (docs/several-bridges.md)"
)

_NO_BROKER = "is a broker running there? mqtt_url, or -H and -p, name another; trying again"

E = TypeVar("E", bound=Exception)


class Reconnect:
    """The loop of connections. Use `run` as a task."""

    def __init__(
        self,
        use: Callable[[], Awaitable[None]],
        lost: Callable[[ConnectionLost | None], None],
        *,
        backoff: Backoff | None = None,
        was_up: bool = False,
    ) -> None:
        """`use` connects, calls `connected`, and returns or raises when the connection is over.

        `lost` is called then, with the reason, or None if we ended it. `was_up`: the broker took
        this bridge before, by another connection with the same settings.
        """
        self._use = use
        self._lost = lost
        self._backoff = backoff or Backoff()
        self._was_connected = was_up
        self._is_connected = False
        self._was_advised = False
        self._cut_short = 0
        self._closing = asyncio.Event()

    def connected(self) -> None:
        """Note that the broker accepted us: after later refusals it is tried again."""
        self._was_connected = self._is_connected = True

    def close(self) -> None:
        """Make no more connections, and end the one of `closable`."""
        self._closing.set()

    @property
    def closed(self) -> bool:
        """True if `close` was called."""
        return self._closing.is_set()

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

        Until the broker has taken us once, raises ConnectionRefused, in an exception group, for a
        wrong name or password, and BadAddress for a file that cannot be used. Other errors of `use`
        are defects, and end the loop.
        """
        while not self._closing.is_set():
            since = time.monotonic()
            self._is_connected = False
            loss = await self._once()
            self._lost(loss)
            was_good = time.monotonic() - since > _GOOD_CONNECTION_S
            if was_good:
                self._backoff.reset()
            self._note_another(loss, was_good=was_good)
            await wait_set(self._closing, self._backoff.next())

    def _note_another(self, loss: ConnectionLost | None, *, was_good: bool) -> None:
        """Log that another program seems to use our client id: only the newest is kept."""
        taken_over = loss is not None and loss.code == SESSION_TAKEN_OVER
        # A broker that gives a reason, such as a packet that is too large, means that one.
        unexplained = loss is not None and loss.code is None
        short = unexplained and self._is_connected and not was_good
        self._cut_short = self._cut_short + 1 if short else 0
        if taken_over or self._cut_short == _CUT_SHORT:
            log.error("%s", _ANOTHER)

    async def _closed_before_connected(self) -> None:
        """Return when `close` is called while no broker has accepted us: there is nothing to end.

        Once one has, `closable` ends the connection, after what was published.
        """
        await self._closing.wait()
        if self._is_connected:
            await asyncio.Event().wait()

    async def _once(self) -> ConnectionLost | None:
        loss: ConnectionLost | None = None
        try:
            await first(self._use(), self._closed_before_connected())
        except* ConnectionLost as group:
            loss = _first(group)
            if not self.closed:  # else it was we who ended it
                log.warning("%s", loss)
        except* ConnectionRefused as group:
            error = _first(group)
            if error.bad_credentials and not self._was_connected:
                raise
            log.error("%s", error)  # noqa: TRY400 - the broker's words say it all
        except* BadAddress as group:
            # A certificate that is being renewed may be missing for a moment.
            if not self._was_connected:
                raise
            log.error("%s", _first(group))  # noqa: TRY400 - what is wrong with a file
        except* Unreachable as group:
            # Whoever starts the bridge reads the first line; a broker that was there comes back.
            cause = _first(group)
            advice = CERTIFICATE if isinstance(cause, BadCertificate) else _NO_BROKER
            advised = self._was_connected or self._was_advised
            self._was_advised = True
            log.warning("%s%s", cause, "" if advised else f"; {advice}")
        except* (SubscribeRefused, DatabaseError) as group:
            log.warning("%s", _first(group))
        return loss


def _first(group: ExceptionGroup[E]) -> E:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, ExceptionGroup) else error
