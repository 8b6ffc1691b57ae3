"""A connection that is none, for tests of what subscribes and reconnects."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Self

from bridge.mqtt import ConnectionLost, Incoming, Messages, Subscription
from bridge.mqtt.inbox import AckOrder, FlowOf
from bridge.mqtt.link import Connack
from tests.support.patience import PATIENCE_S


class FakeConnection:
    """Notes in `log` what is done with it; `deliver` and `lose` are the broker's part."""

    def __init__(
        self, log: list[Any], *, fails: Exception | None = None, flow_of: FlowOf | None = None
    ) -> None:
        self.log = log
        self.messages = Messages(flow_of=flow_of)
        self._acks = AckOrder(lambda incoming: log.append(("ack", incoming.mid)))
        self.connack = Connack(session_present=True)
        self.packet_limit = None
        self.subscribed: list[Subscription] = []
        self._fails = fails

    async def __aenter__(self) -> Self:
        if self._fails is not None:
            raise self._fails
        self.log.append("connected")
        return self

    async def __aexit__(self, *_: object) -> None:
        self.log.append("left")

    async def subscribe(self, subscriptions: list[Subscription]) -> list[int]:
        self.subscribed += subscriptions
        self.log.append("subscribed")
        return [1] * len(subscriptions)

    def ack(self, incoming: Incoming) -> bool:
        if incoming.qos:
            self._acks.handled(incoming)
        return True

    async def disconnect(self) -> None:
        self.log.append("disconnected")
        self.messages.end(None)

    def abort(self) -> None:
        self.log.append("aborted")
        self.messages.end(ConnectionLost("aborted"))

    def deliver(self, topic: str, mid: int = 1, **fields: Any) -> Incoming:
        common = {"payload": b"{}", "qos": 1, "retain": False, "dup": False, "mid": mid}
        incoming = Incoming(topic=topic, **{**common, **fields})
        if incoming.qos:
            self._acks.arrived(incoming)
        self.messages.put(incoming, len(incoming.payload))
        return incoming

    def lose(self) -> None:
        self.messages.end(ConnectionLost("gone"))


async def until(condition: Callable[[], object]) -> None:
    """Let other tasks run until a condition holds."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - a condition on plain fields, for any test
            await asyncio.sleep(0)
