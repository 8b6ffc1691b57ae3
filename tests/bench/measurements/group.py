"""Several bridges on PostgreSQL: what the database costs, what more bridges do, and failover.

All of them use one ComfyUI: it is the bridges that are measured.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from bridge.mosquitto import Mosquitto
from tests.bench.figures import Spread
from tests.bench.graphs import COLOUR, to_bridge, trivial
from tests.bench.report import Aim, Row
from tests.bench.stand import Measurement, Stand
from tests.bench.subscriber import Subscriber, subscribed
from tests.support.bridge import BridgeProcess
from tests.support.peer import Peer
from tests.support.postgresql import PostgreSQL, running_postgresql

CLIENTS = 16
JOBS_EACH = 10
COUNTS = (1, 2, 3)
TIMEOUT_S = 120.0
AIM = Aim(0.8, at_least=True)
WORKFLOWS = {"trivial": trivial(0, to_bridge("2"))}

Rates = dict[str, list[float]]


async def measure(stand: Stand) -> list[Row]:
    """Measure one bridge on SQLite, and one to three on PostgreSQL; then kill one."""
    rates: Rates = {}
    missed: list[float] = []
    # On the disk of the rest, beside the run's own folder, which nobody else may enter.
    with running_postgresql(stand.folder.parent, durable=True) as server:
        for number in range(stand.rounds):
            async with stand.broker() as broker, stand.bridge(BridgeProcess, broker, WORKFLOWS):
                await _note(rates, "sqlite", stand, broker)
            for count in COUNTS:
                async with _bridges(stand, server, count) as (broker, _):
                    await _note(rates, str(count), stand, broker)
            async with _bridges(stand, server, 2) as (broker, first):
                missed.append(await _killed(stand, broker, first))
            told = ", ".join(f"{name} {each[-1]:.0f}" for name, each in rates.items())
            stand.tell(
                f"round {number + 1} of {stand.rounds}: {told} jobs/s, failover {missed[-1]:.1f} s"
            )
    return [
        _row("one bridge on PostgreSQL over one on SQLite", rates, "1", "sqlite", None),
        *(
            _row(f"{count} bridges on PostgreSQL over one there", rates, str(count), "1", AIM)
            for count in COUNTS[1:]
        ),
        Row(
            what="the bridge that takes requests killed, to the picture of a job asked for "
            "meanwhile, by another",
            unit="s",
            value=Spread.of(missed),
        ),
    ]


@asynccontextmanager
async def _bridges(
    stand: Stand, server: PostgreSQL, count: int
) -> AsyncIterator[tuple[Mosquitto, BridgeProcess]]:
    """Run a broker and a group; gives the one that takes requests."""
    async with AsyncExitStack() as stack:
        journal = stack.enter_context(server.database())
        broker = await stack.enter_async_context(stand.broker())
        watcher = await stack.enter_async_context(Peer(broker.url))
        await watcher.subscribe("comfy2mqtt/bridge/#")
        bridges = []
        for number in range(count):
            name = f"m{number}"
            bridge = stand.bridge(BridgeProcess, broker, WORKFLOWS, journal=journal, member=name)
            stack.push_async_exit(bridge)
            await bridge.start(ready=False)
            bridges.append(bridge)
            if number == 0:
                await watcher.next("comfy2mqtt/bridge/state", lambda m: m.payload == b"online")
            topic = f"comfy2mqtt/bridge/comfyui/{name}-default"
            await watcher.next(
                topic, lambda m: bool(m.payload) and m.json["state"] in ("ready", "busy")
            )
        yield broker, bridges[0]


async def _note(rates: Rates, name: str, stand: Stand, broker: Mosquitto) -> None:
    """Measure how many jobs a second go through."""
    async with subscribed(broker.url) as subscriber, asyncio.timeout(TIMEOUT_S):
        await _crowd(lambda client: _run(stand, subscriber, client), 1)
        began = time.perf_counter()
        await _crowd(lambda client: _run(stand, subscriber, client), JOBS_EACH)
        rate = CLIENTS * JOBS_EACH / (time.perf_counter() - began)
    rates.setdefault(name, []).append(rate)


async def _crowd(run: Callable[[str], Awaitable[None]], jobs: int) -> None:
    async def client(name: str) -> None:
        for _ in range(jobs):
            await run(name)

    await asyncio.gather(*(client(f"client-{number}") for number in range(CLIENTS)))


async def _run(stand: Stand, subscriber: Subscriber, client: str) -> None:
    await subscriber.run("trivial", {COLOUR: stand.colour()}, client=client)


async def _killed(stand: Stand, broker: Mosquitto, first: BridgeProcess) -> float:
    async with subscribed(broker.url) as subscriber, asyncio.timeout(TIMEOUT_S):
        began = time.perf_counter()
        await first.kill()
        await _run(stand, subscriber, "bench")
        return time.perf_counter() - began


def _row(what: str, rates: Rates, name: str, of: str, aim: Aim | None) -> Row:
    ratios = [rate / other for rate, other in zip(rates[name], rates[of], strict=True)]
    return Row(
        what=f"{what}: jobs a second, {CLIENTS} clients, one ComfyUI",
        unit="/s",
        value=Spread.of(rates[name]),
        reference=Spread.of(rates[of]),
        ratio=Spread.of(ratios),
        aim=aim,
    )


MEASUREMENT = Measurement("group", "several bridges on PostgreSQL, and failover", measure)
