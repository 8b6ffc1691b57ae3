"""Brokers: a real one, real ones with other settings, and one that plays a script."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from bridge.mosquitto import Mosquitto
from bridge.mqtt import Address
from tests.support.certificate import make_certificate
from tests.support.packets import read_packet

ACCEPTED = b"\x20\x03\x00\x00\x00"
# Bytes. Said, since by default mosquitto takes 268 MB up to 2.0 and 2 MB from 2.1 on.
LARGEST_PACKET = 32 * 1024 * 1024
# Who uses one of these needs a mosquitto.
_REAL_BROKERS = {"broker", "configure"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        ours = item.path.is_relative_to(Path(__file__).parent)
        if ours and isinstance(item, pytest.Function) and _REAL_BROKERS & set(item.fixturenames):
            item.add_marker(pytest.mark.broker)


class Configured(Mosquitto):
    """A mosquitto with settings of the test's own; `{port}` in them is its port."""

    def __init__(self, folder: Path, settings: str) -> None:
        super().__init__(folder)
        self._settings = settings

    def _write_configuration(self, port: int) -> Path:
        path = self.folder / "own.conf"
        path.write_text(f"user root\nlog_dest stderr\n{self._settings.format(port=port)}\n")
        return path


class Peer:
    """The other end of a connection to a scripted broker."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def packet(self) -> tuple[int, bytes]:
        """Return the next packet's first byte and body; raises IncompleteReadError at the end."""
        head, body = await read_packet(self.reader)
        return head[0], body

    async def accept(self, connack: bytes = ACCEPTED) -> None:
        """Take the CONNECT and answer it."""
        first_byte, _ = await self.packet()
        assert first_byte == 0x10
        self.send(connack)

    def send(self, data: bytes) -> None:
        self.writer.write(data)


Script = Callable[[Peer], Awaitable[None]]
Scripted = Callable[[Script], AbstractAsyncContextManager[Address]]
Configure = Callable[[str], Mosquitto]


@asynccontextmanager
async def _scripted(script: Script) -> AsyncIterator[Address]:
    served: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        served[task] = writer
        try:
            await script(Peer(reader, writer))
        except (asyncio.IncompleteReadError, ConnectionResetError):
            pass  # the other side has left: so does the script
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield Address(host="127.0.0.1", port=server.sockets[0].getsockname()[1])
        for writer in served.values():
            writer.transport.abort()
        await asyncio.gather(*served)


@pytest.fixture
def scripted() -> Scripted:
    """Serve a script to each connection; it is closed when the script ends."""
    return _scripted


@pytest.fixture
def configure(tmp_path: Path) -> Configure:
    """Make a mosquitto with settings of the test's own, not yet started."""
    return lambda settings: Configured(tmp_path, settings)


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Mosquitto]:
    """Start a mosquitto with its own defaults, but for LARGEST_PACKET: nothing is on disk."""
    settings = (
        f"listener {{port}} 127.0.0.1\nallow_anonymous true\nmax_packet_size {LARGEST_PACKET}"
    )
    async with Configured(tmp_path, settings) as running:
        yield running


@pytest.fixture
def address(broker: Mosquitto) -> Address:
    return Address.parse(broker.url)


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    return make_certificate(tmp_path)
