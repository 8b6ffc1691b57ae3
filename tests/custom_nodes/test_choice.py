from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.custom_nodes.comfyui import Refused
from tests.custom_nodes.graphs import deliver, node, noise, output, value_graph

if TYPE_CHECKING:
    from tests.custom_nodes.comfyui import ComfyUI

pytestmark = pytest.mark.comfyui


def choice(value: str, *choices: str) -> dict[str, Any]:
    return node("Comfy2MQTTChoiceInput", name="method", value=value, choices="\n".join(choices))


async def test_a_choice_fits_a_list_of_choices(comfyui: ComfyUI) -> None:
    graph = {
        "1": noise(seed=70),
        "2": choice("bicubic", "nearest-exact", "bicubic"),
        "3": node("ImageScale", image=["1", 0], upscale_method=["2", 0], width=32, height=16),
        "4": output("3"),
    }
    graph["3"]["inputs"]["crop"] = "disabled"
    (made,) = (await comfyui.run(graph)).outputs
    assert (made.header["width"], made.header["height"]) == (32, 16)


async def test_a_choice_fits_the_newer_kind_of_list(comfyui: ComfyUI) -> None:
    async with comfyui.http.get("/object_info/SaveWEBM") as response:
        declared = (await response.json())["SaveWEBM"]["input"]["required"]["codec"][0]
    assert declared == "COMBO"
    graph = {
        "1": noise(count=2, seed=71),
        "2": choice("vp9"),
        "3": node(
            "SaveWEBM", images=["1", 0], filename_prefix="c", codec=["2", 0], fps=8.0, crf=32.0
        ),
    }
    assert (await comfyui.run(graph)).ui("3")["images"]


async def test_a_choice_fits_a_text_and_what_takes_anything(comfyui: ComfyUI) -> None:
    graph = {
        "1": choice("as it is"),
        "2": deliver("Text", text=["1", 0]),
        "3": node("PreviewAny", source=["1", 0]),
    }
    run = await comfyui.run(graph)
    assert run.outputs[0].data == b"as it is"
    assert run.ui("3") == {"text": ["as it is"]}


async def test_a_choice_fits_no_number_and_no_image(comfyui: ComfyUI) -> None:
    graph = {
        "1": choice("5"),
        "2": node("ImageScaleBy", image=["1", 0], upscale_method="bicubic", scale_by=["1", 0]),
        "3": output("2"),
    }
    with pytest.raises(Refused) as caught:
        await comfyui.submit(graph)
    assert caught.value.messages("2", "image")
    assert caught.value.messages("2", "scale_by")


@pytest.mark.parametrize("value", ["", "Bicubic", "lanczos\n"])
async def test_what_is_not_among_the_choices_fails_the_job(comfyui: ComfyUI, value: str) -> None:
    run = await comfyui.run(value_graph("Choice", value=value, choices=" bicubic \n\nlanczos"))
    assert run.error["exception_type"].endswith(".ValueOutOfLimits")
    assert (
        f"Input 'wanted': '{value}' is none of bicubic, lanczos" in run.error["exception_message"]
    )


async def test_without_choices_anything_goes(comfyui: ComfyUI) -> None:
    run = await comfyui.run(value_graph("Choice", value="anything", choices=" \n"))
    assert run.ui("2") == {"text": ["anything"]}
