"""One and three bridges of a group, each with a ComfyUI of its own, on jobs that sleep.

And how many of three that live are counted as dead by the others while all cores are busy.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.bench.figures import Spread
from tests.bench.graphs import COLOUR
from tests.bench.measurements.group import running_group
from tests.bench.measurements.pool import SECONDS, sleeping
from tests.bench.report import Aim, Row
from tests.bench.stand import Measurement, Stand
from tests.bench.subscriber import subscribed
from tests.chaos.faults import FENCED
from tests.support.comfyui import Server, supervised
from tests.support.postgresql import PostgreSQL, running_postgresql

BRIDGES = 3
JOBS = 24
TIMEOUT_S = 120.0
# So long all cores are busy, with as many programs that only compute as there are cores.
BUSY_S = 60.0


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
        alarms = await _false_alarms(stand, database, servers)
        stand.tell(f"{alarms} false alarms in {BUSY_S:g} s")
    return [
        Row(
            what=f"{BRIDGES} bridges with a ComfyUI each over one with one, jobs of {SECONDS:g} s "
            "of sleep: jobs a second",
            unit="/s",
            value=Spread.of([rates[BRIDGES]]),
            reference=Spread.of([rates[1]]),
            ratio=Spread.of([rates[BRIDGES] / rates[1]]),
            aim=Aim(2.7, at_least=True),
        ),
        Row(
            what=f"{BRIDGES} bridges on jobs, beside a program on each core that only computes: "
            f"running ones counted as dead in {BUSY_S:g} s",
            unit="",
            value=Spread.of([float(alarms)]),
            aim=Aim(0.0),
        ),
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


async def _false_alarms(stand: Stand, database: PostgreSQL, servers: list[Server]) -> int:
    """Return how many bridges the others counted as dead while all cores were busy; all run."""
    comfyuis = [{"comfyui_url": each.url, "comfyui_secret": each.secret} for each in servers]
    workflows = {"sleeping": sleeping()}
    async with (
        running_group(stand, database, len(servers), workflows, comfyuis) as (broker, bridges),
        subscribed(broker.url) as subscriber,
    ):
        until = time.monotonic() + BUSY_S

        async def client() -> None:
            while time.monotonic() < until:
                await subscriber.run("sleeping", {COLOUR: stand.colour()})

        with _busy():
            await asyncio.gather(*(client() for _ in servers))
        return sum(each.log.count(FENCED) for each in bridges)


@contextmanager
def _busy() -> Iterator[None]:
    """Keep each core busy with one program that only computes."""
    command = (sys.executable, "-c", "while True: pass")
    programs = [subprocess.Popen(command) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for each in programs:
            each.kill()
            each.wait()


MEASUREMENT = Measurement("members", "bridges with a ComfyUI each", measure, rounds=1)
