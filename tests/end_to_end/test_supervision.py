"""A supervised ComfyUI gone wrong in ways that HTTP does not show, and the jobs in it."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from bridge.mosquitto import Mosquitto
from tests.conftest import StartBridge
from tests.end_to_end import graphs
from tests.end_to_end.test_faults import children, idle, is_comfyui, is_running, supervise
from tests.support.bridge import BridgeProcess
from tests.support.comfyui import (
    FAULT_NODES,
    Graph,
    Server,
    image,
    our_output,
    then,
    wait_for_end,
)
from tests.support.peer import Peer
from tests.support.tcpproxy import TcpProxy

pytestmark = pytest.mark.comfyui

SILENCE_S = 2


def with_faults(tmp_path: Path, **more: Any) -> dict[str, Any]:
    """Settings for a ComfyUI of the bridge's own that has the nodes which fail."""
    paths = tmp_path / "faults.yaml"
    paths.write_text(json.dumps({"faults": {"custom_nodes": str(FAULT_NODES)}}))
    args = f"--cpu --extra-model-paths-config {paths}"
    return supervise(comfyui_args=args, silence_s=SILENCE_S, **more)


def faulty(fault: str, **inputs: Any) -> Graph:
    return our_output(then(image(size=16), fault, **inputs))


class Watched:
    """A bridge, its ComfyUI's process, and its published states."""

    def __init__(self, bridge: BridgeProcess, peer: Peer) -> None:
        self._bridge = bridge
        self._peer = peer

    @property
    def comfyui(self) -> int:
        (pid,) = (pid for pid in children(self._bridge.pid) if is_comfyui(pid))
        return pid

    async def restarted(self, reason: str) -> None:
        told = await self._peer.next(
            "comfy2mqtt/bridge/comfyui/default", lambda m: m.json["state"] == "restarting"
        )
        assert told.json["reason"] == reason
        assert told.json["last_error"]


@pytest.mark.timeout(420)
async def test_what_http_does_not_show_is_noticed_recognized_and_repaired(
    bridges: StartBridge, broker: Mosquitto, tmp_path: Path
) -> None:
    """One bridge for all: each fault costs a start of ComfyUI."""
    workflows = {
        "exit": faulty("TestExit", once_file=str(tmp_path / "exited")),
        "hang": faulty("TestHang", seconds=600),
        "memory": faulty("TestOutOfMemory", times=1),
        "slow": graphs.slow(1.0),
    }
    bridge: BridgeProcess = await bridges(workflows=workflows, **with_faults(tmp_path))
    async with Peer(broker.url) as peer:
        await peer.listen()
        await peer.subscribe("comfy2mqtt/bridge/comfyui/+")
        watched = Watched(bridge, peer)

        # The worker thread ends; a job that waits behind is none the worse for it.
        peer.request("run/exit/exit")
        await peer.job("exit", "status", is_running)
        peer.request("run/slow/behind")
        await watched.restarted("worker_dead")
        exited = await peer.result("exit")
        assert (exited["state"], exited["attempts"]) == ("succeeded", 2)
        behind = await peer.result("behind")
        assert (behind["state"], behind["attempts"]) == ("succeeded", 1)

        # Frozen while it works: the job runs again.
        peer.request("run/slow/frozen")
        await peer.job("frozen", "status", is_running)
        frozen = watched.comfyui
        os.kill(frozen, signal.SIGSTOP)
        await watched.restarted("frozen")
        assert wait_for_end(frozen)
        result = await peer.result("frozen")
        assert (result["state"], result["attempts"]) == ("succeeded", 2)

        # A hang in C: no interrupt helps, and another attempt would not.
        peer.request("run/hang/hung")
        await peer.job("hung", "status", is_running)
        await watched.restarted("hung")
        hung = await peer.result("hung")
        assert (hung["state"], hung["error"]["code"]) == ("failed", "timeout")
        assert hung["error"]["details"]["silence_s"] == SILENCE_S

        # Memory of the GPU: freed, and tried once more, in the same process.
        peer.request("run/memory/memory")
        memory = await peer.result("memory")
        assert (memory["state"], memory["attempts"]) == ("succeeded", 2)

        family = children(bridge.pid)
        assert await bridge.stop() == 0
        assert all(wait_for_end(pid) for pid in family)
    assert "ComfyUI default | " in bridge.log  # its last lines


