"""A job in which there is next to nothing to do, one after another: what the way itself costs."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from tests.bench.delivery import BenchError, Delivery, check_same, pixels, to_end, to_image
from tests.bench.figures import Spread, compare, p50, p95, tail
from tests.bench.graphs import COLOUR, to_bridge, to_disk, trivial
from tests.bench.report import Aim, Row
from tests.bench.stand import Both, Measurement, Stand
from tests.bench.turns import Side, Taken, take_turns
from tests.support.comfyui import Graph

JOBS = 200
TURN = 25


class Output(Struct, frozen=True):
    """A way for pictures out of ComfyUI, and how the bridge shall compare on it."""

    name: str
    workflow: str
    node: Graph
    aim: Aim

    @property
    def direct(self) -> str:
        """The name of the direct client's side."""
        return f"direct {self.workflow}"

    @property
    def bridged(self) -> str:
        """The name of the bridge's side."""
        return f"bridge {self.workflow}"


OUTPUTS = (
    Output("our output node", "ours", to_bridge("2"), Aim(1.7)),
    Output("SaveImage", "save", to_disk("2"), Aim(1.5)),
)
# How much longer the bridge's tail may be than the direct client's own.
TAIL_AIM = Aim(1.3)
# Milliseconds of a processor for a job.
PROCESSOR_AIM = Aim(1.3)


async def measure(stand: Stand) -> list[Row]:
    """Measure both clients on both outputs."""
    workflows = {output.workflow: trivial(0, output.node) for output in OUTPUTS}
    async with stand.both(workflows) as both:
        sides = [side for output in OUTPUTS for side in _sides(both, output)]
        for direct, bridged in zip(sides[::2], sides[1::2], strict=True):
            await _check(direct, bridged, stand.colour())
        rounds = await take_turns(stand, sides, jobs=JOBS, turn=TURN)
    rows: list[Row] = []
    for output in OUTPUTS:
        rows += _rows(output, rounds[output.direct], rounds[output.bridged])
    return rows


def _sides(both: Both, output: Output) -> tuple[Side, Side]:
    comfyui = {"ComfyUI": both.processes.comfyui}

    async def direct(colour: int) -> Delivery:
        return await both.direct.run(trivial(colour, output.node))

    async def bridged(colour: int) -> Delivery:
        return await both.subscriber.run(output.workflow, {COLOUR: colour})

    processes = {**comfyui, "bridge": both.processes.bridge}
    return Side(output.direct, direct, comfyui), Side(output.bridged, bridged, processes)


async def _check(direct: Side, bridged: Side, colour: int) -> None:
    """See that the same picture comes both ways. Raises BenchError."""
    pictures = [(await side.run(colour)).image for side in (direct, bridged)]
    check_same(*pictures)
    if pixels(pictures[0])[:3] != colour.to_bytes(3, "big"):
        raise BenchError(f"{direct.name} gives another colour")


def _rows(output: Output, direct: Sequence[Taken], bridged: Sequence[Taken]) -> list[Row]:
    what = f"trivial job, {output.name}"
    here, there = ([each.deliveries for each in rounds] for rounds in (bridged, direct))
    image, image_there = ([to_image(each) for each in rounds] for rounds in (here, there))
    end, end_there = ([to_end(each) for each in rounds] for rounds in (here, there))
    return [
        Row.compared(
            f"{what}: to the last byte, p50", "ms", compare(image, image_there, p50), output.aim
        ),
        Row.compared(f"{what}: to the last byte, p95", "ms", compare(image, image_there, p95)),
        Row.compared(f"{what}: p95 over p50", "", compare(image, image_there, tail), TAIL_AIM),
        Row.compared(f"{what}: to the message of its end, p50", "ms", compare(end, end_there, p50)),
        Row.compared(
            f"{what}: processor time of ComfyUI",
            "ms",
            compare(_processor(bridged, "ComfyUI"), _processor(direct, "ComfyUI"), p50),
        ),
        Row(
            what=f"{what}: processor time of the bridge",
            unit="ms",
            value=Spread.of([each[0] for each in _processor(bridged, "bridge")]),
            aim=PROCESSOR_AIM,
        ),
    ]


def _processor(rounds: Sequence[Taken], process: str) -> list[list[float]]:
    """Return the milliseconds of a process per job, one figure a round."""
    return [[each.processor[process] * 1000 / len(each.deliveries)] for each in rounds]


MEASUREMENT = Measurement("trivial", "sequential jobs of 64 px, on both outputs", measure)
