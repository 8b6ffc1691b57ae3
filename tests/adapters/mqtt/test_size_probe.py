"""What size of message a broker passes on that does not say so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from bridge.adapters.mqtt.publisher import Publisher
from bridge.adapters.mqtt.size_probe import SizeProbe, sizes
from bridge.contract.topics import Topics
from bridge.mqtt import Address, Connection
from bridge.requests.handler import RequestHandler
from tests.mqtt.conftest import Configured

KB = 1024


def test_the_sizes_that_are_tried_are_halved_down_to_what_passes() -> None:
    assert list(sizes(1000 * KB, 64 * KB)) == [
        1024 * KB,
        *(1000 * KB, 500 * KB, 250 * KB, 125 * KB),
    ]
    assert list(sizes(256 * KB, 256 * KB)) == []


class Standing:
    """A probe on a connection, and what it has learnt."""

    def __init__(self, connection: Connection) -> None:
        nothing = lambda _: None  # noqa: E731 - nobody is interested
        self.publisher = Publisher(
            Topics(), delivered=nothing, keep_results_s=1.0, keep_outputs_s=1.0
        )
        self.learnt: list[int] = []
        self.probe = SizeProbe(Topics(), self.publisher, self._learn)
        self.publisher.attach(connection)
        self.connection = connection

    def _learn(self, size: int) -> None:
        self.learnt.append(size)
        self.publisher.learn_limit(size)

    async def take(self) -> None:
        handler = cast("RequestHandler", None)
        async for incoming in self.connection.messages:
            await self.probe.received(incoming, None, handler)


@asynccontextmanager
async def standing(folder: Path, settings: str, *, subscribes: bool = True) -> AsyncIterator[Any]:
    lines = f"listener {{port}} 127.0.0.1\nallow_anonymous true\n{settings}"
    async with (
        Configured(folder, lines) as broker,
        Connection(Address.parse(broker.url)) as connection,
    ):
        stand = Standing(connection)
        if subscribes:
            await connection.subscribe(stand.probe.subscriptions)
        taking = asyncio.create_task(stand.take())
        yield stand
        taking.cancel()


@pytest.mark.broker
async def test_what_the_broker_drops_without_a_word_is_found_out(tmp_path: Path) -> None:
    async with standing(tmp_path, "message_size_limit 300000") as stand:
        assert stand.probe.is_known(64 * KB)
        assert not stand.probe.is_known(290_000)
        # It passes, and the next power of two does not.
        await stand.probe.find_out(290_000)
        assert stand.probe.is_known(290_000)
        assert stand.learnt == [512 * KB - 1]
        await stand.probe.find_out(500_000)
        assert stand.learnt[1:] == [290_000]
        assert stand.probe.is_known(500_000)
        assert stand.publisher.packet_limit == 290_000


@pytest.mark.broker
async def test_a_broker_that_passes_all_on_is_not_asked_again_for_what_is_smaller(
    tmp_path: Path,
) -> None:
    async with standing(tmp_path, "") as stand:
        if stand.publisher.announces_limit:
            assert stand.probe.is_known(2**30)  # mosquitto from 2.1 on says how much it takes
            return
        await stand.probe.find_out(200 * KB)
        assert stand.learnt == []
        assert stand.probe.is_known(256 * KB)
        assert not stand.probe.is_known(256 * KB + 1)


@pytest.mark.broker
async def test_where_nothing_comes_back_nothing_is_learnt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.adapters.mqtt.size_probe._ANSWER_S", 0.1)
    async with standing(tmp_path, "", subscribes=False) as stand:
        await stand.probe.find_out(200 * KB)
        assert stand.learnt == []
        assert stand.probe.is_known(2**30)
