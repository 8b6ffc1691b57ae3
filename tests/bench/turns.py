"""Sides of a comparison taking turns, so that whatever else the machine does hits all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from msgspec import Struct

from tests.bench.delivery import Delivery, Run, to_image
from tests.bench.figures import p50
from tests.bench.processes import processor_s
from tests.bench.stand import Stand

_TIMEOUT_S = 120.0
# The first jobs after a start take longer everywhere.
_WARM_UP = 3


class Side(Struct, frozen=True):
    """One way to run a job, and the processes to watch meanwhile, by name."""

    name: str
    run: Run
    processes: Mapping[str, int] = {}


class Taken(Struct):
    """One side's work in one round; processor time in seconds, by process."""

    deliveries: list[Delivery]
    processor: dict[str, float]

    def add(self, deliveries: Sequence[Delivery], processor: Mapping[str, float]) -> None:
        """Add another turn."""
        self.deliveries += deliveries
        for name, seconds in processor.items():
            self.processor[name] = self.processor.get(name, 0.0) + seconds


async def take_turns(
    stand: Stand, sides: Sequence[Side], *, jobs: int, turn: int
) -> dict[str, list[Taken]]:
    """Let each side run `jobs` jobs a round, one after another, in turns of `turn`.

    Returns by side what it did in each round. The output folder is emptied before each turn.
    """
    rounds: dict[str, list[Taken]] = {side.name: [] for side in sides}
    for side in sides:
        await _turn(stand, side, min(turn, _WARM_UP))
    for number in range(stand.rounds):
        for side in sides:
            rounds[side.name].append(Taken([], {}))
        for _ in range(jobs // turn):
            for side in sides:
                before = _processor(side)
                deliveries = await _turn(stand, side, turn)
                used = {name: now - before[name] for name, now in _processor(side).items()}
                rounds[side.name][-1].add(deliveries, used)
        told = (f"{side.name} {_p50(rounds[side.name][-1]):.1f}" for side in sides)
        stand.tell(f"round {number + 1} of {stand.rounds}, ms: {', '.join(told)}")
    return rounds


async def _turn(stand: Stand, side: Side, jobs: int) -> list[Delivery]:
    stand.empty_output()
    async with asyncio.timeout(_TIMEOUT_S):
        return [await side.run(stand.colour()) for _ in range(jobs)]


def _processor(side: Side) -> dict[str, float]:
    return {name: processor_s(pid) for name, pid in side.processes.items()}


def _p50(taken: Taken) -> float:
    return p50(to_image(taken.deliveries))
