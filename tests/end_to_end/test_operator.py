"""Admin commands over MQTT and from the shell."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from bridge.mosquitto import Mosquitto
from tests.conftest import StartBridge
from tests.end_to_end import graphs
from tests.end_to_end.test_by_hand import output_of
from tests.end_to_end.test_faults import children, is_comfyui, is_running
from tests.end_to_end.test_supervision import with_faults
from tests.support.bridge import BridgeProcess
from tests.support.comfyui import wait_for_end
from tests.support.peer import Message, Peer, no_more

pytestmark = pytest.mark.comfyui

BRIDGE = "comfy2mqtt/bridge"


class Operator:
    """Sends commands, and waits for their answers and for states."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer

    async def listen(self) -> None:
        await self.peer.listen()
        await self.peer.subscribe(f"{BRIDGE}/response/#", f"{BRIDGE}/comfyui/+", f"{BRIDGE}/log")

    async def command(self, verb: str, payload: Any = b"", **options: Any) -> Any:
        self.peer.publish(f"{BRIDGE}/request/{verb}", payload, **options)
        return (await self.peer.next(f"{BRIDGE}/response/{verb}")).json

    async def done(self, verb: str, payload: Any = b"") -> Any:
        answer = await self.command(verb, payload)
        assert answer["status"] == "ok", answer
        return answer["data"]

    async def refused(self, verb: str, payload: Any = b"", **options: Any) -> str:
        answer = await self.command(verb, payload, **options)
        assert answer["status"] == "error"
        return str(answer["error"]["code"])

    async def state(self, *states: str) -> Message:
        return await self.peer.next(
            f"{BRIDGE}/comfyui/default", lambda message: message.json["state"] in states
        )


async def test_the_queue_can_be_stopped_looked_at_and_cleared(
    attached: StartBridge, broker: Mosquitto
) -> None:
    await attached({"colour": graphs.colour()})
    async with Peer(broker.url) as peer:
        operator = Operator(peer)
        await operator.listen()
        assert await operator.done("queue/pause") == {"paused": True}
        for job_id in ("j1", "j2", "j3"):
            await peer.ask(f"run/colour/{job_id}")
        listed = await operator.done("queue/list", {"limit": 2})
        assert (listed["paused"], listed["queued"], listed["running"]) == (True, 3, 0)
        assert [(each["job_id"], each["position"]) for each in listed["jobs"]] == [
            ("j1", 0),
            ("j2", 1),
        ]
        assert listed["more"] is True
        assert (await operator.done("queue/list", "nobody"))["jobs"] == []

        command = (sys.executable, "-m", "bridge", "queue", "--mqtt-url", broker.url)
        shown = await output_of(*command)
        assert "0 at ComfyUI, 3 queued, paused" in shown
        assert "j3" in shown

        assert await operator.done("queue/clear", "nobody") == {"cancelled": 0}
        assert await operator.done("queue/clear") == {"cancelled": 3}
        assert (await peer.result("j2"))["state"] == "cancelled"
        peer.request("run/colour/j4")
        await peer.response("run")
        told = json.loads(await output_of(*command, "resume", "--json"))
        assert told == {"paused": False}
        assert (await peer.result("j4"))["state"] == "succeeded"


async def test_every_order_is_answered_also_one_that_is_wrong(
    attached: StartBridge, broker: Mosquitto
) -> None:
    await attached({"colour": graphs.colour()})
    async with Peer(broker.url) as peer:
        operator = Operator(peer)
        await operator.listen()
        assert await operator.refused("nonsense/verb") == "bad_request"
        assert await operator.refused("comfyui/yield", b"{broken") == "bad_request"
        assert await operator.refused("comfyui/yield", b"nobody") == "bad_request"
        assert await operator.refused("queue/clear", b"x" * 100) == "bad_request"
        assert await operator.refused("queue/pause", retain=True) == "bad_request"
        assert await operator.refused("queue/pause", ResponseTopic="other/topic") == "forbidden"
        # It is somebody's, who works there too.
        for verb in ("start", "stop", "restart", "free"):
            assert await operator.refused(f"comfyui/{verb}") == "forbidden"
        answer = await operator.command("health_check", {"transaction": "t1"})
        assert answer["transaction"] == "t1"
        health = answer["data"]
        assert (health["healthy"], health["paused"]) == (True, False)
        assert health["comfyui"]["default"]["state"] in ("ready", "busy")
        assert await operator.done("log_level", b"debug") == {"level": "debug"}
        shown = await output_of(
            *(sys.executable, "-m", "bridge", "comfyui", "stop", "--mqtt-url", broker.url), status=1
        )
        assert "attached" in shown


