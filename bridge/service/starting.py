"""Waits at the start for a disk that is full and a database that is away or does not answer."""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Awaitable, Callable

from bridge.aio import first, wait_set
from bridge.jobs.database import FULL_DISK, TransientError
from bridge.retry import Backoff

log = logging.getLogger(__name__)

_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 30.0
_FULL = FULL_DISK | {errno.EFBIG}


async def waited_out(
    step: Callable[[], Awaitable[object]],
    stopping: asyncio.Event,
    *,
    first_pause_s: float = _FIRST_PAUSE_S,
) -> bool:
    """Do a step of the start, again and again while the disk is full or the database is away.

    Returns False once `stopping` is set; a step that is under way is cancelled then. Raises what
    will not pass by itself, such as a folder that may not be written, a wrong password, or another
    bridge on the same journal.
    """
    backoff = Backoff(first_pause_s, _LONGEST_PAUSE_S)
    while True:
        try:
            await first(step(), stopping.wait())
        except (TransientError, OSError) as error:
            if not may_pass(error):
                raise
            log.error("cannot start yet, trying again: %s", error)  # noqa: TRY400
        else:
            return not stopping.is_set()
        if await wait_set(stopping, backoff.next()):
            return False


def may_pass(error: BaseException) -> bool:
    """True if an error is due to a full disk, or to a database that is away."""
    return isinstance(error, TransientError) or (
        isinstance(error, OSError) and error.errno in _FULL
    )
