"""The cost of a TCP connection before it has sent anything."""

from __future__ import annotations

import asyncio
import select
import socket
from contextlib import ExitStack

import pytest
from aiohttp import web

from bridge.adapters.web import server
from bridge.adapters.web.server import TcpConnection, serving
from tests.support.patience import PATIENCE_S

AT_ONCE = 500
REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


@pytest.fixture
def handlers(monkeypatch: pytest.MonkeyPatch) -> list[TcpConnection]:
    """The connections that aiohttp was asked to handle."""
    made: list[TcpConnection] = []

    class Noted(TcpConnection):
        def __init__(self, *given: object) -> None:
            super().__init__(*given)  # type: ignore[arg-type]
            made.append(self)

    monkeypatch.setattr(server, "TcpConnection", Noted)
    return made


async def test_hundreds_of_connections_at_once_leave_room_for_another() -> None:
    """None is accepted meanwhile: the loop does not turn."""
    async with serving(web.Application(), "127.0.0.1", 0) as port:
        with ExitStack() as stack:
            many = []
            for _ in range(AT_ONCE):
                one = stack.enter_context(socket.socket())
                one.setblocking(False)  # noqa: FBT003 - of the socket interface
                one.connect_ex(("127.0.0.1", port))
                many.append(one)
            poll = select.poll()
            for one in many:
                poll.register(one, select.POLLOUT)
            assert len(poll.poll(0)) == AT_ONCE


async def test_a_connection_that_says_nothing_costs_no_handler_and_is_closed_in_time(
    handlers: list[TcpConnection],
) -> None:
    async with (
        asyncio.timeout(PATIENCE_S),
        serving(web.Application(), "127.0.0.1", 0, head_s=0.1) as port,
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert await reader.read() == b""
        assert handlers == []
        writer.close()


async def test_a_connection_is_handled_from_its_first_byte_on(
    handlers: list[TcpConnection],
) -> None:
    async with asyncio.timeout(PATIENCE_S), serving(web.Application(), "127.0.0.1", 0) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(REQUEST[:1])
        await asyncio.sleep(0)
        writer.write(REQUEST[1:])
        assert (await reader.read()).startswith(b"HTTP/1.1 404")
        assert len(handlers) == 1
        writer.close()


async def test_silent_connections_end_with_the_server() -> None:
    async with asyncio.timeout(PATIENCE_S):
        async with serving(web.Application(), "127.0.0.1", 0) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            answers, other = await asyncio.open_connection("127.0.0.1", port)
            other.write(REQUEST)
            await answers.read()  # by now the first one was accepted as well
        assert await reader.read() == b""
        writer.close()
        other.close()
