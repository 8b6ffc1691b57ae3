from __future__ import annotations

import aiohttp
import pytest

from bridge.comfyui.client import ComfyClient
from bridge.comfyui.connection import reason_of
from bridge.comfyui.errors import ComfyUIUnreachable


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ConnectionRefusedError(111, "Connect call failed ('127.0.0.1', 9)"), "Connection refused"),
        (OSError(-2, "Name or service not known"), "Name or service not known"),
        (TimeoutError(), "TimeoutError"),
        (aiohttp.ServerDisconnectedError(), "Server disconnected"),
    ],
)
def test_a_reason_is_in_the_systems_words(error: BaseException, told: str) -> None:
    assert reason_of(error) == told


async def test_nobody_at_the_port_is_reported_without_internals() -> None:
    async with ComfyClient("http://127.0.0.1:9") as client:
        with pytest.raises(ComfyUIUnreachable) as caught:
            await client.system_stats()
    assert str(caught.value) == "ComfyUI cannot be reached: Connection refused"
