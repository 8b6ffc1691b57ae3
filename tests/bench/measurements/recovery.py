"""The time without each part after it is killed: bridge, ComfyUI, broker.

Each time from the SIGKILL to the picture of a job that was asked for right after it. The bridge
and the broker are started again at once, as a service manager does; ComfyUI by the bridge.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

from bridge.mosquitto import Mosquitto
from tests.bench.figures import Spread
from tests.bench.graphs import COLOUR, to_bridge, trivial
from tests.bench.report import Row
from tests.bench.stand import Measurement, Stand
from tests.bench.subscriber import subscribed
from tests.support.bridge import BridgeProcess
from tests.support.comfyui import installed

TIMEOUT_S = 90.0
WORKFLOWS = {"trivial": trivial(0, to_bridge("2"))}


async def measure(stand: Stand) -> list[Row]:
    """Kill each part."""
    bridges: list[float] = []
    brokers: list[float] = []
    async with (
        stand.broker() as broker,
        stand.bridge(BridgeProcess, broker, WORKFLOWS) as bridge,
        asyncio.timeout(TIMEOUT_S * stand.rounds),
    ):
        for number in range(stand.rounds):
            bridges.append(await _bridge_killed(stand, broker, bridge))
            brokers.append(await _broker_killed(stand, broker))
            told = f"bridge {bridges[-1]:.2f} s, broker {brokers[-1]:.2f} s"
            stand.tell(f"round {number + 1} of {stand.rounds}: {told}")
    started, again = await _comfyui_killed(stand)
    what = "killed, to the picture of a job asked for meanwhile"
    return [
        Row(what=f"the bridge {what}", unit="s", value=Spread.of(bridges)),
        Row(what=f"the broker {what}", unit="s", value=Spread.of(brokers)),
        Row(
            what=f"ComfyUI {what}, over the first start to such a picture",
            unit="s",
            value=Spread.of([again]),
            reference=Spread.of([started]),
            ratio=Spread.of([again / started]),
        ),
    ]


async def _bridge_killed(stand: Stand, broker: Mosquitto, bridge: BridgeProcess) -> float:
    async with subscribed(broker.url) as subscriber:
        began = time.perf_counter()
        await bridge.kill()
        await bridge.start(ready=False)
        await subscriber.run("trivial", {COLOUR: stand.colour()})
        return time.perf_counter() - began


async def _broker_killed(stand: Stand, broker: Mosquitto) -> float:
    began = time.perf_counter()
    await broker.kill()
    await broker.start()
    async with subscribed(broker.url) as subscriber:
        await subscriber.run("trivial", {COLOUR: stand.colour()})
        return time.perf_counter() - began


async def _comfyui_killed(stand: Stand) -> tuple[float, float]:
    """Return seconds to a picture from a bridge's start with its own ComfyUI, and from its kill."""
    path, python = installed()
    own = {"comfyui_path": path, "comfyui_python": python, "comfyui_args": "--cpu"}
    async with (
        stand.broker() as broker,
        subscribed(broker.url) as subscriber,
        asyncio.timeout(TIMEOUT_S),
    ):
        began = time.perf_counter()
        bridge = stand.bridge(BridgeProcess, broker, WORKFLOWS, **own)
        async with bridge:
            await subscriber.run("trivial", {COLOUR: stand.colour()})
            started = time.perf_counter() - began
            began = time.perf_counter()
            os.kill(_comfyui_of(bridge.pid), signal.SIGKILL)
            await subscriber.run("trivial", {COLOUR: stand.colour()})
            again = time.perf_counter() - began
    stand.tell(f"ComfyUI: {started:.1f} s to begin with, {again:.1f} s after its kill")
    return started, again


def _comfyui_of(pid: int) -> int:
    """Return the ComfyUI below a bridge: its guard's child."""
    for guard in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        if b"subreaper.py" in Path(f"/proc/{guard}/cmdline").read_bytes():
            return int(Path(f"/proc/{guard}/task/{guard}/children").read_text().split()[0])
    raise RuntimeError("the bridge has no ComfyUI")


MEASUREMENT = Measurement(
    "recovery", "how long each part is missed when it is killed", measure, rounds=3
)
