"""The pictures of the pages for Home Assistant, by `make homeassistant-pictures`.

It runs `comfy2mqtt demo`, a Home Assistant at its broker, and Chromium. What it writes is in
docs/images.
"""

from __future__ import annotations

import asyncio
import io
import re
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from PIL import Image
from playwright.async_api import Locator, Page, expect

from bridge.adapters.web.adapter import WebAdapter
from bridge.adapters.web.keyring import Keyring
from bridge.config import Config
from tests.peers.homeassistant_integration import environment
from tests.peers.homeassistant_integration.server import DASHBOARD, Server, serving, set_up
from tests.support.browser import JOB_MS, chromium
from tests.support.pictures import IMAGES, Terminal

CARD = """\
views:
  - title: ComfyUI
    cards:
      - {type: "custom:comfy2mqtt-card", workflow: demo, title: The painter}
  - title: Page
    path: page
    type: panel
    cards:
      - {type: iframe, url: "%s"}
"""
PROMPT = "a lighthouse at dawn, a sailing boat"
SIZE = {"width": 1100, "height": 900}
WIDE = {"width": 1500, "height": 900}  # beside the sidebar it has two columns
QUALITY = 70


async def save(shown: Page | Locator, name: str) -> None:
    """Save what is shown as a small picture."""
    with Image.open(io.BytesIO(await shown.screenshot(animations="disabled"))) as picture:
        picture.convert("RGB").save(IMAGES / name, "WEBP", quality=QUALITY, method=6)
    sys.stdout.write(f"{IMAGES / name}: {(IMAGES / name).stat().st_size} bytes\n")


async def take(server: Server, page: Page) -> None:
    """Use the card, and look at the pages of the device and the integration."""
    page.set_default_timeout(JOB_MS)
    expect.set_options(timeout=JOB_MS)
    await server.enter(page, f"/{DASHBOARD}")
    card = page.locator("comfy2mqtt-card")
    await card.get_by_label("Prompt").fill(PROMPT)
    await card.get_by_role("button", name="Run").click()
    picture = card.locator("img")
    await expect(picture).to_have_attribute("src", re.compile("^/api/comfy2mqtt/"))
    await picture.evaluate("img => img.decode()")
    await save(card, "home-assistant-card.webp")
    device_id = await server.device("image.demo_last_picture")
    await page.goto(f"{server.address}/config/devices/device/{device_id}")
    await page.get_by_text("Last picture").first.wait_for()
    await save(page, "home-assistant-device.webp")
    await page.goto(f"{server.address}/config/integrations/integration/comfy2mqtt")
    await page.get_by_text("Painter").first.wait_for()
    await save(page, "home-assistant-integration.webp")


@asynccontextmanager
async def framed(broker: str, folder: Path) -> AsyncIterator[tuple[str, str]]:
    """Run a web adapter whose page may be in frames; yields its address and a key."""
    config = Config(
        mqtt_url=broker,
        data=folder / "web",
        websocket_listen="127.0.0.1:0",
        frame_ancestors=("*",),  # Home Assistant's port is not known yet
    )
    _, key = Keyring(config.keys_file).add("me", "frame", time.time())
    listening: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    running = asyncio.create_task(WebAdapter.of(config).run(listening.set_result))
    try:
        yield f"http://127.0.0.1:{await listening}/", key
    finally:
        running.cancel()
        await asyncio.wait((running,))


async def take_page(server: Server, page: Page, key: str) -> None:
    """Use the bridge's page in a frame of Home Assistant."""
    await page.set_viewport_size(WIDE)
    await page.goto(f"{server.address}/{DASHBOARD}/page")
    frame = page.frame_locator("iframe")
    await frame.get_by_label("Access key", exact=True).fill(key)
    await frame.get_by_role("button", name="Log in", exact=True).click()
    await frame.locator('[data-input="prompt"] textarea').fill(PROMPT)
    await frame.get_by_role("button", name="Run", exact=True).click()
    shown = frame.locator("#job-detail").filter(has_text=PROMPT)
    await shown.get_by_text("Download", exact=True).wait_for()
    await frame.locator("body").evaluate("() => scrollTo(0, 0)")
    await save(page, "home-assistant-page.webp")


async def main() -> None:
    """Make the pictures again."""
    place = environment.found()
    with place.sources() as sources, tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "home.log"
        async with Terminal(Path(folder)) as terminal:
            port = int((await terminal.wait_for(r"mqtt://127\.0\.0\.1:(\d+)"))[1])
            async with (
                framed(f"mqtt://127.0.0.1:{port}", Path(folder)) as (address, key),
                serving(place, sources, log, CARD % address) as server,
                chromium() as browser,
            ):
                await set_up(server, port, discovery=False)
                await server.add_task("demo", "Painter")
                page = await browser.new_page(viewport=SIZE)
                await take(server, page)
                await take_page(server, page, key)


if __name__ == "__main__":
    asyncio.run(main())
