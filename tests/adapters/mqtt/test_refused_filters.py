from __future__ import annotations

import logging
from typing import Any, cast

import pytest

from bridge.adapters.mqtt.extension import RefusedFilters
from bridge.contract.topics import Topics
from bridge.mosquitto import Mosquitto
from bridge.mqtt import Address, Connection, SubscribeRefused, Subscription
from tests.conftest import StartBridge
from tests.end_to_end import graphs
from tests.support.peer import Peer
from tests.support.strict_proxy import StrictProxy


class Broker:
    """Refuses the filters that are named."""

    def __init__(self, *refused: str) -> None:
        self.refused = set(refused)

    async def subscribe(self, wanted: list[Subscription]) -> list[int]:
        for each in wanted:
            if each.filter in self.refused and not each.optional:
                raise SubscribeRefused(each.filter, 0x87)
        return [0x87 if each.filter in self.refused else each.qos for each in wanted]


class Published:
    def __init__(self) -> None:
        self.events: list[Any] = []

    def publish(self, topic: str, message: Any) -> None:
        assert topic == "comfy2mqtt/bridge/event"
        self.events.append(message)


async def test_an_optional_filter_that_is_refused_is_reported_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    published, broker = Published(), Broker("doors/+")
    filters = RefusedFilters(Topics(), cast("Any", published))
    required, optional = [Subscription(filter="a")], [Subscription(filter="doors/+")]
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            await filters.subscribe(cast("Any", broker), required, optional)
    (event,) = published.events
    assert (event.type, event.data["filter"]) == ("subscription_refused", "doors/+")
    assert len(caplog.records) == 1
    broker.refused.clear()
    await filters.subscribe(cast("Any", broker), required, optional)
    broker.refused.add("doors/+")
    await filters.subscribe(cast("Any", broker), required, optional)
    assert len(published.events) == 2  # refused again


async def test_a_required_filter_that_is_refused_is_an_error() -> None:
    filters = RefusedFilters(Topics(), cast("Any", Published()))
    with pytest.raises(SubscribeRefused):
        await filters.subscribe(cast("Any", Broker("a")), [Subscription(filter="a")], [])


@pytest.mark.broker
async def test_a_broker_that_takes_eight_filters_at_a_time_takes_them_all(
    broker: Mosquitto,
) -> None:
    async with StrictProxy(broker.url, filters_per_subscribe=8) as proxy:
        async with Connection(Address.parse(proxy.url)) as connection:
            wanted = [Subscription(filter=f"t/{number}") for number in range(30)]
            assert await connection.subscribe(wanted) == [1] * 30
        assert proxy.cut == 0


@pytest.mark.broker
@pytest.mark.slow
async def test_the_whole_bridge_stays_within_eight_filters_a_packet(
    detached: StartBridge, broker: Mosquitto
) -> None:
    triggers = [
        {"name": f"t{number}", "topic": f"doors/{number}", "client": "house", "workflow": "colour"}
        for number in range(12)
    ]
    async with StrictProxy(broker.url, filters_per_subscribe=8) as proxy:
        await detached({"colour": graphs.colour()}, mqtt_url=proxy.url, trigger=triggers)
        async with Peer(broker.url) as alice:
            await alice.listen()
            assert (await alice.ask("list"))["status"] == "ok"
        assert proxy.cut == 0
