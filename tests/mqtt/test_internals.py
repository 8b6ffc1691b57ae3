"""The private names of aiomqtt and paho that are used, and what their code is relied upon to do."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import aiomqtt
import paho.mqtt.client as paho
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from bridge.mqtt.internals import next_mid, paho_of, use_stream
from bridge.mqtt.packets import PINGRESP
from bridge.mqtt.stream import Stream
from tests.mqtt.conftest import ACCEPTED


class Ends:
    """A client of paho's on a stream whose other end is here."""

    def __init__(self) -> None:
        ours, self.broker = socket.socketpair()
        ours.settimeout(0)
        self.broker.settimeout(0)
        self.stream = Stream(ours)
        self.aiomqtt = aiomqtt.Client("broker", protocol=aiomqtt.ProtocolVersion.V5)
        self.client = paho_of(self.aiomqtt)
        self.calls: list[Any] = []
        self.client.on_connect = lambda *_: self.calls.append("connect")
        self.client.on_disconnect = lambda *_: self.calls.append("disconnect")
        self.client.on_socket_open = None
        self.client.on_socket_close = None
        self.client.on_socket_register_write = lambda *_: self.calls.append("write")
        self.client.on_socket_unregister_write = None
        use_stream(self.client, self.stream)

    def connect(self) -> bytes:
        self.client.connect("broker", 1883, 10, properties=_connect_properties())
        self.client.loop_write()
        sent = self.flushed()
        self.stream.feed(ACCEPTED)
        self.client.loop_read()
        self.calls.clear()
        return sent

    def flushed(self) -> bytes:
        self.stream.write(1_000_000)
        try:
            return self.broker.recv(1_000_000)
        except BlockingIOError:
            return b""

    def close(self) -> None:
        self.stream.close()
        self.broker.close()


def _connect_properties() -> Properties:
    return Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho has no types for it


@pytest.fixture
async def ends() -> AsyncIterator[Ends]:
    made = Ends()
    yield made
    made.close()


async def test_aiomqtt_has_a_client_of_pahos(ends: Ends) -> None:
    assert isinstance(ends.client, paho.Client)
    assert ends.client is ends.aiomqtt._client


async def test_paho_uses_the_socket_that_it_is_given(ends: Ends) -> None:
    sent = ends.connect()
    assert ends.client.socket() is ends.stream
    assert sent[0] == 0x10
    assert b"MQTT\x05" in sent
    assert ends.client.is_connected()


async def test_packet_ids_of_subscriptions_come_from_the_same_numbers(ends: Ends) -> None:
    ends.connect()
    first = next_mid(ends.client)
    _, subscribed = ends.client.subscribe("t")
    assert (subscribed, next_mid(ends.client)) == (first + 1, first + 2)
    assert all(0 < next_mid(ends.client) <= 65_535 for _ in range(70_000))


async def test_paho_asks_to_write_and_hands_over_whole_packets(ends: Ends) -> None:
    ends.connect()
    ends.client.subscribe("t")
    assert ends.calls == ["write"]
    assert ends.client.want_write()
    ends.client.loop_write()
    assert not ends.client.want_write()
    packet = ends.flushed()
    assert packet[0] == 0x82
    assert len(packet) == 2 + packet[1]


async def test_a_disconnect_is_written_last_and_reported_when_it_is_out(ends: Ends) -> None:
    ends.connect()
    ends.stream.put(b"\x30\x03", b"\x00\x01t")
    ends.client.disconnect(ReasonCode(PacketTypes.DISCONNECT, "Disconnect with will message"))
    ends.client.loop_write()
    assert "disconnect" not in ends.calls
    assert ends.client.want_write()
    assert ends.flushed() == b"\x30\x03\x00\x01t"
    ends.client.loop_write()
    assert ends.calls[-1] == "disconnect"
    assert ends.broker.recv(100)[:1] == b"\xe0"
    assert ends.stream.fileno() == -1
    assert ends.broker.recv(100) == b""


async def test_paho_pings_after_the_keep_alive_and_takes_our_answer(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(paho, "time_func", lambda: now)
    ends.connect()
    ends.client.loop_misc()
    assert not ends.client.want_write()
    for _ in range(3):
        now += 10
        ends.client.loop_misc()
        ends.client.loop_write()
        assert ends.stream.pinging
        waits = [ends.stream.ping_waits]
        assert ends.flushed() == b"\xc0\x00"
        assert [*waits, ends.stream.ping_waits] == [True, False]
        ends.stream.feed(PINGRESP)
        ends.client.loop_read()
    # Without it paho gives up.
    now += 10
    ends.client.loop_misc()
    now += 10
    ends.client.loop_misc()
    assert "disconnect" in ends.calls


async def test_aiomqtt_matches_a_suback_to_who_subscribed(ends: Ends) -> None:
    ends.connect()
    subscribing = asyncio.create_task(ends.aiomqtt.subscribe("t", 1))
    await asyncio.sleep(0)
    ends.client.loop_write()
    mid = ends.flushed()[2:4]
    ends.stream.feed(b"\x90\x04" + mid + b"\x00\x01")
    ends.client.loop_read()
    (code,) = await subscribing
    assert (code if isinstance(code, int) else code.value) == 1


async def test_paho_reads_one_packet_at_a_time(ends: Ends) -> None:
    ends.connect()
    ends.stream.feed(PINGRESP + PINGRESP)
    ends.client.loop_read()
    left = [ends.stream.has_unread]
    ends.client.loop_read()
    assert [*left, ends.stream.has_unread] == [True, False]
