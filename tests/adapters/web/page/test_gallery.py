"""The gallery and the viewer: looking at outputs, and what is done with them."""

from __future__ import annotations

import pytest
from playwright.async_api import Route

from tests.adapters.web.page.conftest import LONG, SMALL, Visit, choose, picture
from tests.support.browser import Window

pytestmark = [pytest.mark.comfyui, pytest.mark.slow, pytest.mark.asyncio(loop_scope="package")]


async def _scale(window: Window) -> float:
    width = "document.querySelector('.viewer-canvas').getBoundingClientRect().width"
    whole = "document.querySelector('.viewer-canvas').offsetWidth"
    scale: float = await window.page.evaluate(f"{width} / {whole}")
    return scale


async def _swipe(window: Window, across: int) -> None:
    """A finger's way over the viewer, so far to the right."""
    await window.at(".viewer-frame").evaluate(
        """(frame, across) => {
            const box = frame.getBoundingClientRect();
            const at = { x: box.left + box.width / 2, y: box.top + box.height / 2 };
            frame.setPointerCapture = () => {};
            for (const [type, x] of [["down", 0], ["move", across / 2], ["up", across]]) {
                frame.dispatchEvent(new PointerEvent(`pointer${type}`, {
                    pointerId: 7, pointerType: "touch", isPrimary: true, button: 0, bubbles: true,
                    clientX: at.x + x, clientY: at.y,
                }));
            }
        }""",
        across,
    )


async def test_a_tile_opens_the_viewer_which_goes_zooms_compares_and_saves(
    visit: Visit, client: str
) -> None:
    window = await visit(client, "holed")
    await choose(window, "picture", picture((64, 48)))
    first = await window.run()
    await window.ended(first)
    await window.page.goto(f"{window.address}#demo")
    second = await window.run(prompt="a red barn", **SMALL)
    await window.ended(second)

    await first.click()
    viewer = window.at("dialog.viewer")
    await viewer.wait_for()
    place = window.at(".viewer-place")
    assert await place.inner_text() == "2 of 3"
    # Keys and swipes go on, and stop at the ends.
    for go, where in (
        ("ArrowRight", "3 of 3"),
        ("ArrowRight", "3 of 3"),
        ("ArrowLeft", "2 of 3"),
    ):
        await window.page.keyboard.press(go)
        assert await place.inner_text() == where
    await _swipe(window, 200)
    assert await place.inner_text() == "1 of 3"
    await _swipe(window, -200)
    assert await place.inner_text() == "2 of 3"

    await window.until("document.querySelector('.viewer-canvas img')?.naturalWidth === 64")
    assert await _scale(window) == 1
    await window.page.keyboard.press("+")
    assert await _scale(window) == pytest.approx(1.5)
    box = await window.at(".viewer-frame").bounding_box()
    assert box is not None
    await window.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    await window.page.mouse.wheel(0, -400)
    assert await _scale(window) == pytest.approx(1.5 * 2.718, rel=0.01)
    await window.page.keyboard.press("0")
    assert await _scale(window) == 1

    await viewer.get_by_role("button", name="Compare with the input").click()
    await window.until("document.querySelector('.viewer-input')?.naturalWidth === 64")
    await window.page.keyboard.press("End")
    clip = "getComputedStyle(document.querySelector('.viewer-input')).clipPath"
    assert await window.page.evaluate(clip) == "inset(0px 0% 0px 0px)"
    await viewer.get_by_role("button", name="Parameters").click()
    assert "mine.png" in await window.at(".viewer-parameters").inner_text()

    await viewer.get_by_role("button", name="Previous", exact=True).click()
    assert await window.at(".viewer-caption").inner_text() == "a red barn"
    # The demo was given no picture.
    assert await viewer.get_by_role("button", name="Compare with the input").count() == 0
    async with window.page.expect_download() as coming:
        await viewer.get_by_role("button", name="Download").click()
    job = await second.evaluate("tile => tile.closest('li').dataset.job")
    assert (await coming.value).suggested_filename == f"demo-a-red-barn-{job[:8]}.png"

    await window.page.keyboard.press("Escape")
    await viewer.wait_for(state="hidden")
    assert await second.evaluate("tile => tile === document.activeElement")
    assert await second.get_attribute("aria-pressed") == "true"


