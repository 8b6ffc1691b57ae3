"""Programs that run for as long as somebody waits for them, and end with that."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any


@asynccontextmanager
async def running(
    *command: str, group: bool = False, **options: Any
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a program for as long as the block lasts; one that still runs then is killed.

    It reads nothing from standard input. With `group` it leads a group of processes, and all that
    it has started is killed with it. `options` are those of `asyncio.create_subprocess_exec`.
    Raises OSError and ValueError if it cannot be started. Cancelling kills it also while it is
    being started.
    """
    starting = asyncio.ensure_future(
        asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.DEVNULL, start_new_session=group, **options
        )
    )
    try:
        process = await asyncio.shield(starting)
    except asyncio.CancelledError:
        with suppress(OSError, ValueError):
            await _end(await starting, group=group)
        raise
    try:
        yield process
    finally:
        await _end(process, group=group)


async def _end(process: asyncio.subprocess.Process, *, group: bool) -> None:
    if process.returncode is not None:
        return
    if group:
        kill_group(process.pid)
    with suppress(ProcessLookupError):
        process.kill()  # on Windows there are no groups
    await process.wait()


def kill_group(pid: int) -> None:
    """Kill a group of processes, if there is any of that number; there are none on Windows."""
    if sys.platform != "win32":
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
