"""The command line in scripts and shells: JSON, plain lines, exit statuses, completion, replay."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from bridge.mosquitto import Mosquitto
from tests.conftest import StartBridge
from tests.end_to_end import graphs
from tests.support.comfyui import image, our_output
from tests.support.patience import PATIENCE_S
from tests.support.peer import Peer

pytestmark = pytest.mark.comfyui


class Ran(NamedTuple):
    status: int
    out: str
    err: str


class Shell:
    """Runs the command line against a broker, in a folder."""

    def __init__(self, url: str, folder: Path) -> None:
        self.folder = folder
        self._url = url

    async def start(self, *arguments: str, **variables: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-W", "error", "-m", "bridge", *arguments),
            env={**os.environ, "COMFY2MQTT_MQTT_URL": self._url, **variables},
            cwd=self.folder,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def __call__(self, *arguments: str, **variables: str) -> Ran:
        process = await self.start(*arguments, **variables)
        async with asyncio.timeout(PATIENCE_S):
            out, err = await process.communicate()
        return Ran(process.returncode or 0, out.decode(), err.decode())

    async def json(self, *arguments: str) -> Any:
        ran = await self(*arguments, "--json")
        assert (ran.status, ran.err) == (0, ""), ran
        return json.loads(ran.out)

    async def offered(self, line: str) -> list[str]:
        """Return what Tab offers at the end of a line."""
        words = line.split(" ")
        ran = await self(
            _COMFY2MQTT_COMPLETE="bash_complete",
            COMP_WORDS=line,
            COMP_CWORD=str(len(words) - 1),
        )
        return [each.partition(",")[2] for each in ran.out.splitlines() if each]


def noise() -> dict[str, Any]:
    """Another picture with each seed, which a request may leave out."""
    graph = our_output(image(size=64))
    graph["9"] = {"class_type": "Comfy2MQTTSeedInput", "inputs": {"name": "seed", "value": 0}}
    graph["8"] = {
        "class_type": "Comfy2MQTTChoiceInput",
        "inputs": {"name": "style", "value": "oil", "choices": "oil\nink"},
    }
    graph["1"]["inputs"]["seed"] = ["9", 0]
    return graph


def size_of(file: str) -> int:
    return Path(file).stat().st_size


@pytest.fixture
async def shell(attached: StartBridge, broker: Mosquitto, tmp_path: Path) -> Shell:
    await attached({"noise": noise(), "echo": graphs.echo(), "slow": graphs.slow(600)})
    folder = tmp_path / "here"
    folder.mkdir()
    return Shell(broker.url, folder)


async def test_a_script_gets_json_and_nothing_else(shell: Shell) -> None:
    ran = await shell.json("run", "noise", "--job-id", "j1", "-o", "out")
    (file,) = ran["files"]
    assert size_of(file) == ran["result"]["outputs"][0]["size"]
    assert {each["name"] for each in await shell.json("workflows")} == {"echo", "noise", "slow"}
    assert (await shell.json("workflows", "noise"))["name"] == "noise"
    (job,) = await shell.json("jobs")
    assert (job["job_id"], job["state"], job["acked"]) == ("j1", "succeeded", False)
    assert await shell.json("jobs", "--state", "failed") == []
    assert (await shell.json("cancel", "j1"))["state"] == "succeeded"
    failed = await shell("run", "noise", "--timeout", "0.0001", "--json", "--job-id", "j1")
    assert failed.status == 0  # the same job: it had ended before
    refused = await shell("run", "noise", "-i", "seed=x", "--json")
    assert (refused.status, refused.out) == (1, "")
    assert "whole number" in refused.err


async def test_in_a_pipe_lines_are_plain(shell: Shell) -> None:
    ran = await shell("run", "noise", "--job-id", "j1")
    assert ran.status == 0
    assert ran.out.strip().endswith("noise-j1-0.png")
    assert ran.err.splitlines()[-1] == "noise j1 succeeded"
    assert "\x1b" not in ran.out + ran.err
    listed = await shell("workflows")
    assert ["noise", "yes"] in [line.split()[:2] for line in listed.out.splitlines()]
    jobs = await shell("jobs")
    assert jobs.out.splitlines()[1].split()[:3] == ["j1", "noise", "succeeded"]


async def test_in_a_pipe_each_change_of_a_job_is_a_plain_line(shell: Shell) -> None:
    # It waits until it was seen to wait, and runs until it and its progress were seen.
    await shell("queue", "pause")
    process = await shell.start("run", "slow", "--job-id", "j1")
    assert process.stderr is not None
    try:
        lines = [await process.stderr.readline()]
        assert lines[0].startswith(b"slow j1 queued")
        await shell("queue", "resume")
        while b"slow j1 running\n" not in lines or not any(b" %\n" in line for line in lines):
            lines.append(await process.stderr.readline())
            assert lines[-1], lines
    finally:
        # Nobody else waits ten minutes for ComfyUI.
        await shell("cancel", "j1")
        out, err = await process.communicate()
    assert process.returncode == 1
    assert err.splitlines()[-2:] == [b"slow j1 cancelled", b"job j1 cancelled"]
    assert b"\x1b" not in b"".join((*lines, out, err))


async def test_a_picture_is_shown_where_that_is_asked_for(shell: Shell) -> None:
    ran = await shell("run", "noise", "--show", TERM="xterm-kitty")
    assert ran.out.startswith("\x1b_Gf=100,a=T")
    assert "\x1b" not in (await shell("run", "noise", TERM="xterm-kitty")).out


async def test_a_job_is_run_again_as_it_ran(shell: Shell) -> None:
    first = await shell.json("run", "noise", "--job-id", "j1")
    again = await shell.json("replay", "j1")
    sums = [ran["result"]["outputs"][0]["sha256"] for ran in (first, again)]
    assert sums[0] == sums[1]
    assert again["result"]["inputs"] == first["result"]["inputs"]
    other = await shell.json("replay", "j1", "-i", "seed=5")
    assert other["result"]["inputs"]["seed"] == 5
    picture = first["files"][0]
    await shell.json("run", "echo", "-i", f"picture={picture}", "--job-id", "j2")
    lacking = await shell("replay", "j2")
    assert (lacking.status, "give it again, -i picture=@FILE" in lacking.err) == (1, True)
    given = await shell.json("replay", "j2", "-i", f"picture=@{picture}")
    assert given["result"]["state"] == "succeeded"
    assert (await shell("replay", "nobody")).status == 1


async def test_tab_offers_what_the_broker_knows(shell: Shell, broker: Mosquitto) -> None:
    await shell("run", "noise", "--job-id", "my-job")
    assert await shell.offered("comfy2mqtt run ") == ["echo", "noise", "slow"]
    assert await shell.offered("comfy2mqtt run no") == ["noise"]
    assert await shell.offered("comfy2mqtt run noise -i s") == ["seed=", "style="]
    assert await shell.offered("comfy2mqtt run noise -i style=") == [
        "style=",
        "style=oil",
        "style=ink",
    ]
    assert await shell.offered("comfy2mqtt replay my") == ["my-job"]
    assert "replay" in await shell.offered("comfy2mqtt re")
    for name in ("bash", "zsh", "fish"):
        assert "_COMFY2MQTT_COMPLETE" in (await shell("completion", name)).out
    shell._url = "mqtt://127.0.0.1:1"
    assert await shell.offered("comfy2mqtt run no") == []
    # A bare host and port of the line itself.
    line = f"comfy2mqtt run -H 127.0.0.1 -p {broker.port} no"
    assert await shell.offered(line) == ["noise"]


async def test_the_bus_is_shown_live(shell: Shell, broker: Mosquitto) -> None:
    found = await shell("watch", "--count", "1", "bridge/state")
    assert found.out.split(" ", 1)[1] == "bridge/state (retained) online\n"
    told = json.loads((await shell("watch", "--json", "--count", "1", "bridge/info")).out)
    assert (told["topic"], told["message"]["contract"]) == ("bridge/info", 1)
    async with Peer(broker.url) as peer:
        peer.publish("comfy2mqtt/odd", b"\xff\x00", retain=True)
        peer.publish("comfy2mqtt/text", "a\x1b[2Jb\n", retain=True)
        await peer.subscribe("comfy2mqtt/text")
        await peer.next("comfy2mqtt/text")
    assert (await shell("watch", "--count", "1", "odd")).out.endswith("2 bytes\n")
    assert (await shell("watch", "--count", "1", "text")).out.endswith("a [2Jb \n")
    assert (await shell("watch", COMFY2MQTT_MQTT_URL="mqtt://127.0.0.1:1")).status == 3
