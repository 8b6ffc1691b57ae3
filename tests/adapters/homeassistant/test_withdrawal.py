"""Announcements to Home Assistant that are no longer wanted there are cleared."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from bridge.adapters.homeassistant import discovery
from bridge.adapters.homeassistant.retained import DiscoveryWithdrawal
from bridge.contract.messages import encode
from bridge.contract.topics import Topics
from bridge.jobs.journal import Journal
from bridge.mqtt import Incoming
from tests.adapters.homeassistant.definitions import PROMPT, STEPS, definition
from tests.adapters.homeassistant.test_adapter import CONFIG, TREE, Broker, Setup

MODEL = {"x-kind": "choice", "enum": [f"model{number}" for number in range(501)]}


async def started(
    journal: Journal, broker: Broker, prefix: str | None, *, leads: bool = True
) -> DiscoveryWithdrawal:
    made = DiscoveryWithdrawal(
        prefix,
        topics=Topics(),
        store=journal.adapter_store,
        publisher=cast("Any", broker),
        leads=lambda: leads,
    )
    await made.start()
    return made


async def connect(made: DiscoveryWithdrawal, broker: Broker) -> None:
    """Hand on what the broker has retained below what is subscribed to."""
    for topic, message in list(broker.held.items()):
        payload = message if isinstance(message, bytes) else encode(message)
        incoming = Incoming(topic=topic, payload=payload, qos=1, retain=True, dup=False, mid=1)
        await made.received(incoming, None, cast("Any", None))


@pytest.fixture
async def broker(tmp_path: Path) -> Broker:
    """A broker that has retained all of a workflow's and the bridge's device."""
    setup = Setup(tmp_path / "setup")
    await setup.made.start()
    setup.made.workflow(definition(prompt=PROMPT, steps=STEPS, model=MODEL))
    await setup.receive(f"{TREE}/input/steps/set", b"30")
    setup.broker.held[f"{TREE}/image"] = b"jpeg"
    assert f"{TREE}/input/model/allowed" in setup.broker.held
    return setup.broker


async def test_turned_off_nothing_of_ours_stays_retained(journal: Journal, broker: Broker) -> None:
    await started(journal, broker, "homeassistant")
    others: dict[str, Any] = {
        "homeassistant/device/lamp/config": {"components": {}, "device": {}},
        "homeassistant/device/other/config": discovery.the_bridge(
            discovery.AnnouncedBridge("other", "1", ("main",)), Topics("studio")
        ),
        "comfy2mqtt/bridge/state": b"online",
    }
    broker.held.update(others)
    made = await started(journal, broker, None)
    (wanted,) = made.subscriptions
    assert wanted.filter == "homeassistant/device/+/config"
    await connect(made, broker)
    assert broker.held == others


async def test_a_bridge_that_announced_nothing_asks_the_broker_for_nothing(
    journal: Journal,
) -> None:
    assert (await started(journal, Broker(), None)).subscriptions == []
    assert (await started(journal, Broker(), "homeassistant")).subscriptions == []


async def test_another_prefix_clears_the_announcements_below_the_one_before_alone(
    journal: Journal, broker: Broker
) -> None:
    await started(journal, broker, "homeassistant")
    made = await started(journal, broker, "ha")
    states = {topic for topic in broker.held if topic.startswith(f"{TREE}/")}
    now = "ha/device/comfy2mqtt-workflow-demo/config"
    broker.held[now] = broker.held[CONFIG]
    await connect(made, broker)
    # The devices that are announced now have the states that those of before had.
    assert set(broker.held) == {*states, now}


async def test_of_several_bridges_the_one_that_takes_requests_clears(
    journal: Journal, broker: Broker
) -> None:
    await started(journal, broker, "homeassistant")
    before = dict(broker.held)
    await connect(await started(journal, broker, None, leads=False), broker)
    assert broker.held == before


async def test_what_is_published_now_is_none_of_before(journal: Journal, broker: Broker) -> None:
    await started(journal, broker, "homeassistant")
    made = await started(journal, broker, None)
    incoming = Incoming(
        topic=CONFIG,
        payload=encode(broker.held[CONFIG]),
        qos=1,
        retain=False,
        dup=False,
        mid=1,
    )
    await made.received(incoming, None, cast("Any", None))
    assert CONFIG in broker.held
