"""The dashboard card in a real Chromium, in a real Home Assistant, with a real bridge behind it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from bridge.mosquitto import Mosquitto
from tests.conftest import StartBridge
from tests.end_to_end import graphs
from tests.peers.homeassistant_integration.environment import Place
from tests.peers.homeassistant_integration.server import DASHBOARD, Server, serving, set_up
from tests.support.browser import JOB_MS, chromium
from tests.support.peer import Peer

pytestmark = [pytest.mark.peers, pytest.mark.comfyui, pytest.mark.timeout(900)]

# Keeps what the first card shows while its job runs: that is over before anybody can look.
WATCH = """() => {
  const { img, progress } = document.watched._parts;
  document.seen = [];
  const look = () => document.seen.push([img.src.slice(0, 11), progress.value]);
  new MutationObserver(look).observe(img, { attributes: true });
  new MutationObserver(look).observe(progress, { attributes: true });
}"""
# Ends once the connection is there again. Where a card is given, it runs a job just before: its
# command is on its way, and not answered.
BREAK = """card => new Promise(resolve => {
  const { connection } = document.querySelector("home-assistant").hass;
  connection.addEventListener("ready", resolve);
  card?._run();
  connection.socket.close();
})"""
# In a column they are in their order.
CARD = """\
views:
  - title: ComfyUI
    cards:
      - type: vertical-stack
        cards:
          - {type: "custom:comfy2mqtt-card", workflow: demo}
          - {type: "custom:comfy2mqtt-card", workflow: slow, title: A slow one}
          - {type: "custom:comfy2mqtt-card", workflow: nothing}
          - {type: "custom:comfy2mqtt-card", workflow: lacking}
