"""Brokers that have no MQTT 5: a real one, behind a proxy that refuses it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from bridge.mqtt import (
    Address,
    Connection,
    ConnectionRefused,
    PublishProperties,
    Subscription,
    Will,
)
from tests.mqtt.talk import MEGA, next_of, subscribed
from tests.support.strict_proxy import StrictProxy


def url_of(address: Address) -> str:
    return f"mqtt://{address.host}:{address.port}"


@pytest.fixture(params=["refuse", "hang up"])
async def old(address: Address, request: pytest.FixtureRequest) -> AsyncIterator[Address]:
    """The way to a broker that speaks 3.1.1 alone."""
    async with StrictProxy(url_of(address), mqtt_5=request.param) as proxy:
        yield Address.parse(proxy.url)


async def test_a_broker_with_mqtt_5_is_spoken_to_in_mqtt_5(address: Address) -> None:
    async with Connection(address) as connection:
        assert connection.version == "5"


async def test_messages_of_all_sizes_come_through_a_broker_of_3_1_1(old: Address) -> None:
    async with Connection(old) as connection:
        assert connection.version == "3.1.1"
        assert await connection.subscribe(
            [Subscription(filter="t/#", no_local=True, retain_handling=2, identifier=7)]
        ) == [1]
        for payload in (b"", b"small", b"x" * MEGA):
            for qos in (0, 1):
                await connection.publish("t/1", payload, qos=qos)
                message = await next_of(connection)
                assert (message.topic, message.payload, message.qos) == ("t/1", payload, qos)
                assert connection.ack(message)


async def test_properties_stay_behind(old: Address) -> None:
    properties = PublishProperties(content_type="image/png", correlation_data=b"1")
    async with Connection(old) as connection:
        await subscribed(connection)
        await connection.publish("t", b"payload", properties=properties)
        message = await next_of(connection)
    assert (message.payload, message.content_type, message.correlation_data) == (
        b"payload",
        None,
        None,
    )


async def test_a_session_keeps_what_was_not_acknowledged(old: Address) -> None:
    for times in (1, 2):
        async with Connection(
            old, client_id="c", clean_start=False, session_expiry=60
        ) as connection:
            assert connection.connack.session_present is (times == 2)
            if times == 1:
                await subscribed(connection)
                await connection.publish("t", b"1")
            message = await next_of(connection)
            assert message.payload == b"1"
            assert message.dup is (times == 2)


async def test_a_session_that_is_not_to_last_does_not(old: Address) -> None:
    for _ in range(2):
        async with Connection(old, client_id="c") as connection:
            assert not connection.connack.session_present
            await subscribed(connection)


async def test_the_will_is_published_where_the_block_fails_and_only_there(
    old: Address, address: Address
) -> None:
    will = Will(topic="gone", payload=b"yes")
    async with Connection(address) as watcher:
        await watcher.subscribe([Subscription(filter="gone")])
        async with Connection(old, will=will):
            pass
        with pytest.raises(ValueError, match="broken"):
            async with Connection(old, will=will):
                raise ValueError("broken")
        assert (await next_of(watcher)).payload == b"yes"
        assert not watcher.messages.backlog


async def test_who_needs_mqtt_5_gets_an_error_if_the_broker_has_none(old: Address) -> None:
    with pytest.raises(ConnectionRefused, match="1 only, and a group of bridges needs MQTT 5"):
        async with Connection(old, needs_5="a group of bridges"):
            pass


async def test_a_refusal_for_another_reason_is_final() -> None:
    tries = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal tries
        tries += 1
        await reader.read(100)
        writer.write(b"\x20\x03\x00\x87\x00")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(ConnectionRefused) as caught:
            async with Connection(Address(host="127.0.0.1", port=port)):
                pass
    assert caught.value.bad_credentials
    assert tries == 1
