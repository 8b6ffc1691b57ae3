from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from tests.custom_nodes.graphs import deliver, node

if TYPE_CHECKING:
    from tests.custom_nodes.comfyui import ComfyUI, Graph

pytestmark = pytest.mark.comfyui

GREYS = bytes(range(256))


def encode(picture: Image.Image) -> bytes:
    stream = BytesIO()
    picture.save(stream, "PNG")
    return stream.getvalue()


def greys() -> Image.Image:
    """Every grey there is, once."""
    return Image.frombytes("L", (32, 8), GREYS)


def transparent() -> Image.Image:
    """Black, with every transparency there is."""
    picture = Image.new("RGBA", (32, 8))
    picture.putalpha(greys())
    return picture


def mask_graph(image: str, **inputs: Any) -> Graph:
    return {
        "1": node("Comfy2MQTTMaskInput", name="where", image=image, **inputs),
        "2": deliver("Mask", masks=["1", 0]),
    }


async def read(comfyui: ComfyUI, *pictures: Image.Image, **inputs: Any) -> list[Image.Image]:
    """The masks that come out."""
    hashes = [await comfyui.put_media(encode(picture)) for picture in pictures]
    run = await comfyui.run(mask_graph(",".join(hashes), **inputs))
    assert run.succeeded, run.error
    assert {made.header["content_type"] for made in run.outputs} == {"image/png"}
    masks: list[Image.Image] = [Image.open(BytesIO(made.data)) for made in run.outputs]
    assert {mask.mode for mask in masks} == {"L"}
    return masks


async def test_light_is_masked_step_by_step(comfyui: ComfyUI) -> None:
    (mask,) = await read(comfyui, greys())
    assert (mask.size, mask.tobytes()) == ((32, 8), GREYS)


async def test_what_is_transparent_is_masked_step_by_step(comfyui: ComfyUI) -> None:
    (mask,) = await read(comfyui, transparent())
    assert mask.tobytes() == bytes(reversed(GREYS))


async def test_an_alpha_channel_that_says_nothing_is_not_asked(comfyui: ComfyUI) -> None:
    (mask,) = await read(comfyui, greys().convert("RGBA"))
    assert mask.tobytes() == GREYS


async def test_the_source_can_be_chosen(comfyui: ComfyUI) -> None:
    (alpha,) = await read(comfyui, greys(), source="alpha")
    assert alpha.getextrema() == (0, 0)
    (light,) = await read(comfyui, transparent(), source="luminance")
    assert light.getextrema() == (0, 0)


async def test_colours_count_as_the_eye_sees_them(comfyui: ComfyUI) -> None:
    picture = Image.new("RGB", (3, 1))
    for x, colour in enumerate([(255, 0, 0), (0, 255, 0), (0, 0, 255)]):
        picture.putpixel((x, 0), colour)
    (mask,) = await read(comfyui, picture)
    assert list(mask.tobytes()) == [76, 150, 29]


async def test_a_mask_can_be_turned_round(comfyui: ComfyUI) -> None:
    (mask,) = await read(comfyui, greys(), invert=True)
    assert mask.tobytes() == bytes(reversed(GREYS))


async def test_several_images_are_several_masks(comfyui: ComfyUI) -> None:
    masks = await read(comfyui, greys(), transparent(), source="alpha")
    assert [mask.tobytes() for mask in masks] == [bytes(256), bytes(reversed(GREYS))]


async def test_the_header_says_what_it_is(comfyui: ComfyUI) -> None:
    graph = mask_graph(await comfyui.put_media(encode(greys())))
    graph["2"]["inputs"]["name"] = "hole"
    run = await comfyui.run(graph)
    (made,) = run.outputs
    assert (made.header["name"], made.header["width"], made.header["height"]) == ("hole", 32, 8)
    assert await comfyui.held(run) == [made.header]


async def test_without_an_image_the_example_is_used(comfyui: ComfyUI) -> None:
    graph = mask_graph("", example=["3", 0])
    graph["3"] = node("SolidMask", value=1.0, width=16, height=8)
    (made,) = (await comfyui.run(graph)).outputs
    mask = Image.open(BytesIO(made.data))
    assert (mask.size, mask.getextrema()) == ((16, 8), (255, 255))


async def test_without_image_and_example_the_job_fails(comfyui: ComfyUI) -> None:
    run = await comfyui.run(mask_graph(""))
    assert "Input 'where': no mask is given" in run.error["exception_message"]
