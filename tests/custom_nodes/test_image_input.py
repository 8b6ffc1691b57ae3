from __future__ import annotations

import hashlib
import json
import struct
import zlib
from io import BytesIO
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from tests.custom_nodes.comfyui import Refused
from tests.custom_nodes.graphs import node, noise, output

if TYPE_CHECKING:
    from tests.custom_nodes.comfyui import ComfyUI, Graph, Run

pytestmark = pytest.mark.comfyui


def encode(picture: Image.Image, image_format: str = "PNG", **options: Any) -> bytes:
    stream = BytesIO()
    picture.save(stream, image_format, **options)
    return stream.getvalue()


def gradient(mode: str = "RGB") -> Image.Image:
    """Eight by four pixels, no two alike: any turn or flip shows."""
    picture = Image.new("RGB", (8, 4))
    for y in range(4):
        for x in range(8):
            picture.putpixel((x, y), (x * 30, y * 60, 255 - x * 20))
    return picture.convert(mode)


def image_graph(image: str, **inputs: Any) -> Graph:
    """The image at output node 3, its mask as grey at output node 4."""
    return {
        "1": node("Comfy2MQTTImageInput", name="photo", image=image, **inputs),
        "2": node("MaskToImage", mask=["1", 1]),
        "3": output("1"),
        "4": output("2", name="mask"),
    }


async def read(comfyui: ComfyUI, data: bytes) -> tuple[list[Image.Image], list[Image.Image]]:
    """Return what the node makes of encoded bytes: the images and the masks."""
    run = await comfyui.run(image_graph(await comfyui.put_media(data)))
    assert run.succeeded, run.error
    return pictures(run, "3"), pictures(run, "4")


def pictures(run: Run, output_node: str) -> list[Image.Image]:
    found = [o for o in run.outputs if o.header["node"] == output_node]
    return [Image.open(BytesIO(o.data)).convert("RGB") for o in found]


async def read_error(comfyui: ComfyUI, data: bytes) -> str:
    run = await comfyui.run(image_graph(await comfyui.put_media(data)))
    assert run.error["exception_type"].endswith(".MediaUnreadable")
    return str(run.error["exception_message"])


@pytest.mark.parametrize("image_format", ["PNG", "BMP", "TIFF", "PPM", "JPEG2000", "ICO"])
async def test_a_lossless_image_comes_through_pixel_by_pixel(
    comfyui: ComfyUI, image_format: str
) -> None:
    (image,), (mask,) = await read(comfyui, encode(gradient(), image_format))
    assert image.tobytes() == gradient().tobytes()
    assert mask.size == (64, 64)
    assert mask.getextrema() == ((0, 0),) * 3


@pytest.mark.parametrize("image_format", ["JPEG", "WEBP"])
async def test_a_lossy_image_comes_through_as_pil_reads_it(
    comfyui: ComfyUI, image_format: str
) -> None:
    data = encode(gradient(), image_format)
    (image,), _ = await read(comfyui, data)
    # Two builds of the JPEG library may differ by a rounding.
    pairs = zip(image.tobytes(), Image.open(BytesIO(data)).convert("RGB").tobytes(), strict=True)
    assert max(abs(ours - theirs) for ours, theirs in pairs) <= 2


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "LA"])
async def test_every_mode_becomes_rgb(comfyui: ComfyUI, mode: str) -> None:
    picture = gradient().convert("L").convert("LA") if mode == "LA" else gradient(mode)
    (image,), _ = await read(comfyui, encode(picture, "TIFF" if mode == "CMYK" else "PNG"))
    assert image.tobytes() == picture.convert("RGB").tobytes()


async def test_a_photograph_is_turned_as_its_exif_says(comfyui: ComfyUI) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to see it upright
    (image,), _ = await read(comfyui, encode(gradient(), "PNG", exif=exif))
    assert image.tobytes() == gradient().transpose(Image.Transpose.ROTATE_270).tobytes()


