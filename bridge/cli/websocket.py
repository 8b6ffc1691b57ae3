"""`comfy2mqtt websocket`: the browser's door in a process of its own."""

from __future__ import annotations

import asyncio
import signal
from contextlib import suppress

from bridge.adapters.web.adapter import WebAdapter
from bridge.adapters.web.errors import CannotServe
from bridge.cli import daemon
from bridge.config import Config, ConfigError
from bridge.mqtt import MqttError


def run(settings: Config) -> str | None:
    """Run the door until it is told to stop; returns why it could not."""
    return daemon.run(_serve(settings), CannotServe, ConfigError, MqttError)


async def _serve(settings: Config) -> None:
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        with suppress(NotImplementedError):  # Windows: Ctrl-C comes as KeyboardInterrupt
            loop.add_signal_handler(number, stopping.set)
    async with asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(WebAdapter.of(settings).run())
        await stopping.wait()
        serving.cancel()
