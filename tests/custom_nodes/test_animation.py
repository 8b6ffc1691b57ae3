from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image, ImageSequence

from tests.custom_nodes.graphs import deliver, noise

if TYPE_CHECKING:
    from tests.custom_nodes.comfyui import ComfyUI, Graph, Output

pytestmark = pytest.mark.comfyui

EVERY_FORMAT = [("WebP", "image/webp"), ("GIF", "image/gif"), ("APNG", "image/apng")]


def animation(source: dict[str, Any], **inputs: Any) -> Graph:
    return {"1": source, "2": deliver("Animation", images=["1", 0], **inputs)}


async def make(comfyui: ComfyUI, graph: Graph) -> Output:
    run = await comfyui.run(graph)
    assert run.succeeded, run.error
    (made,) = run.outputs
    return made


def durations(data: bytes) -> list[int]:
    """Of each picture, in milliseconds."""
    times = []
    for frame in ImageSequence.Iterator(Image.open(BytesIO(data))):
        frame.load()
        times.append(round(frame.info["duration"]))
    return times


@pytest.mark.parametrize(("wanted", "content_type"), EVERY_FORMAT)
@pytest.mark.parametrize("channels", [1, 3, 4])
async def test_a_batch_becomes_one_picture_that_moves(
    comfyui: ComfyUI, wanted: str, content_type: str, channels: int
) -> None:
    source = noise(count=5, seed=60, width=40, height=24, channels=channels)
    made = await make(comfyui, animation(source, format=wanted, fps=10.0))
    assert made.header["content_type"] == content_type
    assert (made.header["width"], made.header["height"]) == (40, 24)
    moving = Image.open(BytesIO(made.data))
    assert (moving.size, getattr(moving, "n_frames", 1)) == ((40, 24), 5)
    assert durations(made.data) == [100] * 5


@pytest.mark.parametrize(("wanted", "_type"), EVERY_FORMAT)
async def test_the_rate_is_kept_over_the_whole(comfyui: ComfyUI, wanted: str, _type: str) -> None:
    graph = animation(noise(count=24, seed=61, width=8, height=8), format=wanted, fps=24.0)
    assert sum(durations((await make(comfyui, graph)).data)) == 1000


@pytest.mark.parametrize("wanted", ["WebP", "GIF", "APNG"])
async def test_it_plays_for_ever_or_once(comfyui: ComfyUI, wanted: str) -> None:
    loops = []
    for loop in (True, False):
        graph = animation(noise(count=2, seed=62), format=wanted, loop=loop)
        loops.append(Image.open(BytesIO((await make(comfyui, graph)).data)).info.get("loop"))
    assert loops == [0, None if wanted == "GIF" else 1]


async def test_an_animated_png_loses_nothing(comfyui: ComfyUI) -> None:
    graph = animation(noise(count=3, seed=63), format="APNG")
    graph["3"] = {
        "class_type": "Comfy2MQTTImageOutput",
        "inputs": {"images": ["1", 0], "name": "still", "format": "PNG", "quality": 90},
    }
    run = await comfyui.run(graph)
    moving, *stills = sorted(run.outputs, key=lambda made: made.header["node"])
    frames = ImageSequence.Iterator(Image.open(BytesIO(moving.data)))
    for frame, still in zip(frames, stills, strict=True):
        assert frame.convert("RGB").tobytes() == Image.open(BytesIO(still.data)).tobytes()


async def test_less_quality_is_fewer_bytes(comfyui: ComfyUI) -> None:
    sizes = [
        (await make(comfyui, animation(noise(count=3, seed=64), quality=quality))).header["size"]
        for quality in (5, 95)
    ]
    assert sizes[0] < sizes[1] / 2


async def test_each_batch_of_a_list_is_an_output(comfyui: ComfyUI) -> None:
    graph = animation(noise(count=5, seed=65))
    graph["3"] = {"class_type": "RebatchImages", "inputs": {"images": ["1", 0], "batch_size": 3}}
    graph["2"]["inputs"]["images"] = ["3", 0]
    run = await comfyui.run(graph)
    counts = [getattr(Image.open(BytesIO(made.data)), "n_frames", 1) for made in run.outputs]
    assert counts == [3, 2]
    assert [made.header["index"] for made in run.outputs] == [0, 1]


async def test_what_cannot_be_encoded_fails_the_job(comfyui: ComfyUI) -> None:
    run = await comfyui.run(animation(noise(count=2, width=17_000, height=1, kind="black")))
    assert run.error["exception_type"].endswith(".ImageNotEncodable")
    assert "WebP of 17000 x 1 pixels" in run.error["exception_message"]
    assert not run.outputs
