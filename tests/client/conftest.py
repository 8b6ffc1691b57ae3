"""A real broker, a client, and a bridge to tell what to do."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bridge.client import Client
from tests.client.fakebridge import Broker, FakeBridge, fake_bridge


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Broker]:
    async with Broker(tmp_path) as running:
        yield running


@pytest.fixture
async def fake(broker: Broker) -> AsyncIterator[FakeBridge]:
    async with fake_bridge(broker) as bridge:
        yield bridge


@pytest.fixture
async def client(broker: Broker) -> AsyncIterator[Client]:
    async with Client(broker.url, client="alice") as open_client:
        yield open_client
