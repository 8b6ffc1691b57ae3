"""10,000 jobs that wait for a ComfyUI that is away: their memory, and what their order costs."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack

from bridge.jobs.queue import Key, Queue
from tests.bench.figures import Spread, compare, p50
from tests.bench.graphs import COLOUR, to_bridge, trivial
from tests.bench.processes import memory
from tests.bench.report import Aim, Row
from tests.bench.stand import NOWHERE, Measurement, Stand
from tests.bench.subscriber import Subscriber, subscribed
from tests.support.bridge import BridgeProcess

JOBS = 10_000
STEP = 1_000
CLIENTS = 20
# More at a time would only wait in the broker.
AT_ONCE = 64
MEMORY = Aim(60.0)
FLAT = Aim(1.3)
TIMEOUT_S = 300.0
LIMITS = {"max_queue": 2 * JOBS}
_MB = 1e6


async def measure(stand: Stand) -> list[Row]:
    """Measure a real bridge over MQTT, and the queue's own order by itself."""
    workflows = {"trivial": trivial(0, to_bridge("2"))}
    async with stand.broker() as broker, AsyncExitStack() as stack:
        bridge = stand.bridge(BridgeProcess, broker, workflows, comfyui_url=NOWHERE, **LIMITS)
        stack.push_async_exit(bridge.__aexit__)
        await bridge.start(ready=False)
        await bridge.ready("unreachable")
        before = memory(bridge.pid)
        async with subscribed(broker.url) as subscriber:
            times = []
            for number in range(JOBS // STEP):
                times.append(await _submit(stand, subscriber))
                stand.tell(f"{(number + 1) * STEP} jobs wait: {times[-1]:.2f} ms each")
        after = memory(bridge.pid)
    return [
        _memory(f"{JOBS} queued jobs: memory over idle", after.resident - before.resident),
        Row.compared(
            "queued jobs: accepting the last 1,000 over the first, a job",
            "ms",
            compare([times[-1:]], [times[:1]], p50),
            FLAT,
        ),
        _order(stand.rounds),
    ]


async def _submit(stand: Stand, subscriber: Subscriber) -> float:
    """Get some jobs accepted; returns the milliseconds for each."""
    waiting = iter(range(STEP))

    async def submit() -> None:
        for number in waiting:
            inputs = {COLOUR: stand.colour()}
            await subscriber.submit("trivial", inputs, client=f"client-{number % CLIENTS}")

    began = time.perf_counter()
    async with asyncio.timeout(TIMEOUT_S), asyncio.TaskGroup() as tasks:
        for _ in range(AT_ONCE):
            tasks.create_task(submit())
    return (time.perf_counter() - began) * 1000 / STEP


def _memory(what: str, size: int) -> Row:
    megabytes = size / _MB
    return Row(what=what, unit="MB", value=Spread.of([megabytes]), aim=MEMORY)


def _order(rounds: int) -> Row:
    """Compare taking the next job out of a full queue with taking it out of an emptier one."""
    full: list[Sequence[float]] = []
    emptier: list[Sequence[float]] = []
    for seed in range(rounds):
        times = _take_all(random.Random(seed))
        full.append(times[:STEP])
        emptier.append(times[-STEP:])
    return Row.compared(
        f"queue: take with {JOBS} waiting over {STEP}, p50",
        "us",
        compare(full, emptier, p50),
        FLAT,
    )


def _take_all(drawing: random.Random) -> list[float]:
    """Fill a queue and empty it; returns the microseconds of each take."""
    queue = Queue()
    for seq in range(JOBS):
        key = Key(f"client-{seq % CLIENTS}", str(seq))
        queue.add(key, seq=seq, priority=drawing.choice((0, 0, 0, 1)))
    times = []
    for _ in range(JOBS):
        began = time.perf_counter()
        queue.take()
        times.append((time.perf_counter() - began) * 1e6)
    return times


MEASUREMENT = Measurement(
    "backlog", f"{JOBS} jobs that wait for a ComfyUI that is away", measure, comfyui=False
)
