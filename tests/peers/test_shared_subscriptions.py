"""Shared subscriptions: of the brokers that can be had here, mosquitto alone has them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bridge.mqtt import Address, Connection, ConnectionLost, Subscription
from tests.peers.test_brokers import Broker, aedes, amqtt, ejabberd, nats, rabbitmq, running
from tests.support.patience import PATIENCE_S

pytestmark = [pytest.mark.peers, pytest.mark.timeout(300)]

TOPIC = "base/client/alice/request/run/demo"
PLAIN, SHARED = "base/client/+/request/#", "$share/intakes/base/client/+/request/#"


@pytest.mark.parametrize("broker", [aedes, amqtt, nats, rabbitmq])
async def test_brokers_of_mqtt_3_send_nothing_to_a_shared_subscription(
    broker: Broker, tmp_path: Path
) -> None:
    async with running(broker, tmp_path) as (program, url), asyncio.timeout(PATIENCE_S):
        assert program.mqtt == "3.1.1"
        async with (
            Connection(Address.parse(url)) as sharing,
            Connection(Address.parse(url), manual_ack=False) as plain,
        ):
            await sharing.subscribe([Subscription(filter=SHARED, optional=True)])
            await plain.subscribe([Subscription(filter=PLAIN)])
            for number in range(10):
                await plain.publish(TOPIC, str(number).encode())
                assert int((await anext(plain.messages)).payload) == number
            # Whatever was on its way to it came before the answer to this.
            await sharing.subscribe([Subscription(filter="base/other")])
            assert sharing.messages.waiting == 0


async def test_ejabberd_ends_the_connection_of_a_shared_subscription(tmp_path: Path) -> None:
    async with (
        running(ejabberd, tmp_path) as (_, url),
        asyncio.timeout(PATIENCE_S),
        Connection(Address.parse(url)) as sharing,
    ):
        with pytest.raises(ConnectionLost, match="Shared Subscriptions not supported"):
            await sharing.subscribe([Subscription(filter=SHARED)])