async def test_jobs_wait_with_a_reason_while_an_attached_comfyui_is_away(
    bridges: StartBridge, broker: Mosquitto, comfyui: Server
) -> None:
    async with TcpProxy(comfyui.url) as proxy, Peer(broker.url) as peer:
        await bridges(
            workflows={"colour": graphs.colour()},
            comfyui_url=proxy.url,
            comfyui_secret=comfyui.secret,
        )
        await peer.listen()
        await peer.subscribe("comfy2mqtt/bridge/comfyui/+")
        proxy.refuse()
        proxy.cut()
        away = await peer.next(
            "comfy2mqtt/bridge/comfyui/default", lambda m: m.json["state"] == "unreachable"
        )
        assert away.json["reason"] == "unreachable"
        await peer.ask("run/colour/j1")
        status = (await peer.job("j1", "status")).json
        assert (status["state"], status["reason"]) == (
            "queued",
            "ComfyUI default is unreachable",
        )
        assert (await peer.ask("status", "j1"))["data"]["reason"] == status["reason"]
        peer.request("run/colour/j2", {"$start_within_s": 0.5})
        assert (await peer.result("j2"))["state"] == "expired"
        proxy.open()
        assert (await peer.result("j1"))["state"] == "succeeded"


async def test_an_attached_comfyui_that_hangs_gets_no_more_jobs_until_it_is_through(
    attached: StartBridge, broker: Mosquitto
) -> None:
    await attached(
        {"hang": faulty("TestHang", seconds=8), "colour": graphs.colour()}, silence_s=SILENCE_S
    )
    async with Peer(broker.url) as peer:
        await peer.listen()
        await peer.subscribe("comfy2mqtt/bridge/comfyui/+")
        peer.request("run/hang/hung")
        hung = await peer.result("hung")
        assert (hung["state"], hung["error"]["code"]) == ("failed", "timeout")
        stuck = await peer.next("comfy2mqtt/bridge/comfyui/default", lambda m: "reason" in m.json)
        assert (stuck.json["state"], stuck.json["reason"]) == ("busy", "hung")
        peer.request("run/colour/j1")
        status = (await peer.job("j1", "status")).json
        assert status["reason"] == "ComfyUI default takes no jobs"
        assert (await peer.result("j1"))["state"] == "succeeded"


async def test_a_silent_job_that_heeds_an_interrupt_costs_nothing_but_itself(
    attached: StartBridge, broker: Mosquitto
) -> None:
    # Silent for three seconds at a time; then it looks whether it is to stop.
    silent = faulty("TestSleep", seconds=60.0, step=3.0)
    await attached({"silent": silent, "colour": graphs.colour()}, silence_s=SILENCE_S)
    async with Peer(broker.url) as peer:
        await peer.listen()
        peer.request("run/silent/silent")
        await peer.job("silent", "status", is_running)
        peer.request("run/colour/j1")
        silent = await peer.result("silent")
        assert (silent["state"], silent["error"]["code"]) == ("failed", "timeout")
        assert (await peer.result("j1"))["attempts"] == 1


async def test_a_job_at_an_attached_comfyui_that_is_away_for_long_is_not_run_twice(
    bridges: StartBridge, broker: Mosquitto, comfyui: Server
) -> None:
    async with TcpProxy(comfyui.url) as proxy, Peer(broker.url) as peer:
        await bridges(
            workflows={"slow": graphs.slow(2.0)},
            comfyui_url=proxy.url,
            comfyui_secret=comfyui.secret,
            silence_s=0.5,
        )
        await peer.listen()
        peer.request("run/slow/j1")
        await peer.job("j1", "status", is_running)
        proxy.refuse()
        proxy.cut()
        await idle(comfyui)
        proxy.open()
        result = await peer.result("j1")
        assert (result["state"], result["attempts"]) == ("succeeded", 1)
