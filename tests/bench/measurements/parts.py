"""The limits of a small job: bridges that each lack one part, or all but one, beside a whole one.

Parts are not additive: what one of them waits for, another may have to wait for then.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack

from tests.bench.delivery import Delivery, to_image
from tests.bench.figures import compare, p50
from tests.bench.forwarder import forwarder
from tests.bench.graphs import COLOUR, to_bridge, trivial
from tests.bench.lesser_bridge import PARTS, lesser
from tests.bench.measurements.crowd import CLIENTS, RunFor, rate
from tests.bench.report import Row
from tests.bench.stand import Measurement, Stand
from tests.bench.subscriber import Subscriber, subscribed
from tests.bench.turns import Side, Taken, take_turns
from tests.support.bridge import BridgeProcess
from tests.support.comfyui import Graph

JOBS = 200
TURN = 25
WORKFLOW = "ours"
WHOLE = "whole"
# Bridges that do nothing else.
FORWARDERS = {
    "forwards": "a bridge that only forwards",
    "keeps": "a bridge that only forwards, and keeps what it forwards",
}
# What each side is called in the table, and the kind of its process.
KINDS: Mapping[str, tuple[str, type[BridgeProcess]]] = {
    WHOLE: ("", BridgeProcess),
    **{part: (f"a small job without {about}", lesser(part)) for part, (about, _) in PARTS.items()},
    **{kind: (f"a small job of {about}", forwarder(kind)) for kind, about in FORWARDERS.items()},
}


async def measure(stand: Stand) -> list[Row]:
    """Let a whole bridge and all others take turns on one ComfyUI, then with many jobs at once."""
    async with AsyncExitStack() as stack:
        node = to_bridge("2")
        sides = [await side(stand, stack, name, kind, node) for name, (_, kind) in KINDS.items()]
        rounds = await take_turns(stand, [each for each, _ in sides], jobs=JOBS, turn=TURN)
        rates: dict[str, list[float]] = {name: [] for name in (WHOLE, *FORWARDERS)}
        for _ in range(stand.rounds):
            for each, run in sides:
                if each.name in rates:
                    rates[each.name].append(await rate(stand, run))
    rows: list[Row] = []
    for name, (what, _) in KINDS.items():
        if name == WHOLE:
            continue
        image, whole = ([to_image(each.deliveries) for each in rounds[of]] for of in (name, WHOLE))
        used, all_used = (_processor(rounds[of]) for of in (name, WHOLE))
        rows += [
            Row.compared(f"{what}: to the last byte, p50", "ms", compare(image, whole, p50)),
            Row.compared(f"{what}: processor time", "ms", compare(used, all_used, p50)),
        ]
    for name, about in FORWARDERS.items():
        what = f"{CLIENTS} clients at once of {about}: jobs a second"
        here, there = ([[each] for each in rates[of]] for of in (name, WHOLE))
        rows.append(Row.compared(what, "/s", compare(here, there, p50)))
    return rows


async def side(
    stand: Stand, stack: AsyncExitStack, name: str, kind: type[BridgeProcess], node: Graph
) -> tuple[Side, RunFor]:
    """Start a bridge on a broker of its own, whose jobs end in `node`.

    Returns it as a side of a comparison, and what runs a job for a client.
    """
    broker = await stack.enter_async_context(stand.broker())
    workflows = {WORKFLOW: trivial(0, node)}
    bridge = await stack.enter_async_context(stand.bridge(kind, broker, workflows))
    subscriber: Subscriber = await stack.enter_async_context(subscribed(broker.url))

    async def run(colour: int) -> Delivery:
        return await subscriber.run(WORKFLOW, {COLOUR: colour})

    async def run_for(client: str) -> Delivery:
        return await subscriber.run(WORKFLOW, {COLOUR: stand.colour()}, client=client)

    return Side(name, run, {"bridge": bridge.pid}), run_for


def _processor(rounds: list[Taken]) -> list[list[float]]:
    """Return the milliseconds of the bridge per job, one figure a round."""
    return [[each.processor["bridge"] * 1000 / len(each.deliveries)] for each in rounds]


MEASUREMENT = Measurement("parts", "what each part of the bridge costs a small job", measure)
