"""A proxy that makes a broker as strict as those of clouds are: it counts, refuses, and reorders.

It reads what both sides send as MQTT 5, and passes on what its limits allow. `PROFILES` are the
limits of some brokers.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final, Literal, Self
from urllib.parse import urlsplit

from msgspec import Struct

from bridge.tokenbucket import TokenBucket
from tests.support.packets import read_packet

_CONNECT, _CONNACK, _PUBLISH, _SUBSCRIBE, _UNSUBSCRIBE = 1, 2, 3, 8, 10
_MQTT_5 = 5
_UNACCEPTABLE_VERSION = b"\x20\x02\x00\x01"  # a CONNACK of 3.1.1
_QUOTA_EXCEEDED = 0x97
_TOO_LARGE = b"\xe0\x02\x95\x00"  # a DISCONNECT
# In the place of mosquitto's properties of a CONNACK: its own receive maximum.
_RECEIVE_MAXIMUM = b"\x21\x00\x14"
_SHUFFLED_S = 0.05

# What a CONNACK says, as its bytes.
NO_RETAIN: Final = b"\x25\x00"
NO_WILDCARDS: Final = b"\x28\x00"
NO_SHARED: Final = b"\x2a\x00"
QOS_0: Final = b"\x24\x00"
ONE_AT_A_TIME: Final = b"\x21\x00\x01"

# Like these brokers. Looked up in November 2026: aws' rate (an answer on AWS re:Post: 100
# messages a second of one connection), its filters and payload ("Limits" of ESP RainMaker, after
# AWS' quotas), its session of an hour ("MQTT persistent sessions" of AWS IoT), emqx-serverless'
# ten filters and 1 MB (EMQX, "Quotas and Limits", with ten messages a second of one client), and
# azure's filters and message ("Azure Event Grid quotas and limits", which had 100 messages a second
# of a session in 2023 and has 1,000 now). aws' packet is not documented: it is above its payload.
PROFILES: Final[dict[str, dict[str, Any]]] = {
    "aws": {
        "publishes_per_s": 100,
        "filters_per_subscribe": 8,
        "filters_in_all": 50,
        "largest_payload": 128 * 1024,
        "connack": b"\x27" + (149_504).to_bytes(4, "big") + b"\x11" + (3600).to_bytes(4, "big"),
    },
    "azure": {
        "publishes_per_s": 100,
        "filters_per_subscribe": 10,
        "filters_in_all": 50,
        "shuffles": True,
        "connack": b"\x27" + (524_288).to_bytes(4, "big"),
    },
    "emqx-serverless": {"filters_in_all": 10, "connack": b"\x27" + (1_048_576).to_bytes(4, "big")},
    "rabbitmq": {"retains_for_wildcards": False, "connack": NO_SHARED},
    "nanomq": {"shuffles": True},
}


class _Link(Struct, eq=False):
    """One client's connection: its version of MQTT, and the filters that it has subscribed to."""

    to_client: asyncio.StreamWriter
    to_broker: asyncio.StreamWriter
    v5: bool = True
    quota: TokenBucket | None = None
    filters: set[str] = set()


