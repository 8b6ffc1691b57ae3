"""Shows what more bridges spend, and on what: `python -m tests.simulation.bridges`.

The trivial jobs of the bench (`tests.bench.measurements.group`): sixteen clients, one ComfyUI, one
PostgreSQL. Three bridges are measured as they are, and with a part of what they do taken away
(`tests.simulation.lesser_member`); one bridge also with as many clients as each of three has.
Statements are counted by `pg_stat_statements`, which PostgreSQL's package has.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import click
import psycopg
from msgspec import Struct

from tests.bench.__main__ import FOLDER
from tests.bench.graphs import COLOUR
from tests.bench.measurements.group import CLIENTS, WORKFLOWS, running_group
from tests.bench.processes import processor_s
from tests.bench.stand import Stand
from tests.bench.subscriber import Subscriber, subscribed
from tests.simulation.costs import server_s
from tests.simulation.lesser_member import lesser
from tests.support.bridge import BridgeProcess
from tests.support.comfyui import Server, supervised
from tests.support.postgresql import PostgreSQL, running_postgresql

ROUNDS, WARM_UP, JOBS = 3, 3, 30
# What a start leaves to be done, such as reading what the others' ComfyUIs have.
SETTLES_S = 2.0
_TIMEOUT_S = 180.0
_COUNTED = ("-c", "shared_preload_libraries=pg_stat_statements", "-c", "max_connections=100")


# Uses the processor about as much as one of three bridges, in as short turns, and 2 MB of memory.
_BUSY = """
import time
cells = list(range(60_000))
while True:
    until = time.perf_counter() + 0.001
    while time.perf_counter() < until:
        sum(cells[:: 7])
    time.sleep(0.0035)
"""


class Kind(Struct, frozen=True):
    """So many bridges with so many clients, all without some parts; `beside` so many programs."""

    name: str
    bridges: int = 3
    clients: int = CLIENTS
    without: tuple[str, ...] = ()
    beside: int = 0


ONE = Kind("one bridge", bridges=1)
KINDS = (
    ONE,
    Kind("one bridge, a third of the clients", bridges=1, clients=CLIENTS // 3),
    Kind("one bridge, beside two programs that compute", bridges=1, beside=2),
    Kind("three"),
    Kind("three, two of which run no jobs", without=("jobs",)),
    Kind("three, no results numbered again", without=("renumbering",)),
    Kind("three, no states of others' ComfyUIs", without=("states",)),
    Kind("three, each commit waits 3 ms for company", without=("lone commits",)),
    Kind("three, each with clients of its own", without=("others' clients",)),
    Kind("three, and no notices but of a new job", without=("others' clients", "notices")),
    Kind(
        "three, and none of all these but the company",
        without=("others' clients", "notices", "renumbering", "states"),
    ),
)

# How the statements that are counted begin, or what they contain.
STATEMENTS = {
    "transactions": "COMMIT",
    "notices": "SELECT pg_notify",
    "looks": "SELECT client, job_id, seq",
    "claims": "UPDATE jobs SET owner =",
    "renumbered": "UPDATE jobs SET first_n =",
}


class Spent(Struct):
    """Everything spent since the start, in seconds and counts."""

    loops_s: float
    other_threads_s: float
    server_s: float
    broker_s: float
    comfyui_s: float
    switches: int
    preempted: int
    statements: dict[str, int]

    def since(self, before: Spent, jobs: int) -> dict[str, float]:
        """Return what was spent for each job since, in ms and counts."""
        ms = 1000 / jobs
        loops, others = self.loops_s - before.loops_s, self.other_threads_s - before.other_threads_s
        return {
            "bridges, ms": (loops + others) * ms,
            "event loops": loops * ms,
            "their other threads": others * ms,
            "PostgreSQL": (self.server_s - before.server_s) * ms,
            "broker": (self.broker_s - before.broker_s) * ms,
            "ComfyUI": (self.comfyui_s - before.comfyui_s) * ms,
            "waits": (self.switches - before.switches) / jobs,
            "preempted": (self.preempted - before.preempted) / jobs,
            **{
                name: (count - before.statements[name]) / jobs
                for name, count in self.statements.items()
            },
        }


class Watched(Struct, frozen=True):
    """The processes of one measurement, and its database's address."""

    bridges: Sequence[BridgeProcess]
    server: PostgreSQL
    broker: int
    comfyui: int

    def look(self) -> Spent:
        threads = [
            task for each in self.bridges for task in Path(f"/proc/{each.pid}/task").iterdir()
        ]
        loops = sum(processor_s(each.pid, thread=each.pid) for each in self.bridges)
        return Spent(
            loops_s=loops,
            other_threads_s=sum(processor_s(each.pid) for each in self.bridges) - loops,
            server_s=server_s(self.server),
            broker_s=processor_s(self.broker),
            comfyui_s=processor_s(self.comfyui),
            switches=sum(_switches(task, "voluntary_ctxt_switches") for task in threads),
            preempted=sum(_switches(task, "nonvoluntary_ctxt_switches") for task in threads),
            statements=_statements(self.server),
        )


