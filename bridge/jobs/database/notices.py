"""Notices between bridges on one PostgreSQL, sent after a commit; and the session they come by."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import psycopg

from bridge.jobs.database.postgresql import name_of, watched
from bridge.retry import Backoff
from bridge.text import one_line

log = logging.getLogger(__name__)

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 2.0

# Runs one statement of the session, by itself; each `?` stands for a parameter.
Ask = Callable[[str, Sequence[Any]], Awaitable[list[Any]]]


async def notices(
    address: str,
    channel: str,
    *,
    began: Callable[[Ask], Awaitable[None]],
    look: Callable[[Ask], Awaitable[None]],
    every_s: float,
) -> AsyncIterator[str | None]:
    """Yield each notice's text, for ever; None whenever some may have been missed.

    `began` is called with each session, and `look` every `every_s` while it lasts; neither where a
    pooler may give each statement another session of the server.
    """
    backoff = Backoff(_FIRST_PAUSE_S, _LONGEST_PAUSE_S)
    warned = False
    while True:
        try:
            async with await _connected(address) as connection:
                ask = _asker(connection)
                await connection.execute(f"LISTEN {channel}".encode())
                pooled = await is_pooled(connection.info.backend_pid, ask)
                if not pooled:
                    await began(ask)
                elif not warned:
                    warned = True
                    log.warning(
                        "%s is behind a pooler such as PgBouncer: notices may be missed, and a "
                        "bridge that died is noticed only when its lease is over (lease_s)",
                        name_of(address),
                    )
                backoff.reset()
                yield None
                while True:
                    async for notice in connection.notifies(timeout=every_s):
                        yield notice.payload
                    if not pooled:
                        await look(ask)
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


def _asker(connection: psycopg.AsyncConnection[Any]) -> Ask:
    async def ask(sql: str, parameters: Sequence[Any]) -> list[Any]:
        cursor = await connection.execute(sql.replace("?", "%s").encode(), parameters)
        return await cursor.fetchall()

    return ask


async def is_pooled(connected: int, ask: Ask) -> bool:
    """True if who took our connection, by its process id, is not who runs our statements."""
    ((pid,),) = await ask("SELECT pg_backend_pid()", ())
    return bool(pid != connected)
