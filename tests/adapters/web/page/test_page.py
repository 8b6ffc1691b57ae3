"""The page in a real Chromium, on the real stack: from the login to jobs that outlast all."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shlex
import signal
import sys
from pathlib import Path

import pytest

from bridge.mosquitto import find_program
from tests.adapters.web.page.conftest import (
    LONG,
    SMALL,
    Stack,
    Visit,
    choose,
    download,
    opened,
    paint,
    painted,
    picture,
)
from tests.support.bridge import ROOT
from tests.support.browser import JOB_MS, Window
from tests.support.tcpproxy import TcpProxy

pytestmark = [pytest.mark.comfyui, pytest.mark.slow, pytest.mark.asyncio(loop_scope="package")]


async def test_only_a_valid_key_opens_the_page(stack: Stack, visit: Visit, client: str) -> None:
    window = await visit()
    await window.page.goto(window.address)
    await window.page.get_by_label("Access key", exact=True).fill("c2m_00000000_wrong")
    await window.press("Log in")
    await window.at("#key-problem").wait_for()
    colours = "[...document.querySelectorAll('#key-problem, #key')].map((each) => "
    colours += "getComputedStyle(each)[each.id === 'key' ? 'borderColor' : 'color'])"
    (border, text) = await window.page.evaluate(colours)
    assert border == text == "rgb(176, 63, 51)"
    assert await window.at("#key").get_attribute("aria-invalid") == "true"
    assert await window.at("#workspace").is_hidden()

    await window.log_in(stack.key(client))
    assert await window.at("#client").text_content() == client
    await window.at("#status .good", text="Bridge online").wait_for()
    await window.at("#status .good", text="ComfyUI ready").wait_for()
    # Not asked again in this window; in another one it is.
    await window.page.reload()
    await window.at("#workspace").wait_for()
    other = await window.page.context.new_page()
    await other.goto(window.address)
    await other.locator("#login").wait_for()
    await other.close()

    await window.press("Log out")
    await window.at("#login").wait_for()


async def test_the_demo_runs_with_preview_progress_and_picture(visit: Visit, client: str) -> None:
    window = await visit(client)
    tile = await window.run(prompt="a lighthouse in a storm", width=384, height=256, steps=40)
    # Each is there for a moment only, in whatever order; what was seen once stays seen.
    await window.until(
        """(() => {
            const seen = (window.seen ??= {});
            const of = (name) => document.querySelector(`#job-detail ${name}`);
            seen.bar ||= of(".bar")?.ariaValueNow > 0;
            seen.picture ||= of(".working img")?.naturalWidth > 0;
            seen.step ||= of(".words")?.innerText.includes("Step");
            return seen.bar && seen.picture && seen.step;
        })()"""
    )
    await window.ended(tile)
    shown = window.at("#job-detail .frame img")
    await window.until("document.querySelector('#job-detail .frame img').naturalWidth === 384")
    assert await shown.get_attribute("alt") == "a lighthouse in a storm"
    assert opened(await download(window)).size == (384, 256)
    assert "384 \u00d7 256" in await window.at("#job-detail .facts").inner_text()


async def test_a_picture_and_a_painted_mask_go_in(visit: Visit, client: str) -> None:
    window = await visit(client, "masked")
    mine = picture()
    await choose(window, "picture", mine)
    await window.press("Paint it")
    await paint(window)
    await window.ended(await window.run())
    assert opened(await download(window)).convert("RGB").tobytes() == opened(mine).tobytes()
    await window.press("Next output")
    mask = opened(await download(window)).convert("L")
    assert mask.size == (96, 64)
    assert (mask.getpixel((48, 32)), mask.getpixel((48, 4)), mask.getpixel((4, 32))) == (255, 0, 0)


async def test_a_single_touch_of_the_brush_paints_a_dot(visit: Visit, client: str) -> None:
    window = await visit(client, "masked", has_touch=True)
    await choose(window, "picture", picture())
    await window.press("Paint it")
    canvas = window.at("canvas.strokes")
    await window.at("canvas.strokes:focus").wait_for()
    # Of the 96 x 64 pixels, the brush being 8 wide: the middle, and away from it.
    assert await painted(window, (48, 32), (20, 20), (80, 50)) == [False, False, False]
    await window.page.keyboard.press("Space")
    assert await painted(window, (48, 32), (20, 20), (80, 50)) == [True, False, False]
    box = await canvas.bounding_box()
    assert box is not None
    scale = box["width"] / 96
    await window.page.mouse.click(box["x"] + 20 * scale, box["y"] + 20 * scale)
    assert await painted(window, (48, 32), (20, 20), (80, 50)) == [True, True, False]
    await window.page.touchscreen.tap(box["x"] + 80 * scale, box["y"] + 50 * scale)
    assert await painted(window, (48, 32), (20, 20), (80, 50)) == [True, True, True]
    # As wide as the brush, and no wider; an eraser's dot takes away as much.
    assert await painted(window, (51, 32), (53, 32)) == [True, False]
    await window.page.get_by_label("Erase").check()
    await window.page.mouse.click(box["x"] + 20 * scale, box["y"] + 20 * scale)
    assert await painted(window, (20, 20), (80, 50)) == [False, True]
    await window.page.get_by_label("Erase").uncheck()
    # What was painted with the arrow keys is undone as any other stroke.
    await canvas.focus()
    await window.page.keyboard.press("Shift+ArrowRight")
    assert await painted(window, (20, 20), (24, 20), (80, 50)) == [True, True, True]
    await window.page.keyboard.press("Control+z")
    assert await painted(window, (20, 20), (24, 20), (80, 50)) == [False, False, True]
    await window.press("Cancel")


async def test_without_a_masks_input_the_picture_keeps_its_colours_below_the_mask(
    visit: Visit, client: str
) -> None:
    window = await visit(client, "holed")
    mine = picture()
    await choose(window, "picture", mine)
    await window.press("Paint a mask")
    await window.at("canvas.strokes:focus").wait_for()
    for key in ("Space", "ArrowRight", "Space"):  # by keyboard
        await window.page.keyboard.press(key)
    await window.press("Use this mask")
    await window.ended(await window.run())
    assert opened(await download(window)).convert("RGB").tobytes() == opened(mine).tobytes()
    await window.press("Next output")
    mask = opened(await download(window)).convert("L")
    assert (mask.getpixel((48, 32)), mask.getpixel((48, 4))) == (255, 0)


async def test_a_picture_is_pasted_and_an_output_is_used_as_input(
    visit: Visit, client: str
) -> None:
    window = await visit(client, "holed")
    mine = picture((40, 30))
    await window.page.evaluate(
        """bytes => {
            const data = new DataTransfer();
            data.items.add(new File([new Uint8Array(bytes)], "", { type: "image/png" }));
            document.dispatchEvent(new ClipboardEvent("paste", { clipboardData: data }));
        }""",
        list(mine),
    )
    await window.at('[data-input="picture"] .shown img').wait_for()
    await window.ended(await window.run())
    await window.press("Use as input")
    sent = await _code_sample(window)
    assert '"job":' in sent
    second = await window.run()
    await window.ended(second)
    assert opened(await download(window)).convert("RGB").tobytes() == opened(mine).tobytes()


async def test_a_wrong_value_is_marked_at_its_field(visit: Visit, client: str) -> None:
    window = await visit(client)
    await window.field("width").fill("5000")
    await window.page.keyboard.press("Control+Enter")
    problem = window.at('[data-input="width"] .problem')
    await problem.wait_for()
    assert "2048" in await problem.inner_text()
    assert await window.field("width").get_attribute("aria-invalid") == "true"
    assert await window.at('[data-input="width"] :focus').count() == 1
    assert await window.at(".refused").count() == 1
    assert await window.at("#tiles li").count() == 0
    await window.field("width").fill("256")
    await problem.wait_for(state="hidden")


async def test_every_kind_of_field_gives_what_is_set(visit: Visit, client: str) -> None:
    window = await visit(client, "kinds")
    await window.at('[data-input="tiling"]').get_by_role("switch").check()
    await window.at('[data-input="style"]').get_by_text("ink").click()
    await window.field("paper").select_option("p57")
    await window.at('[data-input="weight"]').get_by_role("slider").fill("0.8")
    assert await window.field("weight").input_value() == "0.8"
    await window.at('[data-input="seed"] input').fill(str(2**64 - 1))
    await window.ended(await window.run(words="two\nlines"))
    details = await window.at(".details dl").evaluate(
        "list => Object.fromEntries([...list.querySelectorAll('dt')].map("
        "(term) => [term.textContent, term.nextElementSibling.textContent]))"
    )
    told = {
        "Words": "two\nlines",
        "Tiling": "true",
        "Style": "ink",
        "Paper": "p57",
        "Weight": "0.8",
        "Seed": str(2**64 - 1),
    }
    assert details.items() >= told.items()

    await window.page.goto(f"{window.address}#plain")
    await window.at("#more summary").click()
    await window.page.get_by_label("Find a setting").fill("color")
    await window.field("1.color").fill("65280")
    await window.ended(await window.run())
    assert opened(await download(window)).convert("RGB").getpixel((0, 0)) == (0, 255, 0)


async def test_a_missing_picture_is_shown_at_its_field(visit: Visit, client: str) -> None:
    window = await visit(client, "masked")
    await window.page.keyboard.press("Control+Enter")
    await window.at('[data-input="picture"] .problem').wait_for()
    # Both at once, and nothing was sent.
    await window.at('[data-input="mask"] .problem', text="Required").wait_for()
    assert await window.at("#form-problem").inner_text() == "2 fields need a change."
    assert await window.at("#tiles li").count() == 0
    # No picture at all, by its bytes.
    await choose(window, "picture", b"this is no picture")
    why = window.at('[data-input="picture"] .problem', text="mine.png is not a picture")
    await why.wait_for()
    await window.press("Paint it")
    await window.at('[data-input="mask"] .problem', text="Choose the picture first").wait_for()
    # A picture by its first bytes, and nothing of the kind after them.
    await choose(window, "picture", b"BM, and this is no bitmap")
    await why.wait_for(state="hidden")
    await window.press("Paint it")
    await window.at('[data-input="mask"] .problem', text="cannot show this picture").wait_for()
    await choose(window, "mask", picture())
    await window.page.keyboard.press("Control+Enter")
    await window.at('[data-input="picture"] .problem').wait_for()


async def test_several_jobs_run_at_once_and_can_be_cancelled(visit: Visit, client: str) -> None:
    window = await visit(client)
    running = await window.run(**LONG)
    await window.until("document.querySelector('#job-detail .bar')?.ariaValueNow > 0")
    waiting = [await window.run(**LONG) for _ in range(2)]
    await window.until("document.querySelectorAll('.tile[data-state=queued]').length === 2")
    assert await window.at(".tile", text="next in line").count() >= 1
    for tile in (*waiting, running):
        await tile.click()
        await window.press("Cancel")
        await window.ended(tile, "cancelled")


async def test_a_reload_during_a_job_loses_nothing(visit: Visit, client: str) -> None:
    window = await visit(client)
    tile = await window.run(prompt="misty mountains", width=384, height=384, steps=40)
    await window.until("document.querySelector('#job-detail .bar')?.ariaValueNow > 0")
    await window.page.reload()
    await window.at("#job-detail .working").wait_for()
    assert await window.field("prompt").input_value() == "misty mountains"
    await window.until("document.querySelector('#job-detail .bar')?.ariaValueNow > 0")
    await window.ended(tile)
    # And tomorrow: all of it comes from the bridge, the picture by a signed link.
    await window.page.reload()
    await window.until("document.querySelector('#job-detail .frame img')?.naturalWidth === 384")
    await tile.scroll_into_view_if_needed()  # pictures of long ago are loaded in sight
    await window.until("document.querySelector('.tile img').naturalWidth > 0")
    assert await window.at("#tiles li").count() == 1


async def test_a_job_can_be_run_again_with_changes(visit: Visit, client: str) -> None:
    window = await visit(client)
    await window.ended(await window.run(prompt="a red barn", **SMALL))
    first = await download(window)
    await window.field("prompt").fill("something else")
    await window.press("Run again with changes")
    assert await window.field("prompt").input_value() == "a red barn"
    seed = window.at('[data-input="seed"] input')
    assert (await seed.input_value()).isdigit()
    second = await window.run()
    await window.ended(second)
    assert await download(window) == first
    await window.press("A new seed for each job")
    assert await seed.input_value() == ""
    await window.press("Draw a seed and keep it")
    third = await window.run()
    await window.ended(third)
    assert await download(window) != first


async def test_two_browsers_do_not_see_each_others_jobs(visit: Visit, client: str) -> None:
    mine = await visit(client)
    same = await visit(client)
    other = await visit(f"{client}x")
    job = await (await mine.run(**SMALL)).evaluate("tile => tile.closest('li').dataset.job")
    # Another window of the same client sees it, without having asked for it.
    await same.at(f'[data-job="{job}"] [data-state="succeeded"]').wait_for()
    await other.ended(await other.run(**SMALL))
    assert await other.at("#tiles li").count() == 1
    assert await mine.at("#tiles li").count() == 1
    refused = await other.page.evaluate(
        """async ([key, job]) => {
            const { Client } = await import("/client.js");
            const client = new Client({ key });
            await client.connect();
            const codes = [];
            for (const asked of [client.status(job), client.fetch(job), client.cancel(job)]) {
                await asked.catch((error) => codes.push(error.code));
            }
            client.close();
            return codes;
        }""",
        [await other.page.evaluate("sessionStorage.getItem('comfy2mqtt key')"), job],
    )
    assert refused == ["unknown_job"] * 3


async def _code_sample(window: Window, name: str = "mosquitto_pub") -> str:
    """The form's request as another program makes it."""
    if not await window.at("#code-samples").evaluate("element => element.open"):
        await window.at("#code-samples summary").click()
    await window.page.get_by_role("tab", name=name).click()
    return await window.at("#sample pre").inner_text()


