"""Accepted means: exactly one outcome, whatever dies in between."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from bridge.comfyui.client import ComfyClient
from bridge.mosquitto import Mosquitto
from tests.conftest import StartBridge
from tests.end_to_end import graphs
from tests.support.bridge import BridgeProcess
from tests.support.comfyui import Server, supervised, wait_for_end
from tests.support.peer import Peer
from tests.support.tcpproxy import TcpProxy

pytestmark = pytest.mark.comfyui


def supervise(**more: Any) -> dict[str, Any]:
    """Settings for a ComfyUI of the bridge's own."""
    config = supervised()
    return {
        "comfyui_path": config.path,
        "comfyui_python": config.python,
        "comfyui_args": "--cpu",
        **more,
    }


def is_running(message: Any) -> bool:
    return bool(message.json["state"] == "running")


def children(pid: int) -> list[int]:
    """Every descendant of a process."""
    found = [
        int(child)
        for task in Path(f"/proc/{pid}/task").iterdir()
        for child in (task / "children").read_text().split()
    ]
    return found + [each for child in found for each in children(child)]


async def outcome(peer: Peer, job_id: str, attempts: int) -> dict[str, Any]:
    """The job succeeds, with its picture, and all its results are the same bytes."""
    result: dict[str, Any] = await peer.result(job_id, timeout_s=120)
    assert result["state"] == "succeeded", result
    assert result["attempts"] == attempts
    output = await peer.job(job_id, "output/0")
    assert hashlib.sha256(output.payload).hexdigest() == result["outputs"][0]["sha256"]
    assert len({message.payload for message in peer.of_job(job_id, "result")}) == 1
    return result


async def test_a_killed_bridge_finds_its_job_at_an_attached_comfyui(
    attached: StartBridge, broker: Mosquitto
) -> None:
    bridge = await attached({"slow": graphs.slow(1.5)})
    async with Peer(broker.url) as peer:
        await peer.listen()
        for job_id in ("j1", "j2", "j3"):  # one runs, one waits at ComfyUI, one in the journal
            peer.request(f"run/slow/{job_id}")
        await peer.job("j1", "status", is_running)
        await peer.no_position("j2")
        await bridge.kill()
        await bridge.start()
        for job_id in ("j1", "j2", "j3"):
            await outcome(peer, job_id, attempts=1)  # adopted, not run a second time
        await peer.ask("list")
        assert len(peer.of_job("j1", "result")) == 1


async def test_a_job_that_ended_while_the_bridge_was_dead_is_adopted(
    attached: StartBridge, broker: Mosquitto, comfyui: Server
) -> None:
    bridge = await attached({"slow": graphs.slow(0.5)})
    async with Peer(broker.url) as peer:
        await peer.listen()
        peer.request("run/slow/j1")
        await peer.job("j1", "status", is_running)
        await bridge.kill()
        await idle(comfyui)
        await bridge.start()
        await outcome(peer, "j1", attempts=1)


async def idle(comfyui: Server) -> None:
    """Wait until ComfyUI's queue is empty."""
    async with ComfyClient(comfyui.url) as client:
        while (queue := await client.queue()).running or queue.pending:  # noqa: ASYNC110 - below
            await asyncio.sleep(0.05)  # ComfyUI tells of its end nobody but the dead bridge


async def test_a_killed_bridge_takes_its_comfyui_along_and_runs_the_job_again(
    bridges: StartBridge, broker: Mosquitto
) -> None:
    bridge: BridgeProcess = await bridges(workflows={"demo": _slow_demo()}, **supervise())
    async with Peer(broker.url) as peer:
        await peer.listen()
        peer.request("run/demo/j1")
        for _ in range(2):  # a fifth of a second apart: its attempt is on disk
            await peer.job("j1", "progress")
        family = children(bridge.pid)
        assert family
        await bridge.kill()
        assert all(wait_for_end(pid) for pid in family)
        await bridge.start()
        await outcome(peer, "j1", attempts=2)

        family = children(bridge.pid)
        assert await bridge.stop() == 0
        assert all(wait_for_end(pid) for pid in family)
        state = await peer_state(broker.url)
        assert state == b"offline"
        # What ComfyUI saved for us is gone.
        assert list((bridge.folder / "data/comfyui/default/output").rglob("*.png")) == []


async def peer_state(url: str) -> bytes:
    async with Peer(url) as peer:
        await peer.subscribe("comfy2mqtt/bridge/state")
        return (await peer.next("comfy2mqtt/bridge/state")).payload


def _slow_demo() -> dict[str, Any]:
    """The painter of our package, which every supervised ComfyUI has, busy for some seconds."""
    return {
        "1": {"class_type": "Comfy2MQTTSeedInput", "inputs": {"name": "seed", "value": 0}},
        "2": {
            "class_type": "Comfy2MQTTPainter",
            "inputs": {"prompt": "x", "seed": ["1", 0], "width": 512, "height": 512, "steps": 20},
        },
        "3": {
            "class_type": "Comfy2MQTTImageOutput",
            "inputs": {"images": ["2", 0], "name": "picture", "format": "PNG", "quality": 90},
        },
    }


