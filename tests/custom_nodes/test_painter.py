from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image, ImageStat

from tests.custom_nodes.graphs import node, output

if TYPE_CHECKING:
    from tests.custom_nodes.comfyui import ComfyUI, Graph

pytestmark = pytest.mark.comfyui


def painting(**inputs: Any) -> Graph:
    defaults = {"prompt": "a lake", "seed": 1, "width": 64, "height": 64, "steps": 3}
    return {"1": node("Comfy2MQTTPainter", **{**defaults, **inputs}), "2": output("1")}


async def test_each_step_reports_progress_with_a_preview(comfyui: ComfyUI) -> None:
    run = await comfyui.run(painting(seed=2, steps=5))
    assert [(d["value"], d["max"]) for d in run.of("progress")] == [(n, 5) for n in range(1, 6)]
    assert len(run.previews) == 5
    assert all(header["node_id"] == "1" for header, _ in run.previews)
    assert Image.open(BytesIO(run.previews[-1][1])).size == (512, 512)


async def test_the_same_words_and_seed_give_the_same_picture(comfyui: ComfyUI) -> None:
    first = await comfyui.run(painting(seed=3))
    # Something else in between, so that the second does not come from the cache.
    between = await comfyui.run(painting(seed=4))
    second = await comfyui.run(painting(seed=3))
    assert len(second.of("progress")) == 3
    assert second.outputs[0].data == first.outputs[0].data
    assert between.outputs[0].data != first.outputs[0].data


@pytest.mark.parametrize(
    "prompt",
    [
        "",
        "\N{SAILBOAT} ¡!?",
        "sea boat sunset",
        "mountains in winter, aurora",
        "red and gold city at night",
        "fog in a pine forest",
        "desert dunes",
        "nebula",
        "lavender field in the morning, flowers",
        "storm",
        "a lake in autumn",
    ],
)
@pytest.mark.parametrize("size", [(64, 64), (200, 72)])
async def test_any_words_give_a_picture_with_something_on_it(
    comfyui: ComfyUI, prompt: str, size: tuple[int, int]
) -> None:
    run = await comfyui.run(painting(prompt=prompt, seed=5, width=size[0], height=size[1], steps=2))
    picture = Image.open(BytesIO(run.outputs[0].data))
    assert picture.size == size
    assert max(ImageStat.Stat(picture).stddev) > 8


async def test_one_step_is_enough(comfyui: ComfyUI) -> None:
    assert (await comfyui.run(painting(seed=6, steps=1))).succeeded


async def test_painting_can_be_interrupted(comfyui: ComfyUI) -> None:
    prompt_id = await comfyui.submit(painting(seed=7, width=512, height=512, steps=100))
    await comfyui.follow(prompt_id, until="progress")
    async with comfyui.http.post("/interrupt", json={"prompt_id": prompt_id}) as response:
        assert response.status == 200
    run = await comfyui.follow(prompt_id)
    assert run.of("execution_interrupted")
    assert len(run.of("progress")) < 99
