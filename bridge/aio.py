"""Additions to asyncio: races whose losers are cancelled, bounded waits, a loop, hashes."""

from __future__ import annotations

import asyncio
import hashlib
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Generic, TypeVar, overload

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


class Observable(Generic[T]):
    """A value, and those who wait for another one. For the event loop's thread only."""

    def __init__(self, value: T) -> None:
        self.present = value
        self._waiting: dict[asyncio.Future[None], Callable[[T], bool]] = {}

    def set(self, value: T) -> None:
        """Make this the present value, and wake those who wait for it."""
        if value == self.present:
            return
        self.present = value
        for waiting, condition in self._waiting.items():
            if not waiting.done() and condition(value):
                waiting.set_result(None)

    async def until(self, condition: Callable[[T], bool]) -> T:
        """Wait until the value meets a condition, and return it; values in between are skipped.

        `condition` is called at each change, by the code that makes it, and must not raise: of
        those who wait few need to be woken for most changes.
        """
        while not condition(self.present):
            waiting = asyncio.get_running_loop().create_future()
            self._waiting[waiting] = condition
            try:
                await waiting
            finally:
                del self._waiting[waiting]
        return self.present


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
