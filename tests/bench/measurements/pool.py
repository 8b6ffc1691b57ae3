"""One, two and four ComfyUIs on jobs that take two seconds of sleep each."""

from __future__ import annotations

import asyncio
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.bench.figures import Spread
from tests.bench.graphs import COLOUR, to_bridge, trivial
from tests.bench.report import Aim, Row
from tests.bench.stand import Measurement, Stand
from tests.bench.subscriber import subscribed
from tests.support.bridge import BridgeProcess
from tests.support.comfyui import Graph, Server, supervised

COUNTS = {1: None, 2: Aim(1.95, at_least=True), 4: Aim(3.9, at_least=True)}
SECONDS = 2.0
JOBS = 8
TIMEOUT_S = 60.0


async def measure(stand: Stand) -> list[Row]:
    """Start three more, and give a bridge one, two and four of them. One round: it takes long."""
    seconds: dict[int, float] = {}
    with ExitStack() as stack:
        more = [
            Server(supervised(), Path(stand.new_folder("comfyui"))) for _ in range(max(COUNTS) - 1)
        ]
        for server in more:
            stack.callback(server.stop)
        await asyncio.gather(*(asyncio.to_thread(server.start) for server in more))
        servers = [stand.server, *more]
        for count in COUNTS:
            seconds[count] = await _seconds(stand, servers[:count])
            stand.tell(f"{count} ComfyUIs: {JOBS} jobs in {seconds[count]:.1f} s")
    return [_row(count, seconds, aim) for count, aim in COUNTS.items() if aim is not None]


def sleeping() -> Graph:
    """Sleeps."""
    sleep = {"image": ["1", 0], "seconds": SECONDS, "step": SECONDS / 10}
    return {
        **trivial(0, to_bridge("3", "2")),
        "2": {"class_type": "TestSleep", "inputs": sleep},
    }


async def _seconds(stand: Stand, servers: list[Server]) -> float:
    """Return how long the jobs take on these ComfyUIs."""
    tables: list[dict[str, Any]] = [
        {"name": f"c{number}", "url": server.url, "secret": server.secret}
        for number, server in enumerate(servers)
    ]
    async with (
        stand.broker() as broker,
        stand.bridge(BridgeProcess, broker, {"sleeping": sleeping()}, comfyui=tables) as bridge,
        subscribed(broker.url) as subscriber,
        asyncio.timeout(TIMEOUT_S),
    ):
        for table in tables:
            await bridge.ready(comfyui=table["name"])
        began = time.perf_counter()
        inputs = [{COLOUR: stand.colour()} for _ in range(JOBS)]
        await asyncio.gather(*(subscriber.run("sleeping", each) for each in inputs))
        return time.perf_counter() - began


def _row(count: int, seconds: dict[int, float], aim: Aim) -> Row:
    rate, of_one = JOBS / seconds[count], JOBS / seconds[1]
    return Row(
        what=f"{count} ComfyUIs over one, jobs of {SECONDS:g} s of sleep: jobs a second",
        unit="/s",
        value=Spread.of([rate]),
        reference=Spread.of([of_one]),
        ratio=Spread.of([rate / of_one]),
        aim=aim,
    )


MEASUREMENT = Measurement("pool", "one, two and four ComfyUIs", measure, rounds=1)
