"""The pictures of docs/home-assistant.md, by `make homeassistant-pictures`.

It runs `comfy2mqtt demo`, a Home Assistant at its broker, and Chromium. What it writes is in
docs/images.
"""

from __future__ import annotations

import asyncio
import io
import re
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.async_api import Locator, Page, expect

from tests.peers.homeassistant_integration import environment
from tests.peers.homeassistant_integration.server import DASHBOARD, Server, serving, set_up
from tests.support.browser import JOB_MS, chromium
from tests.support.pictures import IMAGES, Terminal

CARD = """\
views:
  - title: ComfyUI
    cards:
      - {type: "custom:comfy2mqtt-card", workflow: demo, title: The painter}
"""
PROMPT = "a lighthouse at dawn, a sailing boat"
SIZE = {"width": 1100, "height": 900}
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


async def main() -> None:
    """Make the pictures again."""
    place = environment.found()
    with place.sources() as sources, tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "home.log"
        async with Terminal(Path(folder)) as terminal:
            port = int((await terminal.wait_for(r"mqtt://127\.0\.0\.1:(\d+)"))[1])
            async with serving(place, sources, log, CARD) as server, chromium() as browser:
                await set_up(server, port, discovery=False)
                await server.add_task("demo", "Painter")
                await take(server, await browser.new_page(viewport=SIZE))


if __name__ == "__main__":
    asyncio.run(main())
