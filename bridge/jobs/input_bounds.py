"""Bounds of what media inputs unpack to at ComfyUI, wherever their bytes come from."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable

from msgspec import Struct

from bridge.contract.errors import Busy, InvalidInput
from bridge.jobs.job import Blob
from bridge.jobs.journal import Journal
from bridge.media.extents import (
    Extent,
    MediaLimits,
    Reader,
    TooManyParts,
    check,
    check_sum,
    measure,
)
from bridge.media.files import INLINE_LIMIT, Files

# Of so many files the extent is remembered: an upload is often used again and again.
MAX_KNOWN = 10_000
# Files take microseconds to look at, unless they are made to take long: then those that wait would
# hold memory, and everybody behind them. A client whose files have been looked at for so many
# seconds on end, with so many of them left, is to ask again.
MAX_LOOKED_AT = 4
LOOKED_AT_S = 0.5
# A larger file is measured in a thread: its parts may be many.
_IN_PLACE = 4 * 1024
# Inputs of these kinds are decoded.
_DECODED = frozenset(("image", "mask", "video", "audio"))


class _Looks(Struct):
    """A client's files that are looked at: how many, and since when there is one."""

    since: float
    count: int = 0


class InputBounds:
    """Checks media inputs. Bytes that are not given are read from the journal or `files`."""

    def __init__(
        self,
        journal: Journal,
        files: Files,
        limits: MediaLimits,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._journal = journal
        self._files = files
        self._limits = limits
        # Threads that compute hold up the event loop, the more the more of them there are.
        self._turn = asyncio.Semaphore(1)
        self._looks: dict[str, _Looks] = {}
        self.spend: Callable[[str, float], None] = lambda _client, _seconds: None
        """Takes note of the processor's seconds that a client's files took."""
        self._known: OrderedDict[str, Extent] = OrderedDict()

    def check_room(self, client: str) -> None:
        """Raise Busy for a client whose files take long to look at, while some of them wait."""
        looks = self._looks.get(client)
        if looks is None or looks.count < MAX_LOOKED_AT:
            return
        if self._clock() - looks.since > LOOKED_AT_S:
            raise Busy(
                f"{looks.count} files of this client are being looked at: ask again",
                retry=True,
                limit=MAX_LOOKED_AT,
            )

    async def check(
        self, client: str, name: str, kind: str, blob: Blob, data: bytes | memoryview | None
    ) -> None:
        """Check one file that is the input `name`; `data` are its bytes where they are in memory.

        Raises InvalidInput where it is too large once it is unpacked, FileNotFoundError.
        """
        if kind not in _DECODED:
            return
        extent = self._known.pop(blob.sha256, None)
        if extent is None:
            try:
                extent = await self._measure(client, blob, data)
            except TooManyParts:
                raise InvalidInput(
                    f"input {name!r}: its file has more parts than are looked at: write it again, "
                    "with fewer and larger ones",
                    input=name,
                ) from None
        self._known[blob.sha256] = extent
        if len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)
        check(name, extent, self._limits)

    def check_sum(self, items: Iterable[object]) -> None:
        """Check all files of one request together. Raises InvalidInput."""
        blobs = (self._known.get(each.sha256) for each in items if isinstance(each, Blob))
        check_sum(sum(each.unpacked for each in blobs if each is not None), self._limits)

    async def _measure(self, client: str, blob: Blob, data: bytes | memoryview | None) -> Extent:
        if data is None and blob.size <= INLINE_LIMIT:
            data = await self._journal.blob(blob.sha256)
        if data is None:

            def read(offset: int, count: int) -> bytes:
                return self._files.read(blob.sha256, offset, count)

            reader = Reader(blob.size, read, pause=_pause)
        elif len(data) <= _IN_PLACE:
            return measure(Reader.of(data))
        else:
            reader = Reader.of(data, pause=_pause)
        looks = self._looks.setdefault(client, _Looks(self._clock()))
        looks.count += 1
        spent: list[float] = []
        try:
            async with self._turn:
                return await asyncio.to_thread(_timed, reader, spent)
        finally:
            looks.count -= 1
            if not looks.count:
                del self._looks[client]
            self.spend(client, sum(spent))


def _pause() -> None:
    """Let the event loop's thread run: without a pause it waits 5 ms each time."""
    time.sleep(0.000_05)


def _timed(reader: Reader, spent: list[float]) -> Extent:
    """Measure a file, and note the processor's seconds that this took."""
    began = time.thread_time()
    try:
        return measure(reader)
    finally:
        spent.append(time.thread_time() - began)
