from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from tests.custom_nodes.graphs import deliver, node, noise, output
from tests.custom_nodes.sounds import read_wav, tone, wav

if TYPE_CHECKING:
    from tests.custom_nodes.comfyui import ComfyUI, Graph, Output, Run

pytestmark = pytest.mark.comfyui

VECTORS = Path(__file__).parents[1] / "vectors" / "media"
COLOURS = [(220, 40, 30), (30, 200, 60), (40, 60, 210)]


def picture(colour: tuple[int, int, int], size: tuple[int, int]) -> bytes:
    stream = BytesIO()
    Image.new("RGB", size, colour).save(stream, "PNG")
    return stream.getvalue()


async def film(
    comfyui: ComfyUI, size: tuple[int, int] = (64, 48), times: int = 4, **inputs: Any
) -> Graph:
    """Each of the colours `times` times, as a film from node 3."""
    hashes = [await comfyui.put_media(picture(colour, size)) for colour in COLOURS]
    frames = [name for name in hashes for _ in range(times)]
    return {
        "1": node("Comfy2MQTTImageInput", name="frames", image=",".join(frames)),
        "3": deliver("Video", images=["1", 0], **{"fps": 8.0, **inputs}),
    }


async def make(comfyui: ComfyUI, graph: Graph) -> Output:
    run = await comfyui.run(graph)
    assert run.succeeded, run.error
    (made,) = [made for made in run.outputs if made.header["node"] == "3"]
    return made


async def watch(comfyui: ComfyUI, data: bytes) -> Run:
    """A film taken apart by ComfyUI: pictures at node 3, its rate at 4, its sound at 5."""
    run = await comfyui.run(
        {
            "1": node("Comfy2MQTTVideoInput", name="film", video=await comfyui.put_media(data)),
            "2": node("GetVideoComponents", video=["1", 0]),
            "3": output("2"),
            "4": node("PreviewAny", source=["2", 2]),
        }
    )
    assert run.succeeded, run.error
    return run


def frames(run: Run) -> list[Image.Image]:
    found = [made for made in run.outputs if made.header["node"] == "3"]
    return [Image.open(BytesIO(made.data)).convert("RGB") for made in found]


def near(found: Any, wanted: tuple[int, int, int]) -> bool:
    return all(abs(one - other) <= 6 for one, other in zip(found, wanted, strict=True))


@pytest.mark.parametrize(
    ("wanted", "content_type", "start", "magic"),
    [
        ("MP4", "video/mp4", 4, b"ftyp"),
        ("WebM", "video/webm", 0, b"\x1a\x45\xdf\xa3"),
    ],
)
async def test_a_film_keeps_frames_size_rate_and_colours(
    comfyui: ComfyUI, wanted: str, content_type: str, start: int, magic: bytes
) -> None:
    made = await make(comfyui, await film(comfyui, format=wanted))
    header = made.header
    assert (header["content_type"], header["width"], header["height"]) == (content_type, 64, 48)
    assert made.data[start:].startswith(magic)
    run = await watch(comfyui, made.data)
    assert [frame.size for frame in frames(run)] == [(64, 48)] * 12
    colours = [frame.getpixel((32, 24)) for frame in frames(run)]
    wanted_colours = [colour for colour in COLOURS for _ in range(4)]
    assert all(near(*pair) for pair in zip(colours, wanted_colours, strict=True)), colours
    assert run.ui("4") == {"text": ["8.0"]}


async def test_a_webm_says_that_it_is_one(comfyui: ComfyUI) -> None:
    made = await make(comfyui, await film(comfyui, format="WebM"))
    assert b"webm" in made.data[:64]


@pytest.mark.parametrize("wanted", ["MP4", "WebM"])
async def test_sound_goes_with_the_pictures_as_long_as_they_last(
    comfyui: ComfyUI, wanted: str
) -> None:
    graph = await film(comfyui, format=wanted, audio=["2", 0])
    sound = wav(tone(30_000, 12_000), rate=12_000, channels=1)
    graph["2"] = node("Comfy2MQTTAudioInput", name="s", audio=await comfyui.put_media(sound))
    made = await make(comfyui, graph)
    audio = {
        "1": node("Comfy2MQTTAudioInput", name="s", audio=await comfyui.put_media(made.data)),
        "2": deliver("Audio", audio=["1", 0], format="WAV"),
    }
    (heard,) = (await comfyui.run(audio)).outputs
    rate, channels, width, samples = read_wav(heard.data)
    # Twelve frames of an eighth of a second; encoders fill their last block.
    assert len(samples) / (rate * channels * width) == pytest.approx(1.5, abs=0.1)


@pytest.mark.parametrize("wanted", ["MP4", "WebM"])
async def test_odd_sides_are_made_even(comfyui: ComfyUI, wanted: str) -> None:
    made = await make(comfyui, await film(comfyui, size=(33, 25), times=1, format=wanted))
    assert (made.header["width"], made.header["height"]) == (34, 26)
    seen = frames(await watch(comfyui, made.data))
    assert [frame.size for frame in seen] == [(34, 26)] * 3
    assert near(seen[0].getpixel((33, 25)), COLOURS[0])


