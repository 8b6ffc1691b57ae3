"""Shows what more bridges spend, and on what: `python -m tests.simulation.bridges`.

The trivial jobs of the bench (`tests.bench.measurements.group`): sixteen clients, one ComfyUI, one
PostgreSQL. Bridges as they are, and without a part of what they do (`lesser_member`), take turns
of half a second with one bridge that stays: on a virtual machine the processor time of the same
work changes by a third within minutes. Each side has a broker, database and ComfyUI of its own.
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
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

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

ROUNDS, TURNS, JOBS, WARM_UP = 2, 10, 5, 5
# What a start leaves to be done, such as reading what the others' ComfyUIs have.
SETTLES_S = 2.0
_TIMEOUT_S = 180.0
_TURNS = "Of each kind in a round; two or more, for the quartiles."
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
    """So many bridges with so many clients, all without some parts; `beside` so many programs.

    Bridges that are `apart` are no group: each has a broker, a database and clients of its own.
    Those that have ComfyUIs, `comfyuis`, have one each; the others share one.
    """

    name: str
    bridges: int = 3
    clients: int = CLIENTS
    without: tuple[str, ...] = ()
    beside: int = 0
    apart: bool = False
    comfyuis: bool = False


ONE = Kind("one bridge", bridges=1)
KINDS = (
    Kind("one bridge again", bridges=1),
    Kind("one, a third of the clients", bridges=1, clients=CLIENTS // 3),
    Kind("one, beside two programs that compute", bridges=1, beside=2),
    Kind("two", bridges=2),
    Kind("three"),
    Kind("three, each with a ComfyUI", comfyuis=True),
    Kind("three that are no group, each with a ComfyUI", apart=True, comfyuis=True),
    Kind("three, two of which run no jobs", without=("jobs",)),
    Kind("three, no results numbered again", without=("renumbering",)),
    Kind("three, no states of others' ComfyUIs", without=("states",)),
    Kind("three, each commit waits 3 ms for company", without=("lone commits",)),
    Kind("three, each with clients of its own", without=("others' clients",)),
    Kind(
        "three, and no notices but of a new job of another's client",
        without=("others' clients", "notices"),
    ),
    Kind(
        "three, and nothing numbered again, no states",
        without=("others' clients", "notices", "renumbering", "states"),
    ),
)

# How the statements that are counted begin. One read of a job is that of its acceptance.
STATEMENTS = {
    "transactions": "COMMIT",
    "notices": "SELECT pg_notify",
    "reads of jobs": "SELECT client, job_id, seq",
    "claims": "UPDATE jobs SET owner =",
    "numbered again": "UPDATE jobs SET first_n =",
}
RATE, SPENT, IN_VAIN = "jobs a second", "bridges, ms", "claims in vain"

# Of one turn, by name: what was spent for each job, in ms and counts.
Turn = Mapping[str, float]


class Side(Struct, frozen=True):
    """Bridges of a kind that run, with their clients' connection and the processes around them."""

    kind: Kind
    stand: Stand
    subscribers: Sequence[Subscriber]
    bridges: Sequence[BridgeProcess]
    server: PostgreSQL
    # Stays: of a session that ends meanwhile the processor time could not be read.
    counting: psycopg.Connection[Any]
    brokers: Sequence[int]
    comfyuis: Sequence[Server]

    async def crowd(self, jobs: int) -> None:
        """Let each client run so many jobs, one after another."""

        async def client(number: int) -> None:
            subscriber = self.subscribers[number % len(self.subscribers)]
            for _ in range(jobs):
                inputs = {COLOUR: self.stand.colour()}
                await subscriber.run("trivial", inputs, client=f"client-{number}")

        await asyncio.gather(*map(client, range(self.kind.clients)))

    async def turn(self) -> Turn:
        """Measure some jobs."""
        self.stand.empty_output()
        jobs = JOBS * self.kind.clients
        async with _busy(self.kind.beside):
            statements, before, began = (
                _statements(self.counting),
                self._used(),
                time.perf_counter(),
            )
            await self.crowd(JOBS)
            seconds, used = time.perf_counter() - began, self._used()
        counts = _statements(self.counting)
        spent = {name: used[name] - before[name] for name in used}
        spent |= {name: counts[name] - statements[name] for name in counts}
        return {RATE: jobs / seconds, **{name: each / jobs for name, each in spent.items()}}

    def _used(self) -> Mapping[str, float]:
        """Return milliseconds of processor time, and how often the bridges' threads stopped."""
        found = defaultdict[str, float](float)
        for bridge in self.bridges:
            for thread in Path(f"/proc/{bridge.pid}/task").iterdir():
                # Nanoseconds; the ticks of `stat` are too coarse for half a second.
                ms = int((thread / "schedstat").read_text().split()[0]) / 1e6
                found[SPENT] += ms
                is_loop = int(thread.name) == bridge.pid
                found["event loops" if is_loop else "their other threads"] += ms
                for line in (thread / "status").read_text().splitlines():
                    for name, begins in _SWITCHES.items():
                        if line.startswith(begins):
                            found[name] += int(line.split()[1])
        found["PostgreSQL"] += 1000 * server_s(self.server)
        found["brokers"] += 1000 * sum(map(processor_s, self.brokers))
        found["ComfyUI"] += 1000 * sum(processor_s(each.running.pid) for each in self.comfyuis)
        return found


_SWITCHES = {"waits": "voluntary_ctxt", "preempted": "nonvoluntary_ctxt"}


