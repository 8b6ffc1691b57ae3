"""A proxy that makes a broker as strict as those of clouds are: it counts, and refuses.

It reads what a client sends as MQTT 5, and passes on what its limits allow. What a broker sends
passes as it is.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import Literal, Self
from urllib.parse import urlsplit

from bridge.tokenbucket import TokenBucket
from tests.support.packets import read_packet

_CONNECT, _PUBLISH, _SUBSCRIBE = 1, 3, 8
_MQTT_5 = 5
_UNACCEPTABLE_VERSION = b"\x20\x02\x00\x01"  # a CONNACK of 3.1.1
_QUOTA_EXCEEDED = 0x97


class StrictProxy:
    """Stands before one broker, on a port of its own; an async context manager.

    `publishes_per_s`: what a client publishes beyond is refused (QoS 1), or dropped (QoS 0).
    `filters_per_subscribe`: a SUBSCRIBE with more ends the connection. `mqtt_5`: what becomes of a
    CONNECT of version 5: it is passed on, refused as by a broker of 3.1.1, or met by hanging up.
    """

    def __init__(
        self,
        url: str,
        *,
        publishes_per_s: float | None = None,
        filters_per_subscribe: int | None = None,
        mqtt_5: Literal["pass", "refuse", "hang up"] = "pass",
    ) -> None:
        self.passed = self.refused = self.cut = 0
        self._target = urlsplit(url)
        self._rate = publishes_per_s
        self._filters = filters_per_subscribe
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
        down = asyncio.create_task(_pass_on(from_broker, writer))
        with suppress(OSError, asyncio.IncompleteReadError):
            await self._up(reader, writer, to_broker)
        writer.close()  # not before what was written to it is out
        to_broker.transport.abort()
        self._writers -= {writer, to_broker}
        await asyncio.gather(down, return_exceptions=True)

    async def _up(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        to_broker: asyncio.StreamWriter,
    ) -> None:
        quota = None if self._rate is None else TokenBucket.full(self._rate, 1.0, time.monotonic())
        while True:
            head, body = await read_packet(reader)
            kind = head[0] >> 4
            if kind == _CONNECT and _level(body) == _MQTT_5 and self._mqtt_5 != "pass":
                if self._mqtt_5 == "refuse":
                    writer.write(_UNACCEPTABLE_VERSION)
                    await writer.drain()
                return
            if kind == _SUBSCRIBE and self._filters and _filters(body) > self._filters:
                self.cut += 1
                return
            if kind == _PUBLISH and quota is not None:
                if not quota.try_take(time.monotonic()):
                    self.refused += 1
                    if head[0] & 0b110:
                        mid = _packet_id(body)
                        writer.write(bytes([0x40, 4]) + mid + bytes([_QUOTA_EXCEEDED, 0]))
                    continue
                self.passed += 1
            to_broker.write(head + body)
            await to_broker.drain()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.transport.abort()


def _level(connect: bytes) -> int:
    """Return a CONNECT's protocol level, after the protocol's name: 4 is 3.1.1."""
    return connect[2 + int.from_bytes(connect[:2], "big")]


def _packet_id(publish: bytes) -> bytes:
    after_topic = 2 + int.from_bytes(publish[:2], "big")
    return publish[after_topic : after_topic + 2]


def _filters(subscribe: bytes) -> int:
    """Count the topic filters of a SUBSCRIBE: two bytes, properties, then the filters."""
    length, at = 0, 2
    for shift in range(0, 28, 7):
        byte = subscribe[at]
        length |= (byte & 0x7F) << shift
        at += 1
        if not byte & 0x80:
            break
    at += length
    count = 0
    while at < len(subscribe):
        at += 2 + int.from_bytes(subscribe[at : at + 2], "big") + 1
        count += 1
    return count
