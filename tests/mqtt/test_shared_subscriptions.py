"""Shared subscriptions of mosquitto: why bridges do not take requests by them (docs/scale.md)."""

from __future__ import annotations

from bridge.mosquitto import Mosquitto
from bridge.mqtt import Address, Connection, Incoming, Subscription

TOPIC = "base/client/alice/request/run/demo"
SHARED = "$share/intakes/base/client/+/request/#"
REQUESTS = 8


def session(broker: Mosquitto, name: str, *, stays: bool) -> Connection:
    return Connection(
        Address.parse(broker.url),
        client_id=name,
        clean_start=not stays,
        session_expiry=3600 if stays else 0,
    )


async def publish(broker: Mosquitto, numbers: range) -> None:
    """Publish the requests of one client, one after another."""
    async with Connection(Address.parse(broker.url)) as client:
        for number in numbers:
            await client.publish(TOPIC, str(number).encode())


async def take(connection: Connection, count: int) -> list[Incoming]:
    return [await anext(connection.messages) for _ in range(count)]


def numbers(messages: list[Incoming]) -> list[int]:
    return [int(message.payload) for message in messages]


async def test_a_clients_requests_reach_two_sessions_and_wait_for_the_one_that_died(
    broker: Mosquitto,
) -> None:
    first = await session(broker, "first", stays=True).__aenter__()
    async with session(broker, "second", stays=True) as second:
        for each in (first, second):
            await each.subscribe([Subscription(filter=SHARED)])
        await publish(broker, range(REQUESTS))
        unanswered = await take(first, REQUESTS // 2)
        others = await take(second, REQUESTS // 2)
        assert sorted(numbers(unanswered + others)) == list(range(REQUESTS))
        for message in others:
            second.ack(message)
        first.abort()

        # Half of what is sent from now on waits for the dead one, however long that takes.
        await publish(broker, range(REQUESTS, 2 * REQUESTS))
        others += await take(second, REQUESTS // 2)
        async with session(broker, "first", stays=True) as again:
            missing = await take(again, REQUESTS)
        assert sorted(numbers(missing + others)) == list(range(2 * REQUESTS))
        assert numbers(missing)[: REQUESTS // 2] == numbers(unanswered)
        assert [each.mid for each in missing][: REQUESTS // 2] == [each.mid for each in unanswered]
        assert [each.dup for each in missing] == [True] * 4 + [False] * 4
        assert second.messages.waiting == 0


async def test_requests_of_a_session_that_ends_are_lost(broker: Mosquitto) -> None:
    first = await session(broker, "first", stays=False).__aenter__()
    async with session(broker, "second", stays=False) as second:
        for each in (first, second):
            await each.subscribe([Subscription(filter=SHARED)])
        await publish(broker, range(REQUESTS))
        lost = await take(first, REQUESTS // 2)
        others = await take(second, REQUESTS // 2)
        first.abort()
        # It has all that comes from now on, and nothing of what the other one had.
        more = range(REQUESTS, 2 * REQUESTS)
        await publish(broker, more)
        others += await take(second, REQUESTS)
        assert numbers(others)[REQUESTS // 2 :] == list(more)
        assert not set(numbers(lost)) & set(numbers(others))
        assert second.messages.waiting == 0
