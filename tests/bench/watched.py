"""A bridge whose event loop is watched from within: for how long it keeps a timer waiting.

`python -m tests.bench.watched FILE serve` is the bridge, and writes what it sees into FILE, which
is shared memory. A timer rings a thousand times a second; what it is late by is at least one turn
of the loop, in which nothing else got its time. Nothing of this is in the bridge.
"""

from __future__ import annotations

import asyncio
import mmap
import runpy
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

from bridge import service
from bridge.config import Config
from tests.support.bridge import BridgeProcess

INTERVAL_S = 0.001
_DOUBLE = 8
_LONGEST, _LONGEST_PROCESSOR = range(2)
_SIZE = 2 * _DOUBLE


class Seen(Struct, frozen=True):
    """The longest hold-up of an event loop.

    `longest_processor_s` is processor time: what is above it in `longest_s` was waiting for the
    disk, for another thread's lock or, on a busy machine, for a turn.
    """

    longest_s: float
    longest_processor_s: float


class WatchedBridge(BridgeProcess):
    """A bridge as any other, started with a watch on it."""

    @property
    def command(self) -> Sequence[str]:
        """The command line's choices."""
        window = self.folder / "turns"
        window.write_bytes(bytes(_SIZE))
        self._values = _open(window)
        return (sys.executable, "-m", "tests.bench.watched", str(window), "serve")

    def look(self) -> Seen:
        """Return what was seen since the last look."""
        longest, processor = self._values
        for index in range(len(self._values)):
            self._values[index] = 0.0
        return Seen(longest, processor)


def watch(path: Path) -> None:
    """Watch the bridge of this process, once it serves."""
    values = _open(path)
    serve = service.serve

    async def watched(config: Config) -> None:
        watching = asyncio.create_task(_watch(values))
        try:
            await serve(config)
        finally:
            watching.cancel()

    service.serve = watched


async def _watch(values: Any) -> None:
    while True:
        since, processor_since = time.perf_counter(), time.thread_time()
        await asyncio.sleep(INTERVAL_S)
        late = time.perf_counter() - since - INTERVAL_S
        values[_LONGEST] = max(values[_LONGEST], late)
        used = time.thread_time() - processor_since
        values[_LONGEST_PROCESSOR] = max(values[_LONGEST_PROCESSOR], used)


def _open(path: Path) -> Any:
    with path.open("r+b") as file:
        return memoryview(mmap.mmap(file.fileno(), _SIZE)).cast("d")


if __name__ == "__main__":
    watch(Path(sys.argv.pop(1)))
    runpy.run_module("bridge", run_name="__main__", alter_sys=True)
