"""Connecting to servers that do not behave as ComfyUI does when it is alone with us."""

from __future__ import annotations

import asyncio

import pytest
from websockets.asyncio.server import ServerConnection, serve
from yarl import URL

from bridge.comfyui import connection
from bridge.comfyui.connection import connected
from bridge.comfyui.errors import ComfyUIUnreachable
from bridge.comfyui.frames import Status
from tests.support.patience import PATIENCE_S

STATUS = '{"type": "status", "data": {"status": {"exec_info": {"queue_remaining": 1}}}}'
MANY = 100


async def test_a_server_that_tells_much_at_once_is_connected_to() -> None:
    async def talk(socket: ServerConnection) -> None:
        for _ in range(MANY):
            await socket.send(STATUS)
        await socket.wait_closed()

    async with serve(talk, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with connected(URL(f"http://127.0.0.1:{port}")) as opened:
            frames = opened.frames()
            for _ in range(MANY):
                assert isinstance(await anext(frames), Status)
            await frames.aclose()


async def test_a_connection_that_is_given_up_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_OPEN_TIMEOUT_S", 0.2)
    given_up, closed = asyncio.Event(), asyncio.Event()

    async def stand_still(socket: ServerConnection) -> None:
        socket.transport.pause_reading()  # no ping is answered
        await given_up.wait()
        socket.transport.resume_reading()
        await socket.wait_closed()
        closed.set()

    async with serve(stand_still, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(ComfyUIUnreachable):
            async with connected(URL(f"http://127.0.0.1:{port}")):
                pass
        given_up.set()
        async with asyncio.timeout(PATIENCE_S):
            await closed.wait()
