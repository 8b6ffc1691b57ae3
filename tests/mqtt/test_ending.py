"""The end of a connection, by us or by others, and the outcome of what waits."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

import paho.mqtt.client
import pytest

import bridge.mqtt.link
from bridge.mqtt import (
    SESSION_TAKEN_OVER,
    Address,
    Connection,
    ConnectionLost,
    InvalidMessage,
    Subscription,
    Will,
)
from tests.mqtt.talk import MEGA, next_of, subscribed

if TYPE_CHECKING:
    from bridge.mosquitto import Mosquitto
    from tests.mqtt.conftest import Peer, Scripted


async def test_what_waits_for_an_answer_fails_at_once_when_the_link_dies(
    scripted: Scripted,
) -> None:
    async def script(peer: Peer) -> None:
        await peer.accept()
        while (await peer.packet())[0] & 0xF0 != 0x80:
            pass

    async with scripted(script) as address, Connection(address) as connection:
        published = [connection.publish("t", b"x") for _ in range(3)]
        begun = time.monotonic()
        with pytest.raises(ConnectionLost):
            await connection.subscribe([Subscription(filter="t")])
        for future in published:
            with pytest.raises(ConnectionLost):
                await future
        assert time.monotonic() - begun < 5
        with pytest.raises(ConnectionLost):
            connection.publish("t")
        with pytest.raises(ConnectionLost):
            await connection.drained()
        await connection.disconnect()


async def test_what_came_before_the_link_died_is_still_given(scripted: Scripted) -> None:
    async def script(peer: Peer) -> None:
        await peer.accept()
        for number in (b"1", b"2"):
            peer.send(b"\x30\x05\x00\x01t\x00" + number)
        await peer.writer.drain()

    async with scripted(script) as address, Connection(address) as connection:
        assert (await next_of(connection)).payload == b"1"
        assert (await next_of(connection)).payload == b"2"
        for _ in range(2):
            with pytest.raises(ConnectionLost):
                await next_of(connection)


async def will_messages(address: Address, watcher: Connection) -> list[str]:
    """Return what the will's topic brought before a mark that is published now."""
    async with Connection(address) as other:
        await other.publish("will/mark", b"mark")
    told = []
    while (message := await next_of(watcher)).topic != "will/mark":
        told.append(message.payload.decode())
    return told


WILL = Will(topic="will/state", payload=b"offline", retain=False)


async def test_leaving_in_order_does_not_publish_the_will(address: Address) -> None:
    async with Connection(address) as watcher:
        await subscribed(watcher, "will/#")
        async with Connection(address, will=WILL):
            pass
        assert await will_messages(address, watcher) == []


@pytest.mark.parametrize("way", ["exception", "disconnect", "abort"])
async def test_leaving_otherwise_publishes_the_will(address: Address, way: str) -> None:
    async def leave() -> None:
        async with Connection(address, will=WILL) as connection:
            if way == "disconnect":
                await connection.disconnect(with_will=True)
            elif way == "abort":
                connection.abort()
            else:
                raise LookupError

    async with Connection(address) as watcher:
        await subscribed(watcher, "will/#")
        with contextlib.suppress(LookupError):
            await leave()
        message = await next_of(watcher)
        assert (message.topic, message.payload) == ("will/state", b"offline")


async def test_a_delayed_will_does_not_come_when_the_next_connection_is_in_time(
    address: Address,
) -> None:
    will = Will(topic="will/state", payload=b"offline", delay_s=60)
    async with Connection(address) as watcher:
        await subscribed(watcher, "will/#")
        async with Connection(address, client_id="c", will=will, session_expiry=60) as first:
            first.abort()
        async with Connection(address, client_id="c", clean_start=False):
            pass
        assert await will_messages(address, watcher) == []


@pytest.mark.parametrize(
    "will", [Will(topic="a/+"), Will(topic="a", payload=bytes(65536)), Will(topic="a", qos=2)]
)
async def test_a_will_that_cannot_be_is_refused(address: Address, will: Will) -> None:
    with pytest.raises(InvalidMessage):
        await Connection(address, will=will).__aenter__()


async def test_another_connection_with_our_client_id_ends_ours(address: Address) -> None:
    async with Connection(address, client_id="c") as first, Connection(address, client_id="c"):
        with pytest.raises(ConnectionLost):
            await next_of(first)


async def test_the_reason_that_a_broker_gives_for_closing_is_reported(scripted: Scripted) -> None:
    async def script(peer: Peer) -> None:
        await peer.accept()
        peer.send(b"\xe0\x01\x8e")  # mosquitto says so from 2.0.12 on
        await peer.reader.read()

    async with scripted(script) as address, Connection(address) as connection:
        with pytest.raises(ConnectionLost, match="session taken over") as caught:
            await next_of(connection)
        assert caught.value.code == SESSION_TAKEN_OVER


async def test_a_broker_that_leaves_amid_our_subscriptions_is_noticed(scripted: Scripted) -> None:
    async def script(peer: Peer) -> None:
        await peer.accept()
        _, body = await peer.packet()
        # At once: both are read before anybody learns of the first.
        peer.send(b"\x90\x04" + body[:2] + b"\x00\x01" + b"\xe0\x01\x8b")
        await peer.reader.read()

    async with scripted(script) as address, Connection(address) as connection:
        wanted = [Subscription(filter="a", identifier=1), Subscription(filter="b", identifier=2)]
        with pytest.raises(ConnectionLost):
            await connection.subscribe(wanted)


