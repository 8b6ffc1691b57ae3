"""Several bridges on PostgreSQL: what the database costs, what more bridges do, and failover.

All of them use one ComfyUI: it is the bridges that are measured.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from bridge.mosquitto import Mosquitto
from tests.bench.figures import Spread
from tests.bench.graphs import COLOUR, to_bridge, trivial
from tests.bench.processes import processor_s
from tests.bench.report import Aim, Row
from tests.bench.stand import Measurement, Stand
from tests.bench.subscriber import Subscriber, subscribed
from tests.support.bridge import BridgeProcess
from tests.support.comfyui import Graph
from tests.support.peer import Peer
from tests.support.postgresql import PostgreSQL, running_postgresql

CLIENTS = 16
JOBS_EACH = 10
COUNTS = (1, 2, 3)
TIMEOUT_S = 120.0
AIM = Aim(1.0, at_least=True)
ALONE = Aim(0.75, at_least=True)
_MS = 1000.0
WORKFLOWS = {"trivial": trivial(0, to_bridge("2"))}

Rates = dict[str, list[float]]


async def measure(stand: Stand) -> list[Row]:
    """Measure one bridge on SQLite, and one to three on PostgreSQL; then kill one."""
    rates: Rates = {}
    spent: Rates = {}
    missed: list[float] = []

    def note(name: str, speed: tuple[float, float]) -> None:
        for table, figure in zip((rates, spent), speed, strict=True):
            table.setdefault(name, []).append(figure)

    # On the disk of the rest, beside the run's own folder, which nobody else may enter.
    with running_postgresql(stand.folder.parent, durable=True) as server:
        for number in range(stand.rounds):
            async with (
                stand.broker() as broker,
                stand.bridge(BridgeProcess, broker, WORKFLOWS) as alone,
            ):
                note("sqlite", await _speed(stand, broker, [alone]))
            for count in COUNTS:
                async with running_group(stand, server, count, WORKFLOWS) as (broker, bridges):
                    note(str(count), await _speed(stand, broker, bridges))
            async with running_group(stand, server, 3, WORKFLOWS) as (broker, bridges):
                missed.append(await _killed(stand, broker, bridges[0]))
            told = ", ".join(f"{name} {each[-1]:.0f}" for name, each in rates.items())
            stand.tell(
                f"round {number + 1} of {stand.rounds}: {told} jobs/s, failover {missed[-1]:.1f} s"
            )
    return [
        _row("one bridge on PostgreSQL over one on SQLite", rates, "1", "sqlite", ALONE),
        *(
            _row(f"{count} bridges on PostgreSQL over one there", rates, str(count), "1", AIM)
            for count in COUNTS[1:]
        ),
        *(_spent(count, spent) for count in COUNTS[1:]),
        Row(
            what="the bridge that takes requests killed, to the picture of a job asked for "
            "meanwhile, by another of three",
            unit="s",
            value=Spread.of(missed),
            aim=Aim(3.0),
        ),
    ]


@asynccontextmanager
async def running_group(
    stand: Stand,
    server: PostgreSQL,
    count: int,
    workflows: Mapping[str, Graph],
    comfyuis: Sequence[Mapping[str, Any]] = ({},),
    *,
    kind: type[BridgeProcess] = BridgeProcess,
) -> AsyncIterator[tuple[Mosquitto, list[BridgeProcess]]]:
    """Run a broker and a group; the first of the bridges takes the requests.

    Each is attached to the ComfyUI of its own settings in `comfyuis`, the rest to the last one.
    """
    async with AsyncExitStack() as stack:
        journal = stack.enter_context(server.database())
        broker = await stack.enter_async_context(stand.broker())
        watcher = await stack.enter_async_context(Peer(broker.url))
        await watcher.subscribe("comfy2mqtt/bridge/#")
        bridges = []
        for number in range(count):
            name = f"m{number}"
            where = comfyuis[min(number, len(comfyuis) - 1)]
            bridge = stand.bridge(kind, broker, workflows, journal=journal, member=name, **where)
            stack.push_async_exit(bridge)
            await bridge.start(ready=False)
            bridges.append(bridge)
            if number == 0:
                await watcher.next("comfy2mqtt/bridge/state", lambda m: m.payload == b"online")
            topic = f"comfy2mqtt/bridge/comfyui/{name}-default"
            await watcher.next(
                topic, lambda m: bool(m.payload) and m.json["state"] in ("ready", "busy")
            )
        yield broker, bridges


async def _speed(
    stand: Stand, broker: Mosquitto, bridges: Sequence[BridgeProcess]
) -> tuple[float, float]:
    """Return how many jobs a second go through, and all bridges' processor time for one, in ms."""
    jobs = CLIENTS * JOBS_EACH
    async with subscribed(broker.url) as subscriber, asyncio.timeout(TIMEOUT_S):
        await crowd(stand, subscriber, 1)
        before, began = sum(processor_s(each.pid) for each in bridges), time.perf_counter()
        await crowd(stand, subscriber, JOBS_EACH)
        rate = jobs / (time.perf_counter() - began)
        used = sum(processor_s(each.pid) for each in bridges) - before
    return rate, used * _MS / jobs


async def crowd(stand: Stand, subscriber: Subscriber, jobs: int) -> None:
    """Let each of some clients run `jobs` jobs, one after another."""

    async def client(name: str) -> None:
        for _ in range(jobs):
            await _run(stand, subscriber, name)

    await asyncio.gather(*(client(f"client-{number}") for number in range(CLIENTS)))


async def _run(stand: Stand, subscriber: Subscriber, client: str) -> None:
    await subscriber.run("trivial", {COLOUR: stand.colour()}, client=client)


async def _killed(stand: Stand, broker: Mosquitto, first: BridgeProcess) -> float:
    async with subscribed(broker.url) as subscriber, asyncio.timeout(TIMEOUT_S):
        began = time.perf_counter()
        await first.kill()
        await _run(stand, subscriber, "bench")
        return time.perf_counter() - began


def _row(what: str, rates: Rates, name: str, of: str, aim: Aim) -> Row:
    ratios = [rate / other for rate, other in zip(rates[name], rates[of], strict=True)]
    return Row(
        what=f"{what}: jobs a second, {CLIENTS} clients, one ComfyUI",
        unit="/s",
        value=Spread.of(rates[name]),
        reference=Spread.of(rates[of]),
        ratio=Spread.of(ratios),
        aim=aim,
    )


def _spent(count: int, spent: Rates) -> Row:
    ratios = [ms / one for ms, one in zip(spent[str(count)], spent["1"], strict=True)]
    return Row(
        what=f"{count} bridges on PostgreSQL over one there: processor time of all bridges, a job",
        unit="ms",
        value=Spread.of(spent[str(count)]),
        reference=Spread.of(spent["1"]),
        ratio=Spread.of(ratios),
        aim=Aim(1.0),
    )


MEASUREMENT = Measurement("group", "several bridges on PostgreSQL, and failover", measure)
