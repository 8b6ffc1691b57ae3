from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from bridge.comfyui.instance import Instance
from bridge.comfyui.settings import AttachConfig, SuperviseConfig
from tests.comfyui.worlds import whole_world, world
from tests.support.comfyui import Server, supervised
from tests.support.patience import PATIENCE_S
from tests.support.tcpproxy import TcpProxy

__all__ = ["whole_world", "world"]


@pytest.fixture(scope="session")
def comfyui_config() -> SuperviseConfig:
    """The settings to start the real ComfyUI; installs it if need be."""
    return supervised()


@asynccontextmanager
async def attached(url: str, secret: str | None) -> AsyncIterator[Instance]:
    """An instance that is connected and ready."""
    instance = Instance("test", AttachConfig(url, secret), folder=Path("unused"))
    running = asyncio.create_task(instance.run())
    try:
        async with asyncio.timeout(PATIENCE_S):
            await instance.ready()
        yield instance
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@pytest.fixture
async def instance(comfyui: Server) -> AsyncIterator[Instance]:
    async with attached(comfyui.url, comfyui.secret) as instance:
        yield instance


@pytest.fixture
async def proxy(comfyui: Server) -> AsyncIterator[TcpProxy]:
    async with TcpProxy(comfyui.url) as proxy:
        yield proxy


@pytest.fixture
async def far_instance(proxy: TcpProxy, comfyui: Server) -> AsyncIterator[Instance]:
    """An instance whose connections the test can cut."""
    async with attached(proxy.url, comfyui.secret) as instance:
        yield instance
