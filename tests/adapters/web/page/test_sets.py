"""Sets on the page: made from the form, shown with their axes, listed again after a reload."""

from __future__ import annotations

import asyncio
import io
from typing import Any
from zipfile import ZipFile

import pytest

from tests.adapters.web.page.conftest import LONG, SMALL, Stack, Visit, opened
from tests.support.browser import JOB_MS, Window

pytestmark = [pytest.mark.comfyui, pytest.mark.slow, pytest.mark.asyncio(loop_scope="package")]

INTEGER = {"x-kind": "integer", "minimum": 1, "maximum": 100}
# An input, what is entered for it, and the labels of its values, or the text that refuses it.
AXES: list[tuple[dict[str, Any], Any, Any]] = [
    (INTEGER, "10, 20 30", ["10", "20", "30"]),
    (INTEGER, "10..30 step 10", ["10", "20", "30"]),
    (INTEGER, "3..1", ["3", "2", "1"]),
    (INTEGER, "1..500 step 100", "problem.between"),
    (INTEGER, "1..3 step -1", "axis.problem.range"),
    (INTEGER, "0.5", "problem.whole"),
    (INTEGER, "", "axis.problem.empty"),
    (INTEGER, "many", "axis.problem.numbers"),
    ({"x-kind": "float"}, ".1..0.3:.1", ["0.1", "0.2", "0.3"]),
    ({"x-kind": "seed"}, "2", ["seed 1", "seed 2"]),
    ({"x-kind": "seed"}, "0", "axis.problem.seeds"),
    ({"x-kind": "text", "maxLength": 3}, "a\n\nb c\n", ["a", "b c"]),
    ({"x-kind": "text", "maxLength": 3}, "long", "problem.long"),
    ({"x-kind": "boolean"}, "", ["off", "on"]),
    ({"enum": ["oil", "ink"]}, ["ink"], ["ink"]),
    ({"enum": ["oil", "ink"]}, [], "axis.problem.empty"),
]


async def test_axes_are_read_counted_and_found_again_in_a_result(visit: Visit) -> None:
    window = await visit()
    await window.page.goto(window.address)
    told: dict[str, Any] = await window.page.evaluate(
        """async (given) => {
            const page = await import("/set_axes.js");
            const { TEXTS } = await import("/texts.js");
            const all = (spec) => Array.from({ length: page.count(spec) }, (_, at) => at);
            const read = given.map(([schema, entered]) => {
                const { spec, problem } = page.readAxis(schema, entered);
                if (spec) return all(spec).map((at) => page.labelAt(spec, at));
                const fits = (text) => problem.startsWith(text.split("{")[0]);
                const keys = Object.keys(TEXTS).filter((key) => key.includes("problem."));
                return keys.filter((key) => fits(TEXTS[key]));
            });
            const axes = [
                { name: "steps", spec: { from: 1, to: 2, step: 1 } },
                { name: "seed", spec: { seeds: 2 } },
            ];
            const jobs = [[1, 7], [1, 8], [2, 7], [2, 8]].map(([steps, seed]) =>
                ({ inputs: { steps, seed } }));
            const long = [{ name: "prompt", spec: ["x".repeat(3000)] }];
            return {
                read, jobs: page.product(axes),
                inputs: [0, 1, 2, 3].map((index) => page.inputsAt(axes, index)),
                found: page.axesOf(jobs), not: [page.axesOf(jobs.slice(1)), page.axesOf([])],
                notes: [page.noteOf(axes) === axes, page.noteOf(long) === undefined],
            };
        }""",
        [[schema, entered] for schema, entered, _ in AXES],
    )
    for (schema, entered, expected), read in zip(AXES, told["read"], strict=True):
        if isinstance(expected, str):
            assert expected in read, (schema, entered)
        else:
            assert read == expected, (schema, entered)
    assert told["jobs"] == 4
    assert told["inputs"] == [{"steps": 1}, {"steps": 1}, {"steps": 2}, {"steps": 2}]
    assert told["found"] == [{"name": "steps", "spec": [1, 2]}, {"name": "seed", "spec": [7, 8]}]
    assert told["not"] == [None, None]
    assert told["notes"] == [True, True]


