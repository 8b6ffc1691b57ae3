"""For how long ComfyUI waits for work between consecutive jobs of half a second.

A test node counts that inside of ComfyUI, where its worker thread asks its queue for the next
prompt. The reference is a direct client that has handed over all prompts beforehand.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import aiohttp
import msgspec

from tests.bench.figures import compare, p95
from tests.bench.graphs import COLOUR, to_bridge, trivial
from tests.bench.report import Aim, Row
from tests.bench.stand import Both, Measurement, Stand
from tests.support.comfyui import Graph

JOBS = 12
SECONDS = 0.5
AIM = Aim(5.0)
TIMEOUT_S = 60.0


async def measure(stand: Stand) -> list[Row]:
    """Measure how long ComfyUI is idle between queued jobs, with the bridge and without."""
    ours: list[list[float]] = []
    direct: list[list[float]] = []
    async with stand.both({"half": half(0)}) as both:
        for number in range(stand.rounds):
            direct.append(await _waits(stand, lambda: _direct(stand, both)))
            ours.append(await _waits(stand, lambda: _bridged(stand, both)))
            stand.tell(f"round {number + 1} of {stand.rounds}: p95 {p95(ours[-1]):.2f} ms")
    found = compare(ours, direct, p95)
    return [
        Row(
            what=f"ComfyUI idle between jobs of {SECONDS} s, p95",
            unit="ms",
            value=found.value,
            aim=AIM,
        ),
        Row(
            what="the same, all prompts submitted before by the direct client",
            unit="ms",
            value=found.reference,
        ),
    ]


def half(colour: int) -> Graph:
    """Takes half a second."""
    sleep = {"image": ["1", 0], "seconds": SECONDS, "step": SECONDS / 5}
    return {
        **trivial(colour, to_bridge("3", "2")),
        "2": {"class_type": "TestSleep", "inputs": sleep},
    }


async def _direct(stand: Stand, both: Both) -> None:
    await asyncio.gather(*(both.direct.run(half(stand.colour())) for _ in range(JOBS)))


async def _bridged(stand: Stand, both: Both) -> None:
    inputs = ({COLOUR: stand.colour()} for _ in range(JOBS))
    await asyncio.gather(*(both.subscriber.run("half", each) for each in inputs))


async def _waits(stand: Stand, work: Callable[[], Awaitable[None]]) -> list[float]:
    """Return the milliseconds that ComfyUI waited for each prompt but the first."""
    async with aiohttp.ClientSession() as session, asyncio.timeout(TIMEOUT_S):
        await _read(stand, session)
        await work()
        return [each * 1000 for each in await _read(stand, session)][1:]


async def _read(stand: Stand, session: aiohttp.ClientSession) -> list[float]:
    """Return the seconds of each wait since this was last asked."""
    async with session.get(f"{stand.server.url}/comfy2mqtt_tests/waits") as response:
        return msgspec.json.decode(await response.read(), type=list[float])


MEASUREMENT = Measurement("gap", "for how long ComfyUI waits between jobs", measure, rounds=3)