async def test_the_code_samples_make_the_same_request(
    stack: Stack, visit: Visit, client: str
) -> None:
    window = await visit(client)
    for name, value in {"prompt": 'it\'s a "barn"', **SMALL}.items():
        await window.field(name).fill(str(value))
    words = shlex.split((await _code_sample(window)).replace("\\\n", " "))
    port = str(stack.broker.port)
    assert words[:5] == ["mosquitto_pub", "-h", "127.0.0.1", "-p", port]
    publish = await asyncio.create_subprocess_exec(await find_program("mosquitto_pub"), *words[1:])
    assert await publish.wait() == 0
    await window.at('.tile[data-state="succeeded"]').wait_for()
    assert await window.at("#job-detail .caption").inner_text() == 'it\'s a "barn"'

    script = await _code_sample(window, "Python")
    flow = json.loads(await _code_sample(window, "Node-RED"))
    folder = stack.bridge.folder / client
    folder.mkdir()
    run = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", script), cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert await run.wait() == 0
    (made,) = folder.iterdir()
    assert opened(made.read_bytes()).size == (256, 256)
    (broker,) = (node for node in flow if node["type"] == "mqtt-broker")
    assert (broker["broker"], broker["port"]) == ("127.0.0.1", port)
    (press,) = (node for node in flow if node["type"] == "inject")
    assert json.loads(press["payload"]) == {"prompt": 'it\'s a "barn"', **SMALL}
    (out,) = (node for node in flow if node["type"] == "mqtt out")
    assert out["topic"] == f"comfy2mqtt/client/{client}/request/run/demo"


