"""The pages' examples work as they stand."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from bridge.mosquitto import Mosquitto
from tests.conftest import StartBridge
from tests.support.bridge import ROOT
from tests.support.patience import PATIENCE_S
from tests.support.peer import Peer

pytestmark = pytest.mark.comfyui


def demo() -> dict[str, Any]:
    """The demo's workflow; its pictures are small where a request does not say more."""
    graph: dict[str, Any] = json.loads((ROOT / "workflows" / "demo.json").read_text())
    for node in graph.values():
        small = {"width": 64, "height": 64, "steps": 1}.get(node["inputs"].get("name"))
        if small is not None:
            node["inputs"]["value"] = small
    return graph


def block(page: str, language: str, number: int = 0) -> str:
    """Return a block of code of a page."""
    text = (ROOT / page).read_text()
    found: list[str] = re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return found[number]


KILLS = 6


def size(path: Path) -> tuple[int, int]:
    with Image.open(path) as picture:
        return picture.size


async def run(script: str, folder: Path, *arguments: str) -> None:
    environment = {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", script, *arguments),
        cwd=folder,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(PATIENCE_S):
        told, _ = await process.communicate()
    assert process.returncode == 0, told.decode()


async def test_the_script_without_loss(
    attached: StartBridge, broker: Mosquitto, tmp_path: Path
) -> None:
    await attached({"demo": demo()})
    script = block("docs/without-loss.md", "python")
    folder = tmp_path / "script"
    folder.mkdir()
    # It had ended before its request was accepted.
    request = {"job_id": "left", "workflow": "demo", "inputs": {"prompt": "a red barn"}}
    (folder / "outbox.json").write_text(json.dumps(request))
    await run(script, folder, "127.0.0.1", str(broker.port))
    assert size(folder / "picture.png") == (64, 64)
    assert not (folder / "outbox.json").exists()
    async with Peer(broker.url, client="me") as peer:
        await peer.listen()
        (job,) = (await peer.ask("list"))["data"]["jobs"]
        assert (job["job_id"], job["acked"]) == ("left", True)


async def test_the_script_without_loss_survives_its_own_kill_at_any_moment(
    attached: StartBridge, broker: Mosquitto, tmp_path: Path
) -> None:
    await attached({"demo": demo()})
    script = block("docs/without-loss.md", "python")
    outbox, picture = tmp_path / "outbox.json", tmp_path / "picture.png"
    saved: list[str] = []
    for _ in range(3):
        picture.unlink(missing_ok=True)
        # Six kills at random moments of a life of about half a second; then it may end.
        kills = 0
        while outbox.exists() or not picture.exists():
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", script, "127.0.0.1", str(broker.port)),
                cwd=tmp_path,
                env={"PYTHONPATH": str(ROOT)},
            )
            kills += 1
            patience = PATIENCE_S if kills > KILLS else random.uniform(0.05, 0.7)
            try:
                async with asyncio.timeout(patience):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()
        saved.append(hashlib.sha256(picture.read_bytes()).hexdigest())
    async with Peer(broker.url, client="me") as peer:
        await peer.listen()
        jobs = (await peer.ask("list"))["data"]["jobs"]
    # Each picture is its own job's, and no job ran that nobody has the picture of.
    assert [each["result"]["outputs"][0]["sha256"] for each in jobs] == saved


async def test_the_python_pages_scripts(
    attached: StartBridge, broker: Mosquitto, tmp_path: Path
) -> None:
    await attached({"demo": demo(), "img2img": ECHO})
    folder = tmp_path / "scripts"
    folder.mkdir()
    Image.new("RGB", (40, 30), (200, 0, 0)).save(folder / "photo.jpg")
    for number in (0, 1):
        script = block("docs/python.md", "python", number)
        await run(script.replace("mqtt://localhost", broker.url), folder)
    assert size(folder / "barn-0.png") == (40, 30)
    assert size(folder / "lighthouse.png") == (64, 64)


# An img2img without a model, with the inputs that the page gives.
ECHO = {
    "1": {"class_type": "Comfy2MQTTImageInput", "inputs": {"name": "image", "image": ""}},
    "2": {"class_type": "Comfy2MQTTTextInput", "inputs": {"name": "prompt", "value": ""}},
    "3": {
        "class_type": "Comfy2MQTTImageOutput",
        "inputs": {"images": ["1", 0], "name": "image", "format": "PNG", "quality": 90},
    },
}
