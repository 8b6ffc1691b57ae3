"""A TCP proxy that cuts what goes through it, at the moment that a test chooses."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Self
from urllib.parse import urlsplit


class TcpProxy:
    """Stands before one server, on a port of its own; an async context manager."""

    def __init__(self, url: str) -> None:
        self.target = url
        self.accepting = True
        self.connections = 0
        self._port = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._budget: int | None = None
        self._cut = asyncio.Event()

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
        for writer in tuple(self._writers):
            writer.transport.abort()
        self._writers.clear()

    def close(self) -> None:
        """Reset every connection, and each new one, until `open`."""
        self.accepting = False
        self.cut()

    def open(self) -> None:
        self.accepting = True

    def cut_after(self, size: int) -> None:
        """Close when the server has sent this many more bytes on one connection."""
        self._budget = size
        self._cut.clear()

    async def was_cut(self) -> None:
        """Wait until `cut_after` struck."""
        await self._cut.wait()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self.accepting:
            writer.transport.abort()
            return
        self.connections += 1
        to = urlsplit(self.target)
        try:
            server_reader, server_writer = await asyncio.open_connection(to.hostname, to.port)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, server_writer}
        await asyncio.gather(
            self._pump(reader, server_writer, counted=False),
            self._pump(server_reader, writer, counted=True),
        )

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, counted: bool
    ) -> None:
        passed = 0
        with suppress(OSError):
            while data := await reader.read(65536):
                if counted and self._budget is not None:
                    passed += len(data)
                    if passed > self._budget:
                        self._budget = None
                        self.close()
                        self._cut.set()
                        return
                writer.write(data)
                await writer.drain()
        writer.transport.abort()
        self._writers.discard(writer)
