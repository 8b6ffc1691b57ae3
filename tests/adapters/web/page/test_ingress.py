"""The page behind a proxy with a path of its own, in a frame: as in Home Assistant's sidebar."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from bridge.config import Config
from tests.adapters.web.page.conftest import Stack, Visit, web_adapter
from tests.support.browser import JOB_MS

pytestmark = [pytest.mark.comfyui, pytest.mark.slow, pytest.mark.asyncio(loop_scope="package")]

# As the supervisor's: a folder below Home Assistant's own address.
BELOW = "/api/hassio_ingress/q8QE8pyPE3BA"


async def _relay(
    source: aiohttp.ClientWebSocketResponse | web.WebSocketResponse,
    target: aiohttp.ClientWebSocketResponse | web.WebSocketResponse,
) -> None:
    async for message in source:
        if message.type is aiohttp.WSMsgType.TEXT:
            await target.send_str(message.data)
        else:
            await target.send_bytes(message.data)
    await target.close()


@asynccontextmanager
async def ingress(target: str) -> AsyncIterator[str]:
    """A proxy as Home Assistant's: cuts the path off, and says who asked for what, where."""
    async with AsyncExitStack() as running:
        client = await running.enter_async_context(aiohttp.ClientSession(auto_decompress=False))

        async def dashboard(_: web.Request) -> web.Response:
            frame = f'<iframe src="{BELOW}/" width="1200" height="800"></iframe>'
            text = f'<link rel="icon" href="data:,">{frame}'
            return web.Response(text=text, content_type="text/html")

        async def forward(request: web.Request) -> web.StreamResponse:
            headers = {
                name: value
                for name, value in request.headers.items()
                if not name.startswith("Sec-WebSocket") and name not in {"Connection", "Upgrade"}
            }
            headers |= {"X-Forwarded-For": "192.168.1.20", "X-Forwarded-Proto": "http"}
            headers |= {"X-Forwarded-Host": headers.pop("Host"), "X-Ingress-Path": BELOW}
            address = target + request.match_info["path"]
            if request.headers.get("Upgrade") == "websocket":
                asked = request.headers.get("Sec-WebSocket-Protocol", "")
                protocols = [each.strip() for each in asked.split(",") if each]
                theirs = await client.ws_connect(address, headers=headers, protocols=protocols)
                ours = web.WebSocketResponse(protocols=protocols)
                await ours.prepare(request)
                await asyncio.gather(_relay(ours, theirs), _relay(theirs, ours))
                return ours
            async with client.request(
                request.method, address, headers=headers, data=await request.read()
            ) as answer:
                body = await answer.read()
                kept = {
                    name: value
                    for name, value in answer.headers.items()
                    if name not in {"Content-Length", "Transfer-Encoding", "Connection"}
                }
                return web.Response(status=answer.status, headers=kept, body=body)

        app = web.Application()
        app.router.add_get("/", dashboard)
        app.router.add_route("*", BELOW + "/{path:.*}", forward)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        running.push_async_callback(runner.cleanup)
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/"


async def test_in_home_assistants_sidebar_a_job_runs(
    stack: Stack, visit: Visit, client: str, tmp_path: Path
) -> None:
    config = Config(
        mqtt_url=stack.broker.url,
        data=tmp_path,
        workflows=stack.bridge.workflows,
        websocket_listen="127.0.0.1:0",
        trusted_proxies=("127.0.0.1",),
        frame_ancestors=("self",),
    )
    async with (
        web_adapter(config, stack.keys) as port,
        ingress(f"http://127.0.0.1:{port}/") as home,
    ):
        window = await visit(address=home)
        await window.page.goto(home)
        page = window.page.frame_locator("iframe")
        await page.get_by_label("Access key", exact=True).fill(stack.key(client))
        await page.get_by_role("button", name="Log in", exact=True).click()
        await page.locator('[data-input="steps"] input').last.fill("4")
        await page.get_by_role("button", name="Run", exact=True).click()
        await page.locator("#job-detail .frame img[src^='blob:']").wait_for(timeout=JOB_MS)