def _switches(task: Path, which: str) -> int:
    lines = (task / "status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{which}:"))


def _statements(server: PostgreSQL) -> dict[str, int]:
    with psycopg.connect(server.address("postgres")) as connection:
        found = connection.execute("SELECT query, calls, rows FROM pg_stat_statements").fetchall()
    counts = dict.fromkeys((*STATEMENTS, "in vain"), 0)
    for query, calls, rows in found:
        for name, begins in STATEMENTS.items():
            if " ".join(query.split()).startswith(begins):
                counts[name] += calls
                counts["in vain"] += calls - rows if name == "claims" else 0
    return counts


async def _measured(
    stand: Stand, server: PostgreSQL, kind: Kind, jobs: int
) -> list[dict[str, float]]:
    """Run a kind; returns its figures right after the start, and later."""
    found = []
    async with (
        _busy(kind.beside),
        running_group(stand, server, kind.bridges, WORKFLOWS, kind=lesser(*kind.without)) as (
            broker,
            bridges,
        ),
        subscribed(broker.url) as subscriber,
        asyncio.timeout(_TIMEOUT_S),
    ):
        watched = Watched(bridges, server, broker.pid or 0, stand.server.running.pid)
        await _crowd(stand, subscriber, kind.clients, 1)
        for each in (max(1, jobs // 4), jobs):
            stand.empty_output()
            before, began = watched.look(), time.perf_counter()
            await _crowd(stand, subscriber, kind.clients, each)
            rate = kind.clients * each / (time.perf_counter() - began)
            spent = watched.look().since(before, kind.clients * each)
            found.append({"jobs a second": rate, **spent})
            await asyncio.sleep(SETTLES_S)
            await _crowd(stand, subscriber, kind.clients, WARM_UP)
    return found


@asynccontextmanager
async def _busy(count: int) -> AsyncIterator[None]:
    """Run so many programs that compute."""
    programs = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", _BUSY) for _ in range(count)
    ]
    try:
        yield
    finally:
        for each in programs:
            each.kill()
            await each.wait()


async def _crowd(stand: Stand, subscriber: Subscriber, clients: int, jobs: int) -> None:
    async def client(name: str) -> None:
        for _ in range(jobs):
            await subscriber.run("trivial", {COLOUR: stand.colour()}, client=name)

    await asyncio.gather(*(client(f"client-{number}") for number in range(clients)))


Figures = Mapping[str, Sequence[dict[str, float]]]


async def _all(stand: Stand, server: PostgreSQL, rounds: int, jobs: int) -> tuple[Figures, Figures]:
    early = defaultdict[str, list[dict[str, float]]](list)
    later = defaultdict[str, list[dict[str, float]]](list)
    for number in range(rounds):
        for kind in KINDS:
            for into, found in zip(
                (early, later), await _measured(stand, server, kind, jobs), strict=True
            ):
                into[kind.name].append(found)
            told = ", ".join(f"{name} {each:.2f}" for name, each in later[kind.name][-1].items())
            stand.tell(f"round {number + 1}, {kind.name}: {told}")
    return early, later


def _table(found: Figures) -> str:
    names = list(found[ONE.name][0])
    heads = ("", names[0], "over one", "bridges, over one", *names[1:])
    lines = [f"| {' | '.join(heads)} |", f"|---|{'---:|' * (len(heads) - 1)}"]
    for kind, rounds in found.items():
        cells = [
            _median(rounds, names[0]),
            *(_ratio(rounds, found[ONE.name], n) for n in names[:2]),
        ]
        cells += [_median(rounds, name) for name in names[1:]]
        lines.append(f"| {kind} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _median(rounds: Sequence[dict[str, float]], name: str) -> str:
    value = statistics.median(each[name] for each in rounds)
    return f"{value:.0f}" if value >= 20 else f"{value:.2f}"


def _ratio(rounds: Sequence[dict[str, float]], ones: Sequence[dict[str, float]], name: str) -> str:
    ratios = [each[name] / one[name] for each, one in zip(rounds, ones, strict=True)]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


@click.command()
@click.option("--rounds", default=ROUNDS, show_default=True)
@click.option("--jobs", default=JOBS, show_default=True, help="Of each client.")
def main(rounds: int, jobs: int) -> None:
    """Print two Markdown tables: right after the bridges' start, and later."""
    click.echo(f"load {os.getloadavg()[0]:.1f} at the start")
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="run-", dir=FOLDER) as name:
        folder = Path(name)
        comfyui = Server(supervised(), folder / "comfyui")
        try:
            comfyui.start()
            with running_postgresql(FOLDER, durable=True, options=_COUNTED) as server:
                server.execute("CREATE EXTENSION pg_stat_statements")
                stand = Stand(folder, comfyui, rounds, lambda line: click.echo(line, err=True))
                early, later = asyncio.run(_all(stand, server, rounds, jobs))
        finally:
            comfyui.stop()
    click.echo(f"\nRight after the start:\n\n{_table(early)}\n\nLater:\n\n{_table(later)}\n")
    click.echo(f"load {os.getloadavg()[0]:.1f} at the end")


if __name__ == "__main__":
    main()
