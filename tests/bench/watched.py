"""A bridge whose event loop is watched from below: how long each turn of it takes.

`python -m tests.bench.watched FILE serve` is the bridge, and writes what it sees into FILE, which
is shared memory. The loop waits in its selector; from there to the next wait is one turn, in which
nothing else gets its time. Nothing of this is in the bridge.
"""

from __future__ import annotations

import asyncio
import mmap
import os
import runpy
import selectors
import sys
import time
from pathlib import Path
from typing import Any

from msgspec import Struct

from tests.support.bridge import ROOT, BridgeProcess

_DOUBLE = 8
_LONGEST, _LONGEST_PROCESSOR, _BUSY, _TURNS = range(4)
_SIZE = 4 * _DOUBLE


class Seen(Struct, frozen=True):
    """Turns of an event loop: how many, seconds in all, and of the longest.

    `longest_processor_s` is processor time: what is above it in `longest_s` was waiting for the
    disk, for another thread's lock or, on a busy machine, for a turn.
    """

    longest_s: float
    longest_processor_s: float
    busy_s: float
    turns: int


class WatchedBridge(BridgeProcess):
    """A bridge as any other, started with a watch on it."""

    async def start(self, *, ready: bool = True) -> None:
        """Start it, and wait until it is online and its ComfyUI can be used."""
        window = self.folder / "turns"
        window.write_bytes(bytes(_SIZE))
        self._values = _open(window)
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("COMFY2MQTT_")
        }
        for name, value in self.settings.items():
            environment[f"COMFY2MQTT_{name.upper()}"] = str(value)
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.bench.watched", str(window), "serve"),
                cwd=self.folder,
                env={**environment, "PYTHONPATH": str(ROOT)},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        if ready:
            await self.ready()

    def look(self) -> Seen:
        """Return what was seen since the last look."""
        longest, processor, busy, turns = self._values
        for index in range(len(self._values)):
            self._values[index] = 0.0
        return Seen(longest, processor, busy, int(turns))


def watch(path: Path) -> None:
    """Watch the event loop of this process from now on."""
    values = _open(path)
    selector: Any = selectors.DefaultSelector
    wait = selector.select
    since, processor_since = time.perf_counter(), time.thread_time()

    def select(self: Any, timeout: float | None = None) -> Any:
        nonlocal since, processor_since
        took = time.perf_counter() - since
        values[_LONGEST] = max(values[_LONGEST], took)
        used = time.thread_time() - processor_since
        values[_LONGEST_PROCESSOR] = max(values[_LONGEST_PROCESSOR], used)
        values[_BUSY] += took
        values[_TURNS] += 1
        try:
            return wait(self, timeout)
        finally:
            since, processor_since = time.perf_counter(), time.thread_time()

    selector.select = select


def _open(path: Path) -> Any:
    with path.open("r+b") as file:
        return memoryview(mmap.mmap(file.fileno(), _SIZE)).cast("d")


if __name__ == "__main__":
    watch(Path(sys.argv.pop(1)))
    runpy.run_module("bridge", run_name="__main__", alter_sys=True)
