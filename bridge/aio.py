"""Additions to asyncio: races whose losers are cancelled, bounded waits, a loop, hashes."""

from __future__ import annotations

import asyncio
import hashlib
import sys
from collections.abc import Awaitable
from contextlib import suppress
from typing import Any, TypeVar, overload

T = TypeVar("T")
U = TypeVar("U")

# A quarter of a millisecond's work: below it, a thread's hand-over costs more than it saves.
_HASHED_IN_PLACE = 256 * 1024


@overload
async def first(one: Awaitable[T], other: Awaitable[U], /) -> T | U: ...


@overload
async def first(*work: Awaitable[Any]) -> Any: ...


async def first(*work: Awaitable[Any]) -> Any:
    """Run several awaitables until one ends; return its result, or raise its error.

    The others are cancelled, and have ended when this returns; what they raise meanwhile is lost.
    If several end at once, an error goes before a result, and an earlier argument before a later.
    Cancelling this cancels all of them.
    """
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        results = [task.result() for task in tasks if task.done()]
        return results[0]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def wait_set(event: asyncio.Event, timeout_s: float | None) -> bool:
    """Wait until an event is set, for `timeout_s` at most (None: for ever). True if it is."""
    if not event.is_set():
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await event.wait()
    return event.is_set()


def succeeded(done: asyncio.Future[Any]) -> bool:
    """True if a future that is done has its result; an error counts as looked at."""
    return not done.cancelled() and done.exception() is None


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Return a loop that watches sockets, as MQTT needs: on Windows not the one by default."""
    if sys.platform == "win32":
        return asyncio.SelectorEventLoop()
    return asyncio.new_event_loop()


async def sha256_of(data: bytes | memoryview) -> str:
    """Return the hexadecimal SHA-256 of `data`; large ones are hashed in a thread."""
    if len(data) <= _HASHED_IN_PLACE:
        return hashlib.sha256(data).hexdigest()
    return await asyncio.to_thread(lambda: hashlib.sha256(data).hexdigest())