async def test_an_attached_comfyui_can_be_left_to_others(
    attached: StartBridge, broker: Mosquitto
) -> None:
    await attached({"slow": graphs.slow(0.5)})
    async with Peer(broker.url) as peer:
        operator = Operator(peer)
        await operator.listen()
        await peer.ask("run/slow/j1")
        await peer.job("j1", "status", is_running)
        await operator.done("comfyui/yield", b"default")
        await operator.state("yielded")
        assert (await peer.result("j1"))["attempts"] == 1  # it was to finish
        with no_more(peer, "comfy2mqtt/client/alice/job/j2/result"):
            await peer.ask("run/slow/j2")
            health = await operator.done("health_check")
            assert (health["healthy"], health["queued"]) == (False, 1)
        await operator.done("comfyui/resume")
        assert (await peer.result("j2"))["state"] == "succeeded"


async def test_the_folder_is_read_again_and_what_is_wrong_there_reported(
    attached: StartBridge, broker: Mosquitto
) -> None:
    bridge: BridgeProcess = await attached({"colour": graphs.colour()})
    async with Peer(broker.url) as peer:
        operator = Operator(peer)
        await operator.listen()
        (bridge.workflows / "broken.json").write_text("{")
        report = await operator.done("workflows/reload")
        assert report["workflows"] == ["colour"]
        assert "broken.json" in report["broken"][0]
        line = (await peer.next(f"{BRIDGE}/log")).json
        assert line["level"] == "warning"
        assert "broken.json" in line["message"]


@pytest.mark.timeout(420)
async def test_a_supervised_comfyui_is_yielded_stopped_and_started(
    bridges: StartBridge, broker: Mosquitto, tmp_path: Path
) -> None:
    bridge: BridgeProcess = await bridges(
        workflows={"slow": graphs.slow(1.5), "long": graphs.slow(60.0)}, **with_faults(tmp_path)
    )
    async with Peer(broker.url) as peer:
        operator = Operator(peer)
        await operator.listen()
        for job_id in ("j1", "j2", "j3"):
            peer.request(f"run/slow/{job_id}")
        await peer.job("j1", "status", is_running)
        shown = await operator.done("comfyui/yield", {"finish": False})
        assert shown["instances"]["default"]["yielding"] is True
        for job_id in ("j1", "j2"):  # one ran, one waited behind it
            back = await peer.job(job_id, "status", lambda message: "reason" in message.json)
            assert "operator" in back.json["reason"]
        await operator.state("yielded")
        (comfyui,) = (pid for pid in children(bridge.pid) if is_comfyui(pid))

        # Its process is there, and gets nothing; stopped, it is gone.
        with no_more(peer, "comfy2mqtt/client/alice/job/+/result"):
            assert (await operator.done("queue/list"))["queued"] == 3
            await operator.done("comfyui/stop")
            await operator.state("stopped")
            assert wait_for_end(comfyui)
            await operator.done("comfyui/resume")
        await operator.done("comfyui/start")
        await operator.state("starting")
        results = [await peer.result(job_id) for job_id in ("j1", "j2", "j3")]
        assert [result["state"] for result in results] == ["succeeded"] * 3
        assert [result["attempts"] for result in results] == [2, 1, 1]

        assert list(await operator.done("comfyui/free")) == ["instances"]
        peer.request("run/long/j4")
        await peer.job("j4", "status", is_running)
        command = (sys.executable, "-m", "bridge", "comfyui", "restart", "default")
        shown = await output_of(*command, "--mqtt-url", broker.url)
        assert "default" in shown
        await operator.state("starting")
        await peer.job("j4", "status", is_running)
        await peer.ask("cancel", "j4")
        result = await peer.result("j4")
        assert (result["state"], result["attempts"]) == ("cancelled", 2)
        family = children(bridge.pid)
        assert await bridge.stop() == 0
        assert all(wait_for_end(pid) for pid in family)


async def test_one_that_was_given_up_is_explained_and_tried_on_command(
    bridges: StartBridge, broker: Mosquitto, tmp_path: Path
) -> None:
    place = tmp_path / "ComfyUI"
    place.mkdir()
    (place / "main.py").write_text("import time; time.sleep(600)")
    python = tmp_path / "python"
    bridge: BridgeProcess = await bridges(
        workflows={"colour": graphs.colour()},
        comfyui_path=place,
        comfyui_python=python,
        start=False,
    )
    await bridge.start(ready=False)
    async with Peer(broker.url) as peer:
        operator = Operator(peer)
        await operator.listen()
        given_up = (await operator.state("crash_loop")).json
        assert given_up["reason"] == "no_interpreter"
        told = await output_of(
            *(sys.executable, "-m", "bridge", "doctor", "--mqtt-url", broker.url),
            *("--workflows", str(bridge.workflows), "--data", str(tmp_path / "data")),
            *("--comfyui-path", str(place)),
            status=1,
        )
        assert "is crash_loop" in told
        assert "comfy2mqtt comfyui start default" in told
        python.symlink_to(sys.executable)
        await operator.done("comfyui/start")
        await operator.state("starting")
