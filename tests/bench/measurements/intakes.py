"""Requests that a group accepts: by the one intake, and by as many as there are bridges.

Several intakes are built for this alone (`tests.bench.intake_of_part`). No ComfyUI is there: only
taking is measured, by the processor time of each process, as one machine has them all.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from statistics import median

from msgspec import Struct

from bridge.mosquitto import Mosquitto
from tests.bench.figures import Spread
from tests.bench.graphs import COLOUR, to_bridge, trivial
from tests.bench.intake_of_part import intake, part_of
from tests.bench.processes import processor_s
from tests.bench.report import Row
from tests.bench.stand import NOWHERE, Measurement, Stand
from tests.bench.subscriber import Subscriber, subscribed
from tests.support.bridge import BridgeProcess
from tests.support.peer import Peer
from tests.support.postgresql import PostgreSQL, running_postgresql

BRIDGES = (2, 4)
CLIENTS = tuple(f"client-{number}" for number in range(64))
# More at a time would only wait in the broker: it is MQTT's Receive Maximum of one intake.
AT_ONCE = 256
WARM_UP, REQUESTS = 500, 4_000
TIMEOUT_S = 300.0
WORKFLOWS = {"trivial": trivial(0, to_bridge("2"))}
_MS = 1000.0


class Cost(Struct, frozen=True):
    """Of each request: seconds by the clock, and of processor time: each bridge's, the broker's."""

    clock: float
    bridges: tuple[float, ...]
    broker: float


async def measure(stand: Stand) -> list[Row]:
    """Compare, in each round, groups of the same bridges with one intake and with several."""
    one: dict[int, list[Cost]] = {count: [] for count in BRIDGES}
    several: dict[int, list[Cost]] = {count: [] for count in BRIDGES}
    idle: list[Cost] = []
    with running_postgresql(stand.folder.parent, durable=True) as server:
        for number in range(stand.rounds):
            for count in BRIDGES:
                one[count].append(await _cost(stand, server, [BridgeProcess] * count))
                kinds = [intake(part, count) for part in range(count)]
                several[count].append(await _cost(stand, server, kinds))
                stand.tell(
                    f"round {number + 1} of {stand.rounds}, {count} bridges: one intake "
                    f"{_described(one[count][-1])}; "
                    f"{count} intakes {_described(several[count][-1])}"
                )
            kinds = [intake(part, 2) for part in range(2)]
            first = [each for each in CLIENTS if part_of(each, 2) == 0]
            idle.append(await _cost(stand, server, kinds, first))
            stand.tell(f"all requests for one of 2 intakes: {_described(idle[-1])}")
    return [
        *(row for count in BRIDGES for row in _rows(count, one[count], several[count])),
        Row(
            what="2 intakes: processor time a request, at the bridge that does not handle it",
            unit="ms",
            value=Spread.of([each.bridges[1] * _MS for each in idle]),
        ),
    ]


def _described(cost: Cost) -> str:
    bridges = ", ".join(f"{each * _MS:.2f}" for each in cost.bridges)
    return f"{1 / cost.clock:.0f}/s, ms of bridges {bridges}, of the broker {cost.broker * _MS:.2f}"


async def _cost(
    stand: Stand,
    server: PostgreSQL,
    kinds: Sequence[type[BridgeProcess]],
    clients: Sequence[str] = CLIENTS,
) -> Cost:
    async with (
        _group(stand, server, kinds) as (broker, bridges),
        subscribed(broker.url) as subscriber,
        asyncio.timeout(TIMEOUT_S),
    ):
        await _submit(stand, subscriber, clients, WARM_UP)
        await asyncio.sleep(1)  # what the others have yet to look at
        assert broker.pid is not None
        pids = (*(each.pid for each in bridges), broker.pid)
        before, began = [processor_s(pid) for pid in pids], time.perf_counter()
        await _submit(stand, subscriber, clients, REQUESTS)
        clock = time.perf_counter() - began
        await asyncio.sleep(1)  # as above: their looks count, too
        spent = [processor_s(pid) - was for pid, was in zip(pids, before, strict=True)]
    per = [each / REQUESTS for each in spent]
    return Cost(clock / REQUESTS, tuple(per[:-1]), per[-1])


@asynccontextmanager
async def _group(
    stand: Stand, server: PostgreSQL, kinds: Sequence[type[BridgeProcess]]
) -> AsyncIterator[tuple[Mosquitto, list[BridgeProcess]]]:
    async with AsyncExitStack() as stack:
        journal = stack.enter_context(server.database())
        broker = await stack.enter_async_context(stand.broker())
        watcher = await stack.enter_async_context(Peer(broker.url))
        await watcher.subscribe("comfy2mqtt/bridge/#")
        bridges = []
        for number, kind in enumerate(kinds):
            name = f"m{number}"
            more = {"journal": journal, "member": name, "max_queue": 20_000}
            bridge = stand.bridge(kind, broker, WORKFLOWS, comfyui_url=NOWHERE, **more)
            stack.push_async_exit(bridge)
            await bridge.start(ready=False)
            bridges.append(bridge)
            await watcher.next(f"comfy2mqtt/bridge/member/{name}", lambda m: m.payload == b"online")
            await watcher.next(
                f"comfy2mqtt/bridge/comfyui/{name}-default",
                lambda m: bool(m.payload) and m.json["state"] == "unreachable",
            )
        await watcher.next("comfy2mqtt/bridge/state", lambda m: m.payload == b"online")
        yield broker, bridges


async def _submit(stand: Stand, subscriber: Subscriber, clients: Sequence[str], count: int) -> None:
    waiting = iter(range(count))

    async def submit() -> None:
        for number in waiting:
            inputs = {COLOUR: stand.colour()}
            client = clients[number % len(clients)]
            await subscriber.submit("trivial", inputs, client=client)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(AT_ONCE):
            tasks.create_task(submit())


def _rows(count: int, one: list[Cost], several: list[Cost]) -> list[Row]:
    intakes = f"{count} bridges, {count} intakes over one"
    return [
        _row(f"{intakes}: processor time a request, busiest bridge", one, several, _busiest),
        _row(f"{intakes}: the same, all bridges together", one, several, _together),
        _row(f"{intakes}: the same, the broker", one, several, lambda cost: cost.broker * _MS),
        _row(f"{intakes}: requests a second", one, several, lambda cost: 1 / cost.clock, "/s"),
        Row(
            what=f"{count} bridges, one intake: processor time a request, each other bridge",
            unit="ms",
            value=Spread.of([median(sorted(each.bridges)[:-1]) * _MS for each in one]),
        ),
    ]


def _busiest(cost: Cost) -> float:
    return max(cost.bridges) * _MS


def _together(cost: Cost) -> float:
    return sum(cost.bridges) * _MS


def _row(
    what: str,
    one: list[Cost],
    several: list[Cost],
    figure: Callable[[Cost], float],
    unit: str = "ms",
) -> Row:
    ours, reference = [figure(each) for each in several], [figure(each) for each in one]
    return Row(
        what=what,
        unit=unit,
        value=Spread.of(ours),
        reference=Spread.of(reference),
        ratio=Spread.of([a / b for a, b in zip(ours, reference, strict=True)]),
    )


MEASUREMENT = Measurement(
    "intakes",
    "requests accepted by one bridge of a group, and by all",
    measure,
    comfyui=False,
    rounds=3,
)
