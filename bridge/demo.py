"""The demo: a broker, a bridge, a ComfyUI, and one picture, on a machine that has none of them."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from bridge.client import Client
from bridge.comfyui import install
from bridge.comfyui.settings import SuperviseConfig
from bridge.config import Config
from bridge.mosquitto import Mosquitto
from bridge.mqtt import Address
from bridge.service import Bridge

WORKFLOW = "demo"
PROMPT = "sunset over a calm sea, a sailing boat"
# Importing torch on a busy machine with a cold disk takes its time.
START_TIMEOUT_S = 300.0

Report = Callable[[str], None]


async def demo(report: Report, *, workflows: Path, pictures: Path, once: bool) -> int:
    """Run the demo; returns the exit status. Stays up until Ctrl-C unless `once`."""
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    main = asyncio.create_task(_demo(report, workflows, pictures, stopping, once=once))
    told = asyncio.create_task(stopping.wait())
    await asyncio.wait((main, told), return_when=asyncio.FIRST_COMPLETED)
    told.cancel()
    if not main.done():
        report("Stopping.")
        main.cancel()
        await asyncio.wait((main,))
    return 0 if main.cancelled() else main.result()


async def _demo(
    report: Report, workflows: Path, pictures: Path, stopping: asyncio.Event, *, once: bool
) -> int:
    found = await install.ensure(report)
    folder = install.cache_folder() / "demo"
    async with Mosquitto(folder / "mosquitto") as broker:
        report(f"mosquitto listens on {broker.url}")
        config = Config(mqtt_url=broker.url, workflows=workflows, data=folder / "data")
        comfyui = SuperviseConfig(found.path, found.python, ("--cpu",))
        bridge = Bridge(config, Address.parse(broker.url), comfyui)
        serving = asyncio.create_task(bridge.run(ended := asyncio.Event()))
        try:
            working = asyncio.create_task(_work(report, broker.url, pictures, once=once))
            await asyncio.wait((serving, working), return_when=asyncio.FIRST_COMPLETED)
            if serving.done():
                working.cancel()
                serving.result()  # why it ended
            return await working
        finally:
            ended.set()
            await asyncio.wait((serving,))
