"""Every kind of input and of output, on the real stack: by our nodes, and by ComfyUI's own."""

from __future__ import annotations

import base64
import hashlib
import io
import wave
from collections.abc import AsyncIterator
from typing import Any

import pytest
from PIL import Image

from bridge.mosquitto import Mosquitto
from tests.conftest import StartBridge
from tests.support.peer import Peer

pytestmark = pytest.mark.comfyui

SIZE = (32, 24)


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def values() -> dict[str, Any]:
    """Each value comes back as a text, and so does the path of the file."""
    graph = {
        "1": node("Comfy2MQTTTextInput", name="text", value="hello"),
        "2": node("Comfy2MQTTIntegerInput", name="integer", value=3, minimum=0, maximum=10),
        "3": node("Comfy2MQTTFloatInput", name="float", value=0.5, minimum=0, maximum=1),
        "4": node("Comfy2MQTTBooleanInput", name="boolean", value=True),
        "5": node("Comfy2MQTTChoiceInput", name="choice", value="a", choices="a\nb"),
        "6": node("Comfy2MQTTSeedInput", name="seed", value=0),
        "7": node("Comfy2MQTTFileInput", name="file", file="", suffix=".csv"),
        "8": node("Comfy2MQTTTextOutput", text=["1", 0], name="words"),
    }
    for count in range(2, 8):
        graph[str(10 + count)] = node("PreviewAny", source=[str(count), 0])
    return graph


def ours() -> dict[str, Any]:
    return {
        "1": node("Comfy2MQTTImageInput", name="image", image=""),
        "2": node("Comfy2MQTTMaskInput", name="mask", image="", source="automatic", invert=False),
        "3": node("Comfy2MQTTAudioInput", name="audio", audio=""),
        "4": node("Comfy2MQTTVideoInput", name="video", video=""),
        "5": node("EmptyLatentImage", width=64, height=64, batch_size=1),
        "11": node(
            "Comfy2MQTTImageOutput", images=["1", 0], name="image", format="PNG", quality=90
        ),
        "12": node("Comfy2MQTTMaskOutput", masks=["2", 0], name="mask"),
        "13": node(
            "Comfy2MQTTAudioOutput",
            audio=["3", 0],
            name="audio",
            format="WAV",
            bit_depth="16",
            bit_rate=192,
        ),
        "14": node("Comfy2MQTTVideoOutput", video=["4", 0], name="film", format="MP4", quality=60),
        "15": node(
            "Comfy2MQTTAnimationOutput",
            images=["1", 0],
            name="animation",
            format="GIF",
            fps=5.0,
            loop=True,
            quality=80,
        ),
        "16": node("Comfy2MQTTLatentOutput", samples=["5", 0], name="latent"),
    }


def theirs() -> dict[str, Any]:
    animated = {"filename_prefix": "a", "fps": 6.0}
    return {
        "1": node("LoadImage", image="none.png"),
        "2": node("LoadImageMask", image="none.png", channel="alpha"),
        "3": node("LoadAudio", audio="none.wav"),
        "4": node("LoadVideo", file="none.mp4"),
        "5": node("EmptyLatentImage", width=64, height=64, batch_size=1),
        "11": node("SaveImage", images=["1", 0], filename_prefix="a"),
        "12": node("PreviewImage", images=["1", 0]),
        "13": node("MaskPreview", mask=["2", 0]),
        "14": node("SaveAudio", audio=["3", 0], filename_prefix="sub/folder/a"),
        "15": node("SaveAudioMP3", audio=["3", 0], filename_prefix="a", quality="128k"),
        "16": node("PreviewAudio", audio=["3", 0]),
        "17": node(
            "SaveVideo", video=["4", 0], filename_prefix="video/a", format="mp4", codec="h264"
        ),
        "18": node(
            "SaveAnimatedWEBP",
            **{"images": ["1", 0], **animated, "lossless": True, "quality": 80},
            method="default",
        ),
        "19": node("SaveAnimatedPNG", images=["1", 0], **animated, compress_level=4),
        "20": node("SaveLatent", samples=["5", 0], filename_prefix="a"),
        "21": node("PreviewAny", source=["5", 0]),
        "22": node("SaveImageWebsocket", images=["1", 0]),
    }


def film() -> dict[str, Any]:
    """Gives a film, for the workflows that take one."""
    return {
        "1": node("EmptyImage", width=64, height=48, batch_size=4, color=255),
        "2": node("Comfy2MQTTVideoOutput", images=["1", 0], name="film", format="MP4", quality=60),
    }


def picture(count: int = 1) -> bytes:
    """A picture with an alpha channel, or an animation."""
    frames = [Image.effect_noise(SIZE, 90).convert("RGBA") for _ in range(count)]
    frames[0].putalpha(Image.linear_gradient("L").resize(SIZE))
    buffer = io.BytesIO()
    frames[0].save(buffer, "WEBP", lossless=True, save_all=True, append_images=frames[1:])
    return buffer.getvalue()


