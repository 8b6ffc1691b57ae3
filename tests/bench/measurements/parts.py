"""The limits of a small job: bridges that each lack one part, beside a whole one.

Parts are not additive: what one of them waits for, another may have to wait for then.
"""

from __future__ import annotations

from contextlib import AsyncExitStack

from tests.bench.delivery import Delivery, to_image
from tests.bench.figures import compare, p50
from tests.bench.graphs import COLOUR, to_bridge, trivial
from tests.bench.lesser_bridge import PARTS, lesser
from tests.bench.report import Row
from tests.bench.stand import Measurement, Stand
from tests.bench.subscriber import Subscriber, subscribed
from tests.bench.turns import Side, Taken, take_turns
from tests.support.bridge import BridgeProcess

JOBS = 200
TURN = 25
WORKFLOW = "ours"
WHOLE = "whole"


async def measure(stand: Stand) -> list[Row]:
    """Have a whole bridge and all lesser ones take turns on one ComfyUI."""
    kinds: dict[str, type[BridgeProcess]] = {WHOLE: BridgeProcess}
    kinds |= {part: lesser(part) for part in PARTS}
    async with AsyncExitStack() as stack:
        sides = [await _side(stand, stack, name, kind) for name, kind in kinds.items()]
        rounds = await take_turns(stand, sides, jobs=JOBS, turn=TURN)
    rows: list[Row] = []
    for part, (about, _) in PARTS.items():
        what = f"a small job without {about}"
        pairs = (rounds[part], rounds[WHOLE])
        image, whole = ([to_image(each.deliveries) for each in taken] for taken in pairs)
        used, all_used = (_processor(taken) for taken in pairs)
        rows += [
            Row.compared(f"{what}: to the last byte, p50", "ms", compare(image, whole, p50)),
            Row.compared(f"{what}: processor time", "ms", compare(used, all_used, p50)),
        ]
    return rows


async def _side(stand: Stand, stack: AsyncExitStack, name: str, kind: type[BridgeProcess]) -> Side:
    broker = await stack.enter_async_context(stand.broker())
    workflows = {WORKFLOW: trivial(0, to_bridge("2"))}
    bridge = await stack.enter_async_context(stand.bridge(kind, broker, workflows))
    subscriber: Subscriber = await stack.enter_async_context(subscribed(broker.url))

    async def run(colour: int) -> Delivery:
        return await subscriber.run(WORKFLOW, {COLOUR: colour})

    return Side(name, run, {"bridge": bridge.pid})


def _processor(rounds: list[Taken]) -> list[list[float]]:
    """Return the milliseconds of the bridge per job, one figure a round."""
    return [[each.processor["bridge"] * 1000 / len(each.deliveries)] for each in rounds]


MEASUREMENT = Measurement("parts", "what each part of the bridge costs a small job", measure)