class StrictProxy:
    """Stands before one broker, on a port of its own; an async context manager.

    `publishes_per_s`: what a client publishes beyond is refused (QoS 1), or dropped (QoS 0).
    `filters_per_subscribe`: a SUBSCRIBE with more ends the connection; with more than
    `filters_in_all` on a connection it is refused. `largest_payload`: a larger one ends the
    connection. `connack` is put into each CONNACK. Without `retains_for_wildcards` retained
    messages come to filters without a wildcard alone. With `shuffles` live messages come in any
    order, those of a twentieth of a second at a time, or, with `holds`, those up to `release`.
    `mqtt_5`: what becomes of a CONNECT of version 5: it is passed on, refused as by a broker of
    3.1.1, or met by hanging up.
    """

    def __init__(
        self,
        url: str,
        *,
        publishes_per_s: float | None = None,
        filters_per_subscribe: int | None = None,
        filters_in_all: int | None = None,
        largest_payload: int | None = None,
        connack: bytes = b"",
        retains_for_wildcards: bool = True,
        shuffles: bool = False,
        holds: bool = False,
        mqtt_5: Literal["pass", "refuse", "hang up"] = "pass",
    ) -> None:
        self.passed = self.refused = self.cut = self.shuffled = 0
        self._target = urlsplit(url)
        self._rate = publishes_per_s
        self._filters = filters_per_subscribe
        self._filters_in_all = filters_in_all
        self._largest = largest_payload
        self._connack = connack
        self._retains = retains_for_wildcards
        self.shuffles = shuffles
        self._holds = holds
        self._held: list[tuple[list[bytes], asyncio.StreamWriter]] = []
        self._holding = asyncio.Event()
        self._mqtt_5 = mqtt_5
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"mqtt://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ends = await asyncio.open_connection(self._target.hostname, self._target.port)
        from_broker, to_broker = ends
        self._writers |= {writer, to_broker}
        link = _Link(writer, to_broker)
        down = asyncio.create_task(self._down(from_broker, link))
        with suppress(OSError, asyncio.IncompleteReadError):
            await self._up(reader, link)
        writer.close()  # not before what was written to it is out
        to_broker.transport.abort()
        self._writers -= {writer, to_broker}
        await asyncio.gather(down, return_exceptions=True)

    async def _up(self, reader: asyncio.StreamReader, link: _Link) -> None:
        if self._rate is not None:
            link.quota = TokenBucket.full(self._rate, 1.0, time.monotonic())
        while True:
            head, body = await read_packet(reader)
            match head[0] >> 4:
                case kind if kind == _CONNECT:
                    passes = self._connects(body, link)
                case kind if kind == _SUBSCRIBE:
                    passes = self._subscribes(body, link)
                case kind if kind == _UNSUBSCRIBE:
                    link.filters.difference_update(_filters(body, v5=link.v5, options=0))
                    passes = True
                case kind if kind == _PUBLISH:
                    passes = self._publishes(head, body, link)
                case _:
                    passes = True
            if passes is None:
                await link.to_client.drain()
                return
            if passes:
                link.to_broker.write(head + body)
                await link.to_broker.drain()

    # Each returns whether the packet passes; None: the connection ends.

    def _connects(self, body: bytes, link: _Link) -> bool | None:
        link.v5 = _level(body) == _MQTT_5
        if not link.v5 or self._mqtt_5 == "pass":
            return True
        if self._mqtt_5 == "refuse":
            link.to_client.write(_UNACCEPTABLE_VERSION)
        return None

    def _subscribes(self, body: bytes, link: _Link) -> bool | None:
        wanted = list(_filters(body, v5=link.v5))
        if self._filters and len(wanted) > self._filters:
            self.cut += 1
            return None
        return not self._refuses(wanted, body[:2], link)

    def _publishes(self, head: bytes, body: bytes, link: _Link) -> bool | None:
        if self._largest and _payload(head, body, v5=link.v5) > self._largest:
            self.cut += 1
            link.to_client.write(_TOO_LARGE)
            return None
        if link.quota is None:
            return True
        if link.quota.try_take(time.monotonic()):
            self.passed += 1
            return True
        self.refused += 1
        if head[0] & 0b110:
            mid = _packet_id(body)
            link.to_client.write(bytes([0x40, 4]) + mid + bytes([_QUOTA_EXCEEDED, 0]))
        return False

    def _refuses(self, wanted: list[str], mid: bytes, link: _Link) -> bool:
        """Refuse a SUBSCRIBE that is one too many; otherwise note its filters."""
        if self._filters_in_all and len(link.filters.union(wanted)) > self._filters_in_all:
            self.refused += 1
            codes = bytes([_QUOTA_EXCEEDED if link.v5 else 0x80] * len(wanted))
            after = mid + b"\0" * link.v5 + codes
            link.to_client.write(bytes([0x90, len(after)]) + after)
            return True
        link.filters.update(wanted)
        return False

    async def _down(self, reader: asyncio.StreamReader, link: _Link) -> None:
        held: list[bytes] = []
        writer = link.to_client
        with suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head, body = await read_packet(reader)
                kind = head[0] >> 4
                if kind == _CONNACK and link.v5 and self._connack:
                    properties = self._connack
                    if not properties.startswith(b"\x21"):
                        properties += _RECEIVE_MAXIMUM
                    body = body[:2] + bytes([len(properties)]) + properties
                    head = bytes([head[0], len(body)])
                if kind == _PUBLISH and head[0] & 1:
                    if not self._retains and _topic(body) not in link.filters:
                        if head[0] & 0b110:
                            link.to_broker.write(b"\x40\x02" + _packet_id(body))
                        continue
                elif kind == _PUBLISH and self.shuffles:
                    if not held and self._holds:
                        self._held.append((held, writer))
                    elif not held:
                        loop = asyncio.get_running_loop()
                        loop.call_later(_SHUFFLED_S, self._let_go, held, writer)
                    held.append(head + body)
                    self._holding.set()
                    continue
                writer.write(head + body)
                await writer.drain()
        writer.transport.abort()

    async def holding(self, count: int) -> None:
        """Wait until so many messages are held."""
        while sum(len(held) for held, _ in self._held) < count:
            self._holding.clear()
            await self._holding.wait()

    def release(self) -> None:
        """Send what is held, in another order."""
        for held, writer in self._held:
            self._let_go(held, writer)
        self._held.clear()

    def _let_go(self, held: list[bytes], writer: asyncio.StreamWriter) -> None:
        before = list(held)
        held.reverse()  # what is last overtakes all, and the rest is as it falls
        rest = held[1:]
        random.shuffle(rest)
        held[1:] = rest
        self.shuffled += held != before
        if not writer.is_closing():
            writer.writelines(held)
        held.clear()


