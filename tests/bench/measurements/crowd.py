"""32 clients at once: how many trivial jobs a second go through."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from tests.bench.figures import compare, p50
from tests.bench.graphs import COLOUR, trivial
from tests.bench.measurements.trivial import OUTPUTS, Output
from tests.bench.report import Aim, Row
from tests.bench.stand import Both, Measurement, Stand

CLIENTS = 32
JOBS_EACH = 10
TIMEOUT_S = 120.0
AIMS = {"ours": Aim(0.85, at_least=True), "save": Aim(0.9, at_least=True)}

# Runs one job for a client.
RunFor = Callable[[str], Awaitable[Any]]


async def measure(stand: Stand) -> list[Row]:
    """Measure both clients on both outputs."""
    workflows = {output.workflow: trivial(0, output.node) for output in OUTPUTS}
    async with stand.both(workflows) as both:
        return [await _compare(stand, both, output) for output in OUTPUTS]


async def _compare(stand: Stand, both: Both, output: Output) -> Row:
    async def direct(_: str) -> None:
        await both.direct.run(trivial(stand.colour(), output.node))

    async def bridged(client: str) -> None:
        inputs = {COLOUR: stand.colour()}
        await both.subscriber.run(output.workflow, inputs, client=client)

    rates: list[float] = []
    references: list[float] = []
    for number in range(stand.rounds):
        references.append(await rate(stand, direct))
        rates.append(await rate(stand, bridged))
        told = f"{output.name}, direct {references[-1]:.0f}, bridge {rates[-1]:.0f} jobs/s"
        stand.tell(f"round {number + 1} of {stand.rounds}: {told}")
    return Row.compared(
        f"{CLIENTS} clients at once, {output.name}: jobs a second",
        "/s",
        compare([[rate] for rate in rates], [[rate] for rate in references], p50),
        AIMS[output.workflow],
    )


async def rate(stand: Stand, run: RunFor) -> float:
    """Return how many jobs a second went through."""
    stand.empty_output()

    async def client(name: str) -> None:
        for _ in range(JOBS_EACH):
            await run(name)

    began = time.perf_counter()
    async with asyncio.timeout(TIMEOUT_S), asyncio.TaskGroup() as tasks:
        for number in range(CLIENTS):
            tasks.create_task(client(f"client-{number}"))
    return CLIENTS * JOBS_EACH / (time.perf_counter() - began)


MEASUREMENT = Measurement("crowd", f"trivial jobs of {CLIENTS} clients at once", measure)
