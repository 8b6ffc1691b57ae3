"""Clients that mean no good, at a real server."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import threading
import time
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import aiohttp
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from bridge.adapters.web import handlers, limits
from bridge.adapters.web.keyring import Keyring
from bridge.adapters.web.limits import OF_A_NETWORK
from bridge.adapters.web.server import WAITING_OF_ONE
from bridge.adapters.web.settings import settings_of
from bridge.adapters.web.sockets import UNREGISTERED
from bridge.config import Config
from bridge.contract import links
from bridge.contract.links import Link
from bridge.mosquitto import Mosquitto
from tests.adapters.web.conftest import LINK_KEY, Serve, Standing
from tests.support.patience import PATIENCE_S
from tests.support.peer import Peer
from tests.support.visitor import Visitor


async def refused(server: Standing, **options: object) -> int:
    """Try to open the socket, and return the status that it was refused with."""
    with pytest.raises(InvalidStatus) as caught:
        await connect(server.socket, proxy=None, **options)  # type: ignore[arg-type]
    return caught.value.response.status_code


async def test_a_page_from_elsewhere_cannot_open_the_socket(
    serve_alone: Serve,
) -> None:
    async with serve_alone(origins=("https://home.example",)) as server:
        assert await refused(server, origin="https://evil.example") == 403
        assert await refused(server, origin="null") == 403
        also = {"Origin": "https://evil.example"}
        assert await refused(server, origin=server.http, additional_headers=also) == 403
        for origin in ("https://home.example", server.http, None):
            async with server.visitor(origin=origin) as alice:
                assert (await alice.ask("ping"))["status"] == "ok"


@pytest.mark.parametrize(
    "first",
    [
        {"type": "run", "workflow": "demo"},
        {"type": "register"},
        {"type": "register", "key": 7},
    ],
)
async def test_who_does_not_register_first_is_closed(
    alone: Standing, first: dict[str, object]
) -> None:
    async with Visitor(alone.socket) as stranger:
        await stranger.say(first)
        assert await stranger.closed() == 4400
        assert "register" in stranger.reason
        assert stranger.frames == []


async def test_who_says_nothing_is_closed_in_time(serve_alone: Serve) -> None:
    async with serve_alone(register_s=0.05) as server, Visitor(server.socket) as stranger:
        assert await stranger.closed() == 4408


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the machine, a wait is not over before it was looked at."""
    monkeypatch.setattr(limits, "FIRST_WAIT_S", limits.LONGEST_WAIT_S)


@pytest.mark.usefixtures("patient")
async def test_who_guesses_keys_has_to_wait(alone: Standing) -> None:
    key = alone.key()
    for _ in range(5):
        async with Visitor(alone.socket) as stranger:
            await stranger.say({"type": "register", "key": key[:-1]})
            assert await stranger.closed() == 4401
    assert await refused(alone) == 429
    # By HTTP it is the same address, and no better.
    async with (
        aiohttp.ClientSession() as web,
        web.get(f"{alone.http}/d/hall.png", params={"key": key}) as answer,
    ):
        assert (answer.status, int(answer.headers["Retry-After"])) == (429, 60)


