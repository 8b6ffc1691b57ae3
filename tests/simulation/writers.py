"""Shows what bounds many writers on PostgreSQL: `python -m tests.simulation.writers`.

One writer and sixteen of the bench (`tests.bench.measurements.writers`), on the server as it is,
on one that waits for no disk, and on one where the processor is what nobody waits for, because each
commit takes 10 ms.
"""

from __future__ import annotations

import os
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import click
from msgspec import Struct

from tests.bench.measurements.writers import SECONDS, written
from tests.simulation.costs import server_s
from tests.support.postgresql import running_postgresql

ROUNDS = 3
COUNTS = (1, 16)
SERVERS = {
    "as it is": (),
    "no sync (`fsync=off`)": ("-c", "fsync=off"),
    "each commit takes 10 ms more (`commit_delay`)": (
        *("-c", "commit_delay=10000"),
        *("-c", "commit_siblings=0"),
    ),
}


class Found(Struct, frozen=True):
    """A round: jobs a second, and the processor time of a job in ms, the writers' and the server's.

    `busy` is the share of all cores that both had.
    """

    rate: float
    writers_ms: float
    server_ms: float

    @property
    def busy(self) -> float:
        used_s = self.rate * (self.writers_ms + self.server_ms) / 1000
        return used_s / (os.cpu_count() or 1)


def _round(options: tuple[str, ...], count: int) -> Found:
    build = Path.cwd() / "build"
    build.mkdir(exist_ok=True)
    with running_postgresql(build, durable=True, options=options) as server:
        used_s = 0.0

        def begins() -> None:
            nonlocal used_s
            used_s = server_s(server)

        found = written(server, count, begins)
        used_s = server_s(server) - used_s
    jobs = sum(each.jobs for each in found)
    return Found(
        jobs / SECONDS, 1000 * sum(each.processor_s for each in found) / jobs, 1000 * used_s / jobs
    )


@click.command()
def main() -> None:
    """Print a Markdown table."""
    found = defaultdict[tuple[str, int], list[Found]](list)
    for _ in range(ROUNDS):
        for name, options in SERVERS.items():
            for count in COUNTS:
                found[name, count].append(_round(options, count))
                click.echo(f"{name}, {count}: {found[name, count][-1]}", err=True)
    click.echo(_table(found))
    click.echo(f"load {os.getloadavg()[0]:.1f} at the end")


def _table(found: Mapping[tuple[str, int], Sequence[Found]]) -> str:
    heads = (
        "the server",
        "writers",
        "jobs a second",
        "over one",
        "writers' processor a job, ms",
        "server's, ms",
        "of all cores",
    )
    lines = [f"| {' | '.join(heads)} |", f"|---|{'---:|' * (len(heads) - 1)}"]
    for (name, count), rounds in found.items():
        ones = found[name, COUNTS[0]]
        ratios = [each.rate / one.rate for each, one in zip(rounds, ones, strict=True)]
        writers_ms = statistics.median(each.writers_ms for each in rounds)
        server_ms = statistics.median(each.server_ms for each in rounds)
        lines.append(
            f"| {name} | {count} | {statistics.median(each.rate for each in rounds):.0f} | "
            f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) | "
            f"{writers_ms:.1f} | {server_ms:.1f} | "
            f"{statistics.median(each.busy for each in rounds):.0%} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