"""


async def test_a_prompt_becomes_a_picture_on_a_dashboard(
    place: Place, attached: StartBridge, broker: Mosquitto, tmp_path: Path
) -> None:
    demo = json.loads((Path("workflows") / "demo.json").read_text())
    lacking = {**graphs.colour(), "3": {"class_type": "NoSuchNode", "inputs": {}}}
    workflows = {"demo": demo, "slow": graphs.slow(60.0), "lacking": lacking}
    bridge = await attached(workflows, homeassistant="true")
    with place.sources() as sources:
        async with (
            serving(place, sources, tmp_path / "home.log", CARD) as server,
            chromium() as browser,
        ):
            assert broker.port is not None
            await set_up(server, broker.port)
            page = await browser.new_page()
            page.set_default_timeout(JOB_MS)
            expect.set_options(timeout=JOB_MS)
            errors: list[str] = []
            page.on("pageerror", lambda error: errors.append(f"{error} {error.stack}"))
            await server.enter(page, f"/{DASHBOARD}")
            first = page.locator("comfy2mqtt-card").nth(0)
            await expect(first.get_by_text("No picture yet")).to_be_visible()
            await a_picture_is_made(page)
            await a_job_is_cancelled(page)
            await an_error_is_shown_as_home_assistant_shows_it(page)
            gone = page.locator("comfy2mqtt-card").nth(2)
            await expect(gone.get_by_text("There is no such workflow.")).to_be_visible()
            await expect(gone.get_by_role("button", name="Run")).to_be_disabled()
            said = page.locator("comfy2mqtt-card").nth(3).get_by_role("status")
            lacks = "The workflow cannot run. Not there, or not allowed: NoSuchNode"
            await expect(said).to_have_text(lacks)
            # A bridge that stops and starts is noticed, and the card works again.
            await bridge.stop()
            await expect(first.get_by_text("The bridge is not available.")).to_be_visible()
            await bridge.start()
            await expect(first.get_by_role("button", name="Run")).to_be_enabled()
            await an_integration_that_is_away_is_no_workflow_that_is_gone(page, server, broker)
            await a_connection_that_breaks_runs_no_job_again(page, broker)
            await bridge.stop()
            await home_assistant_starts_again(page, server)
            await bridge.start()
            await expect(first.get_by_role("button", name="Run")).to_be_enabled()
            # Home Assistant's own are not the card's.
            assert not [each for each in errors if "card.js" in each]


async def a_picture_is_made(page: Page) -> None:
    card = page.locator("comfy2mqtt-card").nth(0)
    await card.get_by_label("Prompt").fill("a lighthouse at night")
    await card.evaluate("card => { document.watched = card; }")
    await page.evaluate(WATCH)
    await card.get_by_role("button", name="Run").click()
    picture = card.locator("img")
    await expect(picture).to_have_attribute("src", re.compile("^/api/comfy2mqtt/"))
    await expect(card.get_by_role("button", name="Run")).to_be_enabled()
    assert await picture.evaluate("img => img.decode().then(() => img.naturalWidth)") == 512
    seen = await page.evaluate("document.seen")
    assert any(source.startswith("data:image/") for source, _ in seen)
    assert any(percent > 0 for _, percent in seen)


async def an_error_is_shown_as_home_assistant_shows_it(page: Page) -> None:
    card = page.locator("comfy2mqtt-card").nth(0)
    error = {
        "message": "as it came",
        "translation_domain": "comfy2mqtt",
        "translation_key": "not_available",
        "translation_placeholders": {"base": "studio"},
    }
    told = "(card, error) => card._told(error)"
    assert await card.evaluate(told, error) == "The bridge studio is not available."
    assert await card.evaluate(told, {"message": "as it came"}) == "as it came"


async def an_integration_that_is_away_is_no_workflow_that_is_gone(
    page: Page, server: Server, broker: Mosquitto
) -> None:
    """Disable it, and enable it again, while the second card runs a job."""
    card, busy = (page.locator("comfy2mqtt-card").nth(place) for place in (0, 1))
    async with Peer(broker.url, client="homeassistant") as peer:
        await peer.listen()
        await busy.get_by_role("button", name="Run").click()
        job = await slow_job(peer)
        entry = await server.entry()
        await server.command("config_entries/disable", entry_id=entry, disabled_by="user")
        await expect(card.get_by_role("status")).to_have_text("The bridge is not available.")
        await expect(card.get_by_label("Prompt")).to_be_visible()
        await expect(card.get_by_role("button", name="Run")).to_be_disabled()
        await server.command("config_entries/disable", entry_id=entry, disabled_by=None)
        for each in (card, busy):
            await expect(each.get_by_role("button", name="Run")).to_be_enabled()
        await peer.ask("cancel", job)


async def a_connection_that_breaks_runs_no_job_again(page: Page, broker: Mosquitto) -> None:
    """Break the page's connection while a card's job runs, and before its command is answered."""
    card = page.locator("comfy2mqtt-card").nth(1)
    run = card.get_by_role("button", name="Run")
    async with Peer(broker.url, client="homeassistant") as peer:
        await peer.listen()

        async def jobs() -> set[str]:
            listed = await peer.ask("list", {"workflow": "slow", "peek": True})
            return {each["job_id"] for each in listed["data"]["jobs"]}

        before = await jobs()
        await run.click()
        first = await slow_job(peer)
        # Subscriptions that are renewed are sent before the event, and so before what follows.
        await page.evaluate(BREAK)
        await expect(run).to_be_enabled()
        await peer.ask("cancel", first)
        await a_picture_is_made(page)
        assert await jobs() == {*before, first}
        peer.forget()
        await card.evaluate(BREAK)
        await expect(run).to_be_enabled()
        second = await slow_job(peer)
        await peer.ask("cancel", second)
        await a_picture_is_made(page)
        assert await jobs() == {*before, first, second}


async def slow_job(peer: Peer) -> str:
    """Return the job of the second card whose status comes next."""
    statuses = "comfy2mqtt/client/homeassistant/job/+/status"
    status = await peer.next(statuses, lambda message: message.json["workflow"] == "slow")
    return str(status.json["job_id"])


async def home_assistant_starts_again(page: Page, server: Server) -> None:
    """Restart Home Assistant: it has no bridge at first, and refuses to follow a workflow."""
    await page.evaluate("window.isTheSamePage = true")
    await server.stop()
    await server.start()
    connected = "document.querySelector('home-assistant').hass.connection.connected"
    await page.wait_for_function(f"window.isTheSamePage && {connected}")
    card = page.locator("comfy2mqtt-card").nth(0)
    await expect(card.get_by_role("status")).to_have_text("The bridge is not available.")


async def a_job_is_cancelled(page: Page) -> None:
    card = page.locator("comfy2mqtt-card").nth(1)
    await expect(card.get_by_text("A slow one")).to_be_visible()
    await card.get_by_role("button", name="Run").click()
    await expect(card.get_by_role("status")).to_have_text("Running")
    await card.get_by_role("button", name="Cancel").click()
    await expect(card.get_by_role("status")).to_have_text(re.compile("^Cancelled"))
    await expect(card.get_by_text("No picture yet")).to_be_visible()
    await expect(card.get_by_role("button", name="Run")).to_be_enabled()
