"""Access to a guarded ComfyUI: allowed and refused requests."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from tests.custom_nodes.package import load

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

guard: Any = load("guard")

SECRET = "a secret"  # noqa: S105 - of a server that lives for one test
HOST = "127.0.0.1:8188"
WITH_SECRET = {guard.SECRET_HEADER: SECRET}


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@asynccontextmanager
async def guarded(clock: Clock) -> AsyncIterator[TestClient[Any, Any]]:
    """A server with a route, a folder of files and a part of its own, as ComfyUI has them."""
    app, table, internal = web.Application(), web.RouteTableDef(), web.Application()

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(text="private")

    table.get("/history")(answer)
    table.post("/prompt")(answer)
    internal.router.add_get("/logs", answer)
    assert guard.Guard(SECRET, "f" * 32, clock).install(app, table)
    app.add_subapp("/internal", internal)
    app.add_routes(table)
    async with TestClient(TestServer(app)) as client:
        yield client


async def status(client: TestClient[Any, Any], method: str, path: str, **headers: str) -> int:
    spelled = {name.replace("_", "-"): value for name, value in headers.items()}
    async with client.request(method, path, headers=spelled) as response:
        return response.status


async def link(client: TestClient[Any, Any]) -> str:
    async with client.post("/comfy2mqtt/links", headers=WITH_SECRET) as response:
        assert response.status == 200
        return str((await response.json())["path"])


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/history"),
        ("POST", "/prompt"),
        ("OPTIONS", "/prompt"),
        ("GET", "/internal/logs"),
        ("GET", "/not/there"),
        ("POST", "/comfy2mqtt/links"),
        ("GET", "/comfy2mqtt/open"),
        ("GET", "/comfy2mqtt/open?link=guessed"),
    ],
)
@pytest.mark.parametrize(
    "headers", [{}, {"X-Comfy2MQTT-Secret": "guess"}, {"Cookie": "comfy2mqtt-ffffffffffff=guess"}]
)
async def test_without_the_secret_and_a_link_nothing_is_answered(
    clock: Clock, method: str, path: str, headers: dict[str, str]
) -> None:
    async with guarded(clock) as client:
        assert await status(client, method, path, **headers) == 403


async def test_with_the_secret_everything_is_answered(clock: Clock) -> None:
    async with guarded(clock) as client:
        for path in ("/history", "/internal/logs"):
            assert await status(client, "GET", path, **WITH_SECRET) == 200


async def test_a_link_lets_one_browser_in_and_is_used_up(clock: Clock) -> None:
    async with guarded(clock) as client:
        path = await link(client)
        async with client.get(path) as response:
            assert response.status == 200
            cookie = response.headers["Set-Cookie"]
            assert "HttpOnly" in cookie
            assert "SameSite=Strict" in cookie
        assert await status(client, "GET", "/history") == 200
        assert await status(client, "POST", "/comfy2mqtt/links") == 403
        client.session.cookie_jar.clear()
        assert await status(client, "GET", path) == 403
        assert await status(client, "GET", "/history") == 403


async def test_a_link_is_good_for_a_minute_and_its_browser_for_a_day_of_work(clock: Clock) -> None:
    async with guarded(clock) as client:
        late, path = await link(client), await link(client)
        assert await status(client, "GET", path) == 200
        clock.now += guard.LINK_S
        assert await status(client, "GET", late) == 403
        assert await status(client, "GET", "/history") == 200
        clock.now += guard.SESSION_S
        assert await status(client, "GET", "/history") == 403


async def test_links_do_not_pile_up(clock: Clock) -> None:
    async with guarded(clock) as client:
        links = [await link(client) for _ in range(guard.MOST + 1)]
        assert await status(client, "GET", links[0]) == 403
        assert await status(client, "GET", links[-1]) == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "rebound.example"},
        {"Host": "rebound.localhost:8188"},
        {"Host": "127.0.0.1.evil.example"},
        {"Host": "[::1"},
        {"Host": HOST, "Origin": "null"},
        {"Host": HOST, "Origin": "http://127.0.0.1:9999"},
        {"Host": HOST, "Origin": "http://localhost:8188"},
        {"Host": HOST, "Origin": "http://["},
        {"Host": HOST, "Sec_Fetch_Site": "cross-site"},
        {"Host": HOST, "Sec_Fetch_Site": "same-site"},
    ],
)
async def test_a_browser_that_was_let_in_does_nothing_for_a_page_from_elsewhere(
    clock: Clock, headers: dict[str, str]
) -> None:
    async with guarded(clock) as client:
        assert await status(client, "GET", await link(client)) == 200
        (cookie,) = client.session.cookie_jar
        carried = {"Cookie": f"{cookie.key}={cookie.value}"}
        assert await status(client, "POST", "/prompt", **{"Host": HOST, **carried}) == 200
        own = {"Host": "localhost:1", "Origin": "http://localhost:1", **carried}
        assert await status(client, "POST", "/prompt", **own, Sec_Fetch_Site="same-origin") == 200
        assert await status(client, "POST", "/prompt", **{**carried, **headers}) == 403


def test_a_server_that_can_take_no_guard_any_more_is_reported_as_unguarded(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = web.Application()
    app.freeze()
    assert not guard.Guard(SECRET, "name").install(app, web.RouteTableDef())
    assert "not guarded" in caplog.text


async def test_a_secret_that_is_no_text_is_a_wrong_one(clock: Clock) -> None:
    async with guarded(clock) as client, aiohttp.ClientSession() as session:
        url = client.make_url("/history")
        async with session.get(url, headers={guard.SECRET_HEADER: "\udcff"}) as response:
            assert response.status == 403
