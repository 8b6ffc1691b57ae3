from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct

from bridge.adapters.web.adapter import WebAdapter
from bridge.adapters.web.content import read_page
from bridge.adapters.web.keyring import Keyring
from bridge.adapters.web.settings import Settings
from bridge.contract.topics import Topics
from bridge.mosquitto import Mosquitto
from bridge.mqtt import Address
from tests.support.visitor import Visitor

LINK_KEY = b"k" * 32


class Standing(Struct):
    """A door that stands open, in the test's own process."""

    port: int
    keyring: Keyring
    running: asyncio.Task[None]
    scheme: str = "ws"

    @property
    def socket(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}/ws"

    @property
    def http(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def key(self, client: str = "alice") -> str:
        _, text = self.keyring.add(client, "", time.time())
        return text

    def visitor(self, client: str = "alice", **options: Any) -> Visitor:
        return Visitor(self.socket, self.key(client), **options)


OpenDoor = Callable[..., AbstractAsyncContextManager[Standing]]


@pytest.fixture
def page(tmp_path: Path) -> Path:
    folder = tmp_path / "page"
    folder.mkdir()
    (folder / "index.html").write_text("<!doctype html><title>page</title>")
    (folder / "app.js").write_text("export {};")
    return folder


@pytest.fixture
def open_door(broker: Mosquitto, tmp_path: Path, page: Path) -> OpenDoor:
    """Opens doors on the test's broker: `async with open_door(rate=2.0) as door`."""

    @asynccontextmanager
    async def make(url: str | None = None, **settings: Any) -> AsyncIterator[Standing]:
        keyring = Keyring(tmp_path / "keys.json")
        made = WebAdapter(
            Settings(**settings),
            Address.parse(url or broker.url),
            Topics(),
            keyring=keyring,
            link_key=LINK_KEY,
            link_s=3600.0,
            page=read_page(page),
        )
        listening: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        running = asyncio.create_task(made.run(listening.set_result))
        await asyncio.wait((running, listening), return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            await running
        try:
            yield Standing(listening.result(), keyring, running)
        finally:
            running.cancel()
            await asyncio.wait((running,))

    return make


@pytest.fixture
async def door(open_door: OpenDoor) -> AsyncIterator[Standing]:
    async with open_door() as standing:
        yield standing
