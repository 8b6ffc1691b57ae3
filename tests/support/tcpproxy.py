"""A TCP proxy that cuts what goes through it, at the moment that a test chooses."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Self
from urllib.parse import urlsplit


class Line:
    """One connection: the client's two ends, and the server's."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.server_reader = reader
        self.server_writer = writer
        # How much of what the server sends still passes; all, if None.
        self.passes: int | None = None

    async def connect(self, url: str) -> None:
        to = urlsplit(url)
        ends = await asyncio.open_connection(to.hostname, to.port)
        self.server_reader, self.server_writer = ends

    def cut(self) -> None:
        self.writer.transport.abort()
        self.server_writer.transport.abort()


class TcpProxy:
    """Stands before one server, on a port of its own; an async context manager."""

    def __init__(self, url: str) -> None:
        self.target = url
        self._accepting = True
        self._port = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._lines: set[Line] = set()
        self._budget: int | None = None
        self._unanswered: bytes | None = None
        self._unsent: list[bytes] = []
        self._within = False
        self._but_for = 0
        self._cut = asyncio.Event()
        self._answered = asyncio.Event()
        self._held: bytes | None = None
        self._holds = asyncio.Event()
        self._released = asyncio.Event()
        self._flowing = asyncio.Event()
        self._flowing.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
        self.cut()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        """Reset every connection now."""
        for line in self._lines:
            line.cut()

    def close(self) -> None:
        """Reset every connection, and each new one, until `open`."""
        self._accepting = False
        self.cut()

    async def ended(self) -> None:
        """Wait until no connection is left."""
        while self._lines:  # noqa: ASYNC110 - of its own tasks, in a few turns of the loop
            await asyncio.sleep(0)

    def refuse(self) -> None:
        """Reset each new connection, until `open`; those that there are go on."""
        self._accepting = False

    def open(self) -> None:
        self._accepting = True

    def close_after(self, size: int) -> None:
        """Do as `close` does, before the server's answers on a connection exceed so many bytes.

        They are counted for each connection from its beginning; the first to get there counts.
        """
        self._budget = size
        self._cut.clear()

    async def was_closed(self) -> None:
        """Wait until `close_after`, `swallow_request` or `swallow_answer` struck."""
        await self._cut.wait()

    async def answered(self) -> None:
        """Wait until the server has answered a client, whichever was the first."""
        await self._answered.wait()

    def swallow_answer(self, request: bytes, *, within: bool = False, but_for: int = 0) -> None:
        """Pass on the next request that begins so, and cut the connection at its answer.

        Or, `within`, the next packet that has the request anywhere. Of the answer's bytes the first
        ones pass, `but_for` so many.
        """
        self._unanswered, self._but_for = request, but_for
        self._within = within
        self._cut.clear()

    def swallow_request(self, request: bytes, *, times: int = 1, within: bool = False) -> None:
        """Cut the connection at the next requests that begin so; the server never sees them."""
        self._unsent = [request] * times
        self._within = within
        self._cut.clear()

    def _is(self, data: bytes, request: bytes) -> bool:
        return request in data if self._within else data.startswith(request)

    def pass_requests(self) -> None:
        """Swallow no more of them."""
        self._unsent = []

    def stall(self) -> None:
        """Pass on nothing in either direction until `flow`; no connection ends."""
        self._flowing.clear()

    def flow(self) -> None:
        """Pass on what was delayed, and what follows."""
        self._flowing.set()

    def hold_answers(self, first: bytes) -> None:
        """From the next answer that begins so on, pass on none until `release`."""
        self._held = first
        self._released.clear()

    async def holds(self) -> None:
        """Wait until an answer is held."""
        await self._holds.wait()

    def release(self) -> None:
        """Pass on the answers that are held, and those that follow."""
        self._held = None
        self._released.set()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._serve(Line(reader, writer)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, line: Line) -> None:
        with suppress(OSError):
            if self._accepting:
                await line.connect(self.target)
                self._lines.add(line)
                await asyncio.gather(self._up(line), self._down(line))
        line.cut()
        self._lines.discard(line)

    async def _up(self, line: Line) -> None:
        with suppress(OSError):
            while data := await line.reader.read(65536):
                if self._unsent and self._is(data, self._unsent[0]):
                    self._unsent.pop()
                    self._cut.set()
                    break
                if self._unanswered is not None and self._is(data, self._unanswered):
                    self._unanswered = None
                    line.passes = self._but_for
                await self._flowing.wait()
                line.server_writer.write(data)
                await line.server_writer.drain()
        line.cut()

    async def _down(self, line: Line) -> None:
        passed = 0
        with suppress(OSError):
            while data := await line.server_reader.read(65536):
                if line.passes is not None and len(data) >= line.passes:
                    line.writer.write(data[: line.passes])
                    await line.writer.drain()
                    self._cut.set()
                    break
                passed += len(data)
                if self._budget is not None and passed > self._budget:
                    self._budget = None
                    self.close()
                    self._cut.set()
                    break
                if self._held is not None and data.startswith(self._held):
                    self._holds.set()
                    await self._released.wait()
                await self._flowing.wait()
                line.writer.write(data)
                await line.writer.drain()
                self._answered.set()
        line.cut()