async def test_the_code_samples_of_a_grid_make_the_same_set(
    stack: Stack, visit: Visit, client: str
) -> None:
    window = await visit(client)
    for name, value in {"prompt": "a fox", **SMALL}.items():
        await window.field(name).fill(str(value))
    await window.at("#set summary").click()
    axis = window.at(".axis").first
    await axis.locator("select").select_option("steps")
    await axis.locator("input").fill("2, 4")
    await window.page.get_by_label("contact sheet").check()
    inputs = {"prompt": "a fox", **{name: SMALL[name] for name in SMALL if name != "steps"}}
    submit = {"workflow": "demo", "inputs": inputs, "grid": {"steps": [2, 4]}, "collect": ["sheet"]}

    words = shlex.split((await _code_sample(window)).replace("\\\n", " "))
    assert json.loads(words[-1]) == submit
    publish = await asyncio.create_subprocess_exec(await find_program("mosquitto_pub"), *words[1:])
    assert await publish.wait() == 0
    await window.at('.set[data-state="succeeded"]').wait_for(timeout=JOB_MS)

    folder = stack.bridge.folder / client
    folder.mkdir()
    script = await _code_sample(window, "Python")
    run = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", script), cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert await run.wait() == 0
    assert len(list(folder.iterdir())) == 3  # two pictures, and the sheet

    flow = json.loads(await _code_sample(window, "Node-RED"))
    (press,) = (node for node in flow if node["type"] == "inject")
    (out,) = (node for node in flow if node["type"] == "mqtt out")
    assert json.loads(press["payload"]) == submit
    assert out["topic"] == f"comfy2mqtt/client/{client}/request/submit"
    assert '{"grid":{"steps":[2,4]},"collect":["sheet"]}' in await _code_sample(
        window, "JavaScript"
    )