def _statements(counting: psycopg.Connection[Any]) -> Mapping[str, int]:
    found = counting.execute("SELECT query, calls, rows FROM pg_stat_statements").fetchall()
    counts = dict.fromkeys((*STATEMENTS, IN_VAIN), 0)
    for query, calls, rows in found:
        for name, begins in STATEMENTS.items():
            if " ".join(query.split()).startswith(begins):
                counts[name] += calls
                counts[IN_VAIN] += calls - rows if name == "claims" else 0
    return counts


@asynccontextmanager
async def _running(
    stand: Stand, server: PostgreSQL, kind: Kind, comfyuis: Sequence[Server]
) -> AsyncIterator[Side]:
    used = comfyuis[: kind.bridges] if kind.comfyuis else comfyuis[:1]
    where = [{"comfyui_url": each.url, "comfyui_secret": each.secret} for each in used]
    each_alone = [[where[number % len(where)]] for number in range(kind.bridges)]
    async with AsyncExitStack() as stack:
        brokers, bridges, subscribers = [], list[BridgeProcess](), []
        for group in each_alone if kind.apart else [where]:
            count = 1 if kind.apart else kind.bridges
            broker, members = await stack.enter_async_context(
                running_group(stand, server, count, WORKFLOWS, group, kind=lesser(*kind.without))
            )
            assert broker.pid is not None
            brokers.append(broker.pid)
            bridges += members
            subscribers.append(await stack.enter_async_context(subscribed(broker.url)))
        with psycopg.connect(server.address("postgres"), autocommit=True) as counting:
            side = Side(kind, stand, subscribers, bridges, server, counting, brokers, used)
            await side.crowd(WARM_UP)
            await asyncio.sleep(SETTLES_S)
            yield side


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


# Of each kind its turns, each with the one of one bridge before it.
Found = Mapping[str, Sequence[tuple[Turn, Turn]]]


async def _all(
    stand: Stand,
    server: PostgreSQL,
    comfyuis: Sequence[Server],
    kinds: Sequence[Kind],
    turns: tuple[int, int],
) -> Found:
    """Measure `turns`: so many rounds, and turns of each kind in one."""
    rounds, each_kind = turns
    found = defaultdict[str, list[tuple[Turn, Turn]]](list)
    first, *rest = comfyuis
    async with _running(stand, server, ONE, [first]) as one:
        for number in range(rounds):
            for kind in kinds:
                running = _running(stand, server, kind, rest)
                async with running as other, asyncio.timeout(_TIMEOUT_S):
                    for _ in range(each_kind):
                        found[kind.name].append((await one.turn(), await other.turn()))
                stand.tell(f"round {number + 1}: {_row(kind.name, found[kind.name])}")
    return found


def _row(name: str, turns: Sequence[tuple[Turn, Turn]]) -> str:
    cells = [_ratios(turns, each) for each in (RATE, SPENT)]
    cells += [_mean([turn[each] for _, turn in turns]) for each in turns[0][1]]
    return f"| {name} | {' | '.join(cells)} |"


def _ratios(turns: Sequence[tuple[Turn, Turn]], name: str) -> str:
    """Return the median over one bridge, with the quartiles."""
    low, middle, high = statistics.quantiles([turn[name] / one[name] for one, turn in turns])
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def _mean(values: Sequence[float]) -> str:
    value = statistics.fmean(values)
    return f"{value:.0f}" if value >= 20 else f"{value:.2f}"


def _table(found: Found) -> str:
    names = list(next(iter(found.values()))[0][1])
    heads = ("", f"{RATE}, over one", f"{SPENT}, over one", *names)
    ones = [(one, one) for turns in found.values() for one, _ in turns]
    rows = [_row(ONE.name, ones), *(_row(name, turns) for name, turns in found.items())]
    return "\n".join([f"| {' | '.join(heads)} |", f"|---|{'---:|' * (len(heads) - 1)}", *rows])


@contextmanager
def _comfyui(folder: Path) -> Iterator[Server]:
    server = Server(supervised(), folder)
    try:
        server.start()
        yield server
    finally:
        server.stop()


@click.command()
@click.option("--rounds", default=ROUNDS, show_default=True)
@click.option("--turns", default=TURNS, type=click.IntRange(2), show_default=True, help=_TURNS)
@click.argument("names", nargs=-1, type=click.Choice([each.name for each in KINDS]))
def main(rounds: int, turns: int, names: tuple[str, ...]) -> None:
    """Print a Markdown table: medians and quartiles of the ratios, means of the rest.

    Without names it is of all kinds.
    """
    kinds = [each for each in KINDS if not names or each.name in names]
    click.echo(f"load {os.getloadavg()[0]:.1f} at the start")
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="run-", dir=FOLDER) as name,
        ExitStack() as stack,
        running_postgresql(FOLDER, durable=True, options=_COUNTED) as server,
    ):
        folder = Path(name)
        most = 1 + max(kind.bridges if kind.comfyuis else 1 for kind in kinds)
        comfyuis = [
            stack.enter_context(_comfyui(folder / f"comfyui-{number}")) for number in range(most)
        ]
        server.execute("CREATE EXTENSION pg_stat_statements")
        stand = Stand(folder, comfyuis[0], rounds, lambda line: click.echo(line, err=True))
        found = asyncio.run(_all(stand, server, comfyuis, kinds, (rounds, turns)))
    click.echo(f"\n{_table(found)}\n\nload {os.getloadavg()[0]:.1f} at the end")


if __name__ == "__main__":
    main()
