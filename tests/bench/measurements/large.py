"""Pictures as large as photographs: through our node and the bridge, and by SaveImage and `/view`.

ComfyUI makes the picture once and keeps it, so that what is measured is encoding and delivery.
Both encode PNG at zlib's level 4.
"""

from __future__ import annotations

from tests.bench.delivery import Delivery, check_same, to_image
from tests.bench.figures import compare, p50
from tests.bench.graphs import SEEDS, photo, to_bridge, to_disk
from tests.bench.processes import forget_peak, memory, peak
from tests.bench.report import Aim, Row
from tests.bench.stand import Both, Measurement, Stand
from tests.bench.turns import Side, take_turns

SIZES = (1024, 2048)
JOBS = 4
AIM = Aim(0.9)
MEMORY = Aim(1.2)
_MB = 1e6


async def measure(stand: Stand) -> list[Row]:
    """Measure each size."""
    workflows = {f"photo-{size}": {**photo(size), **to_bridge("5", "4")} for size in SIZES}
    async with stand.both(workflows) as both:
        idle = memory(both.processes.bridge).resident
        rows = [await _compare(stand, both, size) for size in SIZES]
        return [*rows, await _memory(stand, both, SIZES[-1], idle)]


async def _compare(stand: Stand, both: Both, size: int) -> Row:
    async def direct(number: int) -> Delivery:
        # A name of its own each time: else ComfyUI would not save again.
        return await both.direct.run({**photo(size), **to_disk("5", "4", prefix=f"photo{number}")})

    async def bridged(_: int) -> Delivery:
        return await both.subscriber.run(f"photo-{size}", SEEDS)

    sides = [Side("direct", direct), Side("bridge", bridged)]
    rounds = await take_turns(stand, sides, jobs=JOBS, turn=1)
    times = {name: [to_image(each.deliveries) for each in taken] for name, taken in rounds.items()}
    pictures = [rounds[side.name][0].deliveries[0].image for side in sides]
    check_same(*pictures)
    megabytes = len(rounds["bridge"][0].deliveries[0].image) / 1e6
    return Row.compared(
        f"photo-like PNG of {size} px ({megabytes:.1f} MB): to the last byte, p50",
        "ms",
        compare(times["bridge"], times["direct"], p50),
        AIM,
    )


async def _memory(stand: Stand, both: Both, size: int, idle: int) -> Row:
    """Measure what the bridge has at its peak more than when it had done nothing yet."""
    bridge = both.processes.bridge
    peaks: list[list[float]] = []
    sizes: list[list[float]] = []
    for _ in range(stand.rounds):
        forget_peak(bridge)
        found = await both.subscriber.run(f"photo-{size}", SEEDS)
        peaks.append([(peak(bridge) - idle) / _MB])
        sizes.append([len(found.image) / _MB])
    what = f"photo-like PNG of {size} px: memory of the bridge at its peak, over the picture's size"
    return Row.compared(what, "MB", compare(peaks, sizes, p50), MEMORY)


MEASUREMENT = Measurement(
    "large", "photo-like pictures, against SaveImage and /view", measure, rounds=3
)
