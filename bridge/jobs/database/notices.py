"""Notices between bridges on one PostgreSQL, sent after a commit; and the session they come by."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, closing
from typing import Any, NoReturn

import psycopg

from bridge.aio import wait_set
from bridge.jobs.database.postgresql import name_of, watched
from bridge.retry import Backoff
from bridge.text import one_line

log = logging.getLogger(__name__)

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 2.0

# Runs one statement of the session, by itself; each `?` stands for a parameter.
Ask = Callable[[str, Sequence[Any]], Awaitable[list[Any]]]
# Called with each notice's text; with None whenever some may have been missed.
Take = Callable[[str | None], None]


async def listen(
    address: str,
    channel: str,
    take: Take,
    *,
    began: Callable[[Ask], Awaitable[None]],
    poll: Callable[[Ask], Awaitable[None]],
    every_s: float,
) -> NoReturn:
    """Receive notices until cancelled. Raises what `take` raises.

    `began` is called with each session, and `poll` every `every_s` seconds while it lasts; neither
    where a pooler may give each statement another session of the server.
    """
    backoff = Backoff(_FIRST_PAUSE_S, _LONGEST_PAUSE_S)
    warned = False
    while True:
        try:
            async with AsyncExitStack() as stack:
                connection = await stack.enter_async_context(await _connected(address))
                session = stack.enter_context(closing(_Session(connection, take)))
                await connection.execute(f"LISTEN {channel}".encode())
                pooled = await is_pooled(connection.info.backend_pid, session.ask)
                if not pooled:
                    await began(session.ask)
                elif not warned:
                    warned = True
                    log.warning(
                        "%s is behind a pooler such as PgBouncer: notices may be missed, and a "
                        "bridge that died is noticed only when its lease is over (lease_s)",
                        name_of(address),
                    )
                backoff.reset()
                take(None)
                while True:
                    await session.last(every_s)
                    if not pooled:
                        await poll(session.ask)
        except psycopg.Error as error:
            log.warning(
                "cannot listen for notices of %s, trying again: %s",
                name_of(address),
                one_line(str(error)),
            )
        await asyncio.sleep(backoff.next())


async def _connected(address: str) -> psycopg.AsyncConnection[Any]:
    line = watched(address, "comfy2mqtt notices")
    return await psycopg.AsyncConnection.connect(line, autocommit=True)


class _Session:
    """A connection and the notices that come by it, taken where they are read.

    The socket is watched all the time. psycopg's `notifies` begins to watch it for each notice, and
    looks ten times a second at one that is quiet.
    """

    def __init__(self, connection: psycopg.AsyncConnection[Any], take: Take) -> None:
        self._connection = connection
        self._socket = connection.fileno()
        self._take = take
        self._failure: Exception | None = None
        self._failed = asyncio.Event()
        self._is_watched = False
        # Those that come with the answer to a statement.
        connection.add_notify_handler(lambda notice: take(notice.payload))

    def close(self) -> None:
        """Watch the socket no longer, once: what is opened after it was closed has its number."""
        if self._is_watched:
            self._is_watched = False
            asyncio.get_running_loop().remove_reader(self._socket)

    async def ask(self, sql: str, parameters: Sequence[Any]) -> list[Any]:
        """Run a statement by itself; the socket is watched from then on. Raises psycopg.Error."""
        self.close()  # psycopg watches it meanwhile, and closes it where the connection is lost
        cursor = await self._connection.execute(sql.replace("?", "%s").encode(), parameters)
        found = await cursor.fetchall()
        asyncio.get_running_loop().add_reader(self._socket, self._read)
        self._is_watched = True
        self._read()  # what psycopg has received behind the answer, and left where it was
        return found

    async def last(self, for_s: float) -> None:
        """Wait so many seconds. Raises psycopg.Error if it is lost, and what `take` raised."""
        await wait_set(self._failed, for_s)
        if self._failure is not None:
            raise self._failure

    def _read(self) -> None:
        sent = self._connection.pgconn
        try:
            sent.consume_input()
            while (notice := sent.notifies()) is not None:
                # Anybody who may connect can send one, in the database's encoding.
                self._take(notice.extra.decode(errors="replace"))
        except Exception as error:  # noqa: BLE001 - `last` raises it
            self._failure = error
            self.close()
            self._failed.set()


async def is_pooled(connected: int, ask: Ask) -> bool:
    """True if who took our connection, by its process id, is not who runs our statements."""
    ((pid,),) = await ask("SELECT pg_backend_pid()", ())
    return bool(pid != connected)
