"""An operator's commands at a broker, where a test answers in the bridge's place."""

from __future__ import annotations

import asyncio

import pytest

from bridge.cli.operate import ask
from bridge.config import Config
from bridge.contract.errors import BridgeError
from bridge.contract.messages import encode
from bridge.contract.topics import Topics
from bridge.mosquitto import Mosquitto
from tests.support.peer import Peer

pytestmark = pytest.mark.broker


async def test_an_answer_that_cannot_be_read_is_an_error_for_the_user(broker: Mosquitto) -> None:
    topics, verb = Topics(), "queue/list"
    async with Peer(broker.url) as bridge:
        bridge.publish(topics.state, b"online", retain=True)
        await bridge.subscribe(topics.commands)
        asking = asyncio.create_task(ask(Config(mqtt_url=broker.url), verb, {}))
        asked = await bridge.next(topics.command(verb))
        answer = {"status": "ok", "data": [], "transaction": asked.json["transaction"]}
        bridge.publish(topics.command_response(verb), encode(answer))
        with pytest.raises(BridgeError, match="the bridge's answer to queue/list cannot be read"):
            await asking
