from __future__ import annotations

import hashlib
import json
from io import BytesIO
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from tests.custom_nodes.comfyui import OUTPUT_EVENT
from tests.custom_nodes.graphs import image_graph, node, noise, output

if TYPE_CHECKING:
    from tests.custom_nodes.comfyui import ComfyUI, Output

pytestmark = pytest.mark.comfyui

FRAME = f"{OUTPUT_EVENT:x}"


def picture(made: Output) -> Image.Image:
    image = Image.open(BytesIO(made.data))
    image.load()
    return image


async def fetch(comfyui: ComfyUI, made: Output) -> tuple[int, str, bytes]:
    """Status, content type and body of an output's own route."""
    header = made.header
    url = f"/comfy2mqtt/outputs/{header['prompt_id']}/{header['node']}/{header['index']}"
    async with comfyui.http.get(url) as response:
        return response.status, response.content_type, await response.read()


async def test_the_frame_the_held_bytes_and_the_hash_are_one(comfyui: ComfyUI) -> None:
    run = await comfyui.run(image_graph(noise(seed=1)))
    (made,) = run.outputs
    assert hashlib.sha256(made.data).hexdigest() == made.header["sha256"]
    assert len(made.data) == made.header["size"]
    assert await fetch(comfyui, made) == (200, "image/png", made.data)


async def test_the_header_says_whose_and_what_it_is(comfyui: ComfyUI) -> None:
    run = await comfyui.run(image_graph(noise(seed=2, width=40, height=24), name="result"))
    (made,) = run.outputs
    assert made.header == {
        "prompt_id": run.prompt_id,
        "node": "2",
        "index": 0,
        "name": "result",
        "content_type": "image/png",
        "size": len(made.data),
        "sha256": made.header["sha256"],
        "width": 40,
        "height": 24,
    }
    assert await comfyui.held(run) == [made.header]
    assert run.ui("2") == {"comfy2mqtt": [made.header]}


async def test_history_lists_the_outputs(comfyui: ComfyUI) -> None:
    run = await comfyui.run(image_graph(noise(seed=3)))
    async with comfyui.http.get(f"/history/{run.prompt_id}") as response:
        history = (await response.json())[run.prompt_id]
    assert history["outputs"]["2"] == {"comfy2mqtt": [made.header for made in run.outputs]}


async def test_the_bytes_come_before_the_nodes_own_event(comfyui: ComfyUI) -> None:
    run = await comfyui.run(image_graph(noise(seed=4)))
    assert run.order.index(FRAME) < run.order.index("executed")
    assert run.order.index("executed") < run.order.index("execution_success")


@pytest.mark.parametrize(
    "source",
    [
        noise(seed=5, kind="out_of_range"),
        # Written in strips; of noise it would be above the budget.
        noise(kind="black", width=1024, height=1024),
    ],
)
async def test_the_pixels_are_those_that_save_image_writes(
    comfyui: ComfyUI, source: dict[str, object]
) -> None:
    graph = image_graph(source)
    graph["3"] = node("SaveImage", images=["1", 0], filename_prefix="compare")
    run = await comfyui.run(graph)
    (saved,) = run.ui("3")["images"]
    async with comfyui.http.get("/view", params=saved) as response:
        theirs = Image.open(BytesIO(await response.read()))
    assert picture(run.outputs[0]).tobytes() == theirs.tobytes()


async def test_each_image_of_a_batch_is_an_output(comfyui: ComfyUI) -> None:
    run = await comfyui.run(image_graph(noise(seed=6, count=3)))
    assert [made.header["index"] for made in run.outputs] == [0, 1, 2]
    assert len({made.header["sha256"] for made in run.outputs}) == 3
    assert await comfyui.held(run) == [made.header for made in run.outputs]


async def test_a_list_of_batches_is_counted_through(comfyui: ComfyUI) -> None:
    graph = {
        "1": noise(seed=7, count=5),
        "2": node("RebatchImages", images=["1", 0], batch_size=2),
        "3": output("2"),
    }
    run = await comfyui.run(graph)
    assert [made.header["index"] for made in run.outputs] == [0, 1, 2, 3, 4]
    assert len({made.header["sha256"] for made in run.outputs}) == 5


async def test_several_output_nodes_each_send_their_own(comfyui: ComfyUI) -> None:
    graph = {
        "1": noise(seed=8),
        "first:1": output("1", name="first"),
        "2": output("1", name="second", format="JPEG"),
    }
    run = await comfyui.run(graph)
    named = {made.header["node"]: made for made in run.outputs}
    assert {key: made.header["name"] for key, made in named.items()} == {
        "first:1": "first",
        "2": "second",
    }
    assert await fetch(comfyui, named["first:1"]) == (200, "image/png", named["first:1"].data)


@pytest.mark.parametrize(
    ("wanted", "content_type", "found"),
    [
        ("PNG", "image/png", "PNG"),
        ("JPEG", "image/jpeg", "JPEG"),
        ("WebP", "image/webp", "WEBP"),
    ],
)
async def test_the_format_is_the_one_asked_for(
    comfyui: ComfyUI, wanted: str, content_type: str, found: str
) -> None:
    run = await comfyui.run(image_graph(noise(seed=9), format=wanted))
    (made,) = run.outputs
    assert made.header["content_type"] == content_type
    assert picture(made).format == found
    assert picture(made).size == (64, 64)


