"""The soak: `python -m tests.bench.soak [--jobs N]`.

Many small jobs through one bridge, which keeps results and ids for seconds only, so that what it
holds has to come back to where it was. Tells memory, file handles, threads and the journal's size
after each tenth; the exit status is 1 if any of them grew from the middle of the run to its end.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import click
from msgspec import Struct

from tests.bench import sweeping_bridge
from tests.bench.graphs import COLOUR, to_bridge, to_disk, trivial
from tests.bench.processes import handles, memory, threads
from tests.bench.stand import Stand
from tests.bench.subscriber import Subscriber, subscribed
from tests.support.bridge import BridgeProcess
from tests.support.comfyui import running_server, supervised

FOLDER = Path(__file__).parents[2] / "build" / "bench"
JOBS = 20_000
CLIENTS = 16
PARTS = 10
KEPT = {"keep_results_s": 5, "keep_outputs_s": 5, "remember_ids_s": 10}
_MB = 1e6


class Level(Struct, frozen=True):
    """The bridge's memory and disk; sizes in bytes."""

    memory: int
    handles: int
    threads: int
    journal: int


class Bound(Struct, frozen=True):
    """The allowed rise: of the highest of the run's last third above that of the middle third."""

    name: str
    of: Callable[[Level], int]
    factor: float = 1.0
    more: int = 0


BOUNDS = (
    Bound("memory", lambda level: level.memory, 1.1),
    Bound("handles", lambda level: level.handles, more=4),
    Bound("threads", lambda level: level.threads, more=2),
    # How much is kept for some seconds depends on how fast the jobs were; if nothing went it would
    # be 1.43 times as much.
    Bound("journal", lambda level: level.journal, 1.3),
)


class SweepingBridge(BridgeProcess):
    """A bridge that deletes often what it keeps no longer."""

    @property
    def command(self) -> Sequence[str]:
        """The command line's choices."""
        return (sys.executable, "-W", "error", "-m", sweeping_bridge.__name__, "serve")


@click.command()
@click.option("--jobs", default=JOBS, type=click.IntRange(PARTS), show_default=True)
def main(jobs: int) -> None:
    """Run many small jobs, and see whether anything grows."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="soak-", dir=FOLDER) as folder,
        running_server(supervised(), Path(folder) / "comfyui") as server,
    ):
        levels = asyncio.run(_soak(Stand(Path(folder), server, 1, click.echo), jobs))
    grown = [bound.name for bound in BOUNDS if has_grown(levels, bound)]
    click.echo(f"grown: {', '.join(grown)}" if grown else "nothing has grown")
    sys.exit(bool(grown))


async def _soak(stand: Stand, jobs: int) -> list[Level]:
    workflows = {"ours": trivial(0, to_bridge("2")), "save": trivial(0, to_disk("2"))}
    levels: list[Level] = []
    click.echo("   jobs  seconds  memory MB  handles  threads  journal MB")
    async with (
        stand.broker() as broker,
        stand.bridge(SweepingBridge, broker, workflows, **KEPT) as bridge,
        subscribed(broker.url) as subscriber,
    ):
        began = time.monotonic()
        for part in range(PARTS):
            stand.empty_output()
            await _jobs(stand, subscriber, jobs // PARTS)
            level = _level(bridge)
            levels.append(level)
            click.echo(
                f"{(part + 1) * (jobs // PARTS):7}  {time.monotonic() - began:7.0f}"
                f"  {level.memory / _MB:9.1f}  {level.handles:7}  {level.threads:7}"
                f"  {level.journal / _MB:10.1f}"
            )
    return levels


async def _jobs(stand: Stand, subscriber: Subscriber, count: int) -> None:
    """Run jobs of several clients at once; every tenth one saves its picture."""
    waiting = iter(range(count))

    async def client(name: str) -> None:
        for number in waiting:
            workflow = "ours" if number % 10 else "save"
            await subscriber.run(workflow, {COLOUR: stand.colour()}, client=name)

    async with asyncio.TaskGroup() as tasks:
        for number in range(CLIENTS):
            tasks.create_task(client(f"client-{number}"))


def _level(bridge: BridgeProcess) -> Level:
    files = (bridge.folder / "data").glob("journal.db*")
    return Level(
        memory=memory(bridge.pid).resident,
        handles=handles(bridge.pid),
        threads=threads(bridge.pid),
        journal=sum(file.stat().st_size for file in files),
    )


def has_grown(levels: Sequence[Level], bound: Bound) -> bool:
    """True if the last third of a run is above the middle third by more than allowed."""
    third = len(levels) // 3
    middle = max(map(bound.of, levels[third:-third]))
    last = max(map(bound.of, levels[-third:]))
    return last > middle * bound.factor + bound.more


if __name__ == "__main__":
    main()
