"""Sets as a program uses them, on the bridge in memory."""

from __future__ import annotations

import gc
import io
import zipfile
from collections.abc import AsyncIterator
from typing import Any

import pytest
from msgspec import UNSET

from bridge.client import Client, Damaged, JobCancelled, sync
from bridge.client.job import Job
from bridge.client.testing import InMemoryBridge
from bridge.client.testing_sets import InMemorySets
from bridge.contract.errors import (
    BadRequest,
    BridgeError,
    Conflict,
    ExecutionError,
    InvalidInput,
    TooLarge,
    UnknownJob,
)
from bridge.contract.messages import Accepted, Submit


@pytest.fixture
def bridge() -> InMemoryBridge:
    found = InMemoryBridge()
    found.outputs["demo"] = [("image/png", b"picture")]
    return found


@pytest.fixture
async def client(bridge: InMemoryBridge) -> AsyncIterator[Client]:
    async with bridge.client("alice") as client:
        yield client


async def test_a_set_gives_its_jobs_as_they_end(bridge: InMemoryBridge, client: Client) -> None:
    found = await client.submit_set("demo", grid={"steps": [1, 2], "seed": [5, 6]}, prompt="x")
    assert (found.total, found.workflow) == (4, "demo")
    jobs = [job async for job in found]
    assert [job.id for job in jobs] == [f"{found.id}-{number}" for number in range(4)]
    assert (await jobs[3].outputs())[0].data == b"picture"
    result = await found.result()
    assert (result.state, result.counts.succeeded) == ("succeeded", 4)
    assert result.jobs[1].inputs == {"steps": 1, "seed": 6}
    assert [each.inputs for each in bridge.submitted][1] == {"prompt": "x", "steps": 1, "seed": 6}
    assert [job async for job in found] == []


async def test_a_set_and_its_client_have_one_job_for_an_id(client: Client) -> None:
    found = client.job_set("s1")
    asked_for = client.job("s1-1")
    await client.submit_set("demo", repeat=2, set_id="s1")
    first, second = [job async for job in found]
    assert second is asked_for
    assert client.job("s1-0") is first


async def test_a_set_keeps_no_job_that_was_given_out(client: Client) -> None:
    found = await client.submit_set("demo", repeat=2, set_id="s1")
    assert len([job.id async for job in found]) == 2
    found.hold("s1-0")  # as at a message that comes once more
    gc.collect()
    assert [each for each in gc.get_objects() if isinstance(each, Job)] == []


async def test_a_set_gives_what_it_has_collected(client: Client) -> None:
    found = await client.submit_set("demo", repeat=2, collect=["sheet", "zip"], set_id="s1")
    sheet, archive = await found.outputs()
    assert (sheet.info.name, sheet.data) == ("sheet", b"picture")
    with zipfile.ZipFile(io.BytesIO(archive.data)) as opened:
        assert opened.namelist() == ["s1-0-output0.png", "s1-1-output0.png"]
    assert (await client.job_set("s1").outputs())[0].data == b"picture"
    assert await (await client.submit_set("demo", repeat=2)).outputs() == []


