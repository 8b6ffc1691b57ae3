"""Decoders of a broker's packets, and of its answers to our own."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from typing import Any

from paho.mqtt.subscribeoptions import SubscribeOptions

from bridge.mqtt import Address, ConnectionLost
from bridge.mqtt.errors import InvalidMessage
from bridge.mqtt.link import BrokerLink, Events
from bridge.mqtt.packets import (
    LargePublish,
    Malformed,
    Publish,
    PublishProperties,
    Splitter,
    read_puback,
    read_publish,
)
from bridge.mqtt.stream import Stream
from tests.fuzz.target import Target, loop

CONNACK = 0x20
_PUBLISH = Publish.of(
    "comfy2mqtt/client/a/request/run/demo",
    b"payload",
    qos=1,
    retain=True,
    properties=PublishProperties(
        content_type="image/png",
        response_topic="comfy2mqtt/client/a/reply/x",
        correlation_data=b"c",
        message_expiry=60,
        user_properties=[("input.prompt", "x"), ("$preview", "true")],
    ),
).head(7)[2:]


def _packet(data: bytes) -> None:
    first, body = (data[0] if data else 0), data[1:]
    with suppress(Malformed):
        message = read_publish(0x30 | first & 0x0F, bytearray(body))
        with suppress(InvalidMessage):
            Publish.of(message.topic, message.payload, qos=0, retain=False)
    with suppress(Malformed):
        large = LargePublish(0x30 | first & 0x0F, len(body))
        for start in range(0, len(body), 7):
            large.extend(body[start : start + 7])
        large.read()
    with suppress(Malformed):
        read_puback(body)
    # As a stream, whole and in pieces: the same packets, or malformed both times.
    assert _split(data, len(data) or 1) == _split(data, 3)


def _split(data: bytes, size: int) -> list[Any]:
    splitter, found = Splitter(), list[Any]()
    try:
        for start in range(0, len(data), size):
            found += splitter.feed(data[start : start + size])
    except Malformed:
        found.append(Malformed)
    return found


def _answers(data: bytes) -> None:
    """The first byte chooses: a CONNACK, or one that is right and then a SUBACK."""
    loop().run_until_complete(_answered(0x20 + 0x70 * (data[:1] > b"\x7f"), data[1:]))


async def _turns() -> None:
    """Let the tasks of the loop go on until they wait for something of ours."""
    for _ in range(8):
        await asyncio.sleep(0)


async def _answered(first_byte: int, body: bytes) -> None:
    ended: list[object] = []
    ignored: Any = lambda *_: None  # noqa: E731 - of callbacks that this is not about
    events = Events(
        accepted=ignored,
        refused=ignored,
        received=ignored,
        acknowledged=ignored,
        wrote=ignored,
        ended=ended.append,
    )
    ours, theirs = socket.socketpair()
    ours.setblocking(False)  # noqa: FBT003 - of the socket interface
    link = BrokerLink(
        events,
        Stream(ours),
        Address(host="broker.example"),
        password=None,
        version="5",
        client_id="fuzz",
        clean_start=True,
        session_expiry=0,
        receive_maximum=None,
        keepalive=60,
        will=None,
    )
    filters = [("a", SubscribeOptions(qos=1)), ("b", SubscribeOptions(qos=0))]
    subscribing = None
    try:
        link.start()
        if first_byte != CONNACK:
            theirs.sendall(b"\x20\x03\x00\x00\x00")
            link._turn(link._read)
            subscribing = asyncio.ensure_future(link.subscribed(filters))
            await _turns()  # the SUBSCRIBE is out
        theirs.sendall(bytes([first_byte]) + _varint(len(body)) + body)
        link._turn(link._read)
        if subscribing is not None:
            await _turns()
            if subscribing.done():
                with suppress(ConnectionLost):
                    codes = subscribing.result()
                    assert len(codes) == len(filters)
                    assert all(0 <= code <= 0xFF for code in codes)
    finally:
        if subscribing is not None and not subscribing.done():
            subscribing.cancel()
            await asyncio.wait((subscribing,))
        link.abort(None)
        theirs.close()
        ours.close()
    assert len(ended) == 1


def _varint(number: int) -> bytes:
    digits = bytearray()
    while True:
        number, digit = divmod(number, 128)
        digits.append(digit | 0x80 * (number > 0))
        if not number:
            return bytes(digits)


TARGETS = {
    "packets": Target(
        _packet,
        (
            b"\x03" + _PUBLISH,
            b"\x00\x00\x01a\x00x",
            b"\x02\x00\x01a\x00\x05\x00x",
            b"\x00\x00\x07\x10",
            # Each property once: format, alias, a subscription's id; and of a PUBACK its reason.
            b"\x00\x00\x01a\x07\x01\x01\x23\x00\x01\x0b\x05x",
            b"\x00\x00\x07\x10\x04\x1f\x00\x01r",
            b"\x00\x00\x01a\x02\x02\x00",
            b"\x00\x00\x01a\x02\x7f\x00",
            b"\x00\x00\x01a\xff\xff\xff\xff\x7f",
            b"\x30\x05\x00\x01a\x00x\x90\x04\x00\x05\x00\x01\x40\x02\x00\x07",
            b"\x30\xff\xff\xff\xff\x01",
        ),
        {
            "bridge.mqtt.packets": (
                *("read_publish", "read_puback", "LargePublish.extend", "LargePublish.read"),
                *(
                    "LargePublish._head_size",
                    "_PacketReader._take",
                    "_PacketReader.varint",
                    "_PacketReader.text",
                ),
                *(
                    "_PacketReader.properties",
                    "_PacketReader._property",
                    "Splitter.feed",
                    "_length_after",
                ),
            )
        },
    ),
    "answers": Target(
        _answers,
        (
            b"\x00\x00\x00\x00",
            b"\x00\x01\x00\x00",
            b"\x00\x00\x87\x00",
            b"\x00\x00\x00\x06\x21\x00\x10\x13\x00\x3c",
            b"\x00\x00\x00\x05\x27\x00\x00\x10\x00",
            b"\x00\x00\x00\x0d\x12\x00\x02id\x1f\x00\x03why\x24\x00",
            b"\xff\x00\x01\x00\x01\x00",
            b"\xff\x00\x01\x00\x01",
            b"\xff\x00\x01\x00\x01\x00\x80",
            b"\xff\x00\x02\x00\x01\x00",
            b"\xff\x00\x01\x05\x1f\x00\x02no\x87\x87",
        ),
        {"bridge.mqtt.link": ("BrokerLink.subscribed", "BrokerLink._on_connect", "_connack")},
    ),
}
