"""Bridges of an earlier commit beside those of this one, on one journal: `make test-upgrade`.

The earlier ones are this repository's, of a full clone; their libraries are those of today.
"""

from __future__ import annotations

import asyncio
import io
import json
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from bridge.mosquitto import Mosquitto
from tests.end_to_end.group import Start, member
from tests.support.bridge import ROOT, BridgeProcess
from tests.support.peer import Peer

pytestmark = [pytest.mark.upgrade, pytest.mark.comfyui, pytest.mark.postgresql]

# The last commit whose bridges know neither what the others offer nor what adapters keep.
BEFORE = "df09e9948aae8f0c6ecf22c67cf0fdac59d58644"


@pytest.fixture
async def before(tmp_path: Path) -> Path:
    """The folder of the earlier commit's bridge."""
    process = await asyncio.create_subprocess_exec(
        *("git", "-C", str(ROOT), "archive", "--format=zip", BEFORE, "bridge", "custom_nodes"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    packed, complaint = await process.communicate()
    assert process.returncode == 0, (
        f"commit {BEFORE} is not here ({complaint.decode().strip()}): this test needs the whole "
        "history, git fetch --unshallow"
    )
    folder = tmp_path / "before"
    with zipfile.ZipFile(io.BytesIO(packed)) as files:
        files.extractall(folder)
    return folder


async def become(bridge: BridgeProcess, watcher: Peer, code: Path) -> None:
    """Restart a bridge as the code of a folder has it."""
    name = bridge.settings["member"]
    assert await bridge.stop() == 0
    await member(watcher, name, b"offline")
    bridge.environment["PYTHONPATH"] = str(code)
    await bridge.start(ready=False)
    await member(watcher, name, b"online")


async def test_bridges_are_upgraded_one_after_another_while_jobs_run(
    start: Start, broker: Mosquitto, watcher: Peer, before: Path
) -> None:
    old = {"PYTHONPATH": str(before)}
    members = {name: await start(name, environment=old) for name in ("a", "b")}
    async with Peer(broker.url) as peer:
        await peer.listen()
        asked: list[str] = []
        ran: Counter[str] = Counter()

        async def work(count: int = 8) -> None:
            """Let jobs run while the bridges are as they are now."""
            jobs = [f"j{len(asked) + index}" for index in range(count)]
            asked.extend(jobs)
            for job_id in jobs:
                peer.request(f"run/slow/{job_id}")
            for job_id in jobs:
                result = await peer.result(job_id, timeout_s=60)
                assert (result["state"], result["attempts"]) == ("succeeded", 1)
                ran[result["instance"]] += 1

        await work()
        # Expand: one of today's adds its tables, and works beside the others.
        members["c"] = await start("c")
        await work()
        assert set(ran) == {"a-default", "b-default", "c-default"}
        # The one that takes requests is upgraded; an earlier one may be restarted all the while.
        await become(members["a"], watcher, ROOT)
        await work()
        await become(members["b"], watcher, before)
        await work()
        # And back, should today's be no good.
        await become(members["c"], watcher, before)
        await work()
        # Contract: all are today's.
        for name in ("b", "c"):
            await become(members[name], watcher, ROOT)
        await work()

        listed: list[Any] = (await peer.ask("list", {"limit": 100}))["data"]["jobs"]
        assert sorted(job["job_id"] for job in listed) == sorted(asked)
        # A result may come again after a handover: the same one.
        results = {message.payload for message in peer.of_job("+", "result")}
        assert len(results) == len({json.loads(each)["n"] for each in results}) == len(asked)
        assert all("Traceback" not in each.log for each in members.values())
