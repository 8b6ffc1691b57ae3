"""The stream between paho, our packets and the socket: order, pieces, and what is counted."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from typing import cast

import pytest
from websockets.client import ClientProtocol
from websockets.protocol import State
from websockets.uri import parse_uri

from bridge.mqtt.stream import Stream, WebSocketStream

Pair = tuple[Stream, socket.socket]
KILO = 1024


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, other = socket.socketpair()
    ours.settimeout(0)
    with ours, other:
        yield Stream(ours), other


def test_packets_of_both_leave_in_the_order_of_the_calls(pair: Pair) -> None:
    stream, other = pair
    stream.put(b"a", b"b")
    assert stream.send(b"\x82c") == 2
    stream.put(b"d", bytes(20 * KILO))
    assert (stream.queued, stream.written, stream.waiting) == (5 + 20 * KILO, 0, True)
    stream.write(100 * KILO)
    assert (stream.written, stream.waiting) == (stream.queued, False)
    assert other.recv(100 * KILO) == b"ab\x82cd" + bytes(20 * KILO)


def test_a_turn_writes_so_much_and_goes_on_where_it_stopped(pair: Pair) -> None:
    stream, other = pair
    payload = bytes(range(256)) * 400
    stream.put(b"head", payload)
    received = b""
    while stream.waiting:
        before = stream.written
        stream.write(1000)
        assert stream.written - before <= 1000
        received += other.recv(1000)
    assert received == b"head" + payload


class Counting:
    """A socket that takes a little at a time, and keeps what each write brought."""

    def __init__(self, takes: int) -> None:
        self.takes = takes
        self.writes: list[bytes] = []

    def send(self, data: memoryview) -> int:
        self.writes.append(bytes(data[: self.takes]))
        return len(self.writes[-1])


def test_small_packets_leave_together_and_large_ones_uncopied() -> None:
    network = Counting(takes=100 * KILO)
    stream = Stream(cast("socket.socket", network))
    large = bytes(20 * KILO)
    for packet in (b"one", b"two", b"three"):
        stream.put(packet)
    stream.put(b"head", large)
    stream.put(b"four")
    stream.write(100 * KILO)
    assert network.writes == [b"onetwothreehead", large, b"four"]
    assert (stream.written, stream.waiting) == (stream.queued, False)


def test_packets_that_leave_together_in_pieces_stay_in_their_order() -> None:
    network = Counting(takes=5)
    stream = Stream(cast("socket.socket", network))
    packets = [bytes([number]) * 7 for number in range(9)]
    for packet in packets[:5]:
        stream.put(packet)
    stream.write(12)
    assert stream.written == 12
    for packet in packets[5:]:
        stream.put(packet)
    stream.write(KILO)
    assert b"".join(network.writes) == b"".join(packets)
    assert (stream.written, stream.waiting) == (stream.queued, False)


def test_what_the_network_does_not_take_waits(pair: Pair) -> None:
    stream, other = pair
    stream.put(b"", bytes(16 * KILO * KILO))
    stream.write(64 * KILO * KILO)
    assert stream.waiting
    assert 0 < stream.written < stream.queued
    with pytest.raises(BlockingIOError):
        stream.send(b"\xe0\x00")  # not before all the rest is out
    other.settimeout(0)
    left = stream.queued
    while left:
        try:
            left -= len(other.recv(KILO * KILO))
        except BlockingIOError:
            stream.write(KILO * KILO)
    assert stream.send(b"\xe0\x00") == 2


def test_paho_reads_what_it_is_given_in_whatever_pieces_it_asks_for(pair: Pair) -> None:
    stream, _ = pair
    with pytest.raises(BlockingIOError):
        stream.recv(1)
    stream.feed(b"abc")
    stream.feed(b"de")
    assert [stream.recv(1), stream.recv(3), stream.recv(10)] == [b"a", b"bcd", b"e"]
    assert not stream.has_unread


def test_reading_distinguishes_nothing_now_from_the_end(pair: Pair) -> None:
    stream, other = pair
    assert stream.read(10) is None
    other.send(b"abc")
    assert stream.read(2) == b"ab"
    assert stream.read(2) == b"c"
    other.close()
    assert stream.read(2) == b""


class Secured:
    """A TLS socket that has to wait for the other side's bytes first."""

    def recv(self, _size: int) -> bytes:
        raise ssl.SSLWantReadError

    def send(self, _data: bytes) -> int:
        raise ssl.SSLWantWriteError


def test_tls_sockets_that_are_not_ready_are_as_others() -> None:
    stream = Stream(cast("socket.socket", Secured()))
    assert stream.read(10) is None
    stream.put(b"a")
    stream.write(10)
    assert stream.waiting
    stream = Stream(cast("socket.socket", Secured()))
    with pytest.raises(BlockingIOError):
        stream.send(b"\xe0\x00")


def test_nothing_is_put_on_a_websocket_that_the_server_has_closed(
    pair: Pair,
) -> None:
    protocol = ClientProtocol(parse_uri("ws://h"), state=State.OPEN)
    stream = WebSocketStream(pair[0]._sock, protocol)
    pair[1].sendall(b"\x82\x01x\x88\x00")  # a message, and the end
    assert stream.read(100) == b"x"
    answered = stream.queued
    assert answered
    stream.put(b"late")
    assert stream.queued == answered
