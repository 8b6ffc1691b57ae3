"""`comfy2mqtt websocket`: the browser's door in a process of its own."""

from __future__ import annotations

import asyncio
import signal
from contextlib import suppress

from bridge.config import Config, ConfigError
from bridge.doors.websocket.door import CannotListen, WebSocketDoor
from bridge.doors.websocket.keyring import KeyringError
from bridge.mqtt import MqttError


async def serve(settings: Config) -> str | None:
    """Run the door until it is told to stop; returns why it could not."""
    reason: str | None = None
    try:
        await _serve(settings)
    except* (CannotListen, ConfigError, KeyringError, MqttError) as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        reason = str(error)
    return reason


async def _serve(settings: Config) -> None:
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        with suppress(NotImplementedError):  # Windows: Ctrl-C comes as KeyboardInterrupt
            loop.add_signal_handler(number, stopping.set)
    async with asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(WebSocketDoor.of(settings).run())
        await stopping.wait()
        serving.cancel()