async def test_a_preset_keeps_the_axes_too(visit: Visit, client: str) -> None:
    window = await visit(client)
    # What a page saved before there were sets: the values alone.
    await window.page.evaluate(
        """(client) => localStorage.setItem(`presets ${client} demo`,
            JSON.stringify({ older: { prompt: "a barn" } }))""",
        client,
    )
    await window.page.reload()
    await window.at("#set > summary").click()
    one, two = (window.page.get_by_label(label, exact=True) for label in ("Vary", "And vary"))
    await one.select_option("steps")
    await window.page.get_by_label("Values", exact=True).fill("1, 2")
    await two.select_option("seed")
    await window.page.get_by_label("Number of seeds").fill("3")
    await window.page.get_by_label("Contact sheet").check()
    await window.press("Save as preset")
    await window.page.get_by_role("textbox", name="Name of the preset").fill("grid")
    await window.page.keyboard.press("Enter")
    await window.press("Reset to defaults")
    assert await one.input_value() == ""
    await window.page.reload()
    chosen = window.page.get_by_label("Preset", exact=True)
    await chosen.select_option("grid")
    assert [await one.input_value(), await two.input_value()] == ["steps", "seed"]
    assert await window.page.get_by_label("Values", exact=True).input_value() == "1, 2"
    assert await window.page.get_by_label("Contact sheet").is_checked()
    assert await window.at("#run").inner_text() == "Run 6 jobs"
    await chosen.select_option("older")
    assert await window.field("prompt").input_value() == "a barn"
    assert [await one.input_value(), await two.input_value()] == ["", ""]
    assert not await window.page.get_by_label("Contact sheet").is_checked()


async def _labels(window: Window) -> tuple[list[str], list[str]]:
    """The labels of a table's columns and rows."""
    columns = await window.at(".set thead tr:last-child th:not(.set-axis)").all_inner_texts()
    rows = await window.at(".set tbody th").all_inner_texts()
    return columns, rows


async def _tab_to(window: Window, selector: str) -> None:
    for _ in range(40):
        if await window.at(f"{selector}:focus").count():
            return
        await window.page.keyboard.press("Tab")
    raise AssertionError(f"Tab does not get to {selector}")


async def test_by_keyboard_alone_a_grid_is_made_looked_at_and_deleted(
    visit: Visit, client: str
) -> None:
    window = await visit(client)
    keys = window.page.keyboard
    for name, value in SMALL.items():
        await window.field(name).fill(str(value))

    await _tab_to(window, "#set summary")
    await keys.press("Enter")
    # Letters choose in a list; the values follow it.
    await _tab_to(window, ".axis:nth-child(1) select")
    await keys.type("Steps")
    await keys.press("Tab")
    await keys.type("2..6 step 2")
    await _tab_to(window, ".axis:nth-child(2) select")
    await keys.type("Seed")
    await keys.press("Tab")
    await keys.type("2")
    await window.page.get_by_role("button", name="Run 6 jobs").wait_for()
    await keys.press("Enter")

    table = window.at(".set table")
    await table.wait_for()
    assert await _labels(window) == (["seed 1", "seed 2"], ["2", "4", "6"])
    heads = await window.at(".set .set-axis").all_inner_texts()
    assert heads == ["Seed", "Steps"]
    assert await window.at(".set h3").inner_text() == "Demo: Steps \u00d7 Seed"
    await window.at('.set[data-state="succeeded"]').wait_for(timeout=90_000)
    assert await window.at(".set .words").first.inner_text() == "6 of 6 done"
    assert await window.at('.set td [data-state="succeeded"]').count() == 6
    # The seeds that were drawn are known now, and each row has the same.
    columns, rows = await _labels(window)
    assert all(each.isdigit() for each in columns)
    assert rows == ["2", "4", "6"]

    await _tab_to(window, ".set td .tile")
    await keys.press("ArrowRight")
    await keys.press("ArrowRight")
    await keys.press("Enter")
    await window.at("dialog.viewer").wait_for()
    assert await window.at(".viewer-place").inner_text() == "3 of 6"
    parameters = await window.at("dialog.viewer .viewer-parameters").text_content()
    assert "Steps4" in (parameters or "")
    await keys.press("Escape")

    await window.page.reload()
    await window.at('.set[data-state="succeeded"] table').wait_for()
    assert await _labels(window) == (columns, rows)
    await window.at(".set tbody tr").last.scroll_into_view_if_needed()  # those in sight are loaded
    await window.until("document.querySelectorAll('.set td img:not([hidden])').length === 6")
    await _tab_to(window, ".set-head .button:not([hidden])")
    await keys.press("Enter")
    await window.at("dialog.ask").wait_for()
    await keys.press("Enter")
    await window.until("document.querySelectorAll('#tiles li').length === 0")
    await window.page.reload()
    await window.at("#workspace").wait_for()
    await window.until("document.querySelector('#gallery-empty').checkVisibility()")