async def test_what_is_transparent_is_masked(comfyui: ComfyUI) -> None:
    picture = gradient("RGBA")
    alpha = Image.new("L", picture.size, 255)
    alpha.putpixel((2, 1), 0)
    alpha.putpixel((3, 1), 100)
    picture.putalpha(alpha)
    (image,), (mask,) = await read(comfyui, encode(picture))
    assert image.tobytes() == gradient().tobytes()
    assert mask.size == picture.size
    assert [mask.getpixel((x, 1)) for x in (1, 2, 3)] == [(0,) * 3, (255,) * 3, (155,) * 3]


async def test_the_transparent_colour_of_a_palette_is_masked(comfyui: ComfyUI) -> None:
    picture = gradient("P")
    hidden = picture.getpixel((0, 0))
    _, (mask,) = await read(comfyui, encode(picture, "PNG", transparency=hidden))
    assert mask.getpixel((0, 0)) == (255, 255, 255)
    assert mask.getpixel((7, 3)) == (0, 0, 0)


async def test_sixteen_bit_grey_keeps_its_range(comfyui: ComfyUI) -> None:
    picture = Image.new("I;16", (4, 1))
    for x, value in enumerate((0, 0x4080, 0x8080, 0xFFFF)):
        picture.putpixel((x, 0), value)
    (image,), _ = await read(comfyui, encode(picture))
    assert [image.getpixel((x, 0)) for x in range(4)] == [(v, v, v) for v in (0, 64, 128, 255)]


async def test_an_animation_becomes_a_batch(comfyui: ComfyUI) -> None:
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    frames = [Image.new("RGB", (8, 8), colour) for colour in colours]
    data = encode(frames[0], "PNG", save_all=True, append_images=frames[1:], duration=50)
    images, _ = await read(comfyui, data)
    assert [image.getpixel((4, 4)) for image in images] == colours


async def test_of_a_long_animation_only_the_first_frames_are_read(comfyui: ComfyUI) -> None:
    frames = [Image.new("L", (2, 2), value) for value in range(70)]
    data = encode(frames[0], "PNG", save_all=True, append_images=frames[1:], duration=50)
    images, _ = await read(comfyui, data)
    assert [image.getpixel((0, 0)) for image in images] == [(v, v, v) for v in range(64)]


# PIL itself warns from 89 million pixels on and refuses from 179 million on.
@pytest.mark.parametrize("side", [8_200, 10_000, 30_000])
async def test_a_header_that_promises_too_many_pixels_is_refused_unread(
    comfyui: ComfyUI, side: int
) -> None:
    message = await read_error(comfyui, png_of(side, side))
    assert "it has more than the 67108864 pixels allowed" in message


async def test_a_truncated_image_is_refused(comfyui: ComfyUI) -> None:
    assert "it is broken" in await read_error(comfyui, encode(gradient())[:-40])


@pytest.mark.parametrize("data", [b"no image at all", b"%!PS-Adobe-3.0 EPSF-3.0\n", b"<svg/>", b""])
async def test_other_bytes_are_refused(comfyui: ComfyUI, data: bytes) -> None:
    assert "it is none of PNG, JPEG" in await read_error(comfyui, data)


async def test_an_image_that_is_not_held_is_refused_before_the_job_is_queued(
    comfyui: ComfyUI,
) -> None:
    missing = hashlib.sha256(b"never sent").hexdigest()
    with pytest.raises(Refused) as caught:
        await comfyui.submit(image_graph(missing))
    (message,) = caught.value.messages("1", "image")
    assert f"No media with the SHA-256 '{missing}' is held here." in message


async def test_what_is_no_hash_is_refused_before_the_job_is_queued(comfyui: ComfyUI) -> None:
    with pytest.raises(Refused) as caught:
        await comfyui.submit(image_graph("photo.png"))
    (message,) = caught.value.messages("1", "image")
    assert "'photo.png' is not a SHA-256" in message


