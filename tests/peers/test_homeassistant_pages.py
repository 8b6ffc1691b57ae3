"""The YAML of the pages for Home Assistant, word for word: the automations run, the cards show."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from playwright.async_api import Page, expect

from bridge.mosquitto import Mosquitto
from tests.conftest import StartBridge
from tests.peers.homeassistant_integration.environment import Place
from tests.peers.homeassistant_integration.server import DASHBOARD, Server, serving, set_up
from tests.peers.test_homeassistant import Control, photo
from tests.peers.test_homeassistant_integration import HERE, checks, run, sources
from tests.support.browser import JOB_MS, chromium

__all__ = ["sources"]  # a fixture
pytestmark = [pytest.mark.peers, pytest.mark.comfyui, pytest.mark.timeout(900)]

DOCS = Path("docs")
PAGES = ("home-assistant.md", "quick-start-home-assistant.md")


def blocks(page: str, language: str) -> list[str]:
    """Return a page's blocks of code in a language."""
    pattern = rf"^```{language}\n(.*?)^```$"
    return re.findall(pattern, (DOCS / page).read_text(), re.DOTALL | re.MULTILINE)


def workflows() -> dict[str, Any]:
    """Return the demo, and a workflow that takes a picture and a prompt."""
    text = {"class_type": "Comfy2MQTTTextInput", "inputs": {"name": "prompt", "value": ""}}
    demo = json.loads((Path("workflows") / "demo.json").read_text())
    return {"demo": demo, "img2img": {**photo(), "11": text}}


async def test_the_automations_of_the_pages_do_what_they_say(
    place: Place, sources: Path, attached: StartBridge, broker: Mosquitto, tmp_path: Path
) -> None:
    bridge = await attached(workflows(), homeassistant="true")
    async with Control(bridge).serve() as port:
        await run(
            place,
            sources / HERE,
            tmp_path / "pages.log",
            *checks(place, "--show-capture=no", "real_pages.py"),
            COMFY2MQTT_TEST_BROKER=str(broker.port),
            COMFY2MQTT_TEST_CONTROL=str(port),
        )


async def test_the_cards_of_the_pages_show_what_they_name_and_the_editor_takes_the_automations(
    place: Place, sources: Path, attached: StartBridge, broker: Mosquitto, tmp_path: Path
) -> None:
    found = [yaml.safe_load(text) for page in PAGES for text in blocks(page, "yaml")]
    cards = [each for each in found if "type" in each]
    assert {each["type"] for each in cards} == {"vertical-stack", "custom:comfy2mqtt-card"}
    dashboard = yaml.safe_dump({"views": [{"title": "ComfyUI", "cards": cards}]})
    await attached(workflows(), homeassistant="true")
    async with (
        serving(place, sources, tmp_path / "home.log", dashboard) as server,
        chromium() as browser,
    ):
        assert broker.port is not None
        await set_up(server, broker.port)
        await takes(server, [each for each in found if "alias" in each])
        page = await browser.new_page(viewport={"width": 1400, "height": 2000})
        page.set_default_timeout(JOB_MS)
        expect.set_options(timeout=JOB_MS)
        await server.enter(page, f"/{DASHBOARD}")
        await shows(page, cards)


async def takes(server: Server, automations: list[Any]) -> None:
    """Save automations as the editor's YAML does, which checks them."""
    assert len(automations) > 3
    for number, each in enumerate(automations):
        path = f"/api/config/automation/config/page{number}"
        assert await server.ask("POST", path, json=each) == {"result": "ok"}


async def shows(page: Page, cards: list[Any]) -> None:
    """Press Run of each stack, and look that each card has its picture and no warning."""
    stacks = [each for each in cards if each["type"] == "vertical-stack"]
    await expect(page.locator("hui-vertical-stack-card")).to_have_count(len(stacks))
    for number, stack in enumerate(stacks):
        shown = page.locator("hui-vertical-stack-card").nth(number)
        picture, entities = stack["cards"]
        await expect(shown.get_by_text(picture["name"])).to_be_visible()
        rows = shown.locator("hui-entities-card #states > div")
        await expect(rows).to_have_count(len(entities["entities"]))
        await shown.get_by_text("Press").first.click()
        await expect(shown.locator("hui-image img")).to_have_js_property("naturalWidth", 512)
    own = page.locator("comfy2mqtt-card")
    await expect(own).to_have_count(len(cards) - len(stacks))
    await expect(own.get_by_text("The painter")).to_be_visible()
    for name in ("hui-error-card", "hui-warning"):
        await expect(page.locator(name)).to_have_count(0)