async def test_a_killed_comfyui_is_started_again_and_the_job_with_it(
    bridges: StartBridge, broker: Mosquitto
) -> None:
    bridge: BridgeProcess = await bridges(workflows={"demo": _slow_demo()}, **supervise())
    async with Peer(broker.url) as peer:
        await peer.listen()
        await peer.subscribe("comfy2mqtt/bridge/comfyui/+")
        peer.request("run/demo/j1")
        await peer.job("j1", "status", is_running)
        (comfyui,) = (pid for pid in children(bridge.pid) if is_comfyui(pid))
        os.kill(comfyui, signal.SIGKILL)
        restarting = await peer.next(
            "comfy2mqtt/bridge/comfyui/default", lambda m: m.json["state"] == "restarting"
        )
        assert "SIGKILL" in restarting.json["last_error"]
        await outcome(peer, "j1", attempts=2)
        states = [message.json["state"] for message in peer.of_job("j1", "status")]
        # While ComfyUI starts for long, the job's status says why it waits.
        assert [state for state, _ in groupby(states)] == ["queued", "running"] * 2
        reasons = [message.json.get("reason") for message in peer.of_job("j1", "status")]
        assert reasons[2]


def is_comfyui(pid: int) -> bool:
    arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return arguments[1].endswith(b"main.py")


@pytest.mark.parametrize("workflow", ["ours", "plain"])
async def test_a_cut_socket_costs_no_output(
    bridges: StartBridge, broker: Mosquitto, comfyui: Server, workflow: str
) -> None:
    """Cut while it runs; before, during and after the output are in tests/comfyui."""
    slow = graphs.slow(1.0)
    if workflow == "plain":
        last = next(node for node in slow.values() if "Output" in node["class_type"])
        last["class_type"] = "SaveImage"
        last["inputs"] = {"images": last["inputs"]["images"], "filename_prefix": "x"}
    async with TcpProxy(comfyui.url) as proxy:
        await bridges(
            workflows={"slow": slow}, comfyui_url=proxy.url, comfyui_secret=comfyui.secret
        )
        async with Peer(broker.url) as peer:
            await peer.listen()
            peer.request("run/slow/j1")
            await peer.job("j1", "status", is_running)
            proxy.cut()
            await outcome(peer, "j1", attempts=1)


async def test_a_restarted_broker_loses_no_result(attached: StartBridge, broker: Mosquitto) -> None:
    await attached({"slow": graphs.slow(1.0)})
    async with Peer(broker.url) as peer:
        await peer.listen()
        peer.request("run/slow/j1")
        await peer.job("j1", "status", is_running)
    await broker.kill()
    await broker.start()
    async with Peer(broker.url) as peer:
        await peer.listen()
        await outcome_after_restart(peer)


async def outcome_after_restart(peer: Peer) -> None:
    view = (await peer.ask("status", "j1"))["data"]
    if view["state"] == "running":
        await peer.result("j1")
        view = (await peer.ask("status", "j1"))["data"]
    assert view["state"] == "succeeded"
    assert view["result"]["attempts"] == 1


async def test_a_result_that_nobody_was_there_for_is_listed_until_acked(
    attached: StartBridge, broker: Mosquitto
) -> None:
    bridge = await attached({"colour": graphs.colour()})
    async with Peer(broker.url) as peer:
        await peer.listen()
        peer.request("run/colour/j1", {"colour": 1})
        first = await peer.result("j1")
    await bridge.stop()
    await bridge.start()
    async with Peer(broker.url) as peer:
        await peer.listen()
        page = (await peer.ask("list", {"after": 0}))["data"]
        assert [job["result"] for job in page["jobs"]] == [first]
        assert page["more"] is False
        assert page["jobs"][0]["acked"] is False
        assert (await peer.ask("ack", {"up_to": first["n"]}))["data"]["acked"] == 1
        page = (await peer.ask("list", {"after": 0}))["data"]
        assert page["jobs"][0]["acked"] is True
        peer.request("run/colour/j2", {"colour": 2})
        second = await peer.result("j2")
        assert second["n"] > first["n"]
        part = await peer.ask("fetch", {"job_id": "j1", "offset": 8, "inline": True})
        assert part["data"]["size"] == first["outputs"][0]["size"]


@pytest.mark.parametrize("with_id", [False, True])
@pytest.mark.parametrize("killed", [False, True])
async def test_a_request_between_commit_and_acknowledgement_is_one_job(
    bridges: StartBridge, broker: Mosquitto, comfyui: Server, *, with_id: bool, killed: bool
) -> None:
    """The journal has the job, but neither the answer nor the PUBACK reaches the broker."""
    async with TcpProxy(broker.url) as proxy, Peer(broker.url) as peer:
        bridge: BridgeProcess = await bridges(
            workflows={"slow": graphs.slow(0.3)},
            mqtt_url=proxy.url.replace("http", "mqtt"),
            comfyui_url=comfyui.url,
            comfyui_secret=comfyui.secret,
        )
        await peer.listen()
        proxy.swallow_request(PUBLISH_AT_QOS_1)  # the answer, written once the job is on disk
        peer.request("run/slow/j1" if with_id else "run/slow")
        await proxy.was_closed()
        if killed:
            await bridge.kill()
            await bridge.start()
        answer = (await peer.response("run")).json
        assert answer["data"]["duplicate"] is True
        job_id = answer["data"]["job_id"]
        assert (await peer.result(job_id))["state"] == "succeeded"
        assert [job["job_id"] for job in (await peer.ask("list"))["data"]["jobs"]] == [job_id]


# The first byte of such a packet (MQTT 5, 3.3.1).
PUBLISH_AT_QOS_1 = b"\x32"
