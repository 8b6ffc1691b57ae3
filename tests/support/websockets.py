"""A mosquitto that takes MQTT over WebSocket, too."""

from __future__ import annotations

import asyncio
import socket

from bridge.retry import retry
from tests.support.patience import PATIENCE_S

# A mosquitto with nothing but WebSocket does not start, up to 2.0.11.
SETTINGS = """
    listener {{port}} 127.0.0.1
    listener {websocket}
    protocol websockets
    allow_anonymous true
    max_packet_size {largest}
"""


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


async def listening(port: int) -> None:
    """Wait for mosquitto's listener, which comes after that for plain MQTT."""

    async def touch() -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.close()

    async with asyncio.timeout(PATIENCE_S):
        await retry(touch, OSError)