async def test_a_tile_below_the_window_brings_into_view_what_it_shows(
    visit: Visit, client: str
) -> None:
    window = await visit(client, viewport={"width": 390, "height": 700})
    tile = await window.run(**LONG)
    await tile.scroll_into_view_if_needed()
    await window.page.evaluate("scrollTo(0, document.body.scrollHeight)")
    await tile.click()
    await window.until(
        "document.querySelector('#job-detail').getBoundingClientRect().top < innerHeight / 2"
    )
    await window.press("Cancel")
    await window.ended(tile, "cancelled")


async def test_jobs_are_found_marked_kept_deleted_and_cancelled_together(
    visit: Visit, client: str
) -> None:
    window = await visit(client)
    barn = await window.run(prompt="a red barn", **SMALL)
    boat = await window.run(prompt="a small boat", **SMALL)
    for tile in (barn, boat):
        await window.ended(tile)
    await window.page.goto(f"{window.address}#plain")
    plain = await window.run()
    await window.ended(plain)
    tiles = window.at("#tiles li:not([hidden])")

    search = window.page.get_by_label("Search the gallery")
    await search.fill("barn RED")
    assert await tiles.count() == 1
    await search.fill("nothing of the kind")
    await window.at("#gallery-nothing").get_by_role("button", name="Show all").click()
    assert await tiles.count() == 3
    await window.page.get_by_label("Filter by workflow").select_option("plain")
    assert await tiles.count() == 1
    await window.page.get_by_label("Filter by workflow").select_option("")

    # Marks outlast a reload; what the bridge keeps says until when.
    await barn.click()
    viewer = window.at("dialog.viewer")
    await viewer.get_by_role("button", name="Favourite").click()
    await viewer.get_by_role("button", name="Keep", exact=True).click()
    kept = viewer.get_by_role("button", name="Kept", exact=True)
    await kept.wait_for()
    assert "until" in (await kept.get_attribute("title") or "")
    await window.page.keyboard.press("Escape")
    await window.page.reload()
    await window.at(".badges .icon").first.wait_for()
    show = window.page.get_by_label("Filter by kind")
    for kind in ("favourites", "kept"):
        await show.select_option(kind)
        assert await tiles.count() == 1
        assert await barn.is_visible()
    await show.select_option("all")

    # Deleted here is deleted at the bridge; first it is asked.
    await boat.focus()
    await window.page.keyboard.press("Delete")
    await window.at("dialog.ask").get_by_role("button", name="Cancel").click()
    assert await tiles.count() == 3
    await window.page.keyboard.press("Delete")
    await window.at("dialog.ask").get_by_role("button", name="Delete").click()
    await window.until("document.querySelectorAll('#tiles li').length === 2")

    await window.page.goto(f"{window.address}#demo")
    for _ in range(3):
        await window.run(**LONG)
    await window.press("Cancel all (3)")
    await window.at("dialog.ask").get_by_role("button", name="Cancel all (3)").click()
    await window.until("document.querySelectorAll('[data-state=cancelled]').length >= 3")
    await window.press("Remove failed (3)")
    await window.at("dialog.ask").get_by_role("button", name="Remove").click()
    await window.until("document.querySelectorAll('#tiles li').length === 2")
    await window.page.reload()
    await window.until("document.querySelectorAll('#tiles li').length === 2")


async def test_a_kept_job_is_shown_though_its_result_is_not_listed_any_more(
    visit: Visit, client: str
) -> None:
    window = await visit(client)
    tile = await window.run(prompt="kept for long", **SMALL)
    await window.ended(tile)
    await window.press("Keep")
    await window.page.get_by_role("button", name="Kept", exact=True).wait_for()
    # As a bridge that has forgotten the result answers a list.
    await window.page.route("**/v/*/client.js", _without_results)
    await window.page.reload()
    await window.at('.tile[data-state="succeeded"]').wait_for()
    assert await window.at("#job-detail .caption").inner_text() == "kept for long"
    await window.until("document.querySelector('#job-detail .frame img')?.naturalWidth === 256")


async def _without_results(route: Route) -> None:
    answer = await route.fetch()
    source = await answer.text()
    changed = source.replace("yield view;", "yield { ...view, result: undefined };")
    assert changed != source
    changed = changed.replace("this.job(view.job_id)._view(view);", "")
    await route.fulfill(response=answer, body=changed)
