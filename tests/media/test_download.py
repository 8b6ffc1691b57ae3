from __future__ import annotations

import asyncio
import gzip
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiohttp import web

from bridge.contract.errors import BridgeError, DependencyFailed, Forbidden, TooLarge
from bridge.media import download as module
from bridge.media.download import MAX_REDIRECTS, DownloadRules, allowed, download


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.0.0.1",
        "172.16.5.5",
        "192.168.1.1",
        "169.254.169.254",  # metadata services
        "100.64.0.1",
        "0.0.0.0",  # noqa: S104 - refused
        "224.0.0.1",
        "255.255.255.255",
        "240.0.0.1",
        "::1",
        "::",
        "fe80::1%eth0",
        "fec0::1",  # site-local, as once was
        "4000::1",  # of no kind that is known
        "3fff::1",
        "5f00::1",
        "2001:db8::1",
        "2001:1ff::1",
        "2002:c0a8:101::1",
        "::ffff:169.254.169.254",
        "fc00::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "2002:7f00:1::",
        "64:ff9b:1::1",
        "fd00:ec2::254",
        "64:ff9b::127.0.0.1",  # NAT64, 6to4, Teredo
        "64:ff9b::169.254.169.254",
        "2002:a9fe:a9fe::",
        "2001:0:53aa:64c::1",
        "::127.0.0.1",
        "::ffff:0:127.0.0.1",
        "no address",
        "127.1",
        "2130706433",
    ],
)
def test_no_address_inside_is_reached(address: str) -> None:
    assert not allowed("host.example", address, ())
    assert allowed("Host.Example.", address, ("host.example",))  # unless the operator names it


@pytest.mark.parametrize(
    "address",
    ["93.184.215.14", "2606:2800:21f::1", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2002:808:808::1"],
)
def test_public_addresses_are(address: str) -> None:
    assert allowed("host.example", address, ())


class Web:
    """A web server on loopback; `asked` are the requests that reached it."""

    def __init__(self) -> None:
        self.port = 0
        self.asked: list[web.Request] = []
        self.answer: Callable[[web.Request], Any] = lambda _: web.Response(body=b"secret")

    def url(self, host: str = "localhost", path: str = "/") -> str:
        return f"http://{host}:{self.port}{path}"

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request)
        answer = self.answer(request)
        found: web.StreamResponse = await answer if asyncio.iscoroutine(answer) else answer
        return found


@pytest.fixture
async def server() -> AsyncIterator[Web]:
    server = Web()
    application = web.Application()
    application.router.add_get("/{path:.*}", server.handle)
    runner = web.AppRunner(application, shutdown_timeout=0, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.port = runner.addresses[0][1]
    yield server
    await runner.cleanup()


STRICT = DownloadRules(max_bytes=10_000, timeout_s=5, hosts=(), setting="clients.a.url_hosts")
LOCAL = DownloadRules(max_bytes=10_000, timeout_s=5, hosts=("localhost",))


async def test_a_host_that_the_operator_names_is_asked_without_anything_of_ours(
    server: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert await download(server.url(), LOCAL) == b"secret"
    (request,) = server.asked
    assert not {"Cookie", "Authorization", "Referer"} & set(request.headers)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "2130706433",
        "0177.0.0.1",
        "0x7f000001",
        "0x7f.1",
        "127.1",
        "127.0.0.1.",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[fe80::1%25lo]",
        "①②⑦.⓪.⓪.①",
        "127。0。0。1",
        "１２７.0.0.1",  # noqa: RUF001 - the trick
        "ⓛocalhost",
        "example.org@127.0.0.1",
    ],
)
async def test_no_spelling_of_an_address_inside_reaches_it(server: Web, host: str) -> None:
    with pytest.raises(Forbidden) as caught:
        await download(server.url(host), STRICT)
    assert caught.value.details["setting"] == "clients.a.url_hosts"
    assert server.asked == []


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "ftp://example.org/",
        "gopher://127.0.0.1:25/x",
        "data:text/plain,x",
        "//example.org/",
        "example.org",
        "http:///x",
        "http://",
    ],
)
async def test_only_http_and_https_are_spoken(url: str) -> None:
    with pytest.raises(Forbidden, match="only http and https"):
        await download(url, STRICT)


@pytest.mark.parametrize(
    "url", ["http://a\\@b/", "http://[::1/", "http://a:99999/", "http://\0/", "http://a b/"]
)
async def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(BridgeError):
        await download(url, STRICT)


@pytest.mark.parametrize("to", ["http://127.0.0.1:{port}/", "http://①②⑦.1:{port}/", "file:///x"])
async def test_a_redirect_is_held_to_the_same_rules(server: Web, to: str) -> None:
    where = to.format(port=server.port)
    server.answer = lambda _: web.Response(status=302, headers={"Location": where})
    with pytest.raises(Forbidden):
        await download(server.url(), LOCAL)
    assert len(server.asked) == 1


async def test_redirects_have_a_limit(server: Web) -> None:
    server.answer = lambda _: web.Response(status=302, headers={"Location": "/again"})
    with pytest.raises(DependencyFailed, match="redirects"):
        await download(server.url(), LOCAL)
    assert len(server.asked) == MAX_REDIRECTS + 1


async def test_a_name_that_says_something_else_the_second_time_gains_nothing(
    server: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What is connected to is checked once more, whatever the resolver answered before.
    monkeypatch.setattr(module._Resolver, "resolve", _fooled)
    with pytest.raises(BridgeError, match="not a public address"):
        await download(server.url("fooled.example"), STRICT)
    assert server.asked == []


async def _fooled(_self: Any, host: str, port: int = 0, family: Any = 0) -> list[Any]:
    assert family is not None
    found = {"hostname": host, "host": "127.0.0.1", "port": port, "proto": 6, "flags": 0}
    return [{**found, "family": socket.AF_INET}]


async def test_bytes_are_counted_as_they_come_and_nothing_is_unpacked(server: Web) -> None:
    bomb = gzip.compress(bytes(1_000_000))
    server.answer = lambda _: web.Response(body=bomb, headers={"Content-Encoding": "gzip"})
    assert await download(server.url(), LOCAL) == bomb
    server.answer = lambda _: web.Response(body=bytes(10_001))
    with pytest.raises(TooLarge):
        await download(server.url(), LOCAL)
    server.answer = _endless
    with pytest.raises(TooLarge):
        await download(server.url(), LOCAL)


async def _endless(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(bytes(1000))


async def test_a_server_that_drips_is_given_up(server: Web) -> None:
    async def drip(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"x")
        await asyncio.Event().wait()
        return response

    server.answer = drip
    with pytest.raises(DependencyFailed, match="longer than"):
        await download(server.url(), DownloadRules(("localhost",), max_bytes=100, timeout_s=0.2))


async def test_an_error_contains_neither_password_nor_query() -> None:
    with pytest.raises(BridgeError) as caught:
        await download("http://user:hunter2@127.0.0.1/x?token=hunter2", STRICT)
    assert "hunter2" not in str(caught.value) + str(caught.value.details)


@pytest.mark.parametrize("answer", [b"HTTP/1.1 404 No\r\n\r\n", b"garbage\r\n\r\n"])
async def test_an_error_of_the_library_contains_no_query(answer: bytes) -> None:
    async def spoil(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        writer.close()

    async with await asyncio.start_server(spoil, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        rules = DownloadRules(("127.0.0.1",), max_bytes=100, timeout_s=60)
        with pytest.raises(BridgeError) as caught:
            await download(f"http://127.0.0.1:{port}/x?token=hunter2", rules)
    assert "hunter2" not in str(caught.value) + str(caught.value.details)