def _level(connect: bytes) -> int:
    """Return a CONNECT's protocol level, after the protocol's name: 4 is 3.1.1."""
    return connect[2 + int.from_bytes(connect[:2], "big")]


def _topic(publish: bytes) -> str:
    return publish[2 : 2 + int.from_bytes(publish[:2], "big")].decode()


def _packet_id(publish: bytes) -> bytes:
    after_topic = 2 + int.from_bytes(publish[:2], "big")
    return publish[after_topic : after_topic + 2]


def _payload(head: bytes, publish: bytes, *, v5: bool) -> int:
    """Return how many bytes a PUBLISH's payload has."""
    at = 2 + int.from_bytes(publish[:2], "big") + (2 if head[0] & 0b110 else 0)
    length, at = _length(publish, at) if v5 else (0, at)
    return len(publish) - at - length


def _length(packet: bytes, at: int) -> tuple[int, int]:
    """Return the length of the properties that begin at an offset, and where they follow."""
    length = 0
    for shift in range(0, 28, 7):
        byte = packet[at]
        length |= (byte & 0x7F) << shift
        at += 1
        if not byte & 0x80:
            break
    return length, at


def _filters(subscribe: bytes, *, v5: bool, options: int = 1) -> Iterator[str]:
    """Yield the topic filters of a SUBSCRIBE: two bytes, properties, then the filters.

    Behind each are its `options`: a byte, none in an UNSUBSCRIBE.
    """
    length, at = _length(subscribe, 2) if v5 else (0, 2)
    at += length
    while at < len(subscribe):
        size = int.from_bytes(subscribe[at : at + 2], "big")
        yield subscribe[at + 2 : at + 2 + size].decode()
        at += 2 + size + options