async def test_a_lost_connection_is_made_again_and_the_job_goes_on(
    stack: Stack, visit: Visit, client: str
) -> None:
    async with TcpProxy(stack.address) as proxy:
        window = await visit(client, address=f"{proxy.url}/")
        tile = await window.run(width=384, height=384, steps=40)
        await window.until("document.querySelector('#job-detail .bar')?.ariaValueNow > 0")
        proxy.cut()
        await window.at("#banner", text="Connection lost").wait_for()
        await window.at("#status .unknown").first.wait_for()
        await window.ended(tile)
        await window.until("document.querySelector('#job-detail .frame img')?.naturalWidth === 384")
        await window.at("#banner").wait_for(state="hidden")
        # What the browser itself says of a cut connection.
        window.complaints = [each for each in window.complaints if "WebSocket" not in each]


async def test_the_page_shows_the_truth_when_the_broker_and_comfyui_die_and_come_back(
    stack: Stack, visit: Visit, client: str
) -> None:
    window = await visit(client)
    await stack.broker.kill()
    await window.at("#banner", text="broker").wait_for()
    assert await window.at("#status .good").count() == 0
    sent = await window.run(**SMALL)
    assert await sent.get_attribute("data-state") == "sending"
    await stack.broker.start()
    await window.ended(sent)
    await window.at("#banner").wait_for(state="hidden")

    killed = await window.run(width=384, height=384, steps=30)
    await window.until("document.querySelector('#job-detail .bar')?.ariaValueNow > 0")
    os.kill(_comfyui(stack.bridge.pid), signal.SIGKILL)
    await window.at("#banner", text="ComfyUI").wait_for()
    assert await window.at("#status .good").count() == 1  # the bridge is there
    waiting = await window.run(**SMALL)
    await window.ended(killed)
    await window.ended(waiting)
    await window.at("#banner").wait_for(state="hidden")


