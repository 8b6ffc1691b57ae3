"""Caches the last value of each topic that a job may name as an input: a camera's snapshot, say."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from weakref import WeakValueDictionary

from msgspec import UNSET, Struct

from bridge.contract.errors import DependencyFailed
from bridge.contract.sources import Topic

# How many bytes of values are kept; the oldest value is dropped first.
MAX_BYTES = 64 * 1024 * 1024
# A topic with an empty value takes memory too.
_OVERHEAD = 500


class _Value(Struct, frozen=True):
    """A payload, and its time by a monotonic clock; None if it came before we subscribed."""

    payload: bytes
    came_at: float | None


class LastValues:
    """The last value of each topic; jobs may wait for one that has not come yet."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last: OrderedDict[str, _Value] = OrderedDict()
        self._bytes = 0
        # Of those topics alone that a job waits for.
        self._arrivals: WeakValueDictionary[str, asyncio.Event] = WeakValueDictionary()

    def put(self, topic: str, payload: bytes, *, stored: bool) -> None:
        """Keep a message. `stored`: the broker had it from before we subscribed."""
        before = self._last.pop(topic, None)
        self._bytes += _cost(topic, payload) - (_cost(topic, before.payload) if before else 0)
        self._last[topic] = _Value(payload, None if stored else self._clock())
        while self._bytes > MAX_BYTES and len(self._last) > 1:
            oldest, value = self._last.popitem(last=False)
            self._bytes -= _cost(oldest, value.payload)
        event = self._arrivals.pop(topic, None)
        if event is not None:
            event.set()

    async def get(self, _client: str, wanted: Topic) -> bytes:
        """Return a topic's last value, or the next one within `wait_s`.

        Raises DependencyFailed if none is young enough. Cancelling it ends the wait.
        """
        found = self._young(wanted)
        if found is None and wanted.wait_s:
            with suppress(TimeoutError):
                async with asyncio.timeout(wanted.wait_s):
                    # One that the broker had stored may come first: nobody knows its age.
                    while found is None:
                        await self._arrivals.setdefault(wanted.topic, asyncio.Event()).wait()
                        found = self._young(wanted)
        if found is None:
            last = self._last.get(wanted.topic)
            why = "there is no message" if last is None else "the last message is too old"
            raise DependencyFailed(f"{why} on {wanted.topic!r}", topic=wanted.topic)
        return found

    def _young(self, wanted: Topic) -> bytes | None:
        last = self._last.get(wanted.topic)
        if last is None:
            return None
        if wanted.max_age_s is UNSET:
            return last.payload
        if last.came_at is None or self._clock() - last.came_at > wanted.max_age_s:
            return None
        return last.payload


def _cost(topic: str, payload: bytes) -> int:
    return len(topic) + len(payload) + _OVERHEAD
