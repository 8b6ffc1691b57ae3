"""Every command that a page names is run on a real stack: none is wrong usage, none a defect."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
from PIL import Image

from bridge.mosquitto import Mosquitto
from tests.end_to_end import graphs
from tests.support.bridge import BridgeProcess
from tests.support.comfyui import Server
from tests.support.tcpproxy import TcpProxy
from tests.test_docs import PAGES, ROOT, commands

pytestmark = [pytest.mark.comfyui, pytest.mark.asyncio(loop_scope="module")]

# Those that run until they are stopped.
LASTING = ("serve", "websocket", "watch", "logs", "mcp")
DONE, REFUSED = 0, 1


def named() -> dict[str, str]:
    """Each command once, and the page that names it; the changelog only tells of them."""
    pages = [page for page in PAGES if page.name != "CHANGELOG.md"]
    return {line: page.name for page in pages for line in commands(page)}


def words_of(line: str, folder: Path) -> tuple[dict[str, str], list[str]]:
    """The variables and words of a command, with what stands for something put in its place."""
    simple = re.split(r" [#|>]", line)[0]
    for word, stands_for in (
        ("[NAME]", "default"),
        ("workflows describe NAME", "workflows describe demo"),
        ("NAME", "demo"),
        ("backup FILE", f"backup {folder / 'backup.tar'}"),
        ("restore FILE", f"restore {folder / 'backup.tar'}"),
        ("convert FILE", f"convert {folder / 'workflows/demo.json'}"),
        ("CLIENT", "alice"),
        ("mosquitto setup", f"mosquitto setup --folder {folder / 'broker'}"),
        ("mosquitto add-user", f"mosquitto add-user --folder {folder / 'broker'}"),
    ):
        simple = simple.replace(word, stands_for)
    words = shlex.split(re.sub(r"[\[\]]", "", simple))
    variables = {}
    while "=" in words[0]:
        name, _, value = words.pop(0).partition("=")
        variables[name] = value
    return variables, words[1:]


class Stack(NamedTuple):
    broker: Mosquitto
    bridge: BridgeProcess
    folder: Path


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory, comfyui: Server) -> AsyncIterator[Stack]:
    """Starts a bridge with the workflows that the pages name, and a user's folder beside it."""
    place = tmp_path_factory.mktemp("commands")
    async with Mosquitto(place / "mosquitto") as broker:
        bridge = BridgeProcess(
            place / "bridge",
            mqtt_url=broker.url,
            comfyui_url=comfyui.url,
            comfyui_secret=comfyui.secret,
        )
        for file in ("demo.json", "img2img.json", "txt2img.json"):
            shutil.copy(ROOT / "workflows" / file, bridge.workflows / file)
        bridge.add_workflow("upscale", graphs.echo())
        folder = place / "here"
        shutil.copytree(bridge.workflows, folder / "workflows")
        Image.new("RGB", (64, 48), "red").save(folder / "photo.jpg")
        (folder / "photos.csv").write_text("image\nphoto.jpg\n")
        (folder / "photos.jsonl").write_text('{"image": "photo.jpg"}\n')
        async with bridge:
            yield Stack(broker, bridge, folder)


async def run(words: list[str], environment: dict[str, str], folder: Path) -> tuple[int, str]:
    """Run a command to its end, or one that has none until the broker has answered it."""
    url = environment["COMFY2MQTT_MQTT_URL"].replace("mqtt://", "http://")
    async with TcpProxy(url) as proxy:
        port = urlsplit(proxy.url).port
        environment["COMFY2MQTT_MQTT_URL"] = f"mqtt://127.0.0.1:{port}"
        return await _run(words, environment, folder, proxy)


async def _run(
    words: list[str], environment: dict[str, str], folder: Path, proxy: TcpProxy
) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bridge", *words),
        cwd=folder,
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    ending = asyncio.create_task(process.communicate())
    if words[0] in LASTING:
        # It has not failed over its words then; what it does next, its own tests show.
        answered = asyncio.create_task(proxy.answered())
        await asyncio.wait((ending, answered), return_when=asyncio.FIRST_COMPLETED)
        answered.cancel()
        if not ending.done():
            process.send_signal(signal.SIGINT)
    output, _ = await ending
    return process.returncode or 0, output.decode(errors="replace")


@pytest.mark.parametrize(("line", "page"), named().items(), ids=range(len(named())))
async def test_every_command_of_the_pages_runs(
    stack: Stack, tmp_path: Path, line: str, page: str
) -> None:
    variables, words = words_of(line, stack.folder)
    environment = {
        **{name: value for name, value in os.environ.items() if "COMFY2MQTT" not in name},
        "PYTHONPATH": str(ROOT),
        "COMFY2MQTT_COMFYUI_URL": "http://127.0.0.1:9",
        **variables,
        "COMFY2MQTT_MQTT_URL": stack.broker.url,
        # Beside the bridge that runs: none of them may be in its way.
        "COMFY2MQTT_MQTT_CLIENT_ID": f"docs-{tmp_path.name[-40:]}",
        "COMFY2MQTT_DATA": str(stack.bridge.folder if words[0] == "backup" else tmp_path) + "/data",
    }
    if words[0] in ("serve", "websocket"):
        environment["COMFY2MQTT_BASE_TOPIC"] = "elsewhere"
    status, told = await run(words, {**environment}, stack.folder)
    if words == ["queue", "pause"]:
        # The commands after it run jobs.
        assert (await run(["queue", "resume"], environment, stack.folder))[0] == DONE
    assert "Traceback" not in told, f"{page}: {line}\n{told}"
    allowed = (DONE, REFUSED, 130) if words[0] in LASTING else (DONE, REFUSED)
    # Without a FILE these two are only named; `restore` alone is for PostgreSQL.
    if words not in (["backup"], ["restore"]):
        assert status in allowed, f"{page}: {line}: {status}\n{told}"
