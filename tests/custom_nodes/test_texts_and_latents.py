from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import FormData

from tests.custom_nodes.graphs import deliver, node

if TYPE_CHECKING:
    from tests.custom_nodes.comfyui import ComfyUI, Graph

pytestmark = pytest.mark.comfyui


def text_graph(value: str) -> Graph:
    return {
        "1": node("Comfy2MQTTTextInput", name="said", value=value),
        "2": deliver("Text", text=["1", 0]),
    }


@pytest.mark.parametrize("text", ["", "two\nlines", "\N{SAILBOAT} ünd \x00"])
async def test_a_text_is_sent_as_it_is(comfyui: ComfyUI, text: str) -> None:
    run = await comfyui.run(text_graph(text))
    (made,) = run.outputs
    assert made.data.decode() == text
    assert made.header["content_type"] == "text/plain"
    assert (made.header["width"], made.header["height"]) == (0, 0)
    assert await comfyui.held(run) == [made.header]


async def test_half_a_surrogate_pair_fails_the_job(comfyui: ComfyUI) -> None:
    body = json.dumps({"prompt": text_graph("ab\ud800"), "client_id": comfyui.client_id})
    headers = {"Content-Type": "application/json"}
    async with comfyui.http.post("/prompt", data=body, headers=headers) as response:
        prompt_id = (await response.json())["prompt_id"]
    run = await comfyui.follow(prompt_id)
    assert run.error["exception_type"].endswith(".TextNotEncodable")
    assert "at character 2" in run.error["exception_message"]


def latent_graph(**inputs: Any) -> Graph:
    size = {"width": 64, "height": 32, "batch_size": 2, **inputs}
    return {
        "1": node("EmptyLatentImage", **size),
        "2": deliver("Latent", samples=["1", 0]),
    }


async def test_a_latent_is_the_file_that_comfyui_saves(comfyui: ComfyUI) -> None:
    graph = latent_graph()
    graph["3"] = node("SaveLatent", samples=["1", 0], filename_prefix="compare")
    run = await comfyui.run(graph)
    (made,) = run.outputs
    (saved,) = run.ui("3")["latents"]
    async with comfyui.http.get("/view", params=saved) as response:
        theirs = await response.read()
    assert tensors(made.data) == tensors(theirs)
    assert made.header["content_type"] == "application/octet-stream"
    assert (made.header["width"], made.header["height"]) == (0, 0)


async def test_the_graph_stays_out_of_the_latent(comfyui: ComfyUI) -> None:
    (made,) = (await comfyui.run(latent_graph())).outputs
    assert b"EmptyLatentImage" not in made.data


async def test_comfyui_loads_the_latent_back(comfyui: ComfyUI) -> None:
    (made,) = (await comfyui.run(latent_graph())).outputs
    form = FormData()
    form.add_field("image", made.data, filename="back.latent")
    async with comfyui.http.post("/upload/image", data=form) as response:
        assert response.status == 200, await response.text()
    graph = {
        "1": node("LoadLatent", latent="back.latent"),
        "2": deliver("Latent", samples=["1", 0]),
    }
    (again,) = (await comfyui.run(graph)).outputs
    assert again.data == made.data


def tensors(data: bytes) -> dict[str, tuple[str, list[int], bytes]]:
    """Return the contents of a safetensors file: type, shape and bytes by name."""
    (size,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + size])
    header.pop("__metadata__", None)
    body = data[8 + size :]
    return {
        name: (each["dtype"], each["shape"], body[slice(*each["data_offsets"])])
        for name, each in header.items()
    }
