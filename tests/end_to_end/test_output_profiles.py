"""Images in the form that a request asks for, on a real broker and a real ComfyUI."""

from __future__ import annotations

import hashlib
import io
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from bridge.mosquitto import Mosquitto
from tests.conftest import StartBridge
from tests.support.comfyui import image, our_output, saved
from tests.support.peer import Message, Peer

pytestmark = pytest.mark.comfyui


def noise(**options: Any) -> dict[str, Any]:
    return our_output(image(size=256, **options))


def wordy() -> dict[str, Any]:
    """Its image carries a graph of some length."""
    graph = noise()
    graph["2"]["inputs"] |= {"metadata": True, "description": "a word " * 500}
    return graph


def opened(message: Message, info: dict[str, Any]) -> Image.Image:
    """The bytes are those that the result and the message's properties tell of."""
    assert len(message.payload) == info["size"]
    assert hashlib.sha256(message.payload).hexdigest() == info["sha256"]
    assert message.properties["ContentType"] == info["content_type"]
    assert message.user["sha256"] == info["sha256"]
    picture = Image.open(io.BytesIO(message.payload))
    picture.load()
    assert picture.size == (info["width"], info["height"])
    assert info["content_type"] == f"image/{(picture.format or '').lower()}"
    return picture


def workers(pid: int) -> list[int]:
    """The worker processes of a bridge."""
    children: list[int] = []
    for thread in Path(f"/proc/{pid}/task").iterdir():
        children += [int(child) for child in (thread / "children").read_text().split()]
    return [
        child
        for child in children
        if b"bridge.media.worker" in Path(f"/proc/{child}/cmdline").read_bytes()
    ]


async def test_images_come_as_asked_and_otherwise_untouched(
    attached: StartBridge, broker: Mosquitto
) -> None:
    bridge = await attached({"noise": noise(seed=1)})

    async def run(job_id: str, **output: Any) -> tuple[Image.Image, bytes]:
        inputs = {"seed": 1}  # a seed that is not given is random
        request = {"workflow": "noise", "job_id": job_id, "inputs": inputs, "output": output}
        answer = await peer.ask("submit", request)
        assert answer["status"] == "ok", answer
        result = await peer.result(job_id)
        assert result["state"] == "succeeded", result
        (info,) = result["outputs"]
        message = await peer.job(job_id, "output/0")
        return opened(message, info), message.payload

    async with Peer(broker.url) as peer:
        await peer.listen()
        plain, data = await run("plain")
        assert (plain.format, plain.size) == ("PNG", (256, 256))
        # What is as asked already is not touched either.
        assert (await run("same", format="png", max_width=256, max_bytes=10**6))[1] == data
        assert workers(bridge.pid) == []

        best, many = await run("best", format="jpeg", quality=95)
        worst, few = await run("worst", format="jpeg", quality=20)
        assert (best.format, worst.format) == ("JPEG", "JPEG")
        assert len(few) < len(many) / 2

        small, bounded = await run("small", format="webp", max_bytes=6000)
        assert len(bounded) <= 6000
        assert small.format == "WEBP"

        panel, _ = await run("panel", dither="1bit", max_width=100)
        assert (panel.format, panel.mode, panel.size) == ("PNG", "P", (100, 100))
        colours = {colour for _, colour in panel.convert("RGB").getcolors() or []}
        assert colours == {(0, 0, 0), (255, 255, 255)}

        again, _ = await run("strip", metadata="strip")
        assert again.tobytes() == plain.tobytes()
        assert len(workers(bridge.pid)) == 1


async def test_every_image_of_a_batch_and_a_saved_file_are_changed(
    attached: StartBridge, broker: Mosquitto
) -> None:
    await attached({"batch": saved(image(seed=2, size=64, count=3))})
    async with Peer(broker.url) as peer:
        await peer.listen()
        output = {"format": "bmp", "max_height": 32, "deliver": "fetch"}
        await peer.ask("submit", {"workflow": "batch", "job_id": "j1", "output": output})
        result = await peer.result("j1")
        assert [info["index"] for info in result["outputs"]] == [0, 1, 2]
        for info in result["outputs"]:
            assert info["filename"].endswith(".bmp")
            assert (info["width"], info["height"]) == (32, 32)
            asked = {"job_id": "j1", "output": info["index"]}
            part = (await peer.ask("fetch", asked))["data"]
            assert part["content_type"] == "image/bmp"
            assert part["sha256"] == info["sha256"]


async def test_what_cannot_go_together_is_refused_at_once(
    attached: StartBridge, broker: Mosquitto
) -> None:
    await attached({"noise": noise(seed=3)})
    async with Peer(broker.url) as peer:
        await peer.listen()
        output = {"format": "jpeg", "dither": "1bit"}
        answer = await peer.ask("submit", {"workflow": "noise", "output": output})
        assert answer["error"]["code"] == "bad_request"
        assert answer["error"]["details"] == {"field": "output.format", "allowed": ["png", "bmp"]}
        answer = await peer.ask("submit", {"workflow": "noise", "output": {"quality": 101}})
        assert answer["error"]["details"]["field"] == "output.quality"


async def test_a_form_that_cannot_be_given_fails_the_job_and_not_the_bridge(
    attached: StartBridge, broker: Mosquitto
) -> None:
    bridge = await attached({"wordy": wordy(), "noise": noise()})
    async with Peer(broker.url) as peer:
        await peer.listen()
        # With the graph in it, it takes more at any size.
        output: dict[str, Any] = {"max_bytes": 1024}
        await peer.ask("submit", {"workflow": "wordy", "job_id": "j1", "output": output})
        result = await peer.result("j1")
        assert (result["state"], result["outputs"]) == ("failed", [])
        error = result["error"]
        assert error["code"] == "execution_error"
        assert error["details"]["output"] == 0
        assert error["details"]["name"] == "image"
        assert "max_bytes" in error["details"]["reason"]

        (worker,) = workers(bridge.pid)
        os.kill(worker, signal.SIGKILL)
        output = {"format": "jpeg"}
        await peer.ask("submit", {"workflow": "noise", "job_id": "j2", "output": output})
        assert (await peer.result("j2"))["state"] == "succeeded"
        assert workers(bridge.pid) != [worker]
