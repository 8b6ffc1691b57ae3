"""Backup and restore as an operator does it, with the command line."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from bridge.mosquitto import Mosquitto
from tests.conftest import StartBridge
from tests.end_to_end import graphs
from tests.end_to_end.test_operator import Operator
from tests.support.peer import Peer

pytestmark = pytest.mark.comfyui


async def comfy2mqtt(*words: str, status: int = 0) -> str:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bridge", *words),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == status, output.decode()
    return output.decode()


async def test_after_a_restore_unfinished_jobs_are_lost_and_none_runs_again(
    attached: StartBridge, broker: Mosquitto, tmp_path: Path
) -> None:
    bridge = await attached({"colour": graphs.colour(), "slow": graphs.slow(1.0)})
    data, file = bridge.folder / "data", tmp_path / "backup.tar"
    async with Peer(broker.url) as peer:
        operator = Operator(peer)
        await operator.listen()
        await peer.ask("run/colour/done", {"colour": 1, "size": 512})
        done = await peer.job("done", "result")
        # They have not ended when the backup is made, however long the command takes to start.
        await operator.done("queue/pause")
        for job_id in ("s1", "s2", "s3"):
            await peer.ask(f"run/slow/{job_id}")
        told = await comfy2mqtt("backup", str(file), "--data", str(data))
        assert "4 jobs" in told
        await operator.done("queue/resume")
        for job_id in ("s1", "s2", "s3"):
            assert (await peer.result(job_id))["state"] == "succeeded"
        last = (await peer.ask("list"))["data"]["jobs"][-1]["n"]
        await bridge.stop()

        refused = await comfy2mqtt("restore", str(file), "--data", str(data), status=1)
        assert "move it away" in refused
        data.rename(tmp_path / "old")
        told = await comfy2mqtt("restore", str(file), "--data", str(data))
        assert "lost" in told
        await bridge.start()
        jobs = {job["job_id"]: job for job in (await peer.ask("list"))["data"]["jobs"]}
        for job_id in ("s1", "s2", "s3"):
            assert jobs[job_id]["state"] == "failed"
            assert jobs[job_id]["result"]["error"]["code"] == "lost"
            assert jobs[job_id]["n"] > last
        assert jobs["done"]["result"] == done.json
        again = (await peer.ask("run/slow/s1"))["data"]
        assert (again["duplicate"], again["state"]) == (True, "failed")
        part = await peer.ask("fetch", {"job_id": "done", "inline": True})
        assert part["data"]["sha256"] == done.json["outputs"][0]["sha256"]
