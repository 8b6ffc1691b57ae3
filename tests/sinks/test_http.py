from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web

from bridge.contract.errors import Forbidden
from bridge.media.download import AllowedHosts
from bridge.sinks import http
from bridge.sinks.http import Body
from bridge.sinks.schedule import DeliveryRefused
from tests.sinks.servers import Receiver, in_turn, never

HERE = AllowedHosts(("127.0.0.1", "localhost"), "clients.alice.sink_hosts")
NOWHERE = AllowedHosts((), "clients.alice.sink_hosts")


def body(*chunks: bytes, content_type: str = "image/png") -> Body:
    async def source() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    return Body(source, sum(map(len, chunks)), content_type)


async def test_bytes_are_put_with_their_length_and_type(receiver: Receiver) -> None:
    await http.put(receiver.url("/a%2Fb?sig=x%2By"), {"X-Own": "1"}, body(b"ab", b"c"), HERE)
    (taken,) = receiver.taken
    assert (taken.method, taken.path, taken.body) == ("PUT", "/a%2Fb?sig=x%2By", b"abc")
    assert taken.headers["content-length"] == "3"
    assert "transfer-encoding" not in taken.headers  # stores take no other
    assert (taken.headers["content-type"], taken.headers["x-own"]) == ("image/png", "1")


async def test_a_large_output_is_never_whole_in_memory() -> None:
    piece, pieces = 256 * 1024, 128
    came = 0

    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal came
        await reader.readuntil(b"\r\n\r\n")
        while came < piece * pieces:
            came += len(await reader.read(piece))
        writer.write(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    async def source() -> AsyncIterator[bytes]:
        for _ in range(pieces):
            yield bytes(piece)

    server = await asyncio.start_server(swallow, "127.0.0.1")
    async with server:
        port = server.sockets[0].getsockname()[1]
        whole = Body(source, piece * pieces, "image/png")
        tracemalloc.start()
        try:
            await http.put(f"http://127.0.0.1:{port}/x", {}, whole, HERE)
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert came == piece * pieces
    assert most < piece * pieces / 4


async def test_a_client_sets_the_type_that_its_signature_is_of(receiver: Receiver) -> None:
    await http.put(receiver.url(), {"Content-Type": "x/y"}, body(b"a"), HERE)
    assert receiver.taken[0].headers["content-type"] == "x/y"


async def test_nothing_of_ours_goes_along(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    await http.put(receiver.url(), {}, body(b"a"), HERE)
    assert not {"cookie", "authorization", "referer"} & set(receiver.taken[0].headers)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "[::1]"])
async def test_nothing_is_sent_inward(receiver: Receiver, host: str) -> None:
    with pytest.raises(Forbidden) as refused:
        await http.put(receiver.url(host=host), {}, body(b"secret"), NOWHERE)
    assert refused.value.details["setting"] == "clients.alice.sink_hosts"
    assert receiver.taken == []


async def test_a_redirect_inward_is_reported_and_not_followed(receiver: Receiver) -> None:
    inward = web.Response(status=307, headers={"Location": receiver.url("/inside")})
    receiver.answer = lambda _: inward
    with pytest.raises(DeliveryRefused, match="307 Temporary Redirect; redirects are not followed"):
        await http.put(receiver.url("/x", host="localhost"), {}, body(b"a"), HERE)
    assert [each.path for each in receiver.taken] == ["/x"]


async def test_a_url_that_expired_is_refused_in_the_stores_word(receiver: Receiver) -> None:
    xml = "<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>"
    receiver.answer = lambda _: web.Response(status=403, text=xml)
    with pytest.raises(DeliveryRefused, match=r"403 Forbidden \(AccessDenied\)") as refused:
        await http.put(receiver.url(), {}, body(b"a"), HERE)
    assert not refused.value.passes


async def test_no_more_of_an_answer_is_read_than_the_reason(receiver: Receiver) -> None:
    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=500)
        await response.prepare(request)
        while True:
            await response.write(b"x" * 65536)

    receiver.answer = endless
    async with asyncio.timeout(20):
        with pytest.raises(DeliveryRefused, match="500"):
            await http.put(receiver.url(), {}, body(b"a"), HERE)


async def test_a_server_that_hangs_is_left(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "STALL_S", 0.3)
    receiver.answer = never
    with pytest.raises(TimeoutError):
        await http.put(receiver.url(), {}, body(b"a"), HERE)


async def test_a_server_that_takes_its_time_is_waited_for_while_bytes_move(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "STALL_S", 0.6)

    async def source() -> AsyncIterator[bytes]:
        for _ in range(5):
            await asyncio.sleep(0.2)
            yield b"a"

    await http.put(receiver.url(), {}, Body(source, 5, "x/y"), HERE)
    assert receiver.taken[0].body == b"aaaaa"


async def test_a_server_that_closes_in_the_middle_may_be_asked_again(receiver: Receiver) -> None:
    def cut(request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    receiver.refuses = cut
    with pytest.raises((aiohttp.ClientError, OSError)):
        await http.put(receiver.url(), {}, body(*[b"x" * 65536] * 64), HERE)


async def test_bytes_that_cannot_be_read_are_no_fault_of_the_server(receiver: Receiver) -> None:
    async def source() -> AsyncIterator[bytes]:
        yield b"a"
        raise FileNotFoundError("gone")

    with pytest.raises(FileNotFoundError):
        await http.put(receiver.url(), {}, Body(source, 5, "x/y"), HERE)


async def test_folders_that_webdav_lacks_are_made_from_the_first_that_is_there(
    receiver: Receiver,
) -> None:
    there = {"/dav/"}

    def dav(request: web.Request) -> web.Response:
        above = request.path.rstrip("/").rpartition("/")[0] + "/"
        if above not in there:
            return web.Response(status=409)
        there.add(request.path)
        return web.Response(status=201)

    receiver.answer = dav
    url, auth = receiver.url("/dav/a/b/c.png?t=1"), {"Authorization": "Basic eA==", "X-Y": "z"}
    await http.make_folders(url, auth, HERE)
    assert there == {"/dav/", "/dav/a/", "/dav/a/b/"}
    assert all(each.headers["authorization"] == "Basic eA==" for each in receiver.taken)
    assert not any("x-y" in each.headers for each in receiver.taken)


async def test_a_webhook_is_posted_as_json(receiver: Receiver) -> None:
    receiver.answer = in_turn(204)
    await http.post(receiver.url(), {"webhook-id": "msg_1"}, b'{"a":1}', HERE)
    (taken,) = receiver.taken
    assert (taken.method, taken.body) == ("POST", b'{"a":1}')
    assert taken.headers["content-type"] == "application/json"
    assert taken.headers["webhook-id"] == "msg_1"
