"""Every view as axe-core sees it, what a visit loads, and that nothing jumps."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.async_api import ViewportSize

from tests.adapters.web.page.conftest import SMALL, Stack, Visit, choose, picture
from tests.peers import npm
from tests.support.browser import JOB_MS, Window
from tests.support.tcpproxy import TcpProxy

pytestmark = [pytest.mark.comfyui, pytest.mark.slow, pytest.mark.asyncio(loop_scope="package")]

AXE = "axe-core@4.10.3"
# A folder for screenshots of all views, for people to look at.
SCREENSHOTS = "COMFY2MQTT_TEST_SCREENSHOTS"
PHONE: ViewportSize = {"width": 390, "height": 844}
DESK: ViewportSize = {"width": 1280, "height": 900}
LOOKS: tuple[tuple[Literal["light", "dark"], ViewportSize, dict[str, Any]], ...] = (
    ("dark", DESK, {}),
    ("dark", PHONE, {"runOnly": ["color-contrast"]}),
    ("light", PHONE, {}),
    ("light", DESK, {"runOnly": ["color-contrast"]}),
)


@pytest.fixture(scope="module")
def axe() -> str:
    """The source of axe-core, from npm."""
    npm.node()
    return (npm.ensure(AXE) / "node_modules" / "axe-core" / "axe.min.js").read_text()


async def _found(
    window: Window, axe: str, folder: Path | None, view: str, shown: str | None
) -> list[str]:
    """Return what axe-core finds wrong in this view: on a desk and a phone, light and dark.

    `shown` is what a screenshot begins with, by its selector.
    """
    page = window.page
    if not await page.evaluate("'axe' in window"):
        await page.evaluate(axe)
    found = []
    for scheme, size, options in LOOKS:
        await page.emulate_media(color_scheme=scheme)
        await page.set_viewport_size(size)
        result: Any = await page.evaluate(
            "(options) => axe.run(document, { resultTypes: ['violations'], ...options })", options
        )
        name = f"{view}, {scheme}, {size['width']}"
        found += [
            f"{name}: {each['id']}: {node['html'][:160]} {node['failureSummary']}"
            for each in result["violations"]
            for node in each["nodes"]
        ]
        assert not await page.evaluate("document.documentElement.scrollWidth > innerWidth"), name
        if folder is not None:
            if shown is not None:
                await window.at(shown).evaluate("each => each.scrollIntoView()")
            await page.screenshot(path=folder / f"{name}.png")
    visible = "[...document.querySelectorAll('h1')].filter((each) => each.checkVisibility())"
    assert await page.evaluate(f"{visible}.length") == 1, view
    return found


class Looks:
    """Looks at views of windows, each under a name; `found` is what is wrong in any of them."""

    def __init__(self, axe: str) -> None:
        self.axe = axe
        self.found: list[str] = []
        self.folder = Path(os.environ[SCREENSHOTS]) if SCREENSHOTS in os.environ else None

    async def at(self, window: Window, view: str, shown: str | None = None) -> None:
        self.found += await _found(window, self.axe, self.folder, view, shown)


# So long on a machine that does much else.
@pytest.mark.timeout(600)
async def test_axe_finds_nothing_in_any_view(
    stack: Stack, visit: Visit, client: str, axe: str
) -> None:
    window = await visit(viewport=DESK)
    looks = Looks(axe)

    async def look(view: str) -> None:
        await looks.at(window, view)

    await window.page.goto(window.address)
    await window.at("#login").wait_for()
    await window.press("Log in")
    await window.at("#key-problem").wait_for()
    await look("login, refused")

    await window.log_in(stack.key(client), "kinds")
    await window.at('[data-input="words"]').wait_for()
    await window.at("#code-samples summary").click()
    await look("every kind of field")
    await window.page.goto(f"{window.address}#plain")
    await window.at("#more summary").click()
    await look("all other settings")
    await window.page.goto(f"{window.address}#demo")
    tile = await window.run(prompt="a red barn", **SMALL)
    await window.ended(tile)
    await window.at("#job-detail .details summary").click()
    await look("a job")
    await tile.click()
    viewer = window.at("dialog.viewer")
    await viewer.get_by_role("button", name="Parameters").click()
    await look("viewer")
    await viewer.get_by_role("button", name="Delete").click()
    await look("a question")
    await window.page.keyboard.press("Escape")
    await window.page.keyboard.press("Escape")
    await window.page.get_by_label("Search the gallery").fill("nothing of the kind")
    await look("nothing found")

    await window.page.goto(f"{window.address}#masked")
    await window.at('[data-input="mask"]').wait_for()
    await window.press("Run")
    await window.at(".refused").first.wait_for()
    await look("all errors")
    await choose(window, "picture", picture())
    await window.at('[data-input="picture"] .shown img').wait_for()
    await window.press("Paint it")
    await window.at("canvas.strokes:focus").wait_for()
    await look("painter")
    await window.press("Cancel")
    assert looks.found == []


@pytest.mark.timeout(600)
async def test_axe_finds_nothing_while_jobs_and_sets_run_fail_or_cannot_be_reached(
    stack: Stack, visit: Visit, client: str, axe: str
) -> None:
    looks = Looks(axe)
    async with TcpProxy(stack.address) as proxy:
        window = await visit(client, address=f"{proxy.url}/", viewport=DESK)
        await window.at("#set summary").click()
        for at, name, values in ((0, "steps", "4..12 step 4"), (1, "seed", "3")):
            axis = window.at(".axis").nth(at)
            await axis.locator("select").select_option(name)
            await axis.locator("input").fill(values)
        await window.field("prompt").fill("a lighthouse at night")
        await look_at_a_set(looks, window)
        await window.page.goto(f"{window.address}#masked")
        await choose(window, "picture", b"\x89PNG\r\n\x1a\n" + bytes(99))
        await choose(window, "mask", picture())
        failed = await window.run()
        await window.ended(failed, "failed")
        await window.at("#job-detail .failure").wait_for()
        await looks.at(window, "failed", "#job-detail")
        await window.page.goto(f"{window.address}#demo")
        await window.run(prompt="a city", width=1024, height=1024, steps=100)
        await window.until("document.querySelector('.working img')?.naturalWidth > 0")
        await looks.at(window, "running", "#job-detail")
        proxy.close()
        await window.at("#banner", text="Connection lost").wait_for()
        await looks.at(window, "disconnected", "#job-detail")
        proxy.open()
        await window.page.get_by_role("button", name="Cancel", exact=True).click()
        await window.at('#job-detail[data-state="cancelled"]').wait_for(timeout=JOB_MS)
        await looks.at(window, "cancelled")
        window.complaints = [each for each in window.complaints if "WebSocket" not in each]
    assert looks.found == []


async def look_at_a_set(looks: Looks, window: Window) -> None:
    """Make a grid, and look at the form and at the set: at first, and when it has ended."""
    await window.page.get_by_role("button", name="Run 9 jobs").click()
    await window.at(".set table").wait_for()
    await looks.at(window, "a set that runs", ".set")
    await looks.at(window, "the form of a set", "#set")
    await window.at('.set[data-state="succeeded"]').wait_for(timeout=JOB_MS)
    await window.until("document.querySelectorAll('.set td img:not([hidden])').length === 9")
    await looks.at(window, "a set", ".set")
    await window.at(".set .tile").nth(4).click()
    await window.at("dialog.viewer").wait_for()
    await looks.at(window, "viewer in a set")
    await window.page.keyboard.press("Escape")


async def test_by_keyboard_alone_a_picture_is_made_looked_at_and_deleted(
    visit: Visit, client: str
) -> None:
    window = await visit(client)
    keys = window.page.keyboard

    async def tab_to(selector: str) -> None:
        for _ in range(60):
            if await window.at(f"{selector}:focus").count():
                return
            await keys.press("Tab")
        raise AssertionError(f"Tab does not get to {selector}")

    await window.page.evaluate("document.activeElement.blur()")
    await keys.press("Tab")
    await keys.press("Enter")  # the link that skips the header
    for name, value in SMALL.items():
        await tab_to(f'[data-input="{name}"] input[type=number]')
        await keys.type(str(value))
    await keys.press("Enter")
    await window.ended(window.at(".tile"))
    await tab_to(".tile")
    await keys.press("Enter")
    await window.at("dialog.viewer").wait_for()
    await tab_to(".viewer-foot .actions button:last-child")
    await keys.press("Enter")
    await window.at("dialog.ask").wait_for()
    await keys.press("Enter")
    await window.until("document.querySelectorAll('#tiles li').length === 0")
    await window.at("dialog.viewer").wait_for(state="hidden")


async def test_a_first_visit_loads_each_file_once_and_a_second_one_none(
    stack: Stack, visit: Visit, client: str
) -> None:
    window = await visit()
    sent = await _sent_by_the_server(window)
    await window.log_in(stack.key(client))
    assert len(sent) > 20
    assert len(sent) == len(set(sent)), sorted(sent)
    sizes = """performance.getEntriesByType("resource").map(
        (each) => [each.encodedBodySize, each.decodedBodySize])"""
    encoded, decoded = map(sum, zip(*await window.page.evaluate(sizes), strict=True))
    assert encoded < decoded / 2
    sent.clear()
    await window.page.reload()
    await window.at("#workspace").wait_for()
    assert set(sent) <= {window.address}


async def _sent_by_the_server(window: Window) -> list[str]:
    """A list that grows by the address of whatever does not come out of the browser's cache."""
    sent: list[str] = []
    cached: set[str] = set()
    addresses: dict[str, str] = {}
    devtools = await window.page.context.new_cdp_session(window.page)

    def received(event: dict[str, Any]) -> None:
        response = event["response"]
        if response["url"].startswith("http") and not response["fromDiskCache"]:
            addresses[event["requestId"]] = response["url"]

    def finished(event: dict[str, Any]) -> None:
        request = event["requestId"]
        if request in addresses and request not in cached:
            sent.append(addresses[request])

    devtools.on("Network.requestServedFromCache", lambda event: cached.add(event["requestId"]))
    devtools.on("Network.responseReceived", received)
    devtools.on("Network.loadingFinished", finished)
    await devtools.send("Network.enable")
    return sent


