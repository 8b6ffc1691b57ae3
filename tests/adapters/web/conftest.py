from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import pytest
from msgspec import Struct

from bridge.adapters.web.adapter import WebAdapter
from bridge.adapters.web.content import read_page
from bridge.adapters.web.keyring import Keyring
from bridge.adapters.web.settings import Settings
from bridge.contract.topics import Topics
from bridge.mosquitto import Mosquitto
from bridge.mqtt import Address
from tests.support.strict_proxy import StrictProxy
from tests.support.visitor import Visitor

LINK_KEY = b"k" * 32
NO_BROKER = "mqtt://127.0.0.1:9"


class Standing(Struct):
    """A web adapter that serves, in the test's own process; `reachable`: it has its broker."""

    port: int
    keyring: Keyring
    running: asyncio.Task[None]
    scheme: str = "ws"
    reachable: bool = True
    mqtt: str = "5"

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
        options.setdefault("reachable", self.reachable)
        return Visitor(self.socket, self.key(client), **options)


Serve = Callable[..., AbstractAsyncContextManager[Standing]]


@pytest.fixture
def page(tmp_path: Path) -> Path:
    folder = tmp_path / "page"
    folder.mkdir()
    (folder / "index.html").write_text("<!doctype html><title>page</title>")
    (folder / "app.js").write_text("export {};")
    return folder


@asynccontextmanager
async def serving(
    url: str, folder: Path, page: Path, settings: dict[str, Any], *, reachable: bool
) -> AsyncIterator[Standing]:
    keyring = Keyring(folder / "keys.json")
    made = WebAdapter(
        Settings(**settings),
        Address.parse(url),
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
        yield Standing(listening.result(), keyring, running, reachable=reachable)
    finally:
        running.cancel()
        await asyncio.wait((running,))


@pytest.fixture
def serve(broker: Mosquitto, tmp_path: Path, page: Path) -> Serve:
    """Makes web adapters on the test's broker: `async with serve(rate=2.0) as server`."""

    def make(url: str | None = None, **settings: Any) -> AbstractAsyncContextManager[Standing]:
        return serving(url or broker.url, tmp_path, page, settings, reachable=True)

    return make


@pytest.fixture
def serve_alone(tmp_path: Path, page: Path) -> Serve:
    """Makes web adapters whose broker is away."""

    def make(**settings: Any) -> AbstractAsyncContextManager[Standing]:
        return serving(NO_BROKER, tmp_path, page, settings, reachable=False)

    return make


@pytest.fixture
async def server(serve: Serve) -> AsyncIterator[Standing]:
    async with serve() as standing:
        yield standing


@pytest.fixture(params=["5", "3.1.1"])
async def either(
    serve: Serve, broker: Mosquitto, request: pytest.FixtureRequest
) -> AsyncIterator[Standing]:
    """Serve a web adapter over MQTT 5, and one over 3.1.1."""
    mqtt_5: Literal["pass", "refuse"] = "pass" if request.param == "5" else "refuse"
    async with StrictProxy(broker.url, mqtt_5=mqtt_5) as proxy, serve(proxy.url) as standing:
        standing.mqtt = request.param
        yield standing


@pytest.fixture
async def alone(serve_alone: Serve) -> AsyncIterator[Standing]:
    async with serve_alone() as standing:
        yield standing
