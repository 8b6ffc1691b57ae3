"""Measuring the size of message that a broker delivers and does not announce."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import pytest

from bridge.adapters.mqtt.publisher import Publisher
from bridge.adapters.mqtt.size_probe import SizeProbe, sizes
from bridge.contract.topics import Topics
from bridge.mqtt import Address, Connection
from bridge.requests.handler import RequestHandler
from tests.mqtt.conftest import Configured, Peer, Scripted, scripted
from tests.support.strict_proxy import PROFILES, StrictProxy

__all__ = ["scripted"]  # a fixture

KB = 1024


def test_the_sizes_that_are_tried_are_halved_down_to_what_passes() -> None:
    assert list(sizes(1000 * KB, 64 * KB, None)) == [
        1024 * KB,
        *(1000 * KB, 500 * KB, 250 * KB, 125 * KB),
    ]
    assert list(sizes(256 * KB, 256 * KB, None)) == []


def test_no_size_is_tried_that_the_broker_says_it_does_not_take() -> None:
    assert list(sizes(300 * KB, 64 * KB, 400 * KB))[:2] == [400 * KB, 300 * KB]
    assert next(sizes(400 * KB, 64 * KB, 400 * KB)) == 400 * KB


class Standing:
    """A probe on a connection, and what it has learnt."""

    def __init__(self) -> None:
        nothing = lambda _: None  # noqa: E731 - nobody is interested
        self.publisher = Publisher(
            Topics(), delivered=nothing, keep_results_s=1.0, keep_outputs_s=1.0
        )
        self.learnt: list[int] = []
        self.probe = SizeProbe(Topics(), self.publisher, self._learn)

    def _learn(self, size: int) -> None:
        self.learnt.append(size)
        self.publisher.learn_limit(size)

    async def take(self, connection: Connection) -> None:
        handler = cast("RequestHandler", None)
        async for incoming in connection.messages:
            await self.probe.received(incoming, None, handler)


@asynccontextmanager
async def standing(
    folder: Path, settings: str, *, subscribes: bool = True
) -> AsyncIterator[Standing]:
    lines = f"listener {{port}} 127.0.0.1\nallow_anonymous true\n{settings}"
    async with (
        Configured(folder, lines) as broker,
        connected(broker.url, subscribes=subscribes) as stand,
    ):
        yield stand


@asynccontextmanager
async def connected(url: str, *, subscribes: bool = True) -> AsyncIterator[Standing]:
    stand = Standing()
    async with Connection(Address.parse(url)) as connection:
        stand.publisher.attach(connection)
        if subscribes:
            await connection.subscribe(stand.probe.subscriptions)
        taking = asyncio.create_task(stand.take(connection))
        yield stand
        taking.cancel()
        await asyncio.gather(taking, return_exceptions=True)


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


@pytest.mark.broker
async def test_a_broker_that_announces_more_than_it_delivers_is_found_out(tmp_path: Path) -> None:
    settings = "message_size_limit 150000\nmax_packet_size 300000"
    async with standing(tmp_path, settings) as stand:
        assert stand.publisher.packet_limit == 300_000
        assert not stand.probe.is_known(200_000)
        assert stand.probe.is_known(300_000)  # with its topic that is more than the broker accepts
        await stand.probe.find_out(200_000)
        assert stand.learnt == [100_000]
        assert stand.probe.is_known(200_000)


@pytest.mark.broker
async def test_what_the_broker_announces_is_tried_once_and_then_believed(tmp_path: Path) -> None:
    async with standing(tmp_path, "max_packet_size 300000") as stand:
        await stand.probe.find_out(270_000)
        assert stand.learnt == []
        assert stand.probe.is_known(299_000)


@pytest.mark.broker
async def test_a_broker_that_ends_the_connection_for_a_size_is_not_sent_it_again(
    tmp_path: Path,
) -> None:
    (tmp_path / "broker").mkdir()
    lines = "listener {port} 127.0.0.1\nallow_anonymous true"
    aws = PROFILES["aws"]
    async with (
        Configured(tmp_path / "broker", lines) as broker,
        StrictProxy(broker.url, **aws) as proxy,
        connected(proxy.url) as stand,
    ):
        await stand.probe.find_out(100 * KB)
        assert stand.learnt == [], "a payload of 128 KB passes"
        assert stand.probe.is_known(128 * KB)
        assert not stand.probe.is_known(140_000)
        await stand.probe.find_out(140_000)
        assert proxy.cut == 1
        assert stand.learnt == [128 * KB]
        assert stand.publisher.packet_limit == 128 * KB


async def test_one_end_of_a_connection_may_be_chance_and_two_are_the_size(
    scripted: Scripted,
) -> None:
    async def ends(peer: Peer) -> None:
        await peer.accept()
        await peer.packet()

    stand = Standing()
    async with scripted(ends) as address:
        for learnt in ([], [128 * KB]):
            async with Connection(address) as connection:
                stand.publisher.attach(connection)
                await stand.probe.find_out(200 * KB)
                assert stand.learnt == learnt
                assert stand.probe.is_known(200 * KB), "on this connection"