async def test_a_repeat_is_one_set_that_is_paused_resumed_and_cancelled(
    visit: Visit, client: str
) -> None:
    window = await visit(client)
    for name, value in LONG.items():
        await window.field(name).fill(str(value))
    await window.page.get_by_label("Number of jobs").select_option("8")
    await window.press("Run")
    await window.at('.set[data-state="running"]').wait_for()
    assert await window.at(".set-list > li").count() == 8
    await window.at('.set .tile[data-state="running"]').first.wait_for()
    await window.press("Pause")
    await window.at('.set[data-state="paused"]').wait_for()
    assert "paused" in await window.at(".set .words").first.inner_text()
    # A set that runs is listed again too.
    await window.page.reload()
    await window.at('.set[data-state="paused"]').wait_for()
    await window.press("Resume")
    await window.at('.set[data-state="running"]').wait_for()
    await window.at(".set-head").get_by_role("button", name="Cancel set").click()
    await window.at("dialog.ask").get_by_role("button", name="Cancel set").click()
    await window.at('.set[data-state="cancelled"]').wait_for()
    ended = ".set .tile:is([data-state=cancelled], [data-state=succeeded])"
    await window.until(f"document.querySelectorAll('{ended}').length === 8")
    assert await window.at(".set .tile[data-state=cancelled]").count() >= 1
    assert "cancelled" in await window.at(".set .words").first.inner_text()


async def test_what_is_wrong_with_an_axis_is_shown_at_it_and_nothing_is_sent(
    visit: Visit, client: str
) -> None:
    window = await visit(client)
    await window.at("#set summary").click()
    first, second = window.at(".axis").nth(0), window.at(".axis").nth(1)
    await first.locator("select").select_option("steps")
    await second.locator("select").select_option("steps")
    await first.locator("input").fill("1..500")
    await window.press("Run")
    problem = first.locator(".problem")
    await problem.wait_for()
    assert await problem.inner_text() == "Enter a number from 1 to 100."
    await first.locator("input").fill("1..100")
    assert await problem.is_hidden()
    await second.locator("input").fill("1..99")
    await window.press("Run 9900 jobs")
    await second.locator(".problem", has_text="Choose another input").wait_for()
    await second.locator("select").select_option("width")
    await second.locator("input").fill("64..2048 step 8")
    await window.press("Run 24900 jobs")
    await second.locator(".problem", has_text="a set has at most 5000").wait_for()
    assert await window.at("#tiles li").count() == 0


async def test_what_the_bridge_refuses_is_shown_at_the_axis_that_it_names(
    visit: Visit, client: str
) -> None:
    window = await visit(client)
    told = await window.page.evaluate(
        """async () => {
            const { SetForm } = await import("/set_form.js");
            const form = new SetForm({ choices: () => [], limit: () => 9, changed: () => {} });
            form.draw({ inputs: { properties: { steps: { "x-kind": "integer" } } } });
            const select = document.querySelector(".axis select");
            select.value = "steps";
            select.dispatchEvent(new Event("input", { bubbles: true }));
            const refused = (field) => form.refuse({ message: "no", details: { field } });
            const isTaken = [refused("grid.other"), refused("grid.steps")];
            return [...isTaken, document.querySelector(".axis .problem").textContent];
        }"""
    )
    assert told == [False, True, "no"]


async def test_what_a_set_collects_is_downloaded(visit: Visit, client: str) -> None:
    window = await visit(client)
    for name, value in SMALL.items():
        await window.field(name).fill(str(value))
    await window.at("#set summary").click()
    await window.page.get_by_label("Contact sheet").check()
    await window.page.get_by_label("Zip file").check()
    await window.page.get_by_label("Number of jobs").select_option("2")
    await window.press("Run")
    await window.at('.set[data-state="succeeded"]').wait_for(timeout=JOB_MS)
    found = []
    for name in ("Contact sheet", "Zip file"):
        async with window.page.expect_download() as coming:
            await window.press(name)
        found.append(await asyncio.to_thread((await (await coming.value).path()).read_bytes))
    assert opened(found[0]).width >= 256
    with ZipFile(io.BytesIO(found[1])) as archive:
        assert len(archive.namelist()) == 2


async def test_sets_of_other_programs_are_shown_as_they_are_made(
    stack: Stack, visit: Visit, client: str
) -> None:
    window = await visit(client)
    await window.page.evaluate(
        """async ([key, inputs]) => {
            const { Client } = await import("/client.js");
            const bridge = new Client({ key });
            await bridge.connect();
            const each = ["a red barn", "a boat"].map((prompt) => ({ prompt }));
            const set = await bridge.submitSet("demo", inputs, { each });
            await set.ended;
            bridge.close();
        }""",
        [stack.key(client), SMALL],
    )
    await window.at('.set[data-state="succeeded"]').wait_for()
    assert await window.at(".set .tile[data-state=succeeded]").count() == 2
    # A search leaves only what fits; a set without any is not shown.
    search = window.page.get_by_label("Search the gallery")
    await search.fill("barn")
    assert await window.at(".set [data-job]:not([hidden])").count() == 1
    await search.fill("nothing of the kind")
    assert await window.at(".set").is_hidden()
