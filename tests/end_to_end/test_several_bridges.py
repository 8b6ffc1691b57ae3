"""Several bridges on one journal: each request runs once, whichever of them dies or freezes."""

from __future__ import annotations

import signal
from collections import Counter
from typing import Any

import psycopg
import pytest

from bridge.mosquitto import Mosquitto
from tests.end_to_end.group import BRIDGE, Start, member
from tests.support.peer import Peer
from tests.support.postgresql import PostgreSQL

# A lease that runs for longer than any test.
NEVER_S = 3600

pytestmark = [pytest.mark.comfyui, pytest.mark.postgresql]


def states(watcher: Peer) -> list[bytes]:
    return [message.payload for message in watcher.all(f"{BRIDGE}/state")]


async def run_slow(peer: Peer, number: int) -> list[str]:
    """Ask for some jobs that take a while; returns their ids."""
    await peer.listen()
    jobs = [f"j{index}" for index in range(number)]
    for job_id in jobs:
        peer.request(f"run/slow/{job_id}")
    return jobs


async def all_succeed(peer: Peer, jobs: list[str]) -> Counter[str]:
    """Each job has one outcome, and the bytes of all its results are the same; who ran them."""
    results = [await peer.result(job_id, timeout_s=60) for job_id in jobs]
    assert [result["state"] for result in results] == ["succeeded"] * len(jobs)
    for job_id in jobs:
        assert len({message.payload for message in peer.of_job(job_id, "result")}) == 1
    listed = (await peer.ask("list", {"limit": 100}))["data"]["jobs"]
    assert sorted(job["job_id"] for job in listed) == sorted(jobs)
    numbers = [result["n"] for result in results]
    assert len(set(numbers)) == len(numbers)
    return Counter(result["instance"] for result in results)


async def test_each_request_runs_once_and_all_bridges_work(
    start: Start, broker: Mosquitto, watcher: Peer
) -> None:
    for name in ("a", "b", "c"):
        await start(name)
    async with Peer(broker.url) as peer:
        jobs = await run_slow(peer, 12)
        ran = await all_succeed(peer, jobs)
        assert set(ran) == {"a-default", "b-default", "c-default"}
        assert [len(results(peer, job_id)) for job_id in jobs] == [1] * len(jobs)

        # Each bridge gets the operator's commands; one answers.
        watcher.publish(f"{BRIDGE}/request/comfyui/yield", "b-default")
        await watcher.next(f"{BRIDGE}/comfyui/b-default", lambda m: m.json["state"] == "yielded")
        answer = await watcher.next(f"{BRIDGE}/response/comfyui/yield")
        assert list(answer.json["data"]["instances"]) == ["b-default"]
        watcher.publish(f"{BRIDGE}/request/queue/pause")
        await watcher.next(f"{BRIDGE}/response/queue/pause")
        peer.request("run/slow/held")
        await peer.response("run")
        watcher.publish(f"{BRIDGE}/request/queue/resume")
        await peer.result("held")
        for verb in ("comfyui/yield", "queue/pause", "queue/resume"):
            assert len(watcher.all(f"{BRIDGE}/response/{verb}")) == 1


async def test_a_job_is_cancelled_and_waited_for_wherever_it_runs(
    start: Start, broker: Mosquitto, watcher: Peer, journal: str
) -> None:
    await start("a")
    await start("b")
    async with Peer(broker.url) as peer:
        await run_slow(peer, 4)
        job_id = await running_at(journal, "b-default")
        assert (await peer.ask("cancel", job_id))["data"]["cancelling"] is True
        assert (await peer.result(job_id))["state"] == "cancelled"

        # The one that waits is with the bridge that takes requests, what it waits for is not.
        watcher.publish(f"{BRIDGE}/request/comfyui/yield", "a-default")
        await watcher.next(f"{BRIDGE}/response/comfyui/yield")
        peer.request("run/colour/first", {"colour": 1234})
        peer.request("run/echo/second", {"picture": {"job": "first", "output": 0}})
        second = await peer.result("second")
        assert (second["state"], second["instance"]) == ("succeeded", "b-default")


async def test_a_killed_intake_is_followed_by_another_and_no_request_is_lost_or_doubled(
    start: Start, broker: Mosquitto, watcher: Peer
) -> None:
    first = await start("a")
    await start("b")
    async with Peer(broker.url) as peer:
        await peer.listen()
        for index in range(6):
            peer.request(f"run/slow/early-{index}")
        await peer.response("run")
        await first.kill()
        for index in range(6):
            peer.request(f"run/slow/late-{index}")
        jobs = [f"{when}-{index}" for when in ("early", "late") for index in range(6)]
        await all_succeed(peer, jobs)
    await member(watcher, "a", b"offline")
    assert b"offline" not in states(watcher)


