"""The ComfyUI that the bridge runs answers the bridge and a browser that was let in, no others."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from msgspec import Struct
from playwright.async_api import Browser
from yarl import URL

from bridge.mosquitto import Mosquitto
from tests.conftest import StartBridge
from tests.end_to_end import graphs
from tests.end_to_end.test_by_hand import output_of
from tests.end_to_end.test_faults import supervise
from tests.support.bridge import BridgeProcess
from tests.support.browser import chromium
from tests.support.comfyui import supervised
from tests.support.peer import Peer

pytestmark = pytest.mark.comfyui

# A page of a website: what is in a sandboxed frame has no origin, which is sent as "null".
WEBSITE = """<!doctype html><title>A website</title>
<iframe sandbox="allow-scripts allow-forms" srcdoc="<script>
const done = word => parent.postMessage(word, '*');
fetch('ADDRESS/prompt', {method: 'POST', mode: 'no-cors', body: JSON.stringify({prompt: GRAPH})})
  .then(() => done('asked'), error => done('' + error));
</script>"></iframe>
<script>addEventListener('message', event => { document.title = event.data; });</script>
"""
# Another graph each time: nothing of it is in ComfyUI's cache.
PLAIN = {
    "1": {
        "class_type": "EmptyImage",
        "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": 3},
    },
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "website"}},
}


class Stack(Struct):
    """A bridge with a ComfyUI of its own, and a browser on its machine."""

    broker: Mosquitto
    bridge: BridgeProcess
    browser: Browser

    async def opened(self) -> URL:
        """Return a link to the page, as the command prints it."""
        command = (sys.executable, "-m", "bridge", "comfyui", "open")
        told = await output_of(*command, "--mqtt-url", self.broker.url, "--json")
        return URL(json.loads(told)["url"])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    folder = tmp_path_factory.mktemp("guarded")
    async with AsyncExitStack() as running:
        broker = await running.enter_async_context(Mosquitto(folder / "mosquitto"))
        bridge = BridgeProcess(folder / "bridge", mqtt_url=broker.url, **supervise())
        bridge.add_workflow("colour", graphs.colour())
        browser = await running.enter_async_context(chromium())
        await running.enter_async_context(bridge)
        yield Stack(broker, bridge, browser)


def website(page: str) -> tuple[ThreadingHTTPServer, str]:
    """Serve a page on a port of its own, another site to a browser; returns its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(page.encode())

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    return server, f"http://localhost:{server.server_address[1]}/"


async def kept(stack: Stack) -> str:
    """Return everybody's prompts, queued or ended, as a browser sees them that was let in."""
    link = await stack.opened()
    context = await stack.browser.new_context()
    try:
        assert (await context.request.get(str(link))).ok
        found = [
            await context.request.get(str(link.origin() / path)) for path in ("queue", "history")
        ]
        assert all(each.ok for each in found)
        return "".join([await each.text() for each in found])
    finally:
        await context.close()


@pytest.mark.asyncio(loop_scope="module")
async def test_a_website_cannot_have_a_prompt_run(stack: Stack) -> None:
    """Though the browser was let in to ComfyUI's own page."""
    link = await stack.opened()
    graph = json.dumps(PLAIN).replace('"', "&quot;")
    page_text = WEBSITE.replace("ADDRESS", str(link.origin())).replace("GRAPH", graph)
    server, address = website(page_text)
    context = await stack.browser.new_context()
    try:
        # Its cookie, without all that its page loads.
        assert (await context.request.get(str(link))).ok
        page = await context.new_page()
        await page.goto(address)
        # The frame has had an answer; what it says a page from elsewhere never learns.
        await page.wait_for_function("document.title !== 'A website'")
        assert await page.title() == "asked"
    finally:
        await context.close()
        server.shutdown()
        server.server_close()
    assert "website" not in await kept(stack)


@pytest.mark.asyncio(loop_scope="module")
async def test_a_foreign_name_for_this_machine_reads_nothing(stack: Stack) -> None:
    """As a name does whose DNS answers with another address the second time."""
    link = await stack.opened()
    page = await stack.browser.new_page()
    try:
        for path in ("/history", "/queue", "/internal/logs", "/", str(link.relative())):
            # A browser resolves every name below localhost to this machine.
            answer = await page.goto(f"http://rebound.localhost:{link.port}{path}")
            assert answer is not None
            assert answer.status == 403
    finally:
        await page.close()
    async with aiohttp.ClientSession() as session:
        url = link.origin() / "history"
        for headers in ({}, {"Host": "evil.example"}, {"X-Comfy2MQTT-Secret": "guess"}):
            async with session.get(url, headers=headers) as response:
                assert response.status == 403
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await session.ws_connect(link.origin() / "ws")


@pytest.mark.asyncio(loop_scope="module")
async def test_a_link_opens_the_page_in_one_browser_and_the_bridge_works_beside_it(
    stack: Stack,
) -> None:
    link = await stack.opened()
    context = await stack.browser.new_context()
    try:
        page = await context.new_page()
        # The page's own socket, with previews and progress.
        async with page.expect_websocket() as opening:
            await page.goto(str(link))
        socket = await opening.value
        assert socket.url.startswith(f"ws://{link.authority}/ws")
        await socket.wait_for_event("framereceived")
        again = await context.new_page()
        answer = await again.goto(str(link))
        assert answer is not None
        assert answer.status == 403
    finally:
        await context.close()
    async with Peer(stack.broker.url) as peer:
        await peer.listen()
        peer.request("run/colour/beside")
        assert (await peer.result("beside"))["state"] == "succeeded"


@pytest.mark.asyncio(loop_scope="module")
async def test_of_a_comfyui_that_is_guarded_doctor_has_nothing_to_say(stack: Stack) -> None:
    told = await output_of(
        *(sys.executable, "-m", "bridge", "doctor", "--mqtt-url", stack.broker.url), status=None
    )
    assert "its ComfyUI 'default' is" in told
    assert "any web page" not in told


async def test_a_comfyui_of_its_own_that_is_not_guarded_is_reported(
    bridges: StartBridge, broker: Mosquitto
) -> None:
    own = supervised()
    table = {
        "name": "own",
        "path": str(own.path),
        "python": str(own.python),
        "args": ["--cpu"],
        "environment": {"COMFY2MQTT_GUARD": "0"},
    }
    bridge = await bridges(comfyui=json.dumps([table]))
    assert "answers without its secret" in bridge.log
    ours = (sys.executable, "-m", "bridge")
    told = await output_of(*ours, "doctor", "--mqtt-url", broker.url, status=None)
    assert "any web page on its machine" in told
    command = (*ours, "comfyui", "open", "--mqtt-url", broker.url)
    async with aiohttp.ClientSession() as session:
        for _ in range(2):
            async with session.get((await output_of(*command)).strip()) as response:
                assert response.status == 200
