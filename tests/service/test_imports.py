"""The modules that a bridge loads before it is asked for anything."""

from __future__ import annotations

import subprocess
import sys

import pytest

from bridge.mosquitto import Mosquitto
from tests.conftest import StartBridge
from tests.end_to_end import graphs
from tests.support.comfyui import Server
from tests.support.peer import Peer

# Features that are off by default, and what they load: megabytes, and tenths of a second.
NOT_WANTED_YET = (
    *(
        "PIL",
        "aiohttp.web",
        "anyio._backends",
        "boto3",
        "jmespath",
        "mcp",
        "numpy",
        "obstore",
        "opentelemetry",
    ),
    *("prometheus_client", "psycopg", "websockets.asyncio.server"),
    *("bridge.adapters.web.adapter", "bridge.agents", "bridge.client"),
    "bridge.jobs.database.postgresql",
)
# Without Python's own, of which each version has others: 512 when this was written.
MOST_MODULES = 515


@pytest.mark.slow
def test_a_bridge_loads_no_feature_that_is_off() -> None:
    program = (
        "import sys, bridge.cli.main, bridge.cli.commands.serve, bridge.cli.serve;"
        "import bridge.service.app;"
        "print(*sys.modules, sep='\\n')"
    )
    printed = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, check=True)
    loaded = set(printed.stdout.decode().split())
    assert not loaded & set(NOT_WANTED_YET)
    ours = [name for name in loaded if name.partition(".")[0] not in sys.stdlib_module_names]
    assert len(ours) <= MOST_MODULES


@pytest.mark.comfyui
async def test_a_bridge_at_work_has_loaded_no_feature_that_is_off(
    bridges: StartBridge, broker: Mosquitto, comfyui: Server
) -> None:
    """Once it knows its ComfyUI, and watches its folder."""
    bridge = await bridges(start=False, comfyui_url=comfyui.url, comfyui_secret=comfyui.secret)
    bridge.environment["PYTHONPROFILEIMPORTTIME"] = "1"
    await bridge.start()
    async with Peer(broker.url) as peer:
        await peer.subscribe("comfy2mqtt/workflow/+")
        bridge.add_workflow("colour", graphs.colour())
        await peer.next("comfy2mqtt/workflow/colour", lambda each: each.json.get("runnable"))
    lines = (line.rpartition("|") for line in bridge.log.splitlines())
    loaded = {name.strip() for before, _, name in lines if before.startswith("import time:")}
    assert "bridge.service.bridge" in loaded
    assert not loaded & set(NOT_WANTED_YET)
