"""MQTT over WebSocket, to a real mosquitto's listener and to servers that have none."""

from __future__ import annotations

import asyncio
import gc
import os
import ssl
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from websockets.asyncio.server import ServerConnection, serve

from bridge.mosquitto import Mosquitto
from bridge.mqtt import (
    Address,
    BadCertificate,
    Connection,
    ConnectionLost,
    Publish,
    Subscription,
    Unreachable,
    Will,
)
from tests.mqtt.conftest import ACCEPTED, LARGEST_PACKET, Configure, Peer, Scripted
from tests.mqtt.talk import MANY, MEGA, next_of, subscribed
from tests.support.websockets import SETTINGS, free_port, listening

# mosquitto 2.0.11 sends 40 kB a second over WebSocket, to any client.
LARGE = 10_000


@pytest.fixture
async def address(configure: Configure) -> AsyncIterator[Address]:
    port = free_port()
    async with configure(SETTINGS.format(websocket=port, largest=LARGEST_PACKET)):
        await listening(port)
        yield Address.parse(f"ws://127.0.0.1:{port}/mqtt")


@pytest.mark.broker
async def test_messages_go_both_ways_in_order(address: Address) -> None:
    large = os.urandom(LARGE)
    async with Connection(address) as connection:
        assert connection.version == "5"
        await subscribed(connection)
        for payload in (b"1", large, b"", b"3"):
            connection.publish("t/x", payload, properties=MANY)
        assert [(await next_of(connection)).payload for _ in range(4)] == [b"1", large, b"", b"3"]
    gc.collect()  # an unclosed socket would warn, and a warning is an error


@pytest.mark.broker
async def test_a_disconnect_comes_after_what_was_published_and_withdraws_the_will(
    address: Address,
) -> None:
    async with Connection(address) as watcher:
        await watcher.subscribe([Subscription(filter="#")])
        async with Connection(address, will=Will(topic="gone")) as connection:
            connection.publish("last", os.urandom(LARGE), qos=0)
            await connection.drained()
        assert (await next_of(watcher)).topic == "last"
        async with Connection(address, will=Will(topic="gone")) as connection:
            connection.abort()
        assert (await next_of(watcher)).topic == "gone"


@pytest.mark.broker
async def test_tls_verifies_the_broker(configure: Configure, certificate: Path) -> None:
    port = free_port()
    key = certificate.with_name("key.pem")
    tls = f"certfile {certificate}\nkeyfile {key}\n"
    settings = SETTINGS.format(websocket=port, largest=LARGEST_PACKET) + tls
    async with configure(settings):
        await listening(port)
        url = f"wss://localhost:{port}/mqtt"
        async with Connection(Address.parse(url, ca=certificate)) as connection:
            await subscribed(connection)
            connection.publish("t", b"1")
            assert (await next_of(connection)).payload == b"1"
        with pytest.raises(BadCertificate, match="certificate is not valid"):
            await Connection(Address.parse(url)).__aenter__()
    gc.collect()


async def test_large_messages_go_both_ways_over_tls(certificate: Path) -> None:
    payload, came = os.urandom(4 * MEGA), asyncio.Event()

    async def handler(server: ServerConnection) -> None:
        await server.recv()
        await server.send(ACCEPTED)
        packet = Publish.of("t", payload, qos=0, retain=False)
        await server.send(packet.head(0) + payload)
        left = packet.size
        while left > 0:
            left -= len(await server.recv())
        came.set()
        await server.wait_closed()

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, certificate.with_name("key.pem"))
    async with serve(handler, "localhost", 0, ssl=context, max_size=None) as running:
        port = running.sockets[0].getsockname()[1]
        address = Address.parse(f"wss://localhost:{port}", ca=certificate)
        async with Connection(address) as connection:
            assert (await next_of(connection)).payload == payload
            connection.publish("t", payload, qos=0)
            await came.wait()
    gc.collect()


async def test_a_server_without_mqtt_there_says_so(scripted: Scripted) -> None:
    async def script(peer: Peer) -> None:
        await peer.reader.readuntil(b"\r\n\r\n")
        peer.send(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        await peer.reader.read()

    async def hangs_up(peer: Peer) -> None:
        await peer.reader.readuntil(b"\r\n\r\n")

    for server, words in ((script, "no WebSocket at /here.*404"), (hangs_up, "no WebSocket")):
        async with scripted(server) as plain:
            address = Address(host=plain.host, port=plain.port, path="/here")
            with pytest.raises(Unreachable, match=words):
                await Connection(address).__aenter__()
    gc.collect()


async def test_a_broker_without_websocket_at_that_port_is_reported(broker: Mosquitto) -> None:
    plain = Address.parse(broker.url)
    address = Address(host=plain.host, port=plain.port, path="/mqtt")
    with pytest.raises(Unreachable, match="WebSocket"):
        await Connection(address, timeout_s=5).__aenter__()
    gc.collect()


async def test_the_path_the_query_and_the_protocol_are_asked_for() -> None:
    asked: list[tuple[str, str | None]] = []

    async def handler(server: ServerConnection) -> None:
        assert server.request is not None
        asked.append((server.request.path, server.subprotocol))
        await server.recv()
        await server.send(ACCEPTED)
        await server.wait_closed()

    async with serve(handler, "127.0.0.1", 0, subprotocols=["mqtt"]) as running:  # type: ignore[list-item] # a NewType
        port = running.sockets[0].getsockname()[1]
        async with Connection(Address.parse(f"ws://127.0.0.1:{port}/a/b?c=d")):
            pass
    assert asked == [("/a/b?c=d", "mqtt")]


async def test_packets_may_be_split_over_frames_and_pings_are_answered() -> None:
    async def handler(server: ServerConnection) -> None:
        await server.recv()
        await server.send([ACCEPTED[:2], ACCEPTED[2:]])
        await (await server.ping())
        packet = b"\x30\x05\x00\x01t\x00x"
        await server.send(packet[:3])
        await server.send(packet[3:] + packet)
        await server.wait_closed()

    async with serve(handler, "127.0.0.1", 0) as running:
        port = running.sockets[0].getsockname()[1]
        async with Connection(Address.parse(f"ws://127.0.0.1:{port}")) as connection:
            assert [(await next_of(connection)).payload for _ in range(2)] == [b"x", b"x"]


@pytest.mark.parametrize("ends", ["close", "text", "too large"])
async def test_a_server_that_ends_it_or_sends_no_mqtt_loses_the_connection(ends: str) -> None:
    async def handler(server: ServerConnection) -> None:
        await server.recv()
        await server.send(ACCEPTED)
        if ends == "text":
            await server.send("hello")
        elif ends == "too large":
            server.transport.write(b"\x82\x7f" + struct.pack("!Q", 2**40))
        else:
            return
        await server.wait_closed()

    async with serve(handler, "127.0.0.1", 0) as running:
        port = running.sockets[0].getsockname()[1]
        with pytest.raises((ConnectionLost, Unreachable)):
            async with (
                Connection(Address.parse(f"ws://127.0.0.1:{port}")) as connection,
                asyncio.timeout(10),
            ):
                await anext(connection.messages)
