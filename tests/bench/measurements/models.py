"""Jobs of two checkpoints in turns, with and without the preference for the one that is loaded.

The checkpoints have random weights (tests/support/checkpoint.py), 147 MB each, made for the run.
"""

from __future__ import annotations

import asyncio
import time

import msgspec

from tests.bench.figures import compare, p50
from tests.bench.report import Aim, Row
from tests.bench.stand import Measurement, Stand
from tests.bench.subscriber import subscribed
from tests.support.bridge import ROOT, BridgeProcess
from tests.support.checkpoint import make_checkpoint
from tests.support.comfyui import Graph, installed

JOBS = 6
NAMES = ("first", "second")
AIM = Aim(1.0)
TIMEOUT_S = 240.0
# Jobs of the other checkpoint wait no longer than this for those of the loaded one.
REORDER_S = 60


async def measure(stand: Stand) -> list[Row]:
    """Queue all jobs, then run them, on bridges that differ in `reorder_s` alone."""
    await asyncio.to_thread(_make, stand)
    preferring: list[list[float]] = []
    plain: list[list[float]] = []
    for number in range(stand.rounds):
        plain.append([await _seconds(stand, reorder_s=0)])
        preferring.append([await _seconds(stand, reorder_s=REORDER_S)])
        told = f"{plain[-1][0]:.1f} s in turns, {preferring[-1][0]:.1f} s with the preference"
        stand.tell(f"round {number + 1} of {stand.rounds}: {told}")
    return [
        Row.compared(
            f"{JOBS} jobs of two checkpoints in turns: the loaded one preferred over not",
            "s",
            compare(preferring, plain, p50),
            AIM,
        )
    ]


def _make(stand: Stand) -> None:
    path, python = installed()
    for name in NAMES:
        make_checkpoint(path, python, stand.checkpoints / f"{name}.safetensors")


def _workflow(checkpoint: str) -> Graph:
    graph: Graph = msgspec.json.decode(
        (ROOT / "tests/support/workflows/random_txt2img.json").read_bytes()
    )
    for node in graph.values():
        if node["class_type"] == "CheckpointLoaderSimple":
            node["inputs"]["ckpt_name"] = f"{checkpoint}.safetensors"
    return graph


async def _seconds(stand: Stand, *, reorder_s: float) -> float:
    """Return how long the jobs take; ComfyUI unloads its models before."""
    workflows = {name: _workflow(name) for name in NAMES}
    async with (
        stand.broker() as broker,
        stand.bridge(BridgeProcess, broker, workflows, reorder_s=reorder_s),
        subscribed(broker.url) as subscriber,
        asyncio.timeout(TIMEOUT_S),
    ):
        inputs = {"prompt": "a mill", "steps": 1, "width": 64, "height": 64}
        await subscriber.run(NAMES[-1], inputs)
        began = time.perf_counter()
        # Both begin with the other one than is loaded.
        jobs = (NAMES[number % len(NAMES)] for number in range(JOBS))
        await asyncio.gather(*(subscriber.run(name, inputs) for name in jobs))
        return time.perf_counter() - began


MEASUREMENT = Measurement("models", "two checkpoints in turns", measure, rounds=2)
