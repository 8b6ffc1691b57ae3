"""The cost of a job among many clients, and among many workflows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack

from msgspec import Struct

from bridge.mosquitto import Mosquitto
from tests.bench.figures import Spread, compare, p50
from tests.bench.graphs import COLOUR, to_bridge, trivial
from tests.bench.measurements.folder import DEFINITIONS, until_described
from tests.bench.processes import processor_s
from tests.bench.report import Aim, Row
from tests.bench.stand import Measurement, Stand
from tests.bench.subscriber import Subscriber, subscribed
from tests.bench.unsaving_broker import UnsavingBroker
from tests.support.bridge import BridgeProcess
from tests.support.peer import Peer

CLIENTS = (10, 100, 1_000)
WORKFLOWS = (1, 10, 100, 1_000)
# One for each client at the least, and no more at a time than of few.
JOBS = 1_000
JOBS_OF_WORKFLOWS = 400
AT_ONCE = 10
# Whatever else there is, these are read once and kept.
WARM_UP = 100
AIMS = {"clients": Aim(1.3), "workflows": Aim(1.1)}
TIMEOUT_S = 120.0


class Cost(Struct, frozen=True):
    """Of a job, in milliseconds: the time that went by, and what the bridge used the processor."""

    took: float
    used: float


async def measure(stand: Stand) -> list[Row]:
    """Measure more and more clients of one bridge, and bridges with more and more workflows."""
    clients: dict[int, list[Cost]] = {count: [] for count in CLIENTS}
    async with (
        stand.broker() as broker,
        stand.bridge(BridgeProcess, broker, {"w0": trivial(0, to_bridge("2"))}) as bridge,
        subscribed(broker.url) as subscriber,
    ):
        await _cost(stand, bridge, subscriber, WARM_UP, lambda _: ("w0", "warm-up"))
        for _ in range(stand.rounds):
            for count, found in clients.items():
                found.append(await _clients(stand, bridge, subscriber, count))
                stand.tell(f"{count} clients: {found[-1].took:.1f} ms a job")
    workflows: dict[int, list[Cost]] = {count: [] for count in WORKFLOWS}
    of_one: list[Cost] = []
    again: list[Cost] = []
    unsaved: dict[int, list[Cost]] = {count: [] for count in (WORKFLOWS[0], WORKFLOWS[-1])}
    for _ in range(stand.rounds):
        for count, found in workflows.items():
            found.append(await _workflows(stand, count, used=count))
            stand.tell(f"{count} workflows: {found[-1].took:.1f} ms a job")
        of_one.append(await _workflows(stand, WORKFLOWS[-1], used=1))
        again.append(await _workflows(stand, WORKFLOWS[-1], used=WORKFLOWS[-1], first=False))
        for count, found in unsaved.items():
            found.append(await _workflows(stand, count, used=count, broker_kind=UnsavingBroker))
        stand.tell(f"all of one: {of_one[-1].took:.1f}, none the first: {again[-1].took:.1f}")
    fewest = workflows[WORKFLOWS[0]]
    what = f"{WORKFLOWS[0]} to {WORKFLOWS[-1]} workflows"
    return [
        *_rows("clients", clients),
        *_rows("workflows", workflows),
        *_both(f"{what}, all jobs of one", of_one, fewest),
        *_both(f"{what}, no job the first of its workflow", again, fewest),
        *_both(
            f"{what}, without the broker's saves", unsaved[WORKFLOWS[-1]], unsaved[WORKFLOWS[0]]
        ),
    ]


async def _clients(stand: Stand, bridge: BridgeProcess, subscriber: Subscriber, count: int) -> Cost:
    return await _cost(stand, bridge, subscriber, JOBS, lambda job: ("w0", f"c{job % count}"))


async def _workflows(
    stand: Stand,
    count: int,
    *,
    used: int,
    first: bool = True,
    broker_kind: type[Mosquitto] = Mosquitto,
) -> Cost:
    """Run jobs of the first `used` of some workflows; not `first`: each has run before.

    All are described before the first job: what a start costs is measured elsewhere.
    """
    warm_up = WARM_UP if first else max(WARM_UP, used)
    graphs = {f"w{number}": trivial(number, to_bridge("2")) for number in range(count)}
    async with stand.broker(broker_kind) as broker, AsyncExitStack() as stack:
        async with Peer(broker.url) as peer:
            await peer.subscribe(f"{DEFINITIONS}+")
            bridge = await stack.enter_async_context(stand.bridge(BridgeProcess, broker, graphs))
            await until_described(peer, graphs)
        subscriber: Subscriber = await stack.enter_async_context(subscribed(broker.url))
        await _cost(stand, bridge, subscriber, warm_up, lambda job: (f"w{job % used}", "warm-up"))
        return await _cost(
            stand,
            bridge,
            subscriber,
            JOBS_OF_WORKFLOWS,
            lambda job: (f"w{job * 7919 % used}", f"c{job % 10}"),
        )


async def _cost(
    stand: Stand,
    bridge: BridgeProcess,
    subscriber: Subscriber,
    jobs: int,
    which: Callable[[int], tuple[str, str]],
) -> Cost:
    """Run jobs, some at a time; `which` tells the workflow and the client of each."""
    waiting = iter(range(jobs))

    async def run() -> None:
        for job in waiting:
            workflow, client = which(job)
            await subscriber.run(workflow, {COLOUR: stand.colour()}, client=client)

    began, before = time.perf_counter(), processor_s(bridge.pid)
    async with asyncio.timeout(TIMEOUT_S), asyncio.TaskGroup() as tasks:
        for _ in range(AT_ONCE):
            tasks.create_task(run())
    used = processor_s(bridge.pid) - before
    return Cost((time.perf_counter() - began) * 1000 / jobs, used * 1000 / jobs)


def _both(what: str, costs: Sequence[Cost], fewest: Sequence[Cost]) -> list[Row]:
    """Compare what a job took, and what it used, with the fewest."""
    took = compare([[each.took] for each in costs], [[each.took] for each in fewest], p50)
    used = compare([[each.used] for each in costs], [[each.used] for each in fewest], p50)
    return [
        Row.compared(f"{what}: a job", "ms", took),
        Row.compared(f"{what}: processor time", "ms", used),
    ]


def _rows(what: str, found: dict[int, list[Cost]]) -> Sequence[Row]:
    first, *_, last = found
    return [
        _row(f"{first} to {last} {what}: a job", found, lambda cost: cost.took, AIMS[what]),
        _row(
            f"{first} to {last} {what}: processor time", found, lambda cost: cost.used, AIMS[what]
        ),
    ]


def _row(what: str, found: dict[int, list[Cost]], figure: Callable[[Cost], float], aim: Aim) -> Row:
    """Compare the most with the fewest, round by round; the points are all in between too."""
    values = {count: [[figure(cost)] for cost in costs] for count, costs in found.items()}
    most, fewest = values[max(values)], values[min(values)]
    compared = compare(most, fewest, p50)
    return Row(
        what=what,
        unit="ms",
        value=compared.value,
        reference=compared.reference,
        ratio=compared.ratio,
        aim=aim,
        points=[
            (float(count), Spread.of([each[0] for each in rounds]).median)
            for count, rounds in values.items()
        ],
    )


MEASUREMENT = Measurement(
    "scale", "a job among many clients, and among many workflows", measure, rounds=3
)
