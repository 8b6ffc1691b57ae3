"""One and three bridges of a group, each with a ComfyUI of its own, on jobs that sleep."""

from __future__ import annotations

import asyncio
import time
from contextlib import ExitStack
from pathlib import Path

from tests.bench.figures import Spread
from tests.bench.graphs import COLOUR
from tests.bench.measurements.group import running_group
from tests.bench.measurements.pool import SECONDS, sleeping
from tests.bench.report import Aim, Row
from tests.bench.stand import Measurement, Stand
from tests.bench.subscriber import subscribed
from tests.support.comfyui import Server, supervised
from tests.support.postgresql import PostgreSQL, running_postgresql

BRIDGES = 3
JOBS = 24
TIMEOUT_S = 120.0


async def measure(stand: Stand) -> list[Row]:
    """Start two more ComfyUIs, and run as many jobs by one bridge and by three."""
    with ExitStack() as stack:
        more = [Server(supervised(), Path(stand.new_folder("comfyui"))) for _ in range(BRIDGES - 1)]
        for server in more:
            stack.callback(server.stop)
        await asyncio.gather(*(asyncio.to_thread(server.start) for server in more))
        database = stack.enter_context(running_postgresql(stand.folder.parent, durable=True))
        servers = [stand.server, *more]
        rates = {}
        for count in (1, BRIDGES):
            rates[count] = await _rate(stand, database, servers[:count])
            stand.tell(f"{count} bridges: {rates[count]:.2f} jobs/s")
    return [
        Row(
            what=f"{BRIDGES} bridges with a ComfyUI each over one with one, jobs of {SECONDS:g} s "
            "of sleep: jobs a second",
            unit="/s",
            value=Spread.of([rates[BRIDGES]]),
            reference=Spread.of([rates[1]]),
            ratio=Spread.of([rates[BRIDGES] / rates[1]]),
            aim=Aim(2.7, at_least=True),
        )
    ]


async def _rate(stand: Stand, database: PostgreSQL, servers: list[Server]) -> float:
    """Return how many jobs a second as many bridges as servers do."""
    comfyuis = [{"comfyui_url": each.url, "comfyui_secret": each.secret} for each in servers]
    workflows = {"sleeping": sleeping()}
    async with (
        running_group(stand, database, len(servers), workflows, comfyuis) as (broker, _),
        subscribed(broker.url) as subscriber,
        asyncio.timeout(TIMEOUT_S),
    ):
        began = time.perf_counter()
        inputs = [{COLOUR: stand.colour()} for _ in range(JOBS)]
        await asyncio.gather(*(subscriber.run("sleeping", each) for each in inputs))
        return JOBS / (time.perf_counter() - began)


MEASUREMENT = Measurement("members", "bridges with a ComfyUI each", measure, rounds=1)
