"""As a user would: mosquitto's own tools, the command line, and a model's real sampling."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest
from PIL import Image

from bridge.mosquitto import Mosquitto, find_program
from tests.conftest import StartBridge
from tests.end_to_end import graphs
from tests.support.bridge import ROOT
from tests.support.checkpoint import make_checkpoint
from tests.support.comfyui import Server, installed
from tests.support.patience import PATIENCE_S
from tests.support.peer import Peer

pytestmark = pytest.mark.comfyui


async def output_of(*command: str, status: int | None = 0) -> str:
    process = await asyncio.create_subprocess_exec(
        *command,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"},
    )
    out, _ = await asyncio.wait_for(process.communicate(), PATIENCE_S)
    assert status is None or process.returncode == status, out.decode()
    return out.decode()


@pytest.mark.parametrize("version", ["311", "5"])
async def test_mosquittos_own_tools_are_enough(
    attached: StartBridge, broker: Mosquitto, tmp_path: Path, version: str
) -> None:
    """A subscriber that is away when the picture comes, and finds it when it is back."""
    await attached({"colour": graphs.colour()})
    pub, sub = [await find_program(f"mosquitto_{each}") for each in ("pub", "sub")]
    at = ("-p", str(broker.port), "-V", version, "-q", "1")
    tree = "comfy2mqtt/client/me"
    kept = ("-c", "-x", "600") if version == "5" else ("-c",)
    result = (sub, *at, *kept, "-i", "result", "-t", f"{tree}/job/j1/result")
    picture = (sub, *at, *kept, "-i", "picture", "-t", f"{tree}/job/+/output/0")
    await output_of(*result, "-E")  # -E: leave once subscribed
    await output_of(*picture, "-E")

    topic = f"{tree}/request/run/colour/j1"
    await output_of(pub, *at, "-t", topic, "-m", '{"size": 32}')

    told = json.loads(await output_of(*result, "-C", "1"))
    assert told["state"] == "succeeded"
    path = tmp_path / "picture.png"
    with path.open("wb") as file:
        process = await asyncio.create_subprocess_exec(*picture, "-C", "1", "-N", stdout=file)
        assert await asyncio.wait_for(process.wait(), PATIENCE_S) == 0
    assert path.stat().st_size == told["outputs"][0]["size"]
    assert size_of(path) == (32, 32)


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as picture:
        return picture.size


async def test_the_command_line_runs_lists_and_examines(
    attached: StartBridge, broker: Mosquitto, comfyui: Server, tmp_path: Path
) -> None:
    bridge = await attached({"colour": graphs.colour(), "echo": graphs.echo()})
    us = (sys.executable, "-m", "bridge")
    at = ("--mqtt-url", broker.url)

    listed = await output_of(*us, "workflows", *at)
    assert "colour" in listed
    assert "yes" in listed
    shown = await output_of(*us, "workflows", "colour", *at)
    assert "16 to 4096" in shown
    assert "no workflow" in await output_of(*us, "workflows", "nothing", *at, status=1)

    printed = await output_of(
        *us, "run", "colour", "-i", "colour=5", "-i", "size=48", "-o", str(tmp_path), *at
    )
    saved = Path(printed.strip().splitlines()[-1])
    assert size_of(saved) == (48, 48)
    printed = await output_of(
        *us, "run", "echo", "-i", f"picture=@{saved}", "-o", str(tmp_path), *at
    )
    assert size_of(Path(printed.strip().splitlines()[-1])) == (48, 48)

    refused = await output_of(*us, "run", "colour", "-i", "colour=x", *at, status=1)
    assert "'colour': expected a whole number" in refused
    assert "NAME=VALUE" in await output_of(*us, "run", "colour", "-i", "x", *at, status=2)
    unknown = await output_of(*us, "run", "colour", "-i", "x=1", *at, status=1)
    assert "colour, size" in unknown
    assert "Connection refused" in await output_of(
        *us, "run", "colour", "--mqtt-url", "mqtt://127.0.0.1:1", status=3
    )
    assert "no job" in await output_of(*us, "cancel", "nobody", *at, status=1)

    healthy = await output_of(
        *(*us, "doctor", *at, "--comfyui-url", comfyui.url, "--comfyui-secret", comfyui.secret),
        *("--workflows", str(bridge.workflows), "--data", str(bridge.folder / "data")),
    )
    assert "our nodes are installed" in healthy
    assert "is online" in healthy
    assert "BAD" not in healthy
    (bridge.workflows / "broken.json").write_text("{")
    ill = await output_of(
        *(*us, "doctor", "--mqtt-url", "mqtt://127.0.0.1:1", "--data", str(tmp_path / "new")),
        *("--comfyui-url", "http://127.0.0.1:1", "--workflows", str(bridge.workflows)),
        status=1,
    )
    for trouble in ("broker: ", "ComfyUI cannot be reached", "workflow broken.json", "-> "):
        assert trouble in ill


async def test_a_model_samples_with_steps_and_previews(
    attached: StartBridge, broker: Mosquitto
) -> None:
    path, python = installed()
    models = path / "models" / "checkpoints"
    checkpoint = models / "comfy2mqtt-random.safetensors"
    await asyncio.to_thread(make_checkpoint, path, python, checkpoint)
    graph = json.loads((ROOT / "tests/support/workflows/random_txt2img.json").read_text())
    for node in graph.values():
        if node["class_type"] == "CheckpointLoaderSimple":
            node["inputs"]["ckpt_name"] = checkpoint.name
    try:
        await attached({"txt2img": graph})
        async with Peer(broker.url) as peer:
            await peer.listen()
            request = {"prompt": "a barn", "steps": 6, "width": 64, "height": 64, "$preview": True}
            answer = await peer.ask("run/txt2img/j1", request)
            assert answer["status"] == "ok", answer
            result = await peer.result("j1")
            assert result["state"] == "succeeded", result
            assert result["outputs"][0]["width"] == 64
            steps = {message.json.get("step") for message in peer.of_job("j1", "progress")}
            assert steps & set(range(1, 7))
    finally:
        checkpoint.unlink(missing_ok=True)