def _comfyui(bridge: int) -> int:
    """The process of the ComfyUI that a bridge runs."""
    (found,) = (pid for pid in _children(bridge) if _is_comfyui(pid))
    return found


def _children(pid: int) -> list[int]:
    """Every descendant of a process."""
    found = [
        int(child)
        for task in Path(f"/proc/{pid}/task").iterdir()
        for child in (task / "children").read_text().split()
    ]
    return found + [each for child in found for each in _children(child)]


def _is_comfyui(pid: int) -> bool:
    words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return len(words) > 1 and words[1].endswith(b"main.py")


async def test_it_fits_a_phone_and_works_by_keyboard(visit: Visit, client: str) -> None:
    window = await visit(client, viewport={"width": 360, "height": 740}, has_touch=True)
    page = window.page
    wide = "document.documentElement.scrollWidth > innerWidth"
    assert not await page.evaluate(wide)
    await window.field("prompt").focus()
    await page.keyboard.press("Control+A")
    await page.keyboard.type("by keyboard alone")
    for name, value in SMALL.items():
        while not await window.at(f'[data-input="{name}"] input[type=number]:focus').count():
            await page.keyboard.press("Tab")
        await page.keyboard.type(str(value))
    await page.keyboard.press("Enter")
    tile = window.at(".tile")
    await tile.wait_for()
    await window.ended(tile)
    assert not await page.evaluate(wide)
    unnamed = await page.evaluate(
        """[...document.querySelectorAll("button, input, select, textarea")].filter(
            (each) => !each.labels?.length && !each.textContent.trim() &&
                !each.ariaLabel && !each.getAttribute("aria-labelledby") && !each.ariaHidden
        ).map((each) => each.outerHTML)"""
    )
    assert unnamed == []


