"""Limits the size of media inputs once ComfyUI unpacks them, wherever their bytes come from."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from contextlib import suppress

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
from bridge.media.transcode import CannotTranscode, Transcoder

# How many files' extents are remembered: an upload is often used several times.
MAX_KNOWN = 10_000
# To measure a file takes microseconds, unless it was made to take long. Requests that wait for it
# would hold memory, and delay all later ones. So a client gets `busy` while this many of its files
# are being measured, and have been for this many seconds.
MAX_MEASURED = 4
MEASURED_S = 0.5
# How many parts of a file are read here: half a millisecond, and enough for most files. A file
# with more is measured in a process of its own.
_FEW_PARTS = 250
# Inputs of these kinds are decoded.
_DECODED = frozenset(("image", "mask", "video", "audio"))


class _Measurements(Struct):
    """A client's files that are being measured: how many, and since when there are any."""

    since: float
    count: int = 0


class InputBounds:
    """Checks media inputs. Bytes that are not given are read from the journal or `files`."""

    def __init__(
        self,
        journal: Journal,
        files: Files,
        limits: MediaLimits,
        transcoder: Transcoder,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._journal = journal
        self._files = files
        self._limits = limits
        self._transcoder = transcoder
        # Whoever sends files that take long has one processor busy, not all.
        self._turn = asyncio.Semaphore(1)
        self._measuring: dict[str, _Measurements] = {}
        self.spend: Callable[[str, float], None] = lambda _client, _seconds: None
        """Takes note of the processor's seconds that a client's files took."""
        self._known: OrderedDict[str, Extent] = OrderedDict()

    def check_room(self, client: str) -> None:
        """Raise Busy for a client whose files take long to measure, while some of them wait."""
        measuring = self._measuring.get(client)
        if measuring is None or measuring.count < MAX_MEASURED:
            return
        if self._clock() - measuring.since > MEASURED_S:
            raise Busy(
                f"{measuring.count} files of this client are being looked at: ask again",
                retry=True,
                limit=MAX_MEASURED,
            )

    async def check(
        self, client: str, name: str, kind: str, blob: Blob, data: bytes | memoryview | None
    ) -> None:
        """Check one file that is the input `name`; `data` are its bytes if they are in memory.

        Raises InvalidInput if it is too large once unpacked, and FileNotFoundError.
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
            except CannotTranscode as error:
                raise InvalidInput(
                    f"input {name!r}: its unpacked size cannot be determined: {error}", input=name
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
        if data is not None:
            with suppress(TooManyParts):
                return measure(Reader.of(data, _FEW_PARTS))
        measuring = self._measuring.setdefault(client, _Measurements(self._clock()))
        measuring.count += 1
        try:
            async with self._turn:
                return await self._measure_long(client, blob, data)
        finally:
            measuring.count -= 1
            if not measuring.count:
                del self._measuring[client]

    async def _measure_long(
        self, client: str, blob: Blob, data: bytes | memoryview | None
    ) -> Extent:
        """Measure a file that takes longer, or that has to be read first."""

        def read(offset: int, count: int) -> bytes:
            if data is None:
                return self._files.read(blob.sha256, offset, count)
            return bytes(data[offset : offset + count])

        if data is None:
            with suppress(TooManyParts):
                return await asyncio.to_thread(measure, Reader(blob.size, read, _FEW_PARTS))
        found = await self._transcoder.measure(blob.size, read)
        self.spend(client, found.seconds)
        if found.extent is None:
            raise TooManyParts
        return found.extent
