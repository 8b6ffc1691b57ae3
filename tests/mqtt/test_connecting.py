"""Making a connection, and failures of that."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from bridge.mosquitto import find_program
from bridge.mqtt import (
    Address,
    BadAddress,
    BadCertificate,
    Connection,
    ConnectionRefused,
    Subscription,
    Unreachable,
)
from tests.mqtt.conftest import LARGEST_PACKET
from tests.mqtt.talk import MANY, MEGA, next_of, subscribed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.mqtt.conftest import Configure, Peer, Scripted


async def test_a_wrong_password_is_distinguished_from_a_broker_that_is_not_there(
    tmp_path: Path, configure: Configure
) -> None:
    passwords = tmp_path / "passwords"
    program = await find_program("mosquitto_passwd")
    subprocess.run(  # noqa: ASYNC221 - a fraction of a second, before anything else
        [program, "-c", "-b", str(passwords), "alice", "right/one"], check=True
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


async def test_a_host_that_is_no_name_is_a_bad_address() -> None:
    with pytest.raises(BadAddress, match="host"):
        await Connection(Address(host="two..dots")).__aenter__()


async def test_a_broker_that_stays_silent_is_unreachable(scripted: Scripted) -> None:
    async def script(peer: Peer) -> None:
        await peer.reader.read()

    async with scripted(script) as address:
        with pytest.raises(Unreachable, match="says nothing"):
            await Connection(address, timeout_s=0.1).__aenter__()


async def test_a_broker_that_hangs_up_is_unreachable(scripted: Scripted) -> None:
    async def script(peer: Peer) -> None:
        await peer.packet()

    async with scripted(script) as address:
        with pytest.raises(Unreachable):
            await Connection(address).__aenter__()


async def test_a_broker_of_mqtt_3_only_is_refused_with_a_reason(scripted: Scripted) -> None:
    async def script(peer: Peer) -> None:
        await peer.accept(b"\x20\x02\x00\x01")
        await peer.reader.read()

    async with scripted(script) as address:
        with pytest.raises(ConnectionRefused, match="protocol version"):
            await Connection(address).__aenter__()


@pytest.fixture
def stuck() -> Iterator[Address]:
    """Yield an address where connections are neither accepted nor refused."""
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


async def test_an_answer_to_a_cancelled_subscription_is_no_error(
    scripted: Scripted, caplog: pytest.LogCaptureFixture
) -> None:
    asked, cancelled = asyncio.Event(), asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.accept()
        _, body = await peer.packet()
        asked.set()
        await cancelled.wait()
        peer.send(b"\x90\x04" + body[:2] + b"\x00\x00")
        peer.send(b"\x30\x04\x00\x01t\x00")
        await peer.reader.read()

    async with scripted(script) as address, Connection(address) as connection:
        subscribing = asyncio.create_task(connection.subscribe([Subscription(filter="t")]))
        await asked.wait()
        subscribing.cancel()
        await asyncio.wait((subscribing,))
        cancelled.set()
        assert (await next_of(connection)).topic == "t"
    assert not caplog.records


async def test_every_address_of_a_host_is_tried(
    address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def found(*_: Any, **__: Any) -> list[tuple[Any, ...]]:
        tcp = (socket.AF_INET, socket.SOCK_STREAM, 0, "")
        return [(*tcp, ("127.0.0.1", 1)), (*tcp, ("127.0.0.1", address.port))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", found)
    async with Connection(Address(host="several")) as connection:
        await connection.publish("t")


async def test_tls_verifies_the_broker(configure: Configure, certificate: Path) -> None:
    key = certificate.with_name("key.pem")
    settings = f"""
        listener {{port}} localhost
        allow_anonymous true
        cafile {certificate}
        certfile {certificate}
        keyfile {key}
        require_certificate true
        max_packet_size {LARGEST_PACKET}
    """
    ours = {"ca": certificate, "cert": certificate, "key": key}
    async with configure(settings) as broker:
        payload = os.urandom(4 * MEGA)
        url = f"mqtts://localhost:{broker.port}"
        async with Connection(Address.parse(url, **ours)) as connection:
            await subscribed(connection)
            await connection.publish("t/large", payload, properties=MANY)
            assert (await next_of(connection)).payload == payload
        with pytest.raises(BadCertificate, match="certificate is not valid"):
            await Connection(Address.parse(url)).__aenter__()
        other_name = f"mqtts://127.0.0.1:{broker.port}"
        with pytest.raises(BadCertificate, match="certificate is not valid"):
            await Connection(Address.parse(other_name, **ours)).__aenter__()
        with pytest.raises(Unreachable):
            await Connection(Address.parse(f"mqtt://localhost:{broker.port}")).__aenter__()
        with pytest.raises(BadAddress, match="CA file"):
            await Connection(Address.parse(url, ca=key)).__aenter__()
    gc.collect()


async def test_tls_to_a_broker_without_it_is_unreachable(address: Address) -> None:
    plain = Address(host=address.host, port=address.port, tls=True)
    with pytest.raises(Unreachable, match="that port does not speak TLS"):
        await Connection(plain, timeout_s=5).__aenter__()


async def test_a_tls_handshake_without_an_answer_ends(scripted: Scripted) -> None:
    async def script(peer: Peer) -> None:
        await peer.reader.read()

    async with scripted(script) as address:
        silent = Address(host=address.host, port=address.port, tls=True)
        with pytest.raises(Unreachable, match="did not answer"):
            await Connection(silent, timeout_s=0.2).__aenter__()
    gc.collect()


@pytest.mark.parametrize(
    "properties", [b"\x21\x00\x00", b"\x27\x00\x00\x00\x00"], ids=["messages", "bytes"]
)
async def test_a_broker_that_announces_to_take_nothing_is_no_broker(
    properties: bytes, scripted: Scripted
) -> None:
    async def script(peer: Peer) -> None:
        size = len(properties)
        await peer.accept(bytes([0x20, 3 + size, 0, 0, size]) + properties)
        await peer.reader.read()

    async with scripted(script) as address:
        with pytest.raises(Unreachable):
            async with Connection(address):
                pass