@pytest.mark.parametrize("wanted", ["JPEG", "WebP"])
async def test_less_quality_is_fewer_bytes(comfyui: ComfyUI, wanted: str) -> None:
    graph = {
        "1": noise(seed=10),
        "2": output("1", format=wanted, quality=10),
        "3": output("1", format=wanted, quality=95),
    }
    run = await comfyui.run(graph)
    size = {made.header["node"]: made.header["size"] for made in run.outputs}
    assert size["2"] < size["3"] / 2


@pytest.mark.parametrize(
    ("channels", "wanted", "mode"),
    [
        (1, "PNG", "L"),
        (4, "PNG", "RGBA"),
        (4, "WebP", "RGBA"),
        (1, "JPEG", "L"),
        (4, "JPEG", "RGB"),
    ],
)
async def test_grey_and_transparent_images_are_encoded(
    comfyui: ComfyUI, channels: int, wanted: str, mode: str
) -> None:
    run = await comfyui.run(image_graph(noise(seed=11, channels=channels), format=wanted))
    assert picture(run.outputs[0]).mode == mode


async def test_jpeg_shows_what_is_transparent_on_white(comfyui: ComfyUI) -> None:
    run = await comfyui.run(image_graph(noise(channels=4, kind="black"), format="JPEG"))
    assert picture(run.outputs[0]).getextrema() == ((255, 255),) * 3


async def test_a_cached_run_sends_its_output_all_the_same(comfyui: ComfyUI) -> None:
    graph = image_graph(noise(seed=12))
    first = await comfyui.run(graph)
    second = await comfyui.run(graph)
    (cached,) = second.of("execution_cached")
    assert cached["nodes"] == ["1"]
    assert [made.data for made in second.outputs] == [made.data for made in first.outputs]
    assert await comfyui.held(second) == [made.header for made in second.outputs]


@pytest.mark.parametrize(
    ("source", "wanted", "message"),
    [
        (noise(kind="nan"), "PNG", "not numbers (NaN)"),
        (noise(channels=2), "PNG", "2 channels are neither grey, RGB nor RGBA"),
        (noise(width=0), "PNG", "it is empty"),
        (noise(count=0), "PNG", "it is empty"),
        (noise(width=17_000, height=1, kind="black"), "WebP", "WebP of 17000 x 1 pixels"),
    ],
)
async def test_what_cannot_be_encoded_fails_the_job(
    comfyui: ComfyUI, source: dict[str, object], wanted: str, message: str
) -> None:
    run = await comfyui.run(image_graph(source, format=wanted))
    assert run.error["exception_type"].endswith(".ImageNotEncodable")
    assert message in run.error["exception_message"]
    assert run.error["node_id"] == "2"
    assert not run.outputs
    assert not run.succeeded


async def test_a_job_above_the_whole_budget_fails_and_keeps_what_it_sent(comfyui: ComfyUI) -> None:
    # Noise does not shrink: 300 px square are 270 kB each, of a budget of 400 kB.
    run = await comfyui.run(image_graph(noise(seed=13, width=300, height=300, count=2)))
    assert run.error["exception_type"].endswith(".OutputBudgetExceeded")
    assert [made.header["index"] for made in run.outputs] == [0]
    assert await comfyui.held(run) == [run.outputs[0].header]


async def test_without_a_client_nobody_is_sent_anything_and_all_is_held(comfyui: ComfyUI) -> None:
    body = {"prompt": image_graph(noise(seed=14))}
    async with comfyui.http.post("/prompt", json=body) as response:
        prompt_id = (await response.json())["prompt_id"]
    # Events without a client go nowhere; a job of our own behind it ends when it has ended.
    run = await comfyui.run(image_graph(noise(seed=15)))
    assert [made.header["prompt_id"] for made in run.outputs] == [run.prompt_id]
    async with comfyui.http.get(f"/comfy2mqtt/outputs/{prompt_id}") as response:
        assert [header["index"] for header in await response.json()] == [0]


async def test_another_client_does_not_see_the_bytes(comfyui: ComfyUI) -> None:
    async with type(comfyui)(comfyui.server) as other:
        await comfyui.run(image_graph(noise(seed=16)))
        run = await other.run(image_graph(noise(seed=17)))
        assert [made.header["prompt_id"] for made in run.outputs] == [run.prompt_id]


async def test_the_same_prompt_id_again_replaces_its_outputs(comfyui: ComfyUI) -> None:
    first = await comfyui.run(image_graph(noise(seed=18, count=2)))
    graph = image_graph(noise(seed=19))
    second = await comfyui.run(graph, prompt_id=first.prompt_id)
    assert second.prompt_id == first.prompt_id
    assert await comfyui.held(second) == [second.outputs[0].header]


async def test_the_graph_stays_out_of_the_picture(comfyui: ComfyUI) -> None:
    run = await comfyui.run(image_graph(noise(seed=20)), extra_data=workflow("secret"))
    assert picture(run.outputs[0]).info == {}


async def test_the_graph_is_embedded_where_that_is_asked_for(comfyui: ComfyUI) -> None:
    graph = image_graph(noise(seed=21), metadata=True)
    run = await comfyui.run(graph, extra_data=workflow("mine"))
    info = picture(run.outputs[0]).info
    assert json.loads(info["prompt"]) == graph
    assert json.loads(info["workflow"]) == {"title": "mine"}


async def test_metadata_that_the_format_cannot_hold_is_not_dropped(comfyui: ComfyUI) -> None:
    run = await comfyui.run(image_graph(noise(seed=22), metadata=True, format="JPEG"))
    assert "PNG only, not in JPEG" in run.error["exception_message"]


def workflow(title: str) -> dict[str, object]:
    return {"extra_pnginfo": {"workflow": {"title": title}}}
