"""Requests by HTTP: the page, the probes, the displays."""

from __future__ import annotations

import asyncio
import gzip
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


async def test_a_request_to_the_socket_that_is_no_upgrade_is_answered_so(alone: Standing) -> None:
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
async def test_probes_answer_whether_it_serves_and_whether_it_has_a_broker(
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
    assert read_page(tmp_path / "none").files == {}
    (tmp_path / "notes.txt").touch()
    assert read_page(tmp_path).files == {}


async def test_a_file_named_by_its_version_is_kept_by_browsers_and_the_page_is_not(
    alone: Standing, page: Path
) -> None:
    version = read_page(page).version
    async with aiohttp.ClientSession() as web:
        for path, kept in (
            ("/", False),
            ("/app.js", False),
            (f"/v/{version}/app.js", True),
            # Of another server's version: the file of today, and no browser keeps it.
            ("/v/000000000000/app.js", False),
        ):
            async with web.get(f"{alone.http}{path}") as answer:
                assert answer.status == 200
                assert ("immutable" in answer.headers["Cache-Control"]) is kept, path
                assert ("no-cache" in answer.headers["Cache-Control"]) is not kept, path
        async with web.get(f"{alone.http}/v/{version}/none.js") as answer:
            assert answer.status == 404


def test_the_page_names_its_files_by_version_and_has_all_modules_loaded_at_once(
    page: Path,
) -> None:
    html = '<head><link href="app.css" /></head><a href="./">x</a><a href="other.css">x</a>'
    (page / "index.html").write_text(html)
    (page / "app.css").touch()
    first = read_page(page)
    assert first.files[""].data.decode() == (
        f'<head><link href="v/{first.version}/app.css" />'
        f'<link rel="modulepreload" href="v/{first.version}/app.js" /></head>'
        '<a href="./">x</a><a href="other.css">x</a>'
    )
    (page / "app.css").write_text("p {}")
    assert read_page(page).version != first.version


async def test_texts_are_compressed_for_who_takes_them_so(serve_alone: Serve, page: Path) -> None:
    text = "export {};" * 1000
    (page / "app.js").write_text(text)
    async with serve_alone() as server, aiohttp.ClientSession(auto_decompress=False) as web:
        tags = {}
        for accepted, coded in (("gzip, br", True), ("identity", False), ("gzip;q=0", False)):
            headers = {"Accept-Encoding": accepted}
            async with web.get(f"{server.http}/app.js", headers=headers) as answer:
                body = await answer.read()
                assert (answer.headers.get("Content-Encoding") == "gzip") is coded
                assert (gzip.decompress(body) if coded else body).decode() == text
                assert answer.headers["Vary"] == "Accept-Encoding"
                tags[coded] = answer.headers["ETag"]
            headers["If-None-Match"] = tags[coded]
            async with web.get(f"{server.http}/app.js", headers=headers) as answer:
                assert (answer.status, await answer.read()) == (304, b"")
        assert tags[True] != tags[False]


async def test_a_page_that_is_listed_may_embed_the_page(serve_alone: Serve) -> None:
    home = "http://homeassistant.local:8123"
    for listed, policy in (
        ((), "frame-ancestors 'none'"),
        (("self",), "frame-ancestors 'self'"),
        ((home,), f"frame-ancestors 'self' {home}"),
    ):
        async with (
            serve_alone(frame_ancestors=listed) as server,
            aiohttp.ClientSession() as web,
            web.get(server.http) as answer,
        ):
            assert answer.headers["Content-Security-Policy"].endswith(policy)
