"""The bridge's cost of following a job that reports a lot: 100 steps and 20 previews a second."""

from __future__ import annotations

import time

from tests.bench.figures import Spread
from tests.bench.graphs import COLOUR, to_bridge, trivial
from tests.bench.processes import processor_s
from tests.bench.report import Aim, Row
from tests.bench.stand import Measurement, Stand

STEPS_A_SECOND = 100
PREVIEWS_A_SECOND = 20
SECONDS = 4
# As large as the latent previews of a picture of 1024 px, times two.
PREVIEW_SIZE = 256
AIM = Aim(10.0)


async def measure(stand: Stand) -> list[Row]:
    """Run one such job a round, its previews asked for, and take the bridge's processor time."""
    telling = {
        "image": ["1", 0],
        "count": STEPS_A_SECOND * SECONDS,
        "rate": float(STEPS_A_SECOND),
        "preview_size": PREVIEW_SIZE,
        "preview_every": STEPS_A_SECOND // PREVIEWS_A_SECOND,
    }
    graph = {
        **trivial(0, to_bridge("3", "2")),
        "2": {"class_type": "TestProgress", "inputs": telling},
    }
    shares: list[float] = []
    async with stand.both({"telling": graph}) as both:
        for number in range(stand.rounds):
            before, began = processor_s(both.processes.bridge), time.perf_counter()
            inputs = {COLOUR: stand.colour(), "$preview": True}
            await both.subscriber.run("telling", inputs)
            used = processor_s(both.processes.bridge) - before
            shares.append(100 * used / (time.perf_counter() - began))
            stand.tell(f"round {number + 1} of {stand.rounds}: {shares[-1]:.1f} % of a core")
    what = f"{STEPS_A_SECOND} steps and {PREVIEWS_A_SECOND} previews a second: of one core"
    return [Row(what=what, unit="%", value=Spread.of(shares), aim=AIM)]


MEASUREMENT = Measurement("progress", "a job that tells a lot of itself", measure, rounds=2)