async def test_the_client_module_is_enough_by_itself(
    stack: Stack, visit: Visit, client: str
) -> None:
    window = await visit()
    await window.page.goto(window.address)
    data = picture((700, 500))  # some parts
    told = await window.page.evaluate(
        """async ([key, bytes]) => {
            const { Client, sha256 } = await import("/client.js");
            const client = new Client({ key });
            const { client: name } = await client.connect();
            const blob = new Blob([Uint8Array.fromBase64(bytes)], { type: "image/png" });
            const job = await client.submit("holed", { picture: blob }, { meta: { mine: 1 } });
            const events = [];
            for await (const event of job) events.push(event.type);
            const [output] = await job.outputs();
            const fetched = await client.fetch(job.id, 0);
            const both = await Promise.all([output.blob.arrayBuffer(), fetched.arrayBuffer()]);
            const listed = [];
            for await (const view of client.history()) listed.push([view.job_id, view.meta]);
            const wrong = await client.submit("demo", { width: 1 }).catch((error) => error);
            const own = both.map((each) => sha256(new Uint8Array(each)));
            client.close();
            return {
                name, events, own, sha256: output.info.sha256, job: job.id, listed,
                wrong: [wrong.code, wrong.details.input],
            };
        }""",
        [stack.key(client), base64.b64encode(data).decode()],
    )
    assert told["name"] == client
    assert told["events"][-1] == "result"
    assert told["own"] == [told["sha256"]] * 2
    assert told["listed"] == [[told["job"], {"mine": 1}]]
    assert told["wrong"] == ["invalid_input", "width"]


async def test_a_request_waits_for_the_bridge_over_a_reload(
    stack: Stack, visit: Visit, client: str
) -> None:
    window = await visit(client)
    await stack.bridge.kill()
    await window.at("#banner", text="offline").wait_for()
    await window.at("#status .bad", text="Bridge offline").wait_for()
    await window.at("#status .unknown", text="ComfyUI").wait_for()
    tile = await window.run(prompt="as soon as it is back", **SMALL)
    assert await tile.get_attribute("data-state") == "sending"
    await window.page.reload()
    await window.at('.tile[data-state="sending"]').wait_for()
    await stack.bridge.start(ready=False)
    # Taken before a ComfyUI is there; the key and the draft are all that is left to keep.
    await window.at('.tile:is([data-state="queued"], [data-state="waiting"])').wait_for()
    assert await window.at(".tile").count() == 1
    assert await window.page.evaluate("Object.keys(sessionStorage).length") == 2
    await window.press("Cancel")
    await window.ended(tile, "cancelled")
