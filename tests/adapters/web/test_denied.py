"""A client whose topics the broker's ACL denies to the web adapter."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any, Self

import pytest

from bridge.adapters.web import broker as module
from bridge.adapters.web.broker import Broker
from bridge.adapters.web.hub import Hub
from bridge.contract.topics import Topics
from bridge.mqtt import Address, Subscription


class NoMessages:
    """Messages of which none ever comes."""

    backlog = 0

    async def __aiter__(self) -> AsyncIterator[None]:
        await asyncio.Event().wait()
        yield


class ConfinedConnection:
    """A connection whose broker refuses filters of bob; there is to be one alone."""

    made = 0
    filters: list[str]
    version = "5"
    messages = NoMessages()

    def __init__(self, *_: Any, **__: Any) -> None:
        self.filters = []

    async def __aenter__(self) -> Self:
        ConfinedConnection.made += 1
        assert ConfinedConnection.made == 1
        return self

    async def __aexit__(self, *_: object) -> None: ...

    async def subscribe(self, subscriptions: Sequence[Subscription]) -> list[int]:
        codes = []
        for each in subscriptions:
            denied = "/bob/" in each.filter
            assert each.optional or not denied
            codes.append(0x87 if denied else 0)
            if not denied:
                self.filters.append(each.filter)
        return codes


async def test_a_client_that_the_acl_denies_costs_the_others_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "Connection", ConfinedConnection)
    monkeypatch.setattr(ConfinedConnection, "made", 0)
    broker = Broker(Address.parse("mqtt://127.0.0.1"), Topics(), Hub(), lambda *_: None)
    # Both were there when the broker was away.
    async with broker.listening("bob"), broker.listening("alice"):
        running = asyncio.create_task(broker.run())
        connected = asyncio.create_task(broker.came_back.wait())
        await asyncio.wait((running, connected), return_when=asyncio.FIRST_COMPLETED)
        assert not running.done()
        connection: Any = broker._connection
        assert "comfy2mqtt/client/alice/response/+" in connection.filters
        running.cancel()
        await asyncio.wait((running,))
