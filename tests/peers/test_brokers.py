"""Brokers of others that have no MQTT 5: `make test-peers` runs bridge and client on them."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import venv
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from bridge.retry import retry
from tests.end_to_end import graphs
from tests.peers import npm
from tests.support.bridge import BridgeProcess
from tests.support.brokers import used_by_a_client
from tests.support.patience import PATIENCE_S

pytestmark = [pytest.mark.peers, pytest.mark.timeout(300)]

AEDES, AMQTT = "aedes@1.2.0", "amqtt==0.12.1"
AEDES_SERVER = """
const { Aedes } = require("aedes");
Aedes.createBroker().then((broker) => {
  require("node:net").createServer(broker.handle).listen(Number(process.argv[2]), "127.0.0.1");
});
"""
AMQTT_SETTINGS = """
listeners: {{default: {{type: tcp, bind: "127.0.0.1:{port}"}}}}
plugins: {{amqtt.plugins.authentication.AnonymousAuthPlugin: {{allow_anonymous: true}}}}
"""


def aedes(folder: Path, port: int) -> Sequence[str]:
    """Node-RED's embedded broker."""
    server = folder / "server.cjs"
    server.write_text(AEDES_SERVER)
    (folder / "node_modules").symlink_to(npm.ensure(AEDES) / "node_modules")
    return (npm.node(), str(server), str(port))


def amqtt(folder: Path, port: int) -> Sequence[str]:
    """A broker in Python, in an environment of its own."""
    place = folder / "environment"
    venv.create(place, with_pip=True)
    install = (place / "bin/python", "-m", "pip", "install", "-qq", AMQTT)
    subprocess.run(install, check=True, env=dict(os.environ))
    settings = folder / "amqtt.yaml"
    settings.write_text(AMQTT_SETTINGS.format(port=port))
    return (str(place / "bin/amqtt"), "-c", str(settings))


async def _touch(port: int) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.close()


@asynccontextmanager
async def running(command: Sequence[str], port: int) -> AsyncIterator[str]:
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.DEVNULL)
    try:
        async with asyncio.timeout(PATIENCE_S):
            await retry(lambda: _touch(port), OSError)
        yield f"mqtt://127.0.0.1:{port}"
    finally:
        process.terminate()
        await process.wait()


@pytest.mark.parametrize("broker", [aedes, amqtt])
async def test_jobs_and_uploads_go_over_a_broker_of_3_1_1(broker: object, tmp_path: Path) -> None:
    assert callable(broker)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = await asyncio.to_thread(broker, tmp_path, port)
    async with running(command, port) as url:
        bridge = BridgeProcess(tmp_path / "bridge", mqtt_url=url, comfyui_url="http://127.0.0.1:9")
        bridge.add_workflow("colour", graphs.colour())
        bridge.add_workflow("echo", graphs.echo())
        await bridge.start(ready=False)
        try:
            await bridge.ready("unreachable")
            info = await used_by_a_client(url)
            assert info.mqtt == "3.1.1"
        finally:
            await bridge.stop()