async def test_without_a_connection_nothing_moves_and_nothing_jumps(
    stack: Stack, visit: Visit, client: str
) -> None:
    async with TcpProxy(stack.address) as proxy:
        window = await visit(client, address=f"{proxy.url}/", reduced_motion="no-preference")
        tile = await window.run(width=512, height=512, steps=100)
        await window.until("document.querySelector('#job-detail .bar')?.ariaValueNow > 0")
        await window.until("document.querySelector('.working img')?.naturalWidth > 0")
        places = """["#workspace", "#form", "#job-detail", "#tiles"].map(
            (each) => document.querySelector(each).getBoundingClientRect().top + scrollY)"""
        before = await window.page.evaluate(places)
        proxy.close()
        await window.at("#banner", text="Connection lost").wait_for()
        assert await window.page.evaluate(places) == before
        moving = """document.getAnimations().filter((each) => each.playState === "running" &&
            each instanceof CSSAnimation).length"""
        assert await window.page.evaluate(moving) == 0
        assert "when last seen" in await window.at("#job-detail .words").inner_text()
        assert await window.at("#job-detail .left").inner_text() == ""
        assert "no connection" in await tile.inner_text()
        proxy.open()
        await window.press("Cancel")
        await window.ended(tile, "cancelled")
        window.complaints = [each for each in window.complaints if "WebSocket" not in each]
