"""Triggers, for what cannot be made to happen on a real broker: redeliveries, time."""

from __future__ import annotations

from typing import Any, cast

import msgspec
import pytest

from bridge.adapters.displays import Displays
from bridge.adapters.triggers.adapter import Triggers
from bridge.config import ClientRights, ConfigError, Trigger
from bridge.contract.topics import Topics
from bridge.mqtt import Incoming
from bridge.requests.context import RequestContext
from bridge.requests.permissions import Permissions

TOPIC = "zigbee2mqtt/button"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class RequestHandler:
    """Notes what it is asked."""

    def __init__(self) -> None:
        self.asked: list[RequestContext] = []

    async def handle(self, asked: RequestContext, _respond: object) -> None:
        self.asked.append(asked)


def triggers(
    *tables: dict[str, Any], clients: dict[str, ClientRights] | None = None
) -> tuple[Any, RequestHandler]:
    desk, rights = RequestHandler(), Permissions(clients or {})
    nothing = cast("Any", None)
    displays = Displays(
        [],
        images=nothing,
        publisher=nothing,
        topics=Topics(),
        rights=rights,
        transcoder=nothing,
    )
    common = {"topic": TOPIC, "workflow": "demo"}
    made = Triggers(
        [msgspec.convert({**common, **table}, Trigger) for table in tables],
        topics=Topics(),
        rights=rights,
        displays=displays,
        publisher=nothing,
        clock=CLOCK,
    )
    return made, desk


CLOCK = Clock()


def press(topic: str = TOPIC, **fields: Any) -> Incoming:
    common = {"payload": b"1", "qos": 1, "retain": False, "dup": False, "mid": 1}
    return Incoming(topic=topic, **{**common, "subscription_ids": [1], **fields})


async def test_a_redelivered_message_is_reported_as_such_for_each_trigger_that_it_fires() -> None:
    made, desk = triggers({"name": "a"}, {"name": "b"})
    await made.received(press(dup=True), "session:1:hash", desk)
    assert [asked.delivery for asked in desk.asked] == ["session:1:hash:a", "session:1:hash:b"]
    assert all(asked.redelivered for asked in desk.asked)
    assert {asked.client for asked in desk.asked} == {"triggers"}


async def test_a_copy_that_came_by_another_subscription_fires_nothing() -> None:
    made, desk = triggers({"name": "a"}, {"name": "b", "topic": "zigbee2mqtt/+"})
    assert [each.identifier for each in made.subscriptions] == [1, 2]
    assert all(each.no_local for each in made.subscriptions)
    for identifiers in ([1], [2], []):
        await made.received(press(subscription_ids=identifiers), None, desk)
    assert len(desk.asked) == 2
    # A broker that sends one copy for both.
    await made.received(press(subscription_ids=[1, 2]), None, desk)
    assert len(desk.asked) == 4


async def test_what_the_broker_had_from_before_fires_only_where_that_is_wanted() -> None:
    made, desk = triggers({"name": "a"}, {"name": "b", "retained": True})
    await made.received(press(retain=True), None, desk)
    (asked,) = desk.asked
    assert asked.submit is not None
    assert asked.submit.meta == msgspec.Raw(b'{"trigger":"b","topic":"zigbee2mqtt/button"}')


async def test_debounce_counts_for_each_topic_by_itself() -> None:
    made, desk = triggers({"name": "a", "topic": "zigbee2mqtt/+", "debounce_s": 10})
    for now, topic, fired in (
        (0, "zigbee2mqtt/one", 1),
        (9, "zigbee2mqtt/one", 1),
        (9, "zigbee2mqtt/two", 2),
        (10, "zigbee2mqtt/one", 3),
        (19, "zigbee2mqtt/two", 4),
    ):
        CLOCK.now = now
        await made.received(press(topic), None, desk)
        assert len(desk.asked) == fired


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ({"client": "guest"}, "clients.guest.workflows"),
        ({"priority": 50}, "clients.triggers.max_priority"),
        ({"inputs": {"image": {"topic": "cameras/front"}}}, "clients.triggers.input_topics"),
        ({"show": "frame"}, "no display 'frame'"),
    ],
)
def test_a_trigger_that_its_client_may_not_have_is_refused_at_the_start(
    table: dict[str, Any], told: str
) -> None:
    clients = {
        "guest": ClientRights(workflows=("other",)),
        "triggers": ClientRights(max_priority=10),
    }
    with pytest.raises(ConfigError, match=told):
        triggers({"name": "a", **table}, clients=clients)