async def test_a_killed_broker_is_noticed(broker: Mosquitto, address: Address) -> None:
    async with Connection(address) as connection:
        waiting = asyncio.create_task(next_of(connection))
        await broker.kill()
        with pytest.raises(ConnectionLost, match=r"hung up|Connection reset"):
            await waiting
        assert not connection.alive


async def test_an_aborted_connection_has_lost_everything_at_once(address: Address) -> None:
    async with Connection(address) as connection:
        published = connection.publish("t")
        connection.abort()
        assert isinstance(published.exception(), ConnectionLost)
        with pytest.raises(ConnectionLost):
            await anext(connection.messages)


@pytest.mark.parametrize(
    "packet",
    [
        b"\x30\x01\x00",  # a PUBLISH that ends too early
        b"\x34\x06\x00\x01t\x00\x01\x00",  # QoS 2
        b"\x40\x01\x00",  # a PUBACK without a packet id
        b"\x90\x01\x00",  # a SUBACK likewise
        b"\xff\xff\xff\xff\xff\xff",
        b"\xe0\x01\x05",  # a DISCONNECT with an unknown reason
    ],
)
async def test_a_malformed_packet_ends_the_connection(packet: bytes, scripted: Scripted) -> None:
    async def script(peer: Peer) -> None:
        await peer.accept()
        peer.send(packet)
        await peer.reader.read()

    async with scripted(script) as address, Connection(address) as connection:
        with pytest.raises(ConnectionLost):
            await next_of(connection)


async def test_a_disconnect_that_does_not_get_through_is_cut_short(scripted: Scripted) -> None:
    async def script(peer: Peer) -> None:
        await peer.accept()
        await ended.wait()

    for patient in (False, True):
        ended = asyncio.Event()
        async with scripted(script) as address:
            connection = Connection(address, timeout_s=0.2)
            async with connection:
                stuck = connection.publish("t", bytes(64 * MEGA), qos=0)
                leaving = asyncio.create_task(connection.disconnect())
                await asyncio.sleep(0)
                with pytest.raises(ConnectionLost, match="closed here"):
                    connection.publish("t")
                if not patient:
                    leaving.cancel()
                await asyncio.wait((leaving,))
                assert leaving.cancelled() is not patient
            assert isinstance(stuck.exception(), ConnectionLost)
            assert not connection.alive
            ended.set()


async def test_a_subscription_without_an_answer_ends_the_connection(scripted: Scripted) -> None:
    async def script(peer: Peer) -> None:
        await peer.accept()
        await peer.reader.read()

    async with scripted(script) as address, Connection(address, timeout_s=0.1) as connection:
        with pytest.raises(ConnectionLost, match="no answer"):
            await connection.subscribe([Subscription(filter="t")])
        assert not connection.alive


async def test_what_paho_stumbles_over_ends_the_connection(
    address: Address, caplog: pytest.LogCaptureFixture
) -> None:
    def stumble() -> None:
        raise LookupError

    async with Connection(address) as connection:
        assert connection._link is not None
        connection._link._client.loop_read = stumble  # type: ignore[method-assign,assignment]  # a fault
        connection.unsubscribe(["t"])  # the answer is paho's
        with pytest.raises(ConnectionLost, match="LookupError"):
            await next_of(connection)
    assert "closing the connection: a packet cannot be handled" in caplog.text


async def test_a_slow_upload_is_not_cut_off_and_a_stuck_one_is(
    scripted: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(paho.mqtt.client, "time_func", lambda: now)
    monkeypatch.setattr(bridge.mqtt.link, "monotonic", lambda: now)
    turns: asyncio.Queue[None] = asyncio.Queue()

    async def script(peer: Peer) -> None:
        await peer.accept()
        while True:
            await turns.get()
            await peer.reader.readexactly(4 * MEGA)

    async with scripted(script) as address, Connection(address, keepalive=10) as connection:
        assert connection._link is not None
        link = connection._link
        connection.publish("t", bytes(64 * MEGA), qos=0)
        now += 10
        link._keep_alive()
        await asyncio.sleep(0)
        assert link._stream.ping_waits, "a ping waits behind the packet"
        for _ in range(4):
            turns.put_nowait(None)
            await connection.drained(connection.buffered - MEGA)
            now += 6
            link._keep_alive()
            assert connection.alive
        now += 10
        link._keep_alive()
        assert not connection.alive
        with pytest.raises(ConnectionLost, match="sent nothing"):
            await next_of(connection)


@pytest.mark.parametrize(
    "codes", [b"", b"\x00", b"\x00\x01\x00", b"\x80" * 300], ids=["none", "few", "many", "a-flood"]
)
async def test_a_suback_with_too_few_or_too_many_codes_ends_the_connection(
    codes: bytes, scripted: Scripted
) -> None:
    async def script(peer: Peer) -> None:
        await peer.accept()
        _, body = await peer.packet()
        suback = body[:2] + b"\x00" + codes
        size = len(suback)
        length = bytes([size]) if size < 128 else bytes([size & 0x7F | 0x80, size >> 7])
        peer.send(b"\x90" + length + suback)
        await peer.reader.read()

    async with scripted(script) as address, Connection(address) as connection:
        with pytest.raises(ConnectionLost):
            await connection.subscribe([Subscription(filter="a"), Subscription(filter="b")])
        assert not connection.alive
