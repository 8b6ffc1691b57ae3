"""Files that were uploaded for a job do not stay in ComfyUI's input folder."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import time
from pathlib import Path
from typing import Any

import pytest

from bridge.comfyui.client import ComfyClient
from bridge.mosquitto import Mosquitto
from tests.conftest import StartBridge
from tests.end_to_end.test_faults import is_running
from tests.end_to_end.test_media_inputs import png
from tests.support.comfyui import Server, image, installed, our_output, then
from tests.support.peer import Peer

pytestmark = pytest.mark.comfyui

# shared/cases/photo-stays.json
PHOTO_STAYS: dict[str, Any] = {
    "1": {"class_type": "LoadImage", "inputs": {"image": "example.png"}},
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "i"}},
}
FOLDER = installed()[0] / "input" / "comfy2mqtt"


def submit(job_id: str, data: bytes, workflow: str = "photo") -> dict[str, Any]:
    picture = {"base64": base64.b64encode(data).decode()}
    return {"workflow": workflow, "job_id": job_id, "inputs": {"image": picture}}


def uploaded(data: bytes, suffix: str = "png") -> Path:
    return FOLDER / f"{hashlib.sha256(data).hexdigest()}.{suffix}"


async def gone(path: Path) -> None:
    async with asyncio.timeout(30):
        # Nobody says when ComfyUI's node has removed it.
        while os.path.exists(path):  # noqa: ASYNC110, ASYNC240, PTH110
            await asyncio.sleep(0.02)


async def test_a_photo_goes_when_its_job_has_ended_and_not_before(
    attached: StartBridge, broker: Mosquitto
) -> None:
    waits = {
        **our_output(then(image(size=16), "TestSleep", seconds=60.0, step=0.05)),
        "80": {"class_type": "LoadImage", "inputs": {"image": "example.png"}},
        "81": {"class_type": "PreviewImage", "inputs": {"images": ["80", 0]}},
    }
    await attached({"photo": PHOTO_STAYS, "waits": waits})
    data, other = png(), png()
    async with Peer(broker.url) as peer:
        await peer.listen()
        await peer.ask("submit", submit("j1", data))
        assert (await peer.result("j1"))["state"] == "succeeded"
        await gone(uploaded(data))

        # One of two jobs with the same photo ends; it stays for the one that runs.
        await peer.ask("submit", submit("runs", other, "waits"))
        await peer.job("runs", "status", is_running)
        await peer.ask("submit", submit("behind", other))
        await peer.ask("cancel", {"job_id": "behind"})
        assert (await peer.result("behind"))["state"] == "cancelled"
        assert uploaded(other).exists()
        await peer.ask("cancel", {"job_id": "runs"})
        assert (await peer.result("runs"))["state"] == "cancelled"
        await gone(uploaded(other))


async def test_a_photo_that_a_killed_bridge_left_goes_by_its_age_and_when_its_job_is_forgotten(
    attached: StartBridge, broker: Mosquitto, comfyui: Server
) -> None:
    bridge = await attached({"photo": PHOTO_STAYS}, keep_uploads_s=3600)
    old, forgotten = png(), png()
    async with (
        Peer(broker.url) as peer,
        ComfyClient(comfyui.url, secret=comfyui.secret) as client,
    ):
        await peer.listen()
        await peer.ask("submit", submit("j1", forgotten))
        await peer.result("j1")
        await gone(uploaded(forgotten))
        await bridge.kill()
        for data in (old, forgotten):  # as it was when a bridge died before it removed them
            await client.upload_image(data, uploaded(data).name, "comfy2mqtt", overwrite=True)
        hours_ago = time.time() - 2 * 3600
        os.utime(uploaded(old), (hours_ago, hours_ago))
        await bridge.start()
        await gone(uploaded(old))
        assert uploaded(forgotten).exists()
        assert (await peer.ask("forget", {"job_id": "j1"}))["data"]["forgotten"]
        await gone(uploaded(forgotten))


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


FILMS = Path(__file__).parents[1] / "vectors" / "media"
# Workflow, its inputs that take a file, the file with its suffix, and how the job ends.
UPLOADS: list[tuple[dict[str, Any], list[str], tuple[bytes, str], str]] = [
    (  # a mask
        {
            "1": node("LoadImageMask", image="example.png", channel="red"),
            "2": node("MaskPreview", mask=["1", 0]),
        },
        ["1.image"],
        (png(), "png"),
        "succeeded",
    ),
    (  # a sound
        {
            "1": node("LoadAudio", audio="none.wav"),
            "2": node("SaveAudio", audio=["1", 0], filename_prefix="i"),
        },
        ["1.audio"],
        ((FILMS / "small.flac").read_bytes(), "flac"),
        "succeeded",
    ),
    (  # a film
        {
            "1": node("LoadVideo", file="none.mp4"),
            "2": node("GetVideoComponents", video=["1", 0]),
            "3": node("SaveImage", images=["2", 0], filename_prefix="i"),
        },
        ["1.file"],
        ((FILMS / "small.mp4").read_bytes(), "mp4"),
        "succeeded",
    ),
    (  # one photo for two nodes, one of them in a subgraph
        {
            "1": node("LoadImage", image="example.png"),
            "58:2": node("LoadImage", image="example.png"),
            "3": node("ImageBatch", image1=["1", 0], image2=["58:2", 0]),
            "4": node("SaveImage", images=["3", 0], filename_prefix="i"),
        },
        ["1.image", "58:2.image"],
        (png(), "png"),
        "succeeded",
    ),
    (  # a job that fails
        {
            "1": node("LoadImage", image="example.png"),
            "2": node("TestRaise", image=["1", 0], message="no"),
            "3": node("SaveImage", images=["2", 0], filename_prefix="i"),
        },
        ["1.image"],
        (png(), "png"),
        "failed",
    ),
]


async def test_files_of_every_kind_go_however_their_job_ends(
    attached: StartBridge, broker: Mosquitto
) -> None:
    await attached({f"w{number}": case[0] for number, case in enumerate(UPLOADS)})
    async with Peer(broker.url) as peer:
        await peer.listen()
        for number, (_, names, (data, suffix), state) in enumerate(UPLOADS):
            file = {"base64": base64.b64encode(data).decode()}
            inputs = dict.fromkeys(names, file)
            request = {"workflow": f"w{number}", "job_id": f"j{number}", "inputs": inputs}
            answer = await peer.ask("submit", request)
            assert answer["status"] == "ok", answer
            result = await peer.result(f"j{number}")
            assert result["state"] == state, result
            await gone(uploaded(data, suffix))
        # Nothing lies there under another name either.
        assert not list(FOLDER.glob("*"))
