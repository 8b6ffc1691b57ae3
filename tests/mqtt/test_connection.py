from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
import subprocess
import time
from typing import TYPE_CHECKING, Any

import paho.mqtt.client
import pytest

from bridge.mqtt import (
    NOT_AUTHORISED,
    SESSION_TAKEN_OVER,
    Address,
    BadAddress,
    Connection,
    ConnectionLost,
    ConnectionRefused,
    Incoming,
    InvalidMessage,
    PacketTooLarge,
    PublishProperties,
    PublishRefused,
    SubscribeRefused,
    Subscription,
    Unreachable,
    Will,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bridge.mosquitto import Mosquitto
    from tests.mqtt.conftest import Configure, Peer, Scripted

pytestmark = pytest.mark.broker

MEGA = 1024 * 1024
MANY = PublishProperties(
    content_type="image/png",
    response_topic="answer/here",
    correlation_data=b"\x00\xff",
    message_expiry=60,
    user_properties=[("name", "value"), ("name", "again"), *((str(i), "x") for i in range(10))],
)


async def next_of(connection: Connection) -> Incoming:
    async with asyncio.timeout(10):
        return await anext(connection.messages)


async def subscribed(connection: Connection, filter_: str = "t/#") -> None:
    assert await connection.subscribe([Subscription(filter=filter_)]) == [1]


# What the library table of the measurements lists, and what else a connection promises.


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


async def test_an_ack_from_an_earlier_connection_is_refused(address: Address) -> None:
    async with Connection(address, client_id="c", clean_start=False, session_expiry=60) as first:
        await subscribed(first)
        await first.publish("t", b"old")
        old = await next_of(first)
    assert not first.ack(old)
    # A clean start makes the broker count packet ids anew: the same id, another message.
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


async def test_the_connack_is_told(configure: Configure) -> None:
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
        with pytest.raises(InvalidMessage, match="retains nothing"):
            connection.publish("t", retain=True)


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
        assert connection.connack.maximum_packet_size is None
        assert connection.packet_limit == 100
        with pytest.raises(PacketTooLarge):
            connection.publish("t", bytes(100))


async def test_a_refused_publish_raises_and_nobody_listening_is_told(
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
        assert (await connection.publish("open/1")).no_subscribers
        await subscribed(connection, "open/#")
        assert not (await connection.publish("open/1")).no_subscribers


async def test_a_wrong_password_is_told_from_a_broker_that_is_not_there(
    tmp_path: Path, configure: Configure
) -> None:
    passwords = tmp_path / "passwords"
    subprocess.run(  # noqa: ASYNC221 - a fraction of a second, before anything else
        ["mosquitto_passwd", "-c", "-b", str(passwords), "alice", "right/one"], check=True
    )
    settings = f"listener {{port}} 127.0.0.1\nallow_anonymous false\npassword_file {passwords}"
    async with configure(settings) as broker:
        where = f"127.0.0.1:{broker.port}"
        async with Connection(Address.parse(f"mqtt://alice:right%2Fone@{where}")) as connection:
            assert connection.alive
        for url in (f"mqtt://alice:wrong@{where}", f"mqtt://{where}"):
            with pytest.raises(ConnectionRefused) as caught:
                await Connection(Address.parse(url)).__aenter__()
            assert caught.value.bad_credentials
    with pytest.raises(Unreachable, match="Connection refused"):
        await Connection(Address.parse(f"mqtt://alice:right%2Fone@{where}")).__aenter__()


async def test_a_host_without_an_address_is_unreachable() -> None:
    with pytest.raises(Unreachable, match=r"no-such-host\.invalid"):
        await Connection(Address(host="no-such-host.invalid")).__aenter__()


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
        sock = connection._link._client.opened
        assert sock is not None
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


# The will, and how a connection ends.


async def told_by_will(address: Address, watcher: Connection) -> list[str]:
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
        assert await told_by_will(address, watcher) == []


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
        assert await told_by_will(address, watcher) == []


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


async def test_the_reason_that_a_broker_gives_for_closing_is_told(scripted: Scripted) -> None:
    async def script(peer: Peer) -> None:
        await peer.accept()
        peer.send(b"\xe0\x01\x8e")  # mosquitto says so from 2.0.12 on
        await peer.reader.read()

    async with scripted(script) as address, Connection(address) as connection:
        with pytest.raises(ConnectionLost, match="session taken over") as caught:
            await next_of(connection)
        assert caught.value.code == SESSION_TAKEN_OVER


async def test_a_killed_broker_is_noticed(broker: Mosquitto, address: Address) -> None:
    async with Connection(address) as connection:
        waiting = asyncio.create_task(next_of(connection))
        await broker.kill()
        with pytest.raises(ConnectionLost):
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


async def test_a_broker_that_stays_silent_is_unreachable(scripted: Scripted) -> None:
    async def script(peer: Peer) -> None:
        await peer.reader.read()

    async with scripted(script) as address:
        with pytest.raises(Unreachable, match="says nothing"):
            await Connection(address, timeout_s=0.1).__aenter__()


@pytest.fixture
def stuck() -> Iterator[Address]:
    """Give an address where connections are neither taken nor refused."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):  # what does not fit the backlog hangs
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)  # noqa: FBT003 - the standard library's way
            waiting.connect_ex(server.getsockname())
        yield Address(host="127.0.0.1", port=server.getsockname()[1])


async def test_a_host_that_does_not_answer_is_unreachable(stuck: Address) -> None:
    with pytest.raises(Unreachable, match=r"did not answer within 0\.1 s"):
        await Connection(stuck, timeout_s=0.1).__aenter__()


async def test_waiting_for_a_host_can_be_cancelled(stuck: Address) -> None:
    connecting = asyncio.create_task(Connection(stuck).__aenter__())
    await asyncio.sleep(0)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await connecting
    del connecting
    gc.collect()  # an unclosed socket would warn, and a warning is an error


async def test_every_address_of_a_host_is_tried(
    address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def found(*_: Any, **__: Any) -> list[tuple[Any, ...]]:
        tcp = (socket.AF_INET, socket.SOCK_STREAM, 0, "")
        return [(*tcp, ("127.0.0.1", 1)), (*tcp, ("127.0.0.1", address.port))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", found)
    async with Connection(Address(host="several")) as connection:
        await connection.publish("t")


async def test_a_tls_handshake_without_an_answer_ends(scripted: Scripted) -> None:
    async def script(peer: Peer) -> None:
        await peer.reader.read()

    async with scripted(script) as address:
        silent = Address(host=address.host, port=address.port, tls=True)
        with pytest.raises(Unreachable, match="did not answer"):
            await Connection(silent, timeout_s=0.2).__aenter__()
    gc.collect()


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


async def test_what_paho_stumbles_over_ends_the_connection(
    address: Address, caplog: pytest.LogCaptureFixture
) -> None:
    def stumble() -> None:
        raise LookupError

    async with Connection(address) as connection:
        assert connection._link is not None
        connection._link._client.loop_read = stumble  # type: ignore[method-assign,assignment]  # a fault
        connection.publish("t")
        with pytest.raises(ConnectionLost, match="LookupError"):
            await next_of(connection)
    assert "the connection is given up" in caplog.text


async def test_a_broker_that_hangs_up_is_unreachable(scripted: Scripted) -> None:
    async def script(peer: Peer) -> None:
        await peer.packet()

    async with scripted(script) as address:
        with pytest.raises(Unreachable):
            await Connection(address).__aenter__()


async def test_a_subscription_without_an_answer_ends_the_connection(scripted: Scripted) -> None:
    async def script(peer: Peer) -> None:
        await peer.accept()
        await peer.reader.read()

    async with scripted(script) as address, Connection(address, timeout_s=0.1) as connection:
        with pytest.raises(ConnectionLost, match="no answer"):
            await connection.subscribe([Subscription(filter="t")])
        assert not connection.alive


async def test_a_broker_of_mqtt_3_only_is_refused_with_a_reason(scripted: Scripted) -> None:
    async def script(peer: Peer) -> None:
        await peer.accept(b"\x20\x02\x00\x01")
        await peer.reader.read()

    async with scripted(script) as address:
        with pytest.raises(ConnectionRefused, match="protocol version"):
            await Connection(address).__aenter__()


async def test_connecting_can_be_cancelled_and_leaves_nothing_open(scripted: Scripted) -> None:
    connected = asyncio.Event()
    closed = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.packet()
        connected.set()
        await peer.reader.read()
        closed.set()

    async with scripted(script) as address:
        connecting = asyncio.create_task(Connection(address).__aenter__())
        await connected.wait()
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connecting
        await closed.wait()
    del connecting
    gc.collect()  # an unclosed socket would warn, and a warning is an error


async def test_a_slow_upload_is_not_cut_off_and_a_stuck_one_is(
    scripted: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(paho.mqtt.client, "time_func", lambda: now)
    turns: asyncio.Queue[None] = asyncio.Queue()

    async def script(peer: Peer) -> None:
        await peer.accept()
        while True:
            await turns.get()
            await peer.reader.readexactly(4 * MEGA)

    async with scripted(script) as address, Connection(address, keepalive=10) as connection:
        assert connection._link is not None
        client = connection._link._client
        connection.publish("t", bytes(64 * MEGA), qos=0)
        now += 10
        client.loop_misc()
        assert client._ping_t, "a ping waits behind the packet"
        for _ in range(4):
            turns.put_nowait(None)
            await connection.drained(connection.buffered - MEGA)
            now += 6
            client.loop_misc()
            assert connection.alive
        now += 10
        client.loop_misc()
        assert not connection.alive


# TLS.


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """Make a certificate for localhost that signs itself; its key is beside it in key.pem."""
    path = tmp_path / "certificate.pem"
    command = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 "
        "-subj /CN=localhost -addext subjectAltName=DNS:localhost"
    )
    files = ["-keyout", str(tmp_path / "key.pem"), "-out", str(path)]
    subprocess.run([*command.split(), *files], check=True, capture_output=True)
    return path


async def test_tls_verifies_the_broker(configure: Configure, certificate: Path) -> None:
    key = certificate.with_name("key.pem")
    settings = f"""
        listener {{port}} localhost
        allow_anonymous true
        cafile {certificate}
        certfile {certificate}
        keyfile {key}
        require_certificate true
    """
    ours = {"ca": certificate, "cert": certificate, "key": key}
    async with configure(settings) as broker:
        payload = os.urandom(4 * MEGA)
        url = f"mqtts://localhost:{broker.port}"
        async with Connection(Address.parse(url, **ours)) as connection:
            await subscribed(connection)
            await connection.publish("t/large", payload, properties=MANY)
            assert (await next_of(connection)).payload == payload
        with pytest.raises(Unreachable, match="certificate is not valid"):
            await Connection(Address.parse(url)).__aenter__()
        other_name = f"mqtts://127.0.0.1:{broker.port}"
        with pytest.raises(Unreachable, match="certificate is not valid"):
            await Connection(Address.parse(other_name, **ours)).__aenter__()
        with pytest.raises(Unreachable):
            await Connection(Address.parse(f"mqtt://localhost:{broker.port}")).__aenter__()
        with pytest.raises(BadAddress, match="CA file"):
            await Connection(Address.parse(url, ca=key)).__aenter__()
    gc.collect()


async def test_tls_to_a_broker_without_it_is_unreachable(address: Address) -> None:
    plain = Address(host=address.host, port=address.port, tls=True)
    with pytest.raises(Unreachable):
        await Connection(plain, timeout_s=5).__aenter__()
