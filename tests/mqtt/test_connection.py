"""A connection while it lasts."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from typing import TYPE_CHECKING

import pytest

from bridge.mqtt import (
    NOT_AUTHORISED,
    Address,
    Connection,
    ConnectionLost,
    Incoming,
    InvalidMessage,
    PacketTooLarge,
    PublishProperties,
    PublishRefused,
    SubscribeRefused,
    Subscription,
    Will,
)
from bridge.mqtt.connection import MAX_BACKLOG, Messages
from tests.mqtt.conftest import LARGEST_PACKET
from tests.mqtt.talk import MANY, MEGA, next_of, subscribed

if TYPE_CHECKING:
    from pathlib import Path

    from tests.mqtt.conftest import Configure, Peer, Scripted


async def test_a_message_arrives_with_all_its_properties(address: Address) -> None:
    async with Connection(address) as connection:
        await subscribed(connection)
        await connection.publish("t/1", b"payload", properties=MANY)
        message = await next_of(connection)
    assert (message.topic, message.payload) == ("t/1", b"payload")
    assert (message.qos, message.retain, message.dup) == (1, False, False)
    assert message.content_type == MANY.content_type
    assert message.response_topic == MANY.response_topic
    assert message.correlation_data == MANY.correlation_data
    assert message.message_expiry == MANY.message_expiry
    assert message.user_properties == MANY.user_properties


async def test_an_unacknowledged_message_comes_again_and_an_acknowledged_one_does_not(
    address: Address,
) -> None:
    async with Connection(address, client_id="c", clean_start=False, session_expiry=60) as first:
        assert not first.connack.session_present
        await subscribed(first)
        for payload in (b"1", b"2"):
            await first.publish("t", payload)
        done, kept = await next_of(first), await next_of(first)
        assert first.ack(done)
        assert not first.ack(done)
        await first.publish("elsewhere")
    async with Connection(address, client_id="c", clean_start=False, session_expiry=60) as second:
        assert second.connack.session_present
        again = await next_of(second)
        assert (again.payload, again.dup, again.mid) == (b"2", True, kept.mid)


async def test_what_is_unsubscribed_comes_no_more(address: Address) -> None:
    async with Connection(address) as connection:
        await connection.subscribe([Subscription(filter="a"), Subscription(filter="b")])
        await connection.publish("a", b"1")
        assert (await next_of(connection)).payload == b"1"
        connection.unsubscribe(["a"])
        await connection.publish("a", b"2")
        await connection.publish("b", b"3")
        assert (await next_of(connection)).payload == b"3"
    with pytest.raises(ConnectionLost):
        connection.unsubscribe(["b"])


async def test_an_ack_from_an_earlier_connection_is_refused(address: Address) -> None:
    async with Connection(address, client_id="c", clean_start=False, session_expiry=60) as first:
        await subscribed(first)
        await first.publish("t", b"old")
        old = await next_of(first)
    assert not first.ack(old)
    # After a clean start the broker's packet ids begin again: the same id, another message.
    async with Connection(address, client_id="c", clean_start=True, session_expiry=60) as second:
        await subscribed(second)
        await second.publish("t", b"new")
        new = await next_of(second)
        assert new.mid == old.mid
        assert not second.ack(old)
    async with Connection(address, client_id="c", clean_start=False, session_expiry=60) as third:
        assert (await next_of(third)).payload == b"new"


async def test_without_manual_ack_what_arrives_is_acknowledged(address: Address) -> None:
    async with Connection(
        address, client_id="c", clean_start=False, session_expiry=60, manual_ack=False
    ) as first:
        await subscribed(first)
        await first.publish("t", b"1")
        await next_of(first)
        await first.publish("elsewhere")
    async with Connection(address, client_id="c", clean_start=False, session_expiry=60) as second:
        await second.publish("t", b"2")
        assert (await next_of(second)).payload == b"2"


async def test_the_connack_is_reported(configure: Configure) -> None:
    settings = """
        listener {port} 127.0.0.1
        allow_anonymous true
        max_packet_size 5000
        max_inflight_messages 7
        max_keepalive 33
        retain_available false
        max_qos 1
    """
    async with (
        configure(settings) as broker,
        Connection(Address.parse(broker.url), keepalive=60) as connection,
    ):
        connack = connection.connack
        assert connack.maximum_packet_size == connection.packet_limit == 5000
        assert connack.receive_maximum == 7
        assert connack.server_keep_alive == 33
        assert connack.maximum_qos == 1
        assert not connack.retain_available
        assert connack.assigned_client_id == connection.client_id


async def test_what_the_broker_does_not_offer_is_not_used(configure: Configure) -> None:
    settings = """
        listener {port} 127.0.0.1
        allow_anonymous true
        retain_available false
        max_qos 0
    """
    will = Will(topic="gone", payload=b"yes", qos=1, retain=True)
    async with configure(settings) as broker:
        address = Address.parse(broker.url)
        async with Connection(address) as watcher:
            await watcher.subscribe([Subscription(filter="#")])
            connection = Connection(address, will=will)
            async with connection:
                assert not connection.retains
                await connection.publish("t", b"1", qos=1, retain=True)
                connection.abort()
            came = [await next_of(watcher) for _ in range(2)]
            assert [(each.topic, each.payload, each.qos) for each in came] == [
                ("t", b"1", 0),
                ("gone", b"yes", 0),
            ]
        async with Connection(address) as later:
            await later.subscribe([Subscription(filter="#")])
            await later.publish("now", b"")
            assert (await next_of(later)).topic == "now"


async def test_a_filter_with_a_wildcard_is_not_sent_where_there_are_none(
    scripted: Scripted,
) -> None:
    sent: list[int] = []

    async def script(peer: Peer) -> None:
        await peer.accept(b"\x20\x05\x00\x00\x02\x28\x00")
        while True:
            first_byte, body = await peer.packet()
            sent.append(first_byte)
            if first_byte == 0x82:
                peer.send(b"\x90\x04" + body[:2] + b"\x00\x01")

    async with scripted(script) as address, Connection(address) as connection:
        wanted = [Subscription(filter=each, optional=True) for each in ("a/#", "a/b", "+")]
        assert await connection.subscribe(wanted) == [0xA2, 1, 0xA2]
        with pytest.raises(SubscribeRefused, match="wildcard"):
            await connection.subscribe([Subscription(filter="a/#")])
        assert sent == [0x82]


async def test_a_broker_that_gives_out_no_client_ids_is_given_one(scripted: Scripted) -> None:
    ids: list[bytes] = []

    async def script(peer: Peer) -> None:
        _, body = await peer.packet()
        # Protocol name and level, flags, keep-alive, properties: the id is what is left.
        ids.append(body[10 + 1 + body[10] + 2 :])
        peer.send(b"\x20\x03\x00\x00\x00" if ids[-1] else b"\x20\x03\x00\x85\x00")
        await peer.reader.read()

    async with scripted(script) as address, Connection(address) as connection:
        assert ids == [b"", connection.client_id.encode()]


async def test_a_packet_of_exactly_the_limit_goes_and_one_byte_more_does_not(
    configure: Configure,
) -> None:
    settings = "listener {port} 127.0.0.1\nallow_anonymous true\nmax_packet_size 5000"
    async with (
        configure(settings) as broker,
        Connection(Address.parse(broker.url)) as connection,
    ):
        with pytest.raises(PacketTooLarge) as caught:
            connection.publish("t", bytes(5000), properties=MANY)
        fitting = 5000 - (caught.value.size - 5000)
        await connection.publish("t", bytes(fitting), properties=MANY)
        with pytest.raises(PacketTooLarge) as caught:
            connection.publish("t", bytes(fitting + 1), properties=MANY)
        assert (caught.value.size, caught.value.limit) == (5001, 5000)
        assert connection.alive
        await connection.publish("t", b"still here")


async def test_the_configured_limit_counts_where_it_is_lower(address: Address) -> None:
    async with Connection(address, packet_limit=100) as connection:
        assert connection.connack.maximum_packet_size == LARGEST_PACKET
        assert connection.packet_limit == 100
        with pytest.raises(PacketTooLarge):
            connection.publish("t", bytes(100))


async def test_a_refused_publish_raises_and_nobody_listening_is_reported(
    tmp_path: Path, configure: Configure
) -> None:
    (tmp_path / "acl").write_text("topic readwrite open/#\n")
    settings = f"listener {{port}} 127.0.0.1\nallow_anonymous true\nacl_file {tmp_path}/acl"
    async with (
        configure(settings) as broker,
        Connection(Address.parse(broker.url)) as connection,
    ):
        with pytest.raises(PublishRefused) as caught:
            await connection.publish("closed/1")
        assert (caught.value.topic, caught.value.code) == ("closed/1", NOT_AUTHORISED)
        assert (await connection.publish("open/1")).code == 0x10  # no subscribers
        await subscribed(connection, "open/#")
        assert (await connection.publish("open/1")).code == 0


async def test_a_connection_is_good_for_once(address: Address) -> None:
    connection = Connection(address)
    with pytest.raises(RuntimeError, match="not connected"):
        connection.publish("t")
    with pytest.raises(RuntimeError, match="not connected"):
        _ = connection.connack
    async with connection:
        with pytest.raises(RuntimeError, match="one connection"):
            await connection.__aenter__()
        await connection.publish("t")
    assert not connection.alive
    with pytest.raises(RuntimeError, match="one connection"):
        await connection.__aenter__()
    with pytest.raises(ConnectionLost):
        connection.publish("t")


async def test_after_our_own_disconnect_the_messages_just_end(address: Address) -> None:
    async with Connection(address) as connection:
        await subscribed(connection)
        await connection.publish("t", b"1")
        await connection.publish("elsewhere")
    assert [message.payload async for message in connection.messages] == [b"1"]


async def test_nothing_is_discarded_and_the_backlog_is_counted(address: Address) -> None:
    async with Connection(address, manual_ack=False) as connection:
        await subscribed(connection)
        for _ in range(2000):
            connection.publish("t", bytes(1000))
        await connection.publish("t", b"last")
        first = await next_of(connection)
        assert len(first.payload) == 1000
        backlog = connection.messages.backlog
        while (await next_of(connection)).payload != b"last":
            assert connection.messages.backlog <= backlog + 2000 * 1010
        assert connection.messages.backlog == 0


async def test_the_brokers_receive_maximum_is_kept(scripted: Scripted) -> None:
    open_ids: list[int] = []
    most = 0
    finished = asyncio.Event()

    async def script(peer: Peer) -> None:
        nonlocal most
        await peer.accept(b"\x20\x06\x00\x00\x03\x21\x00\x03")
        for count in range(30):
            first_byte, body = await peer.packet()
            assert first_byte == 0x32
            open_ids.append(int.from_bytes(body[3:5], "big"))
            most = max(most, len(open_ids))
            if len(open_ids) == 3 or count > 26:
                peer.send(b"\x40\x02" + open_ids.pop(0).to_bytes(2, "big"))
        while open_ids:
            peer.send(b"\x40\x02" + open_ids.pop(0).to_bytes(2, "big"))
        await finished.wait()

    async with scripted(script) as address, Connection(address) as connection:
        assert connection.connack.receive_maximum == 3
        await asyncio.gather(*(connection.publish("t") for _ in range(30)))
        finished.set()
    assert most == 3


async def test_messages_leave_in_order_whatever_their_qos(address: Address) -> None:
    async with Connection(address, manual_ack=False) as connection:
        await subscribed(connection)
        for number in range(500):
            connection.publish("t", str(number).encode(), qos=number % 2)
        got = [(await next_of(connection)).payload for _ in range(500)]
    assert got == [str(number).encode() for number in range(500)]


async def test_a_value_that_would_end_the_connection_is_refused_and_nothing_else_happens(
    address: Address,
) -> None:
    bad = [
        PublishProperties(response_topic="a/+/b"),
        PublishProperties(response_topic=""),
        PublishProperties(content_type="\ud800"),
        PublishProperties(content_type="a\0b"),
        PublishProperties(user_properties=[("filename", "two\nlines")]),
        PublishProperties(user_properties=[("k", "v" * 65536)]),
    ]
    async with Connection(address) as connection:
        for properties in bad:
            with pytest.raises(InvalidMessage):
                connection.publish("t", properties=properties)
        with pytest.raises(InvalidMessage):
            connection.publish("/".join("t" * 202))
        await connection.publish("t", b"still here")


async def test_a_malformed_filter_is_refused(address: Address) -> None:
    async with Connection(address) as connection:
        for malformed in ("a/#/b", "", "a+"):
            with pytest.raises(InvalidMessage, match="filter"):
                await connection.subscribe([Subscription(filter=malformed)])
        with pytest.raises(InvalidMessage, match="QoS"):
            await connection.subscribe([Subscription(filter="a", qos=2)])


async def test_a_refused_filter_is_named(scripted: Scripted) -> None:
    async def script(peer: Peer) -> None:
        await peer.accept()
        _, body = await peer.packet()
        peer.send(b"\x90\x05" + body[:2] + b"\x00\x01\x87")
        await peer.packet()

    async with scripted(script) as address, Connection(address) as connection:
        with pytest.raises(SubscribeRefused) as caught:
            await connection.subscribe([Subscription(filter="a"), Subscription(filter="b")])
        assert (caught.value.filter, caught.value.code) == ("b", NOT_AUTHORISED)


async def test_subscription_options_reach_the_broker(address: Address) -> None:
    async with Connection(address) as connection:
        await connection.publish("t/kept", b"old", retain=True)
        await connection.subscribe(
            [
                Subscription(filter="t/kept", retain_handling=2, retain_as_published=True),
                Subscription(filter="own/#", no_local=True),
            ]
        )
        await connection.publish("own/1", b"not for us")
        await connection.publish("t/kept", b"new", retain=True)
        message = await next_of(connection)
        assert (message.payload, message.retain) == (b"new", True)


async def test_small_packets_do_not_wait_for_an_acknowledgement_of_tcps(address: Address) -> None:
    async with Connection(address) as connection:
        assert connection._link is not None
        sock = connection._link._stream._sock
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_a_fast_producer_can_wait_for_room(address: Address) -> None:
    async with Connection(address) as connection:
        most = 0
        for _ in range(20):
            connection.publish("t", bytes(MEGA), qos=0)
            await connection.drained(2 * MEGA)
            most = max(most, connection.buffered)
        await connection.drained()
        assert connection.buffered == 0
    assert 0 < most <= 2 * MEGA


async def test_large_payloads_go_both_ways_while_the_event_loop_turns(address: Address) -> None:
    payload = os.urandom(16 * MEGA)
    longest = 0.0

    async def watch() -> None:
        nonlocal longest
        while True:
            begun = time.thread_time()  # a busy machine does not count
            await asyncio.sleep(0)
            longest = max(longest, time.thread_time() - begun)

    async with Connection(address) as sender, Connection(address) as receiver:
        await subscribed(receiver)
        watching = asyncio.create_task(watch())
        for qos in (0, 1):
            sender.publish("t/large", payload, qos=qos, properties=MANY)
            message = await next_of(receiver)
            receiver.ack(message)
            assert message.content_type == "image/png"
            assert message.payload.startswith(payload[:100])
            same = await asyncio.to_thread(payload.__eq__, message.payload)
            assert same
        watching.cancel()
    # paho's own reader and writer take 200 and 20 ms, these 2 and 0.3.
    assert longest < 0.05


async def test_a_message_has_the_subscription_by_which_it_came(address: Address) -> None:
    async with Connection(address) as connection:
        assert connection.connack.subscription_ids_available
        codes = await connection.subscribe(
            [
                Subscription(filter="t/+", identifier=7),
                Subscription(filter="t/#", identifier=300, qos=0),
                Subscription(filter="#"),
            ]
        )
        assert codes == [1, 0, 1]
        await connection.publish("t/1", b"x")
        copies = [await next_of(connection) for _ in range(3)]
        found = sorted((copy.subscription_ids, copy.qos) for copy in copies)
        assert found == [([], 1), ([7], 1), ([300], 0)]


async def test_no_more_is_read_from_the_network_while_too_much_waits_to_be_taken() -> None:
    told: list[bool] = []
    messages = Messages(told.append)
    message = Incoming(topic="t", payload=b"", qos=0, retain=False, dup=False, mid=0)
    taken = 0
    for _ in range(20):
        messages.put(message, MAX_BACKLOG // 10)
    assert told == [False]
    assert messages.backlog > MAX_BACKLOG
    while told == [False]:
        await anext(messages)
        taken += 1
    assert told == [False, True]
    assert 0 < messages.backlog <= MAX_BACKLOG // 2
    for _ in range(20 - taken):
        await anext(messages)
    assert messages.backlog == 0
    assert told == [False, True]


async def test_small_messages_count_for_what_they_cost() -> None:
    told: list[bool] = []
    messages = Messages(told.append)
    for _ in range(MAX_BACKLOG // 1024 + 1):
        messages.put(Incoming(topic="t", payload=b"", qos=0, retain=False, dup=False, mid=0), 5)
    assert told == [False]


async def test_what_waits_unread_comes_once_there_is_room(address: Address) -> None:
    piece = bytes(MAX_BACKLOG // 8)
    async with Connection(address) as reader, Connection(address) as writer:
        await reader.subscribe([Subscription(filter="t")])
        for _ in range(24):
            await writer.publish("t", piece)
        for _ in range(24):
            message = await anext(reader.messages)
            assert len(message.payload) == len(piece)
            reader.ack(message)
