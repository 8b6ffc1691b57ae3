"""Requests by HTTP: the page, the probes, the displays."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

import aiohttp
import pytest

from bridge.adapters.web.content import read_page
from bridge.mosquitto import Mosquitto
from tests.adapters.web.conftest import Serve, Standing
from tests.support.patience import PATIENCE_S
from tests.support.peer import Peer


async def test_the_page_is_served_with_a_strict_policy(alone: Standing) -> None:
    async with aiohttp.ClientSession() as web:
        async with web.get(alone.http) as answer:
            assert (answer.status, answer.content_type) == (200, "text/html")
            policy = answer.headers["Content-Security-Policy"]
            tag = answer.headers["ETag"]
            assert "<title>page" in await answer.text()
        assert policy.startswith("default-src 'none'")
        assert "unsafe" not in policy
        async with web.get(alone.http, headers={"If-None-Match": tag}) as answer:
            assert (answer.status, await answer.read()) == (304, b"")
        async with web.head(f"{alone.http}/app.js") as answer:
            assert (answer.status, answer.content_type) == (200, "text/javascript")
            assert answer.content_length == 10
        async with web.get(f"{alone.http}/app.js?v=1") as answer:
            assert answer.status == 200
        for path in ("/../conftest.py", "/%2e%2e/conftest.py", "/keys.json", "//", "/page/"):
            async with web.get(f"{alone.http}{path}") as answer:
                assert answer.status == 404, path
            assert "sandbox" in answer.headers["Content-Security-Policy"]


async def test_a_request_to_the_socket_that_is_none_is_told_so(alone: Standing) -> None:
    async with aiohttp.ClientSession() as web:
        async with web.get(f"{alone.http}/ws") as answer:
            assert (answer.status, answer.headers["Upgrade"]) == (426, "websocket")
        async with web.post(f"{alone.http}/ws") as answer:
            assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")


async def test_a_connection_serves_several_requests_and_is_closed_when_it_is_idle(
    serve_alone: Serve,
) -> None:
    async with serve_alone(head_s=0.5) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        for path in ("/", "/app.js", "/none"):
            writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            assert "server:" not in head
            assert "x-content-type-options: nosniff" in head
            length = next(line for line in head.splitlines() if line.startswith("content-length"))
            await reader.readexactly(int(length.partition(":")[2]))
        async with asyncio.timeout(PATIENCE_S):
            assert await reader.read() == b""
        writer.close()


async def test_a_head_of_many_long_lines_is_cut_off(alone: Standing) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", alone.port)
    writer.write(b"GET / HTTP/1.1\r\n")
    with suppress(ConnectionError):
        for number in range(20):
            writer.write(f"X-{number}: {'y' * 8000}\r\n".encode())
            await writer.drain()
        assert await reader.read() == b""
    writer.close()


@pytest.mark.broker
async def test_probes_tell_whether_it_serves_and_whether_it_has_a_broker(
    server: Standing, broker: Mosquitto
) -> None:
    async with aiohttp.ClientSession() as web, server.visitor() as alice:
        for path, status in (("healthz", 200), ("readyz", 200)):
            async with web.get(f"{server.http}/{path}") as answer:
                assert answer.status == status
        await broker.kill()
        await alice.next("bridge", lambda each: each["state"] == "unreachable")
        for path, status in (("healthz", 200), ("readyz", 503)):
            async with web.get(f"{server.http}/{path}") as answer:
                assert answer.status == status


@pytest.mark.broker
async def test_a_displays_last_picture_is_at_one_address_for_who_has_a_key(
    server: Standing, broker: Mosquitto
) -> None:
    async with (
        aiohttp.ClientSession() as web,
        Peer(broker.url) as bridge,
        server.visitor() as alice,
    ):
        address, key = f"{server.http}/d/hall.png", {"key": server.key("hall")}
        for picture in (b"\x89PNG one", b"\x89PNG two"):
            bridge.publish("comfy2mqtt/display/hall/image", picture, retain=True)
            bridge.publish("comfy2mqtt/bridge/event", b'{"type":"shown"}')
            await alice.next("event")
            async with web.get(address, params=key) as answer:
                assert (answer.status, answer.content_type) == (200, "image/png")
                assert await answer.read() == picture
                tag, changed = answer.headers["ETag"], answer.headers["Last-Modified"]
            for header, value in (("If-None-Match", tag), ("If-Modified-Since", changed)):
                async with web.get(address, params=key, headers={header: value}) as answer:
                    assert answer.status == 304
        for params in ({}, {"key": ""}, {"key": key["key"][:-1]}):
            async with web.get(address, params=params) as answer:
                assert answer.status == 401
        async with web.get(f"{server.http}/d/other.png", params=key) as answer:
            assert answer.status == 404


def test_without_a_page_nothing_is_served(tmp_path: Path) -> None:
    assert read_page(tmp_path / "none") == {}
    (tmp_path / "notes.txt").touch()
    assert read_page(tmp_path) == {}
