"""Several bridges do together what one does: each feature, with real bridges on one journal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from bridge.comfyui.settings import OUR_NODES
from bridge.mosquitto import Mosquitto
from tests.end_to_end import graphs
from tests.end_to_end.group import BRIDGE, Commands, Start, member
from tests.support.comfyui import Server, running_server, supervised
from tests.support.peer import Peer

pytestmark = [pytest.mark.comfyui, pytest.mark.postgresql]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A ComfyUI without the nodes of the workflow `slow`."""
    config = msgspec.structs.replace(supervised(), custom_nodes=(OUR_NODES,))
    with running_server(config, tmp_path_factory.mktemp("plain")) as server:
        yield server


async def command(watcher: Peer, verb: str, payload: Any = b"") -> Any:
    """Send an operator's command; returns its answer's data."""
    return await Commands(watcher).done(verb, payload)


async def yields(watcher: Peer, comfyui: str) -> None:
    await command(watcher, "comfyui/yield", comfyui)
    await watcher.next(f"{BRIDGE}/comfyui/{comfyui}", lambda m: m.json["state"] == "yielded")


async def test_a_request_is_refused_only_if_no_bridge_can_run_it(
    start: Start, plain: Server, broker: Mosquitto, watcher: Peer
) -> None:
    await start("a", comfyui_url=plain.url, comfyui_secret=plain.secret)
    await watcher.subscribe("comfy2mqtt/workflow/slow")
    async with Peer(broker.url) as peer:
        await peer.listen()
        lacking = await watcher.next("comfy2mqtt/workflow/slow", lambda m: "runnable" in m.json)
        assert lacking.json["runnable"] is False
        refused = (await peer.ask("run/slow/early"))["error"]
        assert "TestSleep" in refused["details"]["missing"]["nodes"]
        other = await start("b")
        await watcher.next("comfy2mqtt/workflow/slow", lambda m: m.json.get("runnable") is True)
        peer.request("run/slow/one")
        assert (await peer.result("one"))["instance"] == "b-default"
        # While that bridge is away its jobs wait for it.
        await other.stop()
        await member(watcher, "b", b"offline")
        dry = await peer.ask("submit", {"workflow": "slow", "dry_run": True})
        assert dry["data"]["instances"] == ["b-default"]
        assert (await peer.ask("run/slow/two"))["status"] == "ok"
        waiting = await peer.job("two", "status")
        assert waiting.json["reason"] == "ComfyUI b-default is away"
        await other.start(ready=False)
        assert (await peer.result("two"))["instance"] == "b-default"


async def test_the_queue_its_pause_and_its_bounds_are_the_groups_over_a_failover(
    start: Start, broker: Mosquitto, watcher: Peer
) -> None:
    bounds = {"clients": {"alice": {"max_queue": 3}}}
    first = await start("a", **bounds)
    for name in ("b", "c"):
        await start(name, **bounds)
    async with Peer(broker.url) as peer:
        await peer.listen()
        assert (await command(watcher, "queue/pause"))["paused"]
        jobs = [f"j{index}" for index in range(3)]
        for job_id in jobs:
            assert (await peer.ask(f"run/slow/{job_id}"))["status"] == "ok"
        assert (await peer.ask("run/slow/more"))["error"]["code"] == "quota_exceeded"
        await first.kill()
        await member(watcher, "a", b"offline")
        listed = await command(watcher, "queue/list")
        assert (listed["paused"], listed["queued"]) == (True, 3)
        assert [job["job_id"] for job in listed["jobs"]] == jobs
        assert (await peer.ask("run/slow/more"))["error"]["code"] == "quota_exceeded"
        assert not (await command(watcher, "queue/resume"))["paused"]
        assert {(await peer.result(job_id))["state"] for job_id in jobs} == {"succeeded"}

        health = await command(watcher, "health_check")
        assert set(health["comfyui"]) == {"b-default", "c-default"}
        assert health["healthy"]

        # Cleared by whoever takes the requests now, also what another one released.
        await command(watcher, "queue/pause")
        for job_id in ("k1", "k2"):
            peer.request(f"run/slow/{job_id}")
            await peer.job(job_id, "status", lambda m: m.json["state"] == "queued")
        assert (await command(watcher, "queue/clear"))["cancelled"] == 2
        for job_id in ("k1", "k2"):
            assert (await peer.result(job_id))["state"] == "cancelled"
        await command(watcher, "queue/resume")


