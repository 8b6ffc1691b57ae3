"""The journal alone on PostgreSQL: what several bridges write at the same time."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from msgspec import Struct

from tests.bench.figures import Spread
from tests.bench.report import Aim, Row
from tests.bench.stand import Measurement, Stand
from tests.support.postgresql import PostgreSQL, running_postgresql

COUNTS = (1, 4, 16)
SECONDS = 3.0
AIM = Aim(2.0, at_least=True)


class Written(Struct, frozen=True):
    """One writer: its jobs, in how many transactions, waits and seconds of its processor."""

    jobs: int
    transactions: int
    waits: int
    processor_s: float


async def measure(stand: Stand) -> list[Row]:
    """Count the jobs of writers, each a process with a client of its own, and what one costs."""
    rates: dict[int, list[float]] = {count: [] for count in COUNTS}
    commits: list[float] = []
    waits: list[float] = []
    with running_postgresql(stand.folder.parent, durable=True) as server:
        for number in range(stand.rounds):
            for count in COUNTS:
                found = written(server, count)
                jobs = sum(each.jobs for each in found)
                rates[count].append(jobs / SECONDS)
                if count == 1:
                    commits.append(found[0].transactions / jobs)
                    waits.append(found[0].waits / jobs)
            told = ", ".join(f"{count}: {each[-1]:.0f}" for count, each in rates.items())
            stand.tell(f"round {number + 1} of {stand.rounds}: {told} jobs/s")
    one = rates[COUNTS[0]]
    return [
        *(
            Row(
                what=f"journal on PostgreSQL alone, {count} writers over one: jobs a second",
                unit="/s",
                value=Spread.of(rates[count]),
                reference=Spread.of(one),
                ratio=Spread.of(
                    [more / rate for more, rate in zip(rates[count], one, strict=True)]
                ),
                aim=AIM if count == COUNTS[-1] else None,
            )
            for count in COUNTS[1:]
        ),
        Row(
            what="journal on PostgreSQL: transactions a job, of one after another",
            unit="",
            value=Spread.of(commits),
        ),
        Row(
            what="journal on PostgreSQL: waits for the database a job, of one after another",
            unit="",
            value=Spread.of(waits),
        ),
    ]


def written(
    server: PostgreSQL, count: int, begins: Callable[[], None] = lambda: None
) -> list[Written]:
    """Run so many writers at a time; `begins` is called when all of them are there."""
    with ExitStack() as stack:
        address = stack.enter_context(server.database())
        writers = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-m", "tests.bench.writer", address, f"w{number}"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            for number in range(count)
        ]
        for each in writers:
            _line(each)
        begins()
        for each in writers:
            if each.stdin is not None:
                each.stdin.write(f"{SECONDS}\n")
                each.stdin.flush()
        return [_read(_line(each).split()) for each in writers]


def _read(words: Sequence[str]) -> Written:
    jobs, transactions, waits, processor_s = words
    return Written(int(jobs), int(transactions), int(waits), float(processor_s))


def _line(writer: subprocess.Popen[str]) -> str:
    line = "" if writer.stdout is None else writer.stdout.readline()
    if not line:
        raise RuntimeError("a writer has ended")
    return line


MEASUREMENT = Measurement(
    "writers", "the journal on PostgreSQL, many writers", measure, comfyui=False
)
