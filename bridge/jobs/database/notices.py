"""Notices between bridges on one PostgreSQL, sent with a transaction's commit."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

import psycopg

from bridge.jobs.database.postgresql import CONNECT_TIMEOUT_S, name_of
from bridge.retry import Backoff

log = logging.getLogger(__name__)

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 5.0


async def notices(address: str, channel: str) -> AsyncIterator[str | None]:
    """Yield each notice's text, for ever; None whenever some may have been missed."""
    backoff = Backoff(_FIRST_PAUSE_S, _LONGEST_PAUSE_S)
    while True:
        try:
            connection = await psycopg.AsyncConnection.connect(
                address,
                autocommit=True,
                application_name="comfy2mqtt notices",
                connect_timeout=CONNECT_TIMEOUT_S,
                keepalives_idle=5,
                keepalives_interval=2,
                keepalives_count=3,
            )
            async with connection:
                await connection.execute(f"LISTEN {channel}".encode())
                backoff.reset()
                yield None
                async for notice in connection.notifies():
                    yield notice.payload
        except psycopg.Error as error:
            log.warning(
                "cannot listen for notices of %s, trying again: %s", name_of(address), error
            )
        await asyncio.sleep(backoff.next())
