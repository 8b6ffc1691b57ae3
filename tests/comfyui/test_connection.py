"""Connecting to servers that do not behave as ComfyUI does when it is alone with us."""

from __future__ import annotations

import asyncio
import struct
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.streams import StreamReader
from yarl import URL

from bridge.aio import first
from bridge.comfyui import connection
from bridge.comfyui.connection import ComfyUISocket, _read_exact, connected
from bridge.comfyui.errors import ComfyUIUnreachable
from bridge.comfyui.frames import PREVIEW, Frame, PreviewImage, StatusMessage
from tests.support.patience import PATIENCE_S

STATUS = '{"type": "status", "data": {"status": {"exec_info": {"queue_remaining": 1}}}}'
MANY = 100


@asynccontextmanager
async def talked_to(*messages: str | bytes | list[str] | list[bytes]) -> AsyncIterator[URL]:
    """Run a server that sends messages to whoever connects, one that is a list in fragments."""

    async def talk(socket: ServerConnection) -> None:
        for message in messages:
            await socket.send(message)
        await socket.wait_closed()

    async with serve(talk, "127.0.0.1", 0) as server:
        yield URL(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")


async def received(socket: ComfyUISocket, count: int) -> list[Frame]:
    """Take so many frames, and leave the connection open."""
    found: list[Frame] = []
    enough = asyncio.Event()

    def take(frame: Frame) -> None:
        found.append(frame)
        if len(found) >= count:
            enough.set()

    await first(socket.deliver_frames(take), asyncio.wait_for(enough.wait(), PATIENCE_S))
    return found


async def test_a_server_that_sends_much_at_once_is_connected_to() -> None:
    async with talked_to(*[STATUS] * MANY) as url, connected(url) as opened:
        frames = await received(opened, MANY)
    assert [type(frame) for frame in frames] == [StatusMessage] * MANY


async def test_a_message_in_fragments_is_one_frame_and_one_that_is_no_text_is_none() -> None:
    picture = struct.pack(">II", PREVIEW, 1) + b"picture"
    fragments = [picture[at : at + 3] for at in range(0, len(picture), 3)]
    texts = [STATUS[at : at + 7] for at in range(0, len(STATUS), 7)]
    async with talked_to(texts, "no JSON", fragments, STATUS) as url, connected(url) as opened:
        one, preview, last = await received(opened, 3)
    assert isinstance(one, StatusMessage)
    assert one == last
    assert isinstance(preview, PreviewImage)
    assert bytes(preview.data) == b"picture"


async def test_what_goes_wrong_with_a_frame_is_raised_and_ends_the_connection() -> None:
    def take(_frame: Frame) -> None:
        raise LookupError("a defect")

    async with talked_to(STATUS, STATUS) as url, connected(url) as opened:
        with pytest.raises(LookupError, match="a defect"):
            async with asyncio.timeout(PATIENCE_S):
                await opened.deliver_frames(take)


async def test_a_server_that_hangs_up_is_unreachable_once_all_that_it_sent_is_taken() -> None:
    connected_to = asyncio.Event()

    async def talk(socket: ServerConnection) -> None:
        await connected_to.wait()
        await socket.send(STATUS)

    found: list[Frame] = []
    async with serve(talk, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with connected(URL(f"http://127.0.0.1:{port}")) as opened:
            connected_to.set()
            with pytest.raises(ComfyUIUnreachable):
                async with asyncio.timeout(PATIENCE_S):
                    await opened.deliver_frames(found.append)
    assert [type(frame) for frame in found] == [StatusMessage]


@pytest.mark.parametrize("size", [1, 70_000, 3_000_000])
def test_bytes_are_read_in_their_order_and_a_large_payload_is_not_copied(size: int) -> None:
    reader = StreamReader()
    reading = _read_exact(reader, size)
    data = bytes(range(256)) * (1 + size // 256)
    tracemalloc.start()
    try:
        for at in range(0, size, 50_000):
            next(reading)
            reader.feed_data(data[at : min(size, at + 50_000)])
        reader.feed_data(b"next")
        with pytest.raises(StopIteration) as ended:
            next(reading)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert ended.value.value == data[:size]
    assert reader.buffer == b"next"
    assert peak < 1.3 * size + 200_000
    reader.feed_eof()
    with pytest.raises(EOFError):
        next(_read_exact(reader, 5))


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