def sound() -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(bytes(range(256)) * 50)
    return buffer.getvalue()


def inline(data: bytes) -> dict[str, str]:
    return {"base64": base64.b64encode(data).decode()}


@pytest.fixture
async def peer(attached: StartBridge, broker: Mosquitto) -> AsyncIterator[Peer]:
    await attached({"values": values(), "ours": ours(), "theirs": theirs(), "film": film()})
    async with Peer(broker.url) as peer:
        await peer.listen()
        yield peer


async def run(
    peer: Peer, workflow: str, inputs: dict[str, Any]
) -> tuple[dict[str, Any], list[tuple[str, str, str, bytes]]]:
    """Run it; the result, and of each output its name, kind, Content Type and bytes."""
    answer = await peer.ask(f"run/{workflow}/{workflow}", inputs)
    assert answer["status"] == "ok", answer
    result = await peer.result(workflow)
    assert result["state"] == "succeeded", result["error"]
    given = []
    for info in result["outputs"]:
        message = await peer.job(workflow, f"output/{info['index']}")
        assert hashlib.sha256(message.payload).hexdigest() == info["sha256"]
        given.append((info["name"], info["kind"], info["content_type"], message.payload))
    return result, given


def described(outputs: list[tuple[str, str, str, bytes]]) -> list[tuple[str, str, str]]:
    return [each[:3] for each in outputs]


async def test_every_kind_of_value_goes_in_and_every_text_comes_out(peer: Peer) -> None:
    words = "äö€ \u2028 x"
    inputs = {
        "text": words,
        "integer": "7",
        "float": "0.25",
        "boolean": "false",
        "choice": "b",
        "seed": 2**64 - 1,
        "file": inline(b"a,b\n1,2\n"),
    }
    result, outputs = await run(peer, "values", inputs)
    texts = [data.decode() for *_, data in outputs]
    assert texts[:6] == [words, "7", "0.25", "False", "b", str(2**64 - 1)]
    assert texts[6].endswith(".csv")
    assert all(kind == "text" for _, kind, *_ in outputs)
    assert result["inputs"]["seed"] == 2**64 - 1
    assert result["inputs"]["boolean"] is False


async def test_every_kind_of_media_goes_through_our_nodes(peer: Peer) -> None:
    peer.request("run/film/made")
    inputs = {
        "image": [inline(picture()), inline(picture())],
        "mask": inline(picture()),
        "audio": inline(sound()),
        "video": {"job": "made"},
    }
    _, outputs = await run(peer, "ours", inputs)
    assert described(outputs) == [
        ("image", "image", "image/png"),
        ("image", "image", "image/png"),
        ("mask", "mask", "image/png"),
        ("audio", "audio", "audio/wav"),
        ("film", "video", "video/mp4"),
        ("animation", "image", "image/gif"),
        ("latent", "latent", "application/octet-stream"),
    ]
    mask = Image.open(io.BytesIO(outputs[2][3])).convert("L")
    # What is transparent is masked: the alpha channel, turned round.
    top, *_, bottom = mask.resize((1, SIZE[1]), Image.Resampling.BOX).tobytes()
    assert (top > 240, bottom < 15) == (True, True)
    assert getattr(Image.open(io.BytesIO(outputs[5][3])), "n_frames", 1) == 2


async def test_every_kind_of_media_goes_through_comfyuis_own_nodes(peer: Peer) -> None:
    await peer.subscribe("comfy2mqtt/workflow/theirs")
    topic = "comfy2mqtt/workflow/theirs"
    definition = (await peer.next(topic, lambda message: "runnable" in message.json)).json
    assert set(definition["inputs"]["required"]) == {"image", "mask", "audio", "video"}
    peer.request("run/film/made")
    inputs = {
        "image": inline(picture(3)),
        "mask": inline(picture()),
        "audio": inline(sound()),
        "video": {"job": "made"},
    }
    _, outputs = await run(peer, "theirs", inputs)
    images = [("SaveImage", "image", "image/png"), ("PreviewImage", "image", "image/png")]
    # What is saved comes first, then the previews.
    assert described(outputs) == [
        *[images[0]] * 3,
        ("SaveAudio", "audio", "audio/flac"),
        ("SaveAudioMP3", "audio", "audio/mpeg"),
        ("SaveVideo", "video", "video/mp4"),
        ("SaveAnimatedWEBP", "image", "image/webp"),
        ("SaveAnimatedPNG", "image", "image/png"),
        ("SaveLatent", "latent", "application/octet-stream"),
        *[("SaveImageWebsocket", "image", "image/png")] * 3,
        *[images[1]] * 3,
        ("MaskPreview", "image", "image/png"),
        ("PreviewAudio", "audio", "audio/flac"),
        ("PreviewAny", "text", "text/plain; charset=utf-8"),
    ]
    # What the definition promised is what came.
    promised = {(each["name"], each["kind"]) for each in definition["outputs"]}
    assert {(name, kind) for name, kind, *_ in outputs} == promised