async def test_the_parts_of_a_set_that_has_ended_come_at_the_first_request(
    bridge: InMemoryBridge, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    await (await client.submit_set("demo", repeat=2, collect=["zip"], set_id="s1")).result()
    asked: list[tuple[str, bool]] = []

    def noted(kind: Any) -> Any:
        fetch = kind._fetch

        def note(of: Any, whose: Any, wanted: Any) -> Any:
            asked.append((whose.id, wanted.inline))
            return fetch(of, whose, wanted)

        return note

    for kind in (InMemorySets, InMemoryBridge):
        monkeypatch.setattr(kind, "_fetch", noted(kind))
    async with bridge.client("alice") as again:
        ended = again.job_set("s1")
        await ended.refresh()
        assert len(await ended.outputs()) == 1
        async for job in ended:
            assert (await job.outputs())[0].data == b"picture"
    assert asked == [("s1", False), ("s1-0", False), ("s1-1", False)]


async def test_what_a_set_has_collected_is_fetched_in_parts_and_compared(
    bridge: InMemoryBridge, client: Client
) -> None:
    bridge.outputs["demo"] = [("image/png", bytes(range(256)) * 600)]
    found = await client.submit_set("demo", repeat=1, collect=["animation"], set_id="s1")
    assert (await found.outputs())[0].data == bridge.outputs["demo"][0][1]
    info, data = bridge._sets._sets["alice", "s1"].outputs[0]
    bridge._sets._sets["alice", "s1"].outputs[0] = (info, b"x" * len(data))
    found._outputs.received.clear()
    with pytest.raises(Damaged, match="of set 's1' does not match"):
        await found.outputs()
    bridge._sets._sets["alice", "s1"].outputs.clear()
    with pytest.raises(UnknownJob):
        await found.outputs()


async def test_what_a_set_could_not_collect_is_named(
    bridge: InMemoryBridge, client: Client
) -> None:
    bridge.outputs["demo"] = [("text/plain", b"x")]
    found = await client.submit_set("demo", repeat=2, collect=["sheet"])
    assert [each.name for each in (await found.result()).missing or []] == ["sheet"]
    assert await found.outputs() == []
    with pytest.raises(BadRequest, match="is for sets"):
        await client._session.ask("submit", Submit(workflow="demo", collect=["zip"]), Accepted)
    with pytest.raises(TooLarge, match="256 images at most"):
        await client.submit_set("demo", repeat=257, collect=["sheet"])


async def test_media_of_its_jobs_is_uploaded(bridge: InMemoryBridge, client: Client) -> None:
    data = b"\x89PNG" + bytes(4_000_000)
    found = await client.submit_set("demo", each=[{"image": data}, {"image": data}])
    await found.result()
    grid = await client.submit_set("demo", grid={"image": [data], "x": {"from": 1, "to": 2}})
    assert grid.total == 2
    assert all(set(each.inputs["image"]) == {"upload"} for each in bridge.submitted)


async def test_a_range_and_another_set_may_be_an_axis(
    bridge: InMemoryBridge, client: Client
) -> None:
    first = await client.submit_set("demo", repeat=3, set_id="first")
    await first.result()
    found = await client.submit_set("demo", grid={"image": {"set": "first"}})
    assert found.total == 3
    assert bridge.submitted[-1].inputs == {"image": {"job": "first-2", "output": 0}}


async def test_a_set_that_fails_in_part_says_so(bridge: InMemoryBridge, client: Client) -> None:
    bridge.failures["demo"] = ExecutionError("no")
    found = await client.submit_set("demo", repeat=2)
    with pytest.raises(BridgeError, match="of 2 jobs"):
        await found.result()
    assert (await found.outcome()).state == "failed"


async def test_a_set_that_has_ended_is_kept(bridge: InMemoryBridge, client: Client) -> None:
    found = await client.submit_set("demo", repeat=2, collect=["zip"])
    await found.result()
    assert (await found.keep(60.0)).outputs == 3
    bridge.held.add("demo")
    held = await client.submit_set("demo", repeat=2)
    with pytest.raises(Conflict):
        await held.keep(60.0)


async def test_a_set_is_paused_resumed_and_cancelled(
    bridge: InMemoryBridge, client: Client
) -> None:
    bridge.held.add("demo")
    found = await client.submit_set("demo", repeat=2)
    assert (await found.pause()).state == "paused"
    assert (await found.resume()).state == "running"
    bridge.finish("alice", f"{found.id}-0")
    assert (await found.refresh()).counts.succeeded == 1
    await found.cancel()
    with pytest.raises(JobCancelled):
        await found.result()
    assert [job.id async for job in found] == [f"{found.id}-0", f"{found.id}-1"]


async def test_a_set_is_resumed_by_its_id(bridge: InMemoryBridge, client: Client) -> None:
    submitted = await client.submit_set("demo", repeat=2, set_id="s1")
    await submitted.result()
    async with bridge.client("alice") as other:
        found = other.job_set("s1")
        assert (await found.outcome()).total == 2
        assert [job.id async for job in found] == ["s1-0", "s1-1"]
        with pytest.raises(UnknownJob):
            await other.job_set("none").outcome()


async def test_the_same_set_again_is_the_one_that_was(client: Client) -> None:
    first = await client.submit_set("demo", repeat=2, set_id="s1")
    await first.result()
    again = await client.submit_set("demo", repeat=2, set_id="s1")
    assert (await again.result()) == await first.result()
    with pytest.raises(Conflict):
        await client.submit_set("demo", repeat=3, set_id="s1")


async def test_what_makes_no_set_is_refused(client: Client) -> None:
    with pytest.raises(ValueError, match="each, grid and repeat"):
        await client.submit_set("demo")
    with pytest.raises(TooLarge):
        await client.submit_set("demo", repeat=10**6)
    with pytest.raises(InvalidInput):
        await client.submit_set("demo", grid={"image": {"set": "none"}})


def test_a_script_needs_no_await(bridge: InMemoryBridge) -> None:
    with sync.Client("mqtt://in-memory", client="alice", connect=bridge.connect) as client:
        found = client.submit_set("demo", repeat=2)
        assert [job.outputs()[0].data for job in found] == [b"picture"] * 2
        assert found.result().counts.succeeded == 2
        assert client.job_set(found.id).refresh().result is not UNSET
