"""The web adapter as its users run it: keys by the command line, beside a bridge and alone."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
import tenacity

from bridge.mosquitto import Mosquitto
from tests.conftest import StartBridge
from tests.support.bridge import ROOT
from tests.support.visitor import Visitor

pytestmark = pytest.mark.broker

NOWHERE = "http://127.0.0.1:9"


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def environment(**settings: object) -> dict[str, str]:
    ours = {f"COMFY2MQTT_{name.upper()}": str(value) for name, value in settings.items()}
    others = {name: value for name, value in os.environ.items() if "COMFY2MQTT_" not in name}
    return {**others, **ours, "PYTHONPATH": str(ROOT)}


async def command(*words: str, **settings: object) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-m", "bridge", *words),
        env=environment(**settings),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


@asynccontextmanager
async def alone(**settings: object) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-m", "bridge", "websocket"), env=environment(**settings)
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        assert await process.wait() == 0


@tenacity.retry(
    retry=tenacity.retry_if_exception_type(aiohttp.ClientError),
    wait=tenacity.wait_fixed(0.05),
    stop=tenacity.stop_after_delay(30),
)
async def until_it_answers(port: int) -> None:
    async with (
        aiohttp.ClientSession() as web,
        web.get(f"http://127.0.0.1:{port}/healthz") as answer,
    ):
        assert answer.status == 200


async def test_keys_are_made_listed_and_revoked_and_a_revoked_ones_connections_closed(
    bridges: StartBridge,
) -> None:
    port = free_port()
    bridge = await bridges(comfyui_url=NOWHERE, websocket_listen=f"127.0.0.1:{port}", start=False)
    await bridge.start(ready=False)
    await until_it_answers(port)
    data = bridge.settings["data"]
    status, key, told = await command("keys", "add", "alice", "--name", "phone", data=data)
    assert (status, "alice" in told) == (0, True)
    assert (data / "keys.json").stat().st_mode & 0o777 == 0o600
    assert key.strip().split("_", 2)[2] not in (data / "keys.json").read_text()
    async with Visitor(f"ws://127.0.0.1:{port}/ws", key.strip()) as alice:
        await alice.next("bridge", lambda each: each["state"] == "online")
        answer = await alice.ask("run", workflow="nothing")
        assert answer["error"]["code"] == "unknown_workflow"
        status, table, _ = await command("keys", "list", data=data)
        key_id = key.split("_")[1]
        assert (status, key_id in table, "phone" in table) == (0, True, True)
        assert (await command("keys", "revoke", key_id, data=data))[0] == 0
        assert await alice.closed() == 4401
    assert (await command("keys", "revoke", key_id, data=data))[0] == 1
    assert (await command("keys", "add", "no/name", data=data))[0] == 2


async def test_alone_it_serves_the_same_beside_any_broker(
    broker: Mosquitto, tmp_path: Path
) -> None:
    port = free_port()
    _, key, _ = await command("keys", "add", "alice", data=tmp_path)
    settings = {"websocket_listen": f"127.0.0.1:{port}", "data": tmp_path}
    async with (
        alone(mqtt_url=NOWHERE, websocket_mqtt_url=broker.url, **settings),
        aiohttp.ClientSession() as web,
    ):
        await until_it_answers(port)
        async with Visitor(f"ws://127.0.0.1:{port}/ws", key.strip()) as alice:
            await alice.next("bridge", lambda each: each["state"] == "offline")
            async with web.get(f"http://127.0.0.1:{port}/readyz") as answer:
                assert (answer.status, await answer.text()) == (200, "the bridge is offline\n")
            await broker.kill()
            await alice.next("bridge", lambda each: each["state"] == "unreachable")
            async with web.get(f"http://127.0.0.1:{port}/readyz") as answer:
                assert answer.status == 503
        # A second one cannot have the same address, and says so.
        status, _, told = await command("websocket", mqtt_url=broker.url, **settings)
        assert (status, f"COMFY2MQTT_WEBSOCKET_LISTEN: 127.0.0.1:{port}: " in told) == (2, True)