async def test_a_slow_disk_below_the_file_of_keys_holds_up_nobody_else(
    alone: Standing, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = threading.Event()
    refresh = Keyring.refresh

    def slow(keyring: Keyring) -> bool:
        assert keyring is not alone.keyring or disk.wait(60)
        return refresh(keyring)

    async with alone.visitor() as alice, Visitor(alone.socket) as stranger:
        monkeypatch.setattr(Keyring, "refresh", slow)
        # Made by another process: the server has to look into the file.
        _, key = Keyring(alone.keyring._path).add("bob", "", time.time())
        try:
            await stranger.say({"type": "register", "key": key})
            for _ in range(5):
                assert (await alice.ask("ping"))["status"] == "ok"
            assert stranger.frames == []
        finally:
            disk.set()
        await stranger.next("registered")


@pytest.mark.usefixtures("patient")
async def test_a_proxy_is_believed_only_where_it_is_trusted(
    serve_alone: Serve,
) -> None:
    async with serve_alone() as server:
        for each in range(5):
            forged = {"X-Forwarded-For": f"192.0.2.{each}"}
            async with Visitor(server.socket, additional_headers=forged) as stranger:
                await stranger.say({"type": "register", "key": "wrong"})
                await stranger.closed()
        assert await refused(server) == 429


async def test_an_address_cannot_take_all_places_of_those_who_do_not_register(
    serve_alone: Serve,
) -> None:
    proxies = settings_of(Config(trusted_proxies=("127.0.0.1",))).proxies
    async with serve_alone(proxies=proxies) as server, AsyncExitStack() as stack:
        many = {"X-Forwarded-For": "192.0.2.1"}
        for _ in range(64):
            stranger = Visitor(server.socket, additional_headers=many)
            await stack.enter_async_context(stranger)
        assert await refused(server, additional_headers=many) == 503
        async with server.visitor(additional_headers={"X-Forwarded-For": "192.0.2.2"}) as alice:
            assert (await alice.ask("ping"))["status"] == "ok"


@pytest.mark.slow
async def test_a_slow_handshake_is_cut_off_and_hinders_nobody(
    serve_alone: Serve,
) -> None:
    async with serve_alone(head_s=1.5) as server:
        slow = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(300)]
        for _, writer in slow:
            writer.write(b"GET /ws HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        async with server.visitor() as alice:
            assert (await alice.ask("ping"))["status"] == "ok"
            for reader, writer in slow:
                async with asyncio.timeout(PATIENCE_S):
                    assert await reader.read() == b""
                writer.close()
            assert (await alice.ask("ping"))["status"] == "ok"


async def test_a_message_of_100_mb_is_cut_off_before_it_is_here(alone: Standing) -> None:
    async with Visitor(alone.socket) as stranger:
        # Before it is registered, nobody may send more than a register takes.
        await stranger.socket.send("x" * 5000)
        assert await stranger.closed() == 1009
    async with alone.visitor() as alice, alone.visitor() as other:
        # The head of a frame is enough to know.
        alice.socket.transport.write(b"\x82\xff" + (100_000_000).to_bytes(8, "big") + b"mask")
        assert await alice.closed() == 1009
        assert (await other.ask("ping"))["status"] == "ok"


@pytest.mark.parametrize("message", ["no json", "[]", b"", b"\xff\xff\xff\xff{}", "{" * 100_000])
async def test_who_does_not_speak_the_protocol_is_closed(
    alone: Standing, message: str | bytes
) -> None:
    async with alone.visitor() as alice:
        await alice.socket.send(message)
        assert await alice.closed() == 4400


async def test_more_connections_than_allowed_are_refused(serve_alone: Serve) -> None:
    async with serve_alone(max_connections=3, max_per_key=2) as server:
        key = server.key()
        async with (
            Visitor(server.socket, key, reachable=False),
            Visitor(server.socket, key, reachable=False),
            server.visitor("bob"),
        ):
            assert await refused(server) == 503
        async with (
            Visitor(server.socket, key, reachable=False),
            Visitor(server.socket, key, reachable=False),
            Visitor(server.socket) as third,
        ):
            await third.say({"type": "register", "key": key})
            assert await third.closed() == 4429


async def test_who_sends_too_fast_is_read_more_slowly_and_loses_nothing(
    serve_alone: Serve,
) -> None:
    async with serve_alone(rate=200.0) as server, server.visitor() as alice:
        for number in range(850):
            await alice.say({"type": "ping", "transaction": number})
        await alice.next("response", lambda each: each["transaction"] == 849)
        answered = [each["transaction"] for each in alice.all("response")]
        assert answered == list(range(850))


async def test_pings_and_pongs_count_against_the_rate(serve_alone: Serve) -> None:
    async with serve_alone(rate=100.0) as server:
        for opcode in (0x89, 0x8A):
            async with server.visitor() as alice:
                began = time.monotonic()
                # 100 above what may come at once, masked with zeros.
                alice.socket.transport.write(bytes((opcode, 0x80, 0, 0, 0, 0)) * 500)
                assert (await alice.ask("ping"))["status"] == "ok"
                assert time.monotonic() - began > 0.9


@pytest.mark.broker
async def test_requests_without_an_answer_are_bounded(server: Standing) -> None:
    async with server.visitor() as alice:
        for number in range(65):
            await alice.say({"type": "status", "job_id": "j", "transaction": number})
        answer = await alice.next("response")
        assert (answer["transaction"], answer["error"]["code"]) == (64, "busy")


@pytest.mark.broker
async def test_a_reader_that_never_reads_is_dropped_and_the_others_get_everything(
    serve: Serve, broker: Mosquitto
) -> None:
    async with serve(buffer=2_000_000) as server, Peer(broker.url) as bridge:
        key = server.key()
        async with Visitor(server.socket, key) as alice:
            # The upgrade and the register by hand: a client that then reads no more.
            with socket.socket() as stopped:
                stopped.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
                stopped.settimeout(0.0)
                loop = asyncio.get_running_loop()
                await loop.sock_connect(stopped, ("127.0.0.1", server.port))
                await loop.sock_sendall(stopped, _handshake(key))
                head = await loop.sock_recv(stopped, 500)
                assert b" 101 " in head
                output = b"x" * 300_000
                for index in range(60):
                    bridge.publish(f"comfy2mqtt/client/alice/job/j/output/{index}", output)
                last = await alice.next("output", lambda each: each["index"] == 59)
                assert last.data == output
                assert len(alice.all("output")) == 60
                # What it finds when it reads again: what had left by then, and the end.
                left = 0
                while read := await loop.sock_recv(stopped, 1_000_000):
                    left += len(read)
                assert 0 < left < 59 * len(output)


@pytest.mark.broker
async def test_readers_with_one_key_that_never_read_share_a_budget(
    serve: Serve, broker: Mosquitto, caplog: pytest.LogCaptureFixture
) -> None:
    """Each alone stays below its buffer; together they are above what a key may have."""
    caplog.set_level(logging.INFO, logger="bridge")
    output, count = b"x" * 300_000, 60
    async with (
        serve(buffer=20_000_000) as server,
        Peer(broker.url) as bridge,
        server.visitor() as alice,
        AsyncExitStack() as stack,
    ):
        key, loop = server.key(), asyncio.get_running_loop()
        sockets = [stack.enter_context(socket.socket()) for _ in range(12)]
        for each in sockets:
            each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
            each.settimeout(0.0)
            await loop.sock_connect(each, ("127.0.0.1", server.port))
            await loop.sock_sendall(each, _handshake(key))
            assert b" 101 " in await loop.sock_recv(each, 500)
        for index in range(count):
            bridge.publish(f"comfy2mqtt/client/alice/job/j/output/{index}", output)
        await alice.next("output", lambda each: each["index"] == count - 1)
        async with asyncio.timeout(PATIENCE_S):
            while "disconnected a client that does not read" not in caplog.text:  # noqa: ASYNC110 - a log line
                await asyncio.sleep(0.01)
        read = await asyncio.gather(*(_read(each, count * len(output)) for each in sockets))
        assert any(left < count * len(output) for left in read)
        assert any(left >= count * len(output) for left in read)
        assert (await alice.ask("ping"))["status"] == "ok"


async def _read(each: socket.socket, wanted: int) -> int:
    """Read until so many bytes are here, or the other side has ended it."""
    found = 0
    with suppress(ConnectionError):
        while found < wanted and (data := await asyncio.get_running_loop().sock_recv(each, 10**6)):
            found += len(data)
    return found


def _handshake(key: str) -> bytes:
    head = (
        "GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    message = f'{{"type": "register", "key": "{key}"}}'.encode()
    return head.encode() + bytes((0x81, 0x80 | len(message), 0, 0, 0, 0)) + message


async def test_who_answers_no_ping_is_let_go(serve_alone: Serve) -> None:
    async with serve_alone(ping_s=0.1) as server:
        with socket.create_connection(("127.0.0.1", server.port)) as silent:
            silent.settimeout(0.0)
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(silent, _handshake(server.key()))
            read = b""
            async with asyncio.timeout(PATIENCE_S):
                while more := await loop.sock_recv(silent, 10_000):
                    read += more
            # A close frame, with the code for it.
            assert b"\x88" in read
            assert (1011).to_bytes(2, "big") in read


async def test_an_idle_connection_is_closed_and_what_it_held_let_go(
    serve_alone: Serve,
) -> None:
    async with (
        serve_alone(idle_s=0.3) as server,
        server.visitor(reachable=False) as alice,
    ):
        assert await alice.closed() == 4410


async def test_forged_and_expired_links_give_nothing(alone: Standing) -> None:
    good = Link("alice", "j", 0, int(time.time()) + 100)
    token = links.sign(LINK_KEY, good)
    said, _, signature = token.partition(".")
    forged = f"{said}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}"
    expired = links.sign(LINK_KEY, Link("alice", "j", 0, int(time.time()) - 1))
    async with aiohttp.ClientSession() as web:
        for wrong, status in (
            (links.sign(b"other" * 8, good), 403),
            (forged, 403),
            (said, 403),
            ("..%2F..%2Fetc%2Fpasswd", 403),
            ("", 403),
            (expired, 410),
        ):
            async with web.get(f"{alone.http}/o/{wrong}") as answer:
                assert answer.status == status, wrong


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
async def test_nothing_can_be_done_by_http(alone: Standing, method: str) -> None:
    async with (
        aiohttp.ClientSession() as web,
        web.request(method, f"{alone.http}/") as answer,
    ):
        assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")


async def bare(port: int, source: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))


@pytest.mark.slow
async def test_bare_connections_of_one_address_shut_nobody_out(
    serve_alone: Serve,
) -> None:
    """More of them than there may be connections of all kinds: those that waited longest go."""
    async with serve_alone(head_s=60.0) as server, AsyncExitStack() as stack:
        many = [await bare(server.port, "127.0.0.2") for _ in range(2300)]
        for _, writer in many:
            stack.callback(writer.close)
        async with server.visitor() as alice:
            assert (await alice.ask("ping"))["status"] == "ok"
        async with asyncio.timeout(PATIENCE_S):
            for reader, _ in many[:-WAITING_OF_ONE]:
                assert await reader.read() == b""
        assert not many[-1][0].at_eof()


async def test_sockets_that_do_not_register_shut_nobody_out_though_they_have_many_addresses(
    serve_alone: Serve,
) -> None:
    proxies = settings_of(Config(trusted_proxies=("127.0.0.1",))).proxies
    async with serve_alone(proxies=proxies) as server, AsyncExitStack() as stack:
        strangers = []
        for number in range(UNREGISTERED + 2):
            address = {"X-Forwarded-For": f"2001:db8:0:{number % 5}::{number}"}
            stranger = Visitor(server.socket, additional_headers=address)
            strangers.append(await stack.enter_async_context(stranger))
        elsewhere = {"X-Forwarded-For": "192.0.2.2"}
        async with server.visitor(additional_headers=elsewhere) as alice:
            assert (await alice.ask("ping"))["status"] == "ok"
        ends = [asyncio.create_task(each.closed()) for each in strangers]
        ended, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        assert {each.result() for each in ended} == {1006}
        for each in ends:
            each.cancel()


async def test_all_addresses_of_an_ipv6_network_count_as_one(
    serve_alone: Serve,
) -> None:
    proxies = settings_of(Config(trusted_proxies=("127.0.0.1",))).proxies
    async with serve_alone(proxies=proxies) as server, AsyncExitStack() as stack:
        for number in range(64):
            address = {"X-Forwarded-For": f"2001:db8::{number}"}
            await stack.enter_async_context(Visitor(server.socket, additional_headers=address))
        network = {"X-Forwarded-For": "2001:db8::ffff"}
        assert await refused(server, additional_headers=network) == 503


async def test_unfinished_messages_with_one_key_have_a_budget_and_leave_nothing(
    serve_alone: Serve,
) -> None:
    size = 1_000_000
    async with serve_alone(max_message=size) as server, server.visitor("bob") as bob:
        key = server.key()
        for _ in range(2):  # what the first ones had is free again
            async with AsyncExitStack() as stack:
                many = []
                for _ in range(5):
                    visitor = Visitor(server.socket, key, reachable=False)
                    many.append(await stack.enter_async_context(visitor))
                for each in many:
                    each.socket.transport.write(_unfinished(size, size * 9 // 10))
                ends = [asyncio.create_task(each.closed()) for each in many]
                ended, others = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
                assert [each.result() for each in ended] == [1013]
                assert len(others) == 4
                assert (await bob.ask("ping"))["status"] == "ok"
                for each in many:
                    each.socket.transport.abort()
                await asyncio.wait(others)


async def test_many_keys_of_one_network_share_its_budget_of_unfinished_messages(
    serve_alone: Serve,
) -> None:
    size = 1_000_000
    async with serve_alone(max_message=size) as server, AsyncExitStack() as stack:
        many = []
        for number in range(OF_A_NETWORK + 1):
            visitor = Visitor(server.socket, server.key(f"c{number}"), reachable=False)
            many.append(await stack.enter_async_context(visitor))
        for each in many:
            each.socket.transport.write(_unfinished(size, size - 20_000))
        ends = [asyncio.create_task(each.closed()) for each in many]
        ended, others = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        assert [each.result() for each in ended] == [1013]
        assert len(others) == OF_A_NETWORK
        for each in many:
            each.socket.transport.abort()
        await asyncio.wait(others)


def _unfinished(size: int, sent: int) -> bytes:
    return b"\x82\xff" + size.to_bytes(8, "big") + b"mask" + bytes(sent)


async def test_what_was_read_is_not_counted_any_more(serve_alone: Serve) -> None:
    async with (
        serve_alone(max_message=100_000, rate=10_000.0) as server,
        server.visitor() as alice,
    ):
        for number in range(50):
            answer = await alice.ask("upload", bytes(90_000), upload=f"u{number}")
            assert answer["error"]["code"] == "busy"
            note = {"type": "ping", "note": "ä" * 30_000}
            await alice.socket.send(json.dumps(note, ensure_ascii=False))
            await alice.next("response")
            await alice.socket.ping(b"x" * 100)


async def test_a_reader_of_http_that_stops_is_cut_off(
    serve_alone: Serve, page: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_off = asyncio.Event()
    monkeypatch.setattr(handlers.log, "info", lambda *_: cut_off.set())
    (page / "large.js").write_bytes(bytes(30_000_000))
    async with serve_alone(stall_s=0.2) as server:
        with socket.socket() as stopped:
            stopped.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
            stopped.settimeout(0.0)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(stopped, ("127.0.0.1", server.port))
            await loop.sock_sendall(stopped, b"GET /large.js HTTP/1.1\r\nHost: x\r\n\r\n")
            async with asyncio.timeout(PATIENCE_S):
                await cut_off.wait()
            read = 0
            with suppress(ConnectionResetError):
                while more := await loop.sock_recv(stopped, 1_000_000):
                    read += len(more)
            assert read < 30_000_000


async def test_slow_readers_of_many_networks_leave_room_for_another(
    serve_alone: Serve, page: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On Linux all of 127.0.0.0/8 is this machine: each address is a network of its own."""
    monkeypatch.setattr(handlers, "REQUESTS", 6)
    monkeypatch.setattr(handlers, "REQUESTS_OF_ONE", 2)
    (page / "large.js").write_bytes(bytes(30_000_000))
    async with serve_alone() as server, AsyncExitStack() as stack:
        slow = []
        for number in range(6):
            local = (f"127.0.0.{2 + number // 2}", 0)
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", server.port, local_addr=local, limit=4096
            )
            stack.callback(writer.close)
            writer.write(b"GET /large.js HTTP/1.1\r\nHost: x\r\n\r\n")
            assert await reader.readexactly(12) == b"HTTP/1.1 200"
            slow.append(reader)
        async with aiohttp.ClientSession() as session:
            async with session.get(f"{server.http}/") as answer:
                assert answer.status == 200
            own = aiohttp.TCPConnector(local_addr=("127.0.0.4", 0))
            async with aiohttp.ClientSession(connector=own) as crowded:
                for path, status in (("/", 503), ("/healthz", 200)):
                    async with crowded.get(f"{server.http}{path}") as answer:
                        assert answer.status == status
        # The first of one of the networks gave its place.
        read = 0
        with suppress(ConnectionResetError):
            async with asyncio.timeout(PATIENCE_S):
                while more := await slow[0].read(1_000_000):
                    read += len(more)
        assert read < 30_000_000
