"""The limits of one bridge on PostgreSQL: servers that each lack a part, beside SQLite.

All programs share the machine's cores. So the processor time of all of them for a job bounds the
rate, however little they wait for one another.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from msgspec import Struct

from bridge.mosquitto import Mosquitto
from tests.bench.figures import Spread, compare, p50
from tests.bench.lesser_bridge import lesser
from tests.bench.measurements.group import CLIENTS, TIMEOUT_S, WORKFLOWS, crowd, running_group
from tests.bench.processes import processor_s
from tests.bench.report import Row
from tests.bench.stand import Measurement, Stand
from tests.bench.subscriber import subscribed
from tests.support.bridge import BridgeProcess
from tests.support.postgresql import PostgreSQL, running_postgresql

JOBS_EACH = 30
_MS = 1000.0
SQLITE = "SQLite"
UNSYNCED = "SQLite that syncs nothing"
# Each a server of its own.
SERVERS: Mapping[str, Mapping[str, Any]] = {
    "PostgreSQL": {"durable": True},
    "PostgreSQL that syncs nothing": {"durable": False},
    "PostgreSQL by a Unix socket": {"durable": True, "by_socket": True},
}


class Speed(Struct, frozen=True):
    """Jobs a second; and milliseconds of processor time for a job, by program."""

    rate: float
    bridge: float
    database: float
    together: float


async def measure(stand: Stand) -> list[Row]:
    """Let one bridge on each database take turns."""
    found: dict[str, list[Speed]] = {name: [] for name in (SQLITE, UNSYNCED, *SERVERS)}
    with ExitStack() as stack:
        # On the disk of the rest, beside the run's own folder, which nobody else may enter.
        servers = {
            name: stack.enter_context(running_postgresql(stand.folder.parent, **how))
            for name, how in SERVERS.items()
        }
        for number in range(stand.rounds):
            for name, kind in ((SQLITE, BridgeProcess), (UNSYNCED, lesser("syncs"))):
                async with (
                    stand.broker() as broker,
                    stand.bridge(kind, broker, WORKFLOWS) as bridge,
                ):
                    found[name].append(await _speed(stand, broker, bridge, None))
            for name, server in servers.items():
                async with running_group(stand, server, 1, WORKFLOWS) as (broker, (bridge,)):
                    found[name].append(await _speed(stand, broker, bridge, server))
            rates = ", ".join(f"{name} {each[-1].rate:.0f}" for name, each in found.items())
            stand.tell(f"round {number + 1} of {stand.rounds}, jobs a second: {rates}")
    return [
        row for name in found if name != SQLITE for row in _rows(name, found[name], found[SQLITE])
    ]


async def _speed(
    stand: Stand, broker: Mosquitto, bridge: BridgeProcess, server: PostgreSQL | None
) -> Speed:
    jobs = CLIENTS * JOBS_EACH

    def used() -> tuple[float, float, float]:
        database = 0.0 if server is None else sum(map(processor_s, server.pids()))
        own = processor_s(bridge.pid)
        assert broker.pid is not None
        others = processor_s(broker.pid) + processor_s(stand.server.running.pid)
        return own, database, own + database + others + time.process_time()

    async with subscribed(broker.url) as subscriber, asyncio.timeout(TIMEOUT_S):
        await crowd(stand, subscriber, 1)
        before, began = used(), time.perf_counter()
        await crowd(stand, subscriber, JOBS_EACH)
        took = time.perf_counter() - began
    spent = (after - earlier for after, earlier in zip(used(), before, strict=True))
    return Speed(jobs / took, *(seconds * _MS / jobs for seconds in spent))


def _rows(name: str, speeds: Sequence[Speed], on_sqlite: Sequence[Speed]) -> list[Row]:
    what = f"one bridge on {name}"

    def compared(about: str, unit: str, figure: Callable[[Speed], float]) -> Row:
        values, others = ([[figure(each)] for each in side] for side in (speeds, on_sqlite))
        return Row.compared(
            f"{what} over one on SQLite: {about}", unit, compare(values, others, p50)
        )

    rows = [
        compared(f"jobs a second, {CLIENTS} clients", "/s", lambda speed: speed.rate),
        compared("processor time of the bridge, a job", "ms", lambda speed: speed.bridge),
        compared("processor time of all programs, a job", "ms", lambda speed: speed.together),
    ]
    if name in SERVERS:
        spent = Spread.of([speed.database for speed in speeds])
        about = "processor time of the database's server, a job"
        rows.append(Row(what=f"{what}: {about}", unit="ms", value=spent))
    return rows


MEASUREMENT = Measurement(
    "databases", "what bounds one bridge on PostgreSQL, beside SQLite", measure
)