async def test_without_an_image_the_example_is_used(comfyui: ComfyUI) -> None:
    graph = image_graph("", example=["5", 0])
    graph["5"] = noise(width=24, height=16)
    run = await comfyui.run(graph)
    assert [image.size for image in pictures(run, "3")] == [(24, 16)]


async def test_the_example_is_not_computed_where_an_image_is_given(comfyui: ComfyUI) -> None:
    graph = image_graph(await comfyui.put_media(encode(gradient())), example=["6", 0])
    graph["5"] = noise()
    graph["6"] = node("TestRaise", image=["5", 0], message="the example was computed")
    assert (await comfyui.run(graph)).succeeded


async def test_without_image_and_example_the_job_fails(comfyui: ComfyUI) -> None:
    run = await comfyui.run(image_graph(""))
    assert "Input 'photo': no image" in run.error["exception_message"]


async def test_the_same_image_again_comes_from_comfyuis_cache(comfyui: ComfyUI) -> None:
    graph = image_graph(await comfyui.put_media(encode(gradient().rotate(180))))
    await comfyui.run(graph)
    (cached,) = (await comfyui.run(graph)).of("execution_cached")
    assert "1" in cached["nodes"]


def joined(hashes: list[str]) -> list[str]:
    """The ways to name several images."""
    return [",".join(hashes), ", ".join(hashes), json.dumps(hashes)]


@pytest.mark.parametrize("way", range(3))
async def test_several_images_are_one_batch_in_their_order(comfyui: ComfyUI, way: int) -> None:
    sources = [gradient(), gradient().rotate(180), gradient()]
    hashes = [await comfyui.put_media(encode(picture)) for picture in sources]
    run = await comfyui.run(image_graph(joined(hashes)[way]))
    found = [image.tobytes() for image in pictures(run, "3")]
    assert found == [picture.tobytes() for picture in sources]
    assert [mask.size for mask in pictures(run, "4")] == [(64, 64)]


async def test_a_batch_is_masked_where_any_image_of_it_is_transparent(comfyui: ComfyUI) -> None:
    clear = Image.new("RGBA", (8, 4), (0, 0, 0, 0))
    hashes = [await comfyui.put_media(encode(each)) for each in (gradient(), clear)]
    masks = pictures(await comfyui.run(image_graph(",".join(hashes))), "4")
    assert [mask.getextrema() for mask in masks] == [((0, 0),) * 3, ((255, 255),) * 3]


async def test_images_of_several_sizes_are_no_batch(comfyui: ComfyUI) -> None:
    sources = [gradient(), gradient().resize((5, 7)), gradient()]
    hashes = [await comfyui.put_media(encode(picture)) for picture in sources]
    run = await comfyui.run(image_graph(",".join(hashes)))
    assert run.error["exception_type"].endswith(".ImagesDiffer")
    message = "Input 'photo': a batch takes images of one size, not of 8 x 4, 5 x 7 pixels."
    assert message in run.error["exception_message"]


async def test_a_batch_has_the_pixels_of_one_image_at_most(comfyui: ComfyUI) -> None:
    large = await comfyui.put_media(encode(Image.new("1", (8_192, 4_096))))
    small = await comfyui.put_media(encode(Image.new("1", (1, 1))))
    run = await comfyui.run(image_graph(f"{large},{large},{small}"))
    assert "more than the 67108864 pixels allowed" in run.error["exception_message"]


@pytest.mark.parametrize("text", ["[", "[[", '["x"]', "[1]", ",", "[" * 100_000])
async def test_what_is_no_list_of_hashes_is_refused(comfyui: ComfyUI, text: str) -> None:
    with pytest.raises(Refused) as caught:
        await comfyui.submit(image_graph(text))
    (message,) = caught.value.messages("1", "image")
    assert "is not a SHA-256" in message


def png_of(width: int, height: int) -> bytes:
    """The start of a PNG of that size, without its pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + crc

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels)
