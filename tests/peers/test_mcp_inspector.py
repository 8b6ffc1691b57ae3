"""The official inspector of the Model Context Protocol: `make test-peers` runs it."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from bridge.mosquitto import Mosquitto
from tests.conftest import StartBridge
from tests.end_to_end import graphs
from tests.peers import npm

pytestmark = [pytest.mark.peers, pytest.mark.comfyui, pytest.mark.timeout(300)]

# The last one that works with Node 20: 2.0 needs Node 22.
INSPECTOR = "@modelcontextprotocol/inspector@1.0.3"
ROOT = Path(__file__).parents[2]


async def inspected(broker: Mosquitto, *asked: str) -> Any:
    """Let the inspector start `comfy2mqtt mcp` and send it a request; returns the answer."""
    package = await asyncio.to_thread(npm.ensure, INSPECTOR)
    inspector = package / "node_modules" / ".bin" / "mcp-inspector"
    server = (sys.executable, "-m", "bridge", "mcp", "--client", "alice", "--mqtt-url", broker.url)
    process = await asyncio.create_subprocess_exec(
        *(str(inspector), "--cli", *server, *asked),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    found, problem = await process.communicate()
    assert process.returncode == 0, (found + problem).decode()
    return json.loads(found)


async def test_the_inspector_lists_the_workflows_and_runs_one(
    attached: StartBridge, broker: Mosquitto
) -> None:
    npm.node()
    await attached({"colour": graphs.colour()})
    (tool,) = (await inspected(broker, "--method", "tools/list"))["tools"]
    assert tool["name"] == "colour"
    assert set(tool["inputSchema"]["properties"]) == {"colour", "size"}
    call = ("--method", "tools/call", "--tool-name", "colour", "--tool-arg", "colour=255")
    result = await inspected(broker, *call)
    assert not result.get("isError")
    assert [each["type"] for each in result["content"] if each["type"] == "image"] == ["image"]
