"""The real Home Assistant: `make test-peers` runs it, where there is a Python 3.13."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from bridge.mosquitto import Mosquitto
from tests.conftest import StartBridge
from tests.end_to_end import graphs
from tests.peers.homeassistant import environment
from tests.support.bridge import BridgeProcess
from tests.support.peer import Peer

pytestmark = [pytest.mark.peers, pytest.mark.comfyui, pytest.mark.timeout(900)]

# Of our environment, what another program needs to start.
KEPT = ("HOME", "LANG", "PATH")
HERE = Path(__file__).parent / "homeassistant"


def home() -> dict[str, Any]:
    """A workflow with an input of each kind that Home Assistant shows."""

    def node(kind: str, **inputs: Any) -> dict[str, Any]:
        return {"class_type": f"Comfy2MQTT{kind}Input", "inputs": inputs}

    graph: dict[str, Any] = graphs.colour()
    del graph["2"]
    graph["3"]["inputs"] |= {"width": 64, "height": 64}
    return {
        **graph,
        "11": node("Text", name="prompt", value="a red barn"),
        "12": node("Float", name="strength", value=0.5, minimum=0.0, maximum=1.0, step=0.05),
        "13": node("Choice", name="style", value="oil", choices="oil\nink"),
        "14": node("Seed", name="seed", value=0),
        "15": node("Boolean", name="upscale", value=False),
    }


def photo() -> dict[str, Any]:
    graph: dict[str, Any] = graphs.echo()
    graph["1"]["inputs"]["name"] = "image"
    return graph


class Control:
    """Does to the bridge what the checks say: a line each, answered when it is done."""

    def __init__(self, bridge: BridgeProcess) -> None:
        self._bridge = bridge
        self._graph = home()

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[int]:
        """Yield the port to say it to."""
        async with await asyncio.start_server(self._answer, "127.0.0.1", 0) as server:
            yield server.sockets[0].getsockname()[1]

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answer = await self._obey((await reader.readline()).decode())
        writer.write(f"{json.dumps(answer)}\n".encode())
        await writer.drain()
        writer.close()

    async def _obey(self, order: str) -> Any:
        match order.split():
            case ["start" | "stop" | "kill" as verb]:
                await getattr(self._bridge, verb)()
            case ["break"]:
                broken = {"class_type": "NoSuchNode", "inputs": {}}
                self._bridge.add_workflow("home", {**self._graph, "99": broken})
            case ["mend"]:
                self._bridge.add_workflow("home", self._graph)
            case ["add", name]:
                self._bridge.add_workflow(name, self._graph)
            case ["drop", name]:
                self._drop(name)
            case ["delete", name]:
                (self._bridge.workflows / f"{name}.json").unlink()
            case ["inputs", job_id]:
                async with Peer(self._bridge.settings["mqtt_url"], client="homeassistant") as peer:
                    await peer.listen()
                    return (await peer.ask("status", job_id))["data"]["result"]["inputs"]
            case _:
                raise AssertionError(order)
        return None

    def _drop(self, name: str) -> None:
        """Take an input out of the workflow."""
        is_it = [key for key, node in self._graph.items() if node["inputs"].get("name") == name]
        del self._graph[is_it[0]]
        self._bridge.add_workflow("home", self._graph)


async def test_home_assistant_takes_what_the_bridge_publishes(
    attached: StartBridge, broker: Mosquitto, tmp_path: Path
) -> None:
    base = environment.python()
    if base is None:
        pytest.skip("HOME ASSISTANT IS NOT TESTED: no Python 3.13 on the PATH or in ~/.pyenv")
    python = await asyncio.to_thread(environment.ensure, base)
    demo = json.loads((Path("workflows") / "demo.json").read_text())
    bridge = await attached({"home": home(), "photo": photo(), "demo": demo}, homeassistant="true")
    log = tmp_path / "checks.log"
    async with Control(bridge).serve() as port:
        with log.open("wb") as told:
            process = await asyncio.create_subprocess_exec(
                *(python, "-m", "pytest", "-c", "pytest.ini", "-x", "checks.py"),
                cwd=HERE,
                env={
                    **{name: os.environ[name] for name in KEPT if name in os.environ},
                    "COMFY2MQTT_TEST_BROKER": str(broker.port),
                    "COMFY2MQTT_TEST_CONTROL": str(port),
                },
                stdin=asyncio.subprocess.DEVNULL,
                stdout=told,
                stderr=told,
            )
            status = await process.wait()
    assert status == 0, log.read_text(errors="replace")[-8000:]
