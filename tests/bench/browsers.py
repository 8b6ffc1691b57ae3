"""Many browsers at once: bare sockets that count what they read, and the doors that they read from.

They parse nothing: what is measured is the server, not its clients.
"""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Final, Self

from msgspec import Struct

from bridge.mosquitto import Mosquitto
from tests.bench.stand import Stand
from tests.support.bridge import ROOT

_HANDSHAKE: Final = (
    b"GET /ws HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
_SWITCHED: Final = b"HTTP/1.1 101"
_READ: Final = 256 * 1024
_TIMEOUT_S: Final = 120.0


class WebServer(Struct, frozen=True):
    """A server in a process of its own; `key` is for its client `bench`."""

    pid: int
    port: int
    key: str


@asynccontextmanager
async def web_server(
    stand: Stand, broker: Mosquitto, **settings: object
) -> AsyncIterator[WebServer]:
    """Run the web adapter alone."""
    folder = stand.new_folder("door")
    key = await _output("-m", "bridge", "keys", "add", "bench", "--data", str(folder))
    port = _free_port()
    given = {"mqtt_url": broker.url, "data": folder, "websocket_listen": f"127.0.0.1:{port}"}
    ours = {f"COMFY2MQTT_{name.upper()}": str(each) for name, each in {**given, **settings}.items()}
    async with _running(port, folder / "log", "-m", "bridge", "websocket", **ours) as pid:
        yield WebServer(pid, port, key.strip())


@asynccontextmanager
async def broadcasting(stand: Stand) -> AsyncIterator[WebServer]:
    """Run a server that does nothing but `websockets.broadcast`."""
    port = _free_port()
    folder = stand.new_folder("broadcasting")
    async with _running(port, folder / "log", "-m", "tests.bench.broadcasting", str(port)) as pid:
        yield WebServer(pid, port, "")


class Readers:
    """Connections that read and count; use as `async with Readers(served, 100) as readers`."""

    def __init__(self, served: WebServer, count: int) -> None:
        self._door = served
        self._count = count
        self._sockets: list[socket.socket] = []
        self._wanted = 0
        self._read = 0
        self._done = asyncio.Event()

    async def __aenter__(self) -> Self:
        _allow_files(self._count + 200)
        for _ in range(self._count):
            self._sockets.append(await connected(self._door))
        loop = asyncio.get_running_loop()
        for each in self._sockets:
            loop.add_reader(each, self._take, each)
        return self

    async def __aexit__(self, *_: object) -> None:
        loop = asyncio.get_running_loop()
        for each in self._sockets:
            loop.remove_reader(each)
            each.close()

    def expect(self, size: int) -> None:
        """Begin to count: `size` bytes for each."""
        self._done.clear()
        self._read, self._wanted = 0, size * self._count

    async def arrived(self) -> None:
        """Wait until all that was expected is here."""
        async with asyncio.timeout(_TIMEOUT_S):
            await self._done.wait()

    def _take(self, each: socket.socket) -> None:
        self._read += len(each.recv(_READ))
        if self._read >= self._wanted:
            self._done.set()


async def connected(served: WebServer) -> socket.socket:
    """Return a socket that is open, and registered where there is a key."""
    loop = asyncio.get_running_loop()
    found = socket.socket()
    found.setblocking(False)  # noqa: FBT003 - the socket's own way
    await loop.sock_connect(found, ("127.0.0.1", served.port))
    await loop.sock_sendall(found, _HANDSHAKE)
    await _until(found, _SWITCHED)
    if served.key:
        message = f'{{"type":"register","key":"{served.key}"}}'.encode()
        # Masked with zeros: that is a mask, too.
        head = bytes((0x81, 0x80 | len(message), 0, 0, 0, 0))
        await loop.sock_sendall(found, head + message)
        await _until(found, b'{"type":"ready"}')
    return found


async def _until(found: socket.socket, wanted: bytes) -> None:
    read = b""
    while wanted not in read:
        more = await asyncio.get_running_loop().sock_recv(found, _READ)
        if not more:
            raise ConnectionError(f"closed after {read!r}")
        read += more


@asynccontextmanager
async def _running(port: int, log: Path, *words: str, **variables: str) -> AsyncIterator[int]:
    others = {name: each for name, each in os.environ.items() if "COMFY2MQTT_" not in name}
    with log.open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, *words),
            env={**others, **variables, "PYTHONPATH": str(ROOT)},
            stdout=file,
            stderr=file,
        )
    try:
        await _until_it_listens(port)
        yield process.pid
    finally:
        process.terminate()
        await process.wait()


async def _until_it_listens(port: int) -> None:
    async with asyncio.timeout(_TIMEOUT_S):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionRefusedError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                await writer.wait_closed()
                return


async def _output(*words: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, *words), cwd=ROOT, stdout=-1, stderr=-3
    )
    out, _ = await process.communicate()
    return out.decode()


def _free_port() -> int:
    with closing(socket.socket()) as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def _allow_files(wanted: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
