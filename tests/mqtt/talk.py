"""Messages that several tests send over a connection."""

from __future__ import annotations

import asyncio

from bridge.mqtt import Connection, Incoming, PublishProperties, Subscription
from tests.support.patience import PATIENCE_S

MEGA = 1024 * 1024
MANY = PublishProperties(
    content_type="image/png",
    response_topic="answer/here",
    correlation_data=b"\x00\xff",
    message_expiry=60,
    user_properties=[("name", "value"), ("name", "again"), *((str(i), "x") for i in range(10))],
)


async def next_of(connection: Connection) -> Incoming:
    async with asyncio.timeout(PATIENCE_S):
        return await anext(connection.messages)


async def subscribed(connection: Connection, filter_: str = "t/#") -> None:
    assert await connection.subscribe([Subscription(filter=filter_)]) == [1]