async def test_more_quality_is_more_bytes(comfyui: ComfyUI) -> None:
    sizes = []
    for quality in (10, 90):
        graph = await film(comfyui, quality=quality)
        graph["1"] = noise(count=4, seed=50)
        sizes.append((await make(comfyui, graph)).header["size"])
    assert sizes[0] < sizes[1] / 2


@pytest.mark.parametrize("wanted", ["MP4", "WebM"])
async def test_the_same_film_is_the_same_bytes(comfyui: ComfyUI, wanted: str) -> None:
    graph = await film(comfyui, format=wanted, times=1)
    assert (await make(comfyui, graph)).data == (await make(comfyui, graph)).data


@pytest.mark.parametrize("wanted", ["MP4", "WebM"])
async def test_a_video_of_comfyuis_is_encoded(comfyui: ComfyUI, wanted: str) -> None:
    graph = await film(comfyui, format=wanted)
    images = graph["3"]["inputs"].pop("images")
    graph["2"] = node("CreateVideo", images=images, fps=5.0)
    graph["3"]["inputs"]["video"] = ["2", 0]
    run = await watch(comfyui, (await make(comfyui, graph)).data)
    assert len(frames(run)) == 12
    assert run.ui("4") == {"text": ["5.0"]}


def passed_on(video: str, **inputs: Any) -> Graph:
    return {
        "1": node("Comfy2MQTTVideoInput", name="film", video=video),
        "3": deliver("Video", video=["1", 0], **inputs),
    }


@pytest.mark.parametrize("wanted", ["MP4", "WebM"])
async def test_a_file_in_the_format_already_is_not_encoded_again(
    comfyui: ComfyUI, wanted: str
) -> None:
    made = await make(comfyui, await film(comfyui, format=wanted))
    graph = passed_on(await comfyui.put_media(made.data), format=wanted, quality=1)
    again = await make(comfyui, graph)
    seen = [frame.tobytes() for frame in frames(await watch(comfyui, again.data))]
    assert seen == [frame.tobytes() for frame in frames(await watch(comfyui, made.data))]
    assert (again.header["width"], again.header["height"]) == (64, 48)


async def test_a_file_in_another_format_is_encoded(comfyui: ComfyUI) -> None:
    made = await make(comfyui, await film(comfyui, format="WebM"))
    again = await make(comfyui, passed_on(await comfyui.put_media(made.data)))
    assert again.header["content_type"] == "video/mp4"
    assert len(frames(await watch(comfyui, again.data))) == 12


async def test_what_comfyui_wrote_beside_the_film_stays_behind(comfyui: ComfyUI) -> None:
    graph = await film(comfyui)
    graph["2"] = node("CreateVideo", images=["1", 0], fps=8.0)
    graph["3"] = node("SaveVideo", video=["2", 0], filename_prefix="s", format="mp4", codec="h264")
    workflow = {"extra_pnginfo": {"workflow": {"title": "a secret"}}}
    run = await comfyui.run(graph, extra_data=workflow)
    (saved,) = run.ui("3")["images"]
    async with comfyui.http.get("/view", params=saved) as response:
        data = await response.read()
    assert b"a secret" in data
    made = await make(comfyui, passed_on(await comfyui.put_media(data)))
    assert b"a secret" not in made.data
    assert len(frames(await watch(comfyui, made.data))) == 12


async def test_neither_a_video_nor_images_fails_the_job(comfyui: ComfyUI) -> None:
    run = await comfyui.run({"3": deliver("Video")})
    assert run.error["exception_type"].endswith(".VideoNotEncodable")
    assert "either a video or images" in run.error["exception_message"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"no film at all", "The video cannot be read: it is none of"),
        (b"#EXTM3U\n#EXTINF:9,\nfile:///etc/hostname\n", "it is none of"),
        (wav(bytes(400)), "it holds no pictures"),
    ],
)
async def test_other_bytes_are_refused(comfyui: ComfyUI, data: bytes, message: str) -> None:
    run = await comfyui.run(passed_on(await comfyui.put_media(data)))
    assert run.error["exception_type"].endswith(".MediaUnreadable")
    assert message in run.error["exception_message"]


async def test_a_small_film_that_unpacks_to_gigabytes_is_refused(comfyui: ComfyUI) -> None:
    """Nine gigabytes in 29 KB; nothing of it is decoded."""
    bomb = (VECTORS / "bomb.mp4").read_bytes()
    run = await comfyui.run(passed_on(await comfyui.put_media(bomb)))
    assert run.error["exception_type"].endswith(".MediaUnreadable")
    assert "more than the 4294967296 bytes allowed" in run.error["exception_message"]
    small = (VECTORS / "small.mp4").read_bytes()
    assert len(frames(await watch(comfyui, small))) == 10


async def test_a_film_can_be_interrupted(comfyui: ComfyUI) -> None:
    graph = await film(comfyui)
    graph["1"] = noise(width=1280, height=720, count=48, seed=51)
    prompt_id = await comfyui.submit(graph)
    executing = 0
    async for name, data in comfyui.messages():
        executing += name == "executing" and data["node"] == "3"
        if executing:
            break
    async with comfyui.http.post("/interrupt", json={"prompt_id": prompt_id}) as response:
        assert response.status == 200
    run = await comfyui.follow(prompt_id)
    assert run.of("execution_interrupted")
    assert not run.outputs
