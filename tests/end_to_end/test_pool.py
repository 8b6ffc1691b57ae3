"""Several ComfyUIs: somebody else's, which has the nodes that fail, and one of the bridge's own."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from bridge.comfyui.settings import SuperviseConfig
from bridge.mosquitto import Mosquitto
from tests.conftest import StartBridge
from tests.end_to_end import graphs
from tests.support.bridge import BridgeProcess
from tests.support.comfyui import Server, image, our_output, supervised, then
from tests.support.peer import Message, Peer

pytestmark = pytest.mark.comfyui

INSTANCES = "comfy2mqtt/bridge/comfyui"


def tables(server: Server, own: SuperviseConfig) -> str:
    return json.dumps(
        [
            {"name": "studio", "url": server.url, "secret": server.secret},
            {
                "name": "own",
                "path": str(own.path),
                "python": str(own.python),
                "args": ["--cpu"],
                "environment": {"OMP_NUM_THREADS": "1"},
            },
        ]
    )


@pytest.fixture
async def pool(
    bridges: StartBridge, comfyui: Server, broker: Mosquitto
) -> AsyncIterator[tuple[BridgeProcess, Peer]]:
    bridge: BridgeProcess = await bridges(
        comfyui=tables(comfyui, supervised()),
        workflows={
            "colour": graphs.colour(),
            "slow": graphs.slow(1.5),
            "nowhere": our_output(then(image(), "NoSuchNode")),
        },
    )
    async with Peer(broker.url) as peer:
        await peer.listen()
        await peer.subscribe(f"{INSTANCES}/+", "comfy2mqtt/workflow/+")
        for name in ("studio", "own"):
            await peer.next(f"{INSTANCES}/{name}", lambda each: each.json["state"] == "ready")
        yield bridge, peer


def of_state(*states: str) -> Any:
    def test(message: Message) -> bool:
        return message.json["state"] in states

    return test


async def test_jobs_go_where_they_can_run_and_to_an_idle_one_first(
    pool: tuple[BridgeProcess, Peer],
) -> None:
    bridge, peer = pool
    definition = await peer.next("comfy2mqtt/workflow/nowhere")
    assert definition.json["missing"]["nodes"] == ["NoSuchNode"]
    refused = await peer.ask("run/nowhere")
    assert refused["error"]["code"] == "comfyui_unavailable"
    # TestSleep is at the studio's alone; what can run anywhere goes to the other one meanwhile.
    dry = await peer.ask("submit", {"workflow": "slow", "dry_run": True})
    assert dry["data"]["instances"] == ["studio"]
    for number in range(3):
        peer.request(f"run/slow/s{number}")
    await peer.job("s0", "status", of_state("running"))
    for number in range(4):
        peer.request(f"run/colour/c{number}", {"colour": number})
    for number in range(4):
        assert (await peer.result(f"c{number}"))["instance"] == "own"
    results = [await peer.result(f"s{number}") for number in range(3)]
    assert {each["instance"] for each in results} == {"studio"}
    # The pool shrinks and grows: jobs of a ComfyUI that died run elsewhere if they can.
    child = _child_of(bridge.pid)
    os.kill(child, signal.SIGKILL)
    await peer.next(f"{INSTANCES}/own", of_state("restarting"))
    assert (await peer.ask("run/colour/c9", {"colour": 9}))["status"] == "ok"
    assert (await peer.result("c9"))["instance"] == "studio"
    await peer.next(f"{INSTANCES}/own", of_state("ready"))


def _child_of(pid: int) -> int:
    """The ComfyUI below a bridge: its guard's child."""
    guards = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    for guard in guards:
        if b"subreaper.py" in Path(f"/proc/{guard}/cmdline").read_bytes():
            return int(Path(f"/proc/{guard}/task/{guard}/children").read_text().split()[0])
    raise AssertionError("no guard")


async def test_a_restarted_bridge_looks_for_its_jobs_where_they_were(
    bridges: StartBridge, comfyui: Server, broker: Mosquitto
) -> None:
    away = {"name": "away", "url": "http://127.0.0.1:9"}
    there = {"name": "studio", "url": comfyui.url, "secret": comfyui.secret}
    bridge: BridgeProcess = await bridges(
        comfyui=json.dumps([away, there]), workflows={"slow": graphs.slow(1.0)}, start=False
    )
    async with Peer(broker.url) as peer:
        await peer.listen()
        await peer.subscribe(f"{INSTANCES}/+")
        await bridge.start(ready=False)
        await peer.next(f"{INSTANCES}/studio", of_state("ready"))
        for number in range(3):
            peer.request(f"run/slow/j{number}")
        await peer.job("j0", "status", of_state("running"))
        await bridge.kill()
        await bridge.start(ready=False)
        for number in range(3):
            result = await peer.result(f"j{number}")
            assert (result["state"], result["attempts"]) == ("succeeded", 1)
            assert result["instance"] == "studio"
        await peer.next(f"{INSTANCES}/away", of_state("unreachable"))
