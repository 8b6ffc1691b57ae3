"""The recipes of docs/devices.md: as scripts, and as what a device with small packets sends."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from bridge.mosquitto import Mosquitto, find_program
from tests.conftest import StartBridge
from tests.end_to_end.test_docs import ECHO, block, demo, size
from tests.support.bridge import ROOT
from tests.support.patience import PATIENCE_S
from tests.support.peer import Peer

pytestmark = pytest.mark.comfyui

PAGE = "docs/devices.md"
SMALL = 1200


@pytest.fixture
async def at(attached: StartBridge, broker: Mosquitto) -> Mosquitto:
    await attached({"demo": demo(), "img2img": ECHO})
    return broker


async def shell(script: str, folder: Path, port: int | None, *arguments: str) -> str:
    """Run a script as it stands, but for the broker's address."""
    tools = Path(await find_program("mosquitto_rr")).parent
    script = re.sub(r"\bmosquitto_(rr|pub|sub) -", rf"mosquitto_\1 -p {port} -", script)
    process = await asyncio.create_subprocess_exec(
        *("sh", "-euc", script, "sh", *arguments),
        cwd=folder,
        env={**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(PATIENCE_S):
        printed, told = await process.communicate()
    assert process.returncode == 0, told.decode()
    return printed.decode()


async def test_the_shell_lines(at: Mosquitto, tmp_path: Path) -> None:
    Image.new("RGB", (40, 30), (200, 0, 0)).save(tmp_path / "photo.jpg")
    printed = await shell(block(PAGE, "sh", 0), tmp_path, at.port)
    assert json.loads(printed)["state"] == "succeeded"
    await shell(block(PAGE, "sh", 1), tmp_path, at.port)
    assert size(tmp_path / "picture.png") == (64, 64)
    await shell(block(PAGE, "sh", 2), tmp_path, at.port)
    assert size(tmp_path / "painting.png") == (40, 30)


async def test_the_script_that_fetches_in_small_parts(at: Mosquitto, tmp_path: Path) -> None:
    async with Peer(at.url, client="me", version=4) as peer:
        await peer.listen()
        await shell(block(PAGE, "sh", 4), tmp_path, at.port, "127.0.0.1", str(at.port))
        assert size(tmp_path / "picture.png") == (64, 64)
        assert len(peer.all("comfy2mqtt/client/me/response/fetch")) > 3
        assert max(len(message.payload) for message in peer.messages) < SMALL


def requests_of(text: str) -> list[tuple[str, str, str]]:
    """The client, verb and payload of each request that a recipe publishes."""
    tasmota = r"Publish comfy2mqtt/client/(\w+)/request/(\S+) (\{.*\}) ENDON"
    esphome = r"topic: comfy2mqtt/client/(\w+)/request/(\S+)\n\s+qos: 1\n\s+payload: '(\{.*\})'"
    return [*re.findall(tasmota, text), *re.findall(esphome, text)]


async def test_what_the_devices_publish_is_answered_in_small_packets(at: Mosquitto) -> None:
    recipes = requests_of((ROOT / PAGE).read_text())
    assert [client for client, *_ in recipes] == ["tasmota", "frame"]
    for client, verb, payload in recipes:
        async with Peer(at.url, client=client, version=4) as device:
            await device.listen()
            accepted = await device.ask(verb, payload)
            result = await device.result(accepted["data"]["job_id"])
            assert result["state"] == "succeeded"
            data = await fetched(device, result["job_id"])
            assert hashlib.sha256(data).hexdigest() == result["outputs"][0]["sha256"]
            states = [each.json["state"] for each in device.of_job(result["job_id"], "status")]
            assert states[-1] == "running"  # what the rules and sensors read
            assert max(len(message.payload) for message in device.messages) < SMALL


async def fetched(device: Peer, job_id: str) -> bytes:
    data, offset = b"", 0
    while True:
        wanted: dict[str, Any] = {"job_id": job_id, "offset": offset, "inline": True}
        part = (await device.ask("fetch", wanted))["data"]
        data += base64.b64decode(part["base64"])
        if "next" not in part:
            return data
        offset = part["next"]