async def test_killed_bridges_are_missed_though_their_leases_run(
    start: Start, broker: Mosquitto, watcher: Peer, journal: str
) -> None:
    intake, worker, _ = [await start(name, lease_s=NEVER_S) for name in ("a", "b", "c")]
    async with Peer(broker.url) as peer:
        jobs = await run_slow(peer, 6)
        job_id = await running_at(journal, "b-default")
        await worker.kill()
        await all_succeed(peer, jobs)
        (result,) = results(peer, job_id)
        assert result["instance"] != "b-default"
        assert result["attempts"] == 2
        await intake.kill()
        peer.request("run/slow/late")
        assert (await peer.result("late"))["instance"] == "c-default"
    assert b"offline" not in states(watcher)


async def test_a_killed_workers_job_runs_again_elsewhere(
    start: Start, broker: Mosquitto, watcher: Peer, journal: str
) -> None:
    await start("a")
    worker = await start("b")
    async with Peer(broker.url) as peer:
        jobs = await run_slow(peer, 4)
        job_id = await running_at(journal, "b-default")
        await worker.kill()
        await all_succeed(peer, jobs)
        (result,) = results(peer, job_id)
        assert (result["instance"], result["attempts"]) == ("a-default", 2)
    await member(watcher, "b", b"offline")


async def test_a_frozen_worker_that_wakes_gives_no_second_outcome(
    start: Start, broker: Mosquitto, watcher: Peer, journal: str
) -> None:
    await start("a")
    worker = await start("b")
    async with Peer(broker.url) as peer:
        jobs = await run_slow(peer, 4)
        job_id = await running_at(journal, "b-default")
        worker.signal(signal.SIGSTOP)
        await all_succeed(peer, jobs)
        worker.signal(signal.SIGCONT)
        await member(watcher, "b", b"online")  # as a new member
        assert "took over from this one" in worker.log
        (result,) = results(peer, job_id)
        assert (result["instance"], result["attempts"]) == ("a-default", 2)
        peer.request("run/slow/after")
        await peer.result("after")
        assert len(results(peer, job_id)) == len(peer.of_job(job_id, "output/0")) == 1


async def test_a_frozen_intake_that_wakes_does_not_take_it_back(
    start: Start, broker: Mosquitto, watcher: Peer
) -> None:
    frozen = await start("a")
    await start("b")
    async with Peer(broker.url) as peer:
        await peer.listen()
        frozen.signal(signal.SIGSTOP)
        jobs = [f"j{index}" for index in range(3)]
        for _ in jobs:
            peer.request("run/slow")  # without an id: only the delivery tells which it is
        accepted = [(await peer.response("run")).json["data"]["job_id"] for _ in jobs]
        frozen.signal(signal.SIGCONT)
        await member(watcher, "a", b"online")
        peer.request("run/slow/after")
        await all_succeed(peer, [*accepted, "after"])
        answers = peer.all(f"{peer.base}/client/alice/response/run")
        assert len(answers) == len(jobs) + 1
    assert frozen.log.count("receives the requests of the group") == 1
    assert b"offline" not in states(watcher)


async def test_a_restarted_database_costs_no_job_and_no_member(
    start: Start, broker: Mosquitto, watcher: Peer, postgresql: PostgreSQL
) -> None:
    members = [await start(name) for name in ("a", "b")]
    async with Peer(broker.url) as peer:
        jobs = await run_slow(peer, 4)
        for _ in jobs:
            await peer.response("run")
        postgresql.stop(signal.SIGINT)
        postgresql.start()
        await all_succeed(peer, jobs)
        assert [results(peer, job_id)[0]["attempts"] for job_id in jobs] == [1] * len(jobs)
        assert not any("took over from this one" in each.log for each in members)

        # A bridge that is stopped leaves the requests to the other; the last one publishes offline.
        await members[0].stop()
        await member(watcher, "a", b"offline")
        peer.request("run/slow/last")
        await peer.result("last")
        assert b"offline" not in states(watcher)
        await members[1].stop()
        await watcher.next(f"{BRIDGE}/state", lambda m: m.payload == b"offline")


async def running_at(journal: str, instance: str) -> str:
    """Wait until a job runs at a ComfyUI, as the journal has it."""
    async with await psycopg.AsyncConnection.connect(journal, autocommit=True) as connection:
        while True:
            found = await connection.execute(
                "SELECT job_id FROM jobs WHERE state = 'running' AND instance = %s", (instance,)
            )
            if (row := await found.fetchone()) is not None:
                return str(row[0])


def results(peer: Peer, job_id: str) -> list[Any]:
    return [message.json for message in peer.of_job(job_id, "result")]