async def test_the_bridge_that_takes_requests_counts_with_the_others_comfyuis(
    start: Start, broker: Mosquitto, watcher: Peer
) -> None:
    for name in ("a", "b"):
        await start(name)
    async with Peer(broker.url) as peer:
        await peer.listen()
        # It never runs one itself, and knows from the other how long one takes.
        await yields(watcher, "a-default")
        peer.request("run/slow/first")
        await peer.result("first")
        found: Any = {}
        while "eta_s" not in found:
            found = (await peer.ask("submit", {"workflow": "slow", "dry_run": True}))["data"]
        assert 0.3 < found["eta_s"] < 30
        # What the other one counts is part of the group's health; each has its own, which it
        # publishes when the queue is paused or resumed.
        assert (await command(watcher, "queue/pause"))["paused"]
        own = await watcher.next(f"{BRIDGE}/health/b", lambda m: m.json["succeeded"] == 1)
        assert own.json["held"] == "the operator paused the queue"
        await command(watcher, "queue/resume")
        whole = await watcher.next(f"{BRIDGE}/health", lambda m: m.json["succeeded"] == 1)
        assert whole.json["running"] == 0
        own = await watcher.next(f"{BRIDGE}/health/a", lambda m: not m.json["paused"])
        assert own.json["succeeded"] == 0
        health = await command(watcher, "health_check")
        assert (health["healthy"], health["succeeded"]) == (True, 1)
        assert health["comfyui"]["a-default"]["state"] == "yielded"
        assert health["comfyui"]["b-default"]["state"] in ("ready", "busy")


async def test_a_trigger_runs_one_job_for_each_event_over_a_failover(
    start: Start, broker: Mosquitto
) -> None:
    settings = {
        "trigger": [{"name": "door", "topic": "door/+", "workflow": "colour", "show": "hall"}],
        "display": [{"name": "hall", "clients": ["triggers"]}],
    }
    first = await start("a", **settings)
    for name in ("b", "c"):
        await start(name, **settings)
    async with Peer(broker.url, client="triggers") as peer:
        await peer.listen()
        await peer.subscribe("comfy2mqtt/display/#")
        for index in range(4):
            peer.publish(f"door/{index}", "open")
        ended = {(await peer.job("+", "result")).json["job_id"]}
        await first.kill()
        for index in range(4, 8):
            peer.publish(f"door/{index}", "open")
        while len(ended) < 8:  # some may come again after the failover
            ended.add((await peer.job("+", "result")).json["job_id"])
        await peer.next("comfy2mqtt/display/hall/image")
        jobs = (await peer.ask("list", {"limit": 100}))["data"]["jobs"]
        assert len(jobs) == 8
        assert {job["state"] for job in jobs} == {"succeeded"}


async def test_a_bridge_that_is_stopped_for_maintenance_ends_its_jobs_and_leaves_the_rest(
    start: Start, broker: Mosquitto, watcher: Peer
) -> None:
    slow = {"slow": graphs.slow(3.0), "colour": graphs.colour()}
    first = await start("a", workflows=slow, stop_s=60)
    await start("b", workflows=slow, stop_s=60)
    async with Peer(broker.url) as peer:
        await peer.listen()
        # Drained by hand: it gets no more jobs, and ends those that it has.
        await yields(watcher, "b-default")
        peer.request("run/slow/one")
        await peer.job("one", "status", lambda m: m.json["state"] == "running")
        await command(watcher, "comfyui/resume", "b-default")
        # At its end it hands over the requests, and completes what runs.
        jobs = [f"j{index}" for index in range(3)]
        for job_id in jobs:
            assert (await peer.ask(f"run/slow/{job_id}"))["status"] == "ok"
            assert "reason" not in (await peer.job(job_id, "status")).json
        assert await first.stop() == 0
        one = await peer.result("one")
        assert (one["instance"], one["attempts"]) == ("a-default", 1)
        results = [await peer.result(job_id, timeout_s=60) for job_id in jobs]
        assert {result["instance"] for result in results} == {"b-default"}
        assert {result["attempts"] for result in results} == {1}
        await member(watcher, "a", b"offline")
        states = [message.payload for message in watcher.all(f"{BRIDGE}/state")]
        assert b"offline" not in states
