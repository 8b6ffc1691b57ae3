"""The flow of docs/node-red in the real Node-RED: `make test-peers` runs it."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from bridge.mosquitto import Mosquitto
from tests.conftest import StartBridge
from tests.peers import npm
from tests.support.bridge import ROOT
from tests.support.comfyui import our_output
from tests.support.peer import Peer

pytestmark = [pytest.mark.peers, pytest.mark.comfyui, pytest.mark.timeout(600)]

FLOW = ROOT / "docs" / "node-red" / "flow.json"
NODE_RED = "node-red@4.0.9"
SETTINGS = """module.exports = {
    flowFile: "flow.json", credentialSecret: false, uiHost: "127.0.0.1",
    diagnostics: { enabled: false, ui: false }, logging: { console: { level: "info" } },
};
"""
STARTED_S = 60.0


def demo() -> dict[str, Any]:
    """Takes a text as the demo does, and paints something small."""
    graph = our_output(
        {
            "1": {
                "class_type": "EmptyImage",
                "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 255},
            }
        }
    )
    graph["9"] = {"class_type": "Comfy2MQTTTextInput", "inputs": {"name": "prompt", "value": ""}}
    return graph


def flow(port: int, seen: str) -> list[dict[str, Any]]:
    """The flow as it is, but for the broker's port; its results are published on a topic."""
    nodes: list[dict[str, Any]] = json.loads(FLOW.read_text())
    by_id = {node["id"]: node for node in nodes}
    by_id["c2m-broker"] |= {"broker": "127.0.0.1", "port": str(port)}
    tab = by_id["c2m-tab"]["id"]
    for index, name in enumerate(("picture", "failed")):
        told = {"id": f"test-{name}", "type": "mqtt out", "z": tab, "broker": "c2m-broker"}
        nodes.append({**told, "topic": f"{seen}/{name}", "qos": "1", "wires": []})
        by_id["c2m-answer"]["wires"][index].append(f"test-{name}")
    return nodes


@asynccontextmanager
async def node_red(folder: Path, nodes: list[dict[str, Any]]) -> AsyncIterator[str]:
    """Run Node-RED with a flow; yields its address once it is connected to the broker."""
    node, place = npm.node(), await asyncio.to_thread(npm.ensure, NODE_RED)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (folder / "settings.js").write_text(SETTINGS)
    (folder / "flow.json").write_text(json.dumps(nodes))
    process = await asyncio.create_subprocess_exec(
        *(node, place / "node_modules" / "node-red" / "red.js"),
        *("--userDir", folder, "--settings", folder / "settings.js", "--port", str(port)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert process.stdout is not None
    lines: list[str] = []
    try:
        async with asyncio.timeout(STARTED_S):
            async for line in process.stdout:
                lines.append(line.decode())
                if "Connected to broker" in lines[-1]:
                    break
            else:
                raise AssertionError("".join(lines))
        reading = asyncio.create_task(process.stdout.read())
        yield f"http://127.0.0.1:{port}"
        process.terminate()
        await reading
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def test_the_flow_asks_and_gets_the_picture_that_belongs_to_it(
    attached: StartBridge, broker: Mosquitto, tmp_path: Path
) -> None:
    bridge = await attached({"demo": demo()})
    folder = tmp_path / "node-red"
    folder.mkdir()
    async with Peer(broker.url, client="nodered") as peer:
        await peer.subscribe("seen/#", "comfy2mqtt/client/nodered/request/#")
        assert broker.port is not None
        async with node_red(folder, flow(broker.port, "seen")) as address:
            await press(address)
            request = await peer.next("comfy2mqtt/client/nodered/request/run/demo")
            assert request.payload == b"a lighthouse in a storm"
            picture = await peer.next("seen/picture")
            assert picture.payload.startswith(b"\x89PNG")
            asked = request.properties["CorrelationData"]
            assert re.fullmatch(rb"[0-9a-f]+", asked)
            assert picture.properties["CorrelationData"] == asked
            # What is refused comes out at the other side.
            (bridge.workflows / "demo.json").unlink()
            await peer.subscribe("comfy2mqtt/workflow/demo")
            await peer.next("comfy2mqtt/workflow/demo", lambda message: not message.payload)
            await press(address)
            failed = await peer.next("seen/failed")
            assert failed.json["code"] == "unknown_workflow"


async def press(address: str) -> None:
    """Press the flow's button, as the editor does."""
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{address}/inject/c2m-press") as answer,
    ):
        assert answer.status == 200
