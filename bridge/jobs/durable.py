"""Waits while the disk is full or the database is offline."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

from bridge.jobs.database import FULL_DISK, DatabaseError
from bridge.retry import Backoff, retry

log = logging.getLogger(__name__)

T = TypeVar("T")
_RETRY_CAP_S = 30.0
# A store that hangs is as one that fails: its answer is waited for much longer.
SLOW_S = 10.0


async def until_on_disk(
    write: Callable[[], Awaitable[T]], failed: Callable[[], None] | None = None
) -> T:
    """Write or read; retry while the disk is full or the database offline: nothing is lost.

    `failed` is called after each failed attempt, and when one takes longer than `SLOW_S`.
    """

    def report(error: BaseException, _attempt: int) -> None:
        log.error("cannot use the disk, the database or the store, trying again: %s", error)
        if failed is not None:
            failed()

    return await retry(
        write if failed is None else partial(_watched, write, failed),
        _may_pass,
        backoff=Backoff(cap=_RETRY_CAP_S),
        failed=report,
    )


async def _watched(write: Callable[[], Awaitable[T]], slow: Callable[[], None]) -> T:
    """Write; `slow` is called if that takes longer than `SLOW_S`."""
    timer = asyncio.get_running_loop().call_later(SLOW_S, slow)
    try:
        return await write()
    finally:
        timer.cancel()


async def until_room(write: Callable[[], Awaitable[T]]) -> T:
    """Write; retry while the disk is full. Raises what else `write` raises."""
    return await retry(
        write,
        lambda error: isinstance(error, OSError) and error.errno in FULL_DISK,
        backoff=Backoff(cap=_RETRY_CAP_S),
        failed=lambda error, _: log.error("the disk is full, trying again: %s", error),
    )


def _may_pass(error: BaseException) -> bool:
    """True if the cause may pass, such as a full disk; a missing file stays missing."""
    return isinstance(error, (DatabaseError, OSError)) and not isinstance(error, FileNotFoundError)
