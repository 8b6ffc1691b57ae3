"""A full disk: work is refused, nothing accepted is lost, and the bridge continues."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from bridge.mosquitto import Mosquitto
from tests.conftest import StartBridge
from tests.end_to_end import graphs
from tests.support.peer import Message, Peer

pytestmark = pytest.mark.comfyui


def running(message: Message) -> bool:
    return bool(message.json["state"] == "running")


async def test_a_full_disk_refuses_work_and_costs_no_outcome(
    attached: StartBridge, broker: Mosquitto
) -> None:
    bridge = await attached({"slow": graphs.slow(0.8), "colour": graphs.colour()})
    soft, hard = resource.prlimit(bridge.pid, resource.RLIMIT_FSIZE)
    async with Peer(broker.url) as peer:
        await peer.listen()
        await peer.ask("run/slow/j1")
        await peer.job("j1", "status", running)
        # No file may grow any more: to the bridge that is a full disk.
        resource.prlimit(bridge.pid, resource.RLIMIT_FSIZE, (1, hard))
        refused = await peer.ask("run/colour/j2")
        assert refused["error"]["code"] == "busy"
        assert "disk" in refused["error"]["message"]
        assert (await peer.ask("upload/u1", b"x" * 100))["error"]["code"] == "busy"
        # What runs ends, and is shown; that it ended cannot be written yet.
        await peer.job("j1", "output/0")
        assert (await peer.ask("status", "j1"))["data"]["state"] != "queued"
        assert not peer.of_job("j1", "result")
        resource.prlimit(bridge.pid, resource.RLIMIT_FSIZE, (soft, hard))
        assert (await peer.result("j1"))["state"] == "succeeded"
        assert (await peer.ask("run/colour/j2"))["status"] == "ok"
        assert (await peer.result("j2"))["state"] == "succeeded"
        await bridge.kill()
        await bridge.start()
        jobs = (await peer.ask("list"))["data"]["jobs"]
        assert [job["state"] for job in jobs] == ["succeeded", "succeeded"]


async def test_a_full_disk_at_comfyui_costs_no_job_which_waits_and_says_why(
    attached: StartBridge, broker: Mosquitto, tmp_path: Path
) -> None:
    tally = tmp_path / "tally"
    tally.symlink_to("/dev/full")
    await attached({"saved": graphs.tallied(tally)})
    async with Peer(broker.url) as peer:
        await peer.listen()
        await peer.ask("run/saved/j1")
        waits = await peer.job(
            "j1", "status", lambda message: "no room" in (message.json.get("reason") or "")
        )
        assert waits.json["state"] == "queued"
        assert not peer.of_job("j1", "result")
        tally.unlink()
        assert (await peer.result("j1"))["state"] == "succeeded"
    assert tally.read_text()
