"""Sets over MQTT: many jobs in one request, and one result."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bridge.mosquitto import Mosquitto
from tests.conftest import StartBridge
from tests.end_to_end import graphs
from tests.support.peer import Message, Peer
from tests.support.postgresql import PostgreSQL

pytestmark = pytest.mark.comfyui

JOBS = 30


async def set_result(peer: Peer, set_id: str) -> Any:
    return (await peer.next(f"comfy2mqtt/client/alice/set/{set_id}/result")).json


def of_set(peer: Peer, set_id: str, what: str) -> list[Message]:
    return peer.all(f"comfy2mqtt/client/alice/set/{set_id}/{what}")


async def test_a_set_runs_its_jobs_and_ends_with_one_result(
    attached: StartBridge, broker: Mosquitto
) -> None:
    await attached({"colour": graphs.colour()})
    async with Peer(broker.url) as peer:
        await peer.listen()
        asked = {"workflow": "colour", "grid": {"colour": [1, 2, 3], "size": [16, 32]}}
        answer = await peer.ask(
            "submit",
            {**asked, "set_id": "s1", "meta": {"a": 1}},
            ResponseTopic="comfy2mqtt/client/alice/reply/x",
            CorrelationData=b"mine",
        )
        assert answer["data"]["total"] == 6
        result = await set_result(peer, "s1")
        assert (result["state"], result["counts"]["succeeded"]) == ("succeeded", 6)
        assert result["meta"] == {"a": 1}
        assert [each["inputs"] for each in result["jobs"]] == [
            {"colour": colour, "size": size} for colour in (1, 2, 3) for size in (16, 32)
        ]
        for job in result["jobs"]:
            found = await peer.result(job["job_id"])
            assert found["set_id"] == "s1"
            assert found["inputs"] == job["inputs"]
            assert found["outputs"][0]["width"] == job["inputs"]["size"]
            assert found["n"] < result["n"]
        reply = await peer.next("comfy2mqtt/client/alice/reply/x")
        assert (reply.json, reply.properties["CorrelationData"]) == (result, b"mine")
        statuses = [each.json for each in of_set(peer, "s1", "status")]
        assert statuses[0]["total"] == 6
        assert len(of_set(peer, "s1", "result")) == 1
        (output,) = peer.of_job("s1-0", "output/0")
        assert output.user["set_id"] == "s1"
        listed = (await peer.ask("list", {"set_id": "s1", "limit": 4}))["data"]
        assert (len(listed["jobs"]), listed["more"]) == (4, True)


async def test_a_set_survives_kills_and_runs_no_job_twice(
    attached: StartBridge, broker: Mosquitto
) -> None:
    bridge = await attached({"slow": graphs.slow(0.1)})
    async with Peer(broker.url) as peer:
        await peer.listen()
        await peer.ask("submit", {"workflow": "slow", "repeat": JOBS, "set_id": "s1"})
        for number in (3, 12, 20):
            await peer.result(f"s1-{number}")
            await bridge.kill()
            await bridge.start()
        await whole(peer, "s1")


async def whole(peer: Peer, set_id: str) -> None:
    """Check that all jobs of a set have ended once, with a seed of their own, and then the set."""
    result = await set_result(peer, set_id)
    assert result["state"] == "succeeded", result["counts"]
    assert [each["job_id"] for each in result["jobs"]] == [f"{set_id}-{n}" for n in range(JOBS)]
    assert len({each["inputs"]["seed"] for each in result["jobs"]}) == JOBS
    for each in result["jobs"]:
        results = {message.payload for message in peer.of_job(each["job_id"], "result")}
        assert len(results) == 1, each
    assert len({each.payload for each in of_set(peer, set_id, "result")}) == 1


async def test_a_button_does_not_wait_for_a_set(attached: StartBridge, broker: Mosquitto) -> None:
    await attached({"slow": graphs.slow(0.1), "colour": graphs.colour()})
    async with Peer(broker.url) as peer:
        await peer.listen()
        await peer.ask("submit", {"workflow": "slow", "repeat": 5000, "set_id": "s1"})
        await peer.result("s1-2")
        answer = (await peer.ask("run/colour/button", {"colour": 77}))["data"]
        assert answer["position"] < 10
        await peer.result("button")
        await peer.ask("cancel", {"set_id": "s1"})
        result = await set_result(peer, "s1")
        assert result["state"] == "cancelled"
        assert sum(result["counts"].values()) == 5000
        # The broker takes no such packet, or the jobs are all there.
        assert result["more"] or len(result["jobs"]) == 5000


async def test_a_set_is_paused_and_resumed(attached: StartBridge, broker: Mosquitto) -> None:
    bridge = await attached({"slow": graphs.slow(0.05)})
    async with Peer(broker.url) as peer:
        await peer.listen()
        await peer.ask("submit", {"workflow": "slow", "repeat": JOBS, "set_id": "s1"})
        await peer.result("s1-1")
        assert (await peer.ask("pause", {"set_id": "s1"}))["data"]["state"] == "paused"
        await bridge.kill()  # it is paused after a restart too
        await bridge.start()
        while True:
            view = (await peer.ask("status", {"set_id": "s1"}))["data"]
            if (await peer.ask("list", {"set_id": "s1", "states": ["queued", "running"]}))["data"][
                "jobs"
            ] == []:
                break
        assert view["state"] == "paused"
        assert view["counts"]["queued"] > 0
        assert of_set(peer, "s1", "result") == []
        await peer.ask("resume", {"set_id": "s1"})
        await whole(peer, "s1")


async def test_a_set_maps_over_the_outputs_of_another(
    attached: StartBridge, broker: Mosquitto
) -> None:
    await attached({"colour": graphs.colour(), "echo": graphs.echo()})
    async with Peer(broker.url) as peer:
        await peer.listen()
        colours = {"from": 1, "to": JOBS}
        await peer.ask("submit", {"workflow": "colour", "grid": {"colour": colours}, "set_id": "a"})
        asked = {"workflow": "echo", "grid": {"picture": {"set": "a"}}, "set_id": "b"}
        assert (await peer.ask("submit", asked))["data"]["total"] == JOBS
        assert (await set_result(peer, "a"))["state"] == "succeeded"
        result = await set_result(peer, "b")
        assert result["state"] == "succeeded"
        for number in range(JOBS):
            sources = peer.of_job(f"a-{number}", "output/0")
            copies = peer.of_job(f"b-{number}", "output/0")
            assert sources[0].payload == copies[0].payload


@pytest.mark.postgresql
async def test_a_set_goes_on_at_another_bridge_when_its_own_dies(
    attached: StartBridge, broker: Mosquitto, postgresql: PostgreSQL
) -> None:
    with postgresql.database() as journal:
        settings = {"journal": journal, "lease_s": 2}
        workflows = {"slow": graphs.slow(0.1)}
        one = await attached(workflows, name="one", member="one", **settings)
        async with Peer(broker.url) as peer:
            await peer.listen()
            await peer.ask("submit", {"workflow": "slow", "repeat": JOBS, "set_id": "s1"})
            two = await attached(workflows, name="two", member="two", **settings)
            await peer.result("s1-5")
            await one.kill()
            await whole(peer, "s1")
        await two.stop()  # while there is a database


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def journal(request: pytest.FixtureRequest) -> Iterator[dict[str, Any]]:
    """Yield the settings of a journal of each kind; to be named before what starts bridges."""
    if request.param == "sqlite":
        yield {}
        return
    postgresql: PostgreSQL = request.getfixturevalue("postgresql")
    with postgresql.database() as database:
        yield {"journal": database, "lease_s": 2}


async def test_a_set_collects_also_where_the_bridge_is_killed_at_its_end(
    journal: dict[str, Any], attached: StartBridge, broker: Mosquitto, tmp_path: Path
) -> None:
    (tmp_path / "photos").mkdir()
    photos = {"name": "photos", "path": str(tmp_path / "photos"), "file": "{job_id}-{name}"}
    bridge = await attached(
        {"colour": graphs.colour()},
        clients={"alice": {"sink_folders": ["photos"]}},
        sink_folder=[photos],
        public_url="https://studio.example/",
        **journal,
    )
    async with Peer(broker.url) as peer:
        await peer.listen()
        asked = {
            "workflow": "colour",
            "grid": {"colour": [255, 65280], "size": [16, 32]},
            "collect": ["sheet", "zip"],
            "put": [{"url": "folder:photos"}],
        }
        await peer.ask("submit", {**asked, "set_id": "s1"})
        await peer.result("s1-3")
        await bridge.kill()
        await bridge.start()
        result = await set_result(peer, "s1")
        assert (result["state"], "missing" in result) == ("succeeded", False)
        sheet, archive = result["outputs"]
        assert (sheet["name"], archive["name"]) == ("sheet", "zip")
        published = of_set(peer, "s1", "output/0")
        assert {hashlib.sha256(each.payload).hexdigest() for each in published} == {sheet["sha256"]}
        assert published[0].user["filename"] == "s1-sheet.jpeg"
        part = (await peer.ask("fetch", {"set_id": "s1", "output": 1}))["data"]
        (data,) = {each.payload for each in of_set(peer, "s1", "part/1/0")}
        assert hashlib.sha256(data).hexdigest() == part["sha256"] == archive["sha256"]
        assert (await peer.ask("keep", {"set_id": "s1", "keep_s": 9000}))["data"]["outputs"] == 6
        assert all(each["url"].startswith("https://studio.example/o/") for each in (sheet, archive))
        assert result["delivered"] == [
            {"output": 0, "url": "folder:photos/s1-sheet"},
            {"output": 1, "url": "folder:photos/s1-zip"},
        ]
        assert (tmp_path / "photos/s1-zip").read_bytes() == data
        with zipfile.ZipFile(io.BytesIO(data)) as found:
            assert [name[:2] for name in found.namelist()] == ["0-", "1-", "2-", "3-"]
        assert len({each.payload for each in of_set(peer, "s1", "result")}) == 1
