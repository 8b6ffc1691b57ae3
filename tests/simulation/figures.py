"""The figures of a simulation. Pure, but for the fleet that it runs."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise

from msgspec import Struct

from tests.simulation.fleet import KINDS, Fleet, Record

# What a GPU does a second if it always has a job whose model is loaded.
JOBS_A_SECOND = 1 / sum(kind.run_s * kind.share for kind in KINDS)


def jain(shares: Collection[float]) -> float:
    """Return Jain's index of fairness: 1 if all have the same, 1/n if one of n has everything."""
    squares = sum(each * each for each in shares)
    return sum(shares) ** 2 / (len(shares) * squares) if squares else 1.0


class Spread(Struct, frozen=True):
    """The median of some values, the tenth below and the tenth above, and the largest one."""

    low: float
    median: float
    high: float
    most: float

    @classmethod
    def of(cls, values: Collection[float]) -> Spread:
        if len(values) < 2:
            only = next(iter(values), 0.0)
            return cls(only, only, only, only)
        tenths = statistics.quantiles(values, n=10)
        return cls(tenths[0], statistics.median(values), tenths[-1], max(values))


def keep_asking(fleet: Fleet, clients: Mapping[str, int], until: float) -> None:
    """Let each client always wait for so many jobs: when one has ended, it asks for another."""

    def again(record: Record) -> None:
        if fleet.now < until:
            fleet.ask(record.job.key.client)

    fleet.on_ended = again
    for client, jobs in clients.items():
        for _ in range(jobs):
            fleet.ask(client, fleet.chance.random())


def ask_at_random(fleet: Fleet, clients: int, per_s: float, until: float) -> None:
    """Let clients ask for so many jobs a second in all, at random times."""
    at = fleet.chance.expovariate(per_s)
    while at < until:
        fleet.ask(f"c{fleet.chance.randrange(clients)}", at)
        at += fleet.chance.expovariate(per_s)


def turns(fleet: Fleet, since: float, until: float) -> Counter[str]:
    """Return how many jobs of each client were started then for the first time."""
    return Counter(
        record.job.key.client
        for record in fleet.records.values()
        if record.starts and since <= record.starts[0] < until
    )


def longest_gap_s(fleet: Fleet, since: float, until: float) -> float:
    """Return the longest time between two turns of any client; all clients have waiting jobs."""
    starts: dict[str, list[float]] = {}
    for record in fleet.records.values():
        if record.starts and since <= record.starts[0] < until:
            starts.setdefault(record.job.key.client, []).append(record.starts[0])
    return max(
        (later - earlier for each in starts.values() for earlier, later in pairwise(sorted(each))),
        default=0.0,
    )


def busy(fleet: Fleet) -> float:
    """Return the share of its time that a GPU of a bridge that lives has run jobs."""
    gpus = [gpu for bridge in fleet.bridges if not bridge.dead for gpu in bridge.gpus.values()]
    return sum(gpu.busy_s for gpu in gpus) / (len(gpus) * fleet.now)


def position_errors(records: Sequence[Record]) -> list[float]:
    """Return by how much more jobs started before a job than its first status said."""
    return [
        record.before_started - record.before_accepted - record.position
        for record in records
        if record.starts and record.position is not None
    ]


def eta_ratios(records: Sequence[Record]) -> list[float]:
    """Return how long jobs took until their end, over what their first status said."""
    return [
        (record.ended - record.accepted) / record.eta_s
        for record in records
        if record.ended is not None and record.eta_s
    ]
