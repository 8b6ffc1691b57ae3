"""The journal: what it costs to accept a job, beside the bare disk, and whether that stays so."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable

from bridge.jobs.journal import Journal
from tests.bench.figures import compare, p50, p99
from tests.bench.report import Aim, Row
from tests.bench.stand import Measurement, Stand
from tests.bench.writer import new_draft

INSERTS = 300
MANY = 10_000
# As large as what SQLite writes for a small commit.
BLOCK = b"\0" * 4096
FLAT = Aim(1.3)


async def measure(stand: Stand) -> list[Row]:
    """Measure inserts into an empty journal and into one with many rows, and the disk."""
    folder = stand.new_folder("journal")
    empty, full = Journal(folder / "empty.db"), Journal(folder / "full.db")
    inserts: list[list[float]] = []
    later: list[list[float]] = []
    disk: list[list[float]] = []
    try:
        await empty.open()
        await full.open()
        stand.tell(f"filling a journal with {MANY} jobs")
        await asyncio.gather(*(_accept(full) for _ in range(MANY)))
        with (folder / "bare").open("wb") as file:
            for number in range(stand.rounds):
                disk.append(await _times(lambda: _write(file.fileno())))
                inserts.append(await _times(lambda: _accept(empty)))
                later.append(await _times(lambda: _accept(full)))
                stand.tell(f"round {number + 1} of {stand.rounds}: p50 {p50(inserts[-1]):.2f} ms")
    finally:
        await empty.close()
        await full.close()
    what = "journal: a job accepted, on disk"
    return [
        Row.compared(f"{what}, p50, over a bare 4 KB write", "ms", compare(inserts, disk, p50)),
        Row.compared(f"{what}, p99, over a bare 4 KB write", "ms", compare(inserts, disk, p99)),
        Row.compared(
            f"{what}, p50, with {MANY} queued over none", "ms", compare(later, inserts, p50), FLAT
        ),
    ]


async def _accept(journal: Journal) -> None:
    """Accept one job, as the intake does."""
    await journal.accept(new_draft("bench"), time.time())


async def _write(file: int) -> None:
    """Write a block, durable when this returns."""
    os.write(file, BLOCK)
    os.fdatasync(file)


async def _times(act: Callable[[], Awaitable[None]]) -> list[float]:
    """Return the milliseconds of each of many calls, one after another."""
    times = []
    for _ in range(INSERTS):
        began = time.perf_counter()
        await act()
        times.append((time.perf_counter() - began) * 1000)
    return times


MEASUREMENT = Measurement("journal", "inserts, beside the bare disk", measure, comfyui=False)
