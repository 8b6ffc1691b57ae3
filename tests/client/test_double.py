"""The bridge in memory and the real one, through the same cases: they answer alike.

The real one has a broker and no ComfyUI: its jobs wait, as those of a workflow in `held` do.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bridge.client import (
    BridgeInfo,
    Client,
    Conflict,
    InvalidInput,
    JobCancelled,
    JobStatus,
    Result,
    UnknownJob,
    UnknownWorkflow,
)
from bridge.client.testing import InMemoryBridge
from bridge.mosquitto import Mosquitto
from tests.support.bridge import BridgeProcess
from tests.support.definitions import definition
from tests.workflows.graphs import INFO

PROMPT = {"class_type": "Comfy2MQTTTextInput", "inputs": {"name": "prompt", "value": "a barn"}}
WORKFLOW: dict[str, Any] = {
    "1": PROMPT,
    "2": {"class_type": "SaveImage", "inputs": {"images": ["3", 0], "filename_prefix": "x"}},
    "3": {"class_type": "LoadImage", "inputs": {"image": "there.png"}},
}


@pytest.fixture
async def memory() -> AsyncIterator[Client]:
    bridge = InMemoryBridge()
    bridge.workflows["wf"] = definition("wf")
    bridge.held.add("wf")
    async with bridge.client("alice") as client:
        yield client


@pytest.fixture
async def real(tmp_path: Path) -> AsyncIterator[Client]:
    async with Mosquitto(tmp_path / "mosquitto") as broker:
        process = BridgeProcess(
            tmp_path / "bridge", mqtt_url=broker.url, comfyui_url="http://127.0.0.1:9"
        )
        (process.workflows / "wf.json").write_bytes(msgspec.json.encode(WORKFLOW))
        known = tmp_path / "bridge" / "data" / "object_info"
        known.mkdir(parents=True)
        (known / "default.json").write_bytes(msgspec.json.encode(INFO.raw))
        await process.start(ready=False)
        try:
            await process.ready("unreachable")
            async with Client(broker.url, "alice") as client:
                yield client
        finally:
            await process.stop()


@pytest.fixture(params=["memory", pytest.param("real", marks=pytest.mark.broker)])
def client(request: pytest.FixtureRequest) -> Client:
    found: Client = request.getfixturevalue(request.param)
    return found


async def test_a_job_is_accepted_once_however_often_it_is_sent(client: Client) -> None:
    job = await client.submit("wf", prompt="a mill", job_id="j1", meta={"row": 1})
    assert (job.id, job.workflow, job.state) == ("j1", "wf", "queued")
    assert await client.submit("wf", prompt="a mill", job_id="j1", meta={"row": 1}) is job
    assert len((await client.jobs(peek=True)).jobs) == 1
    with pytest.raises(Conflict) as caught:
        await client.submit("wf", prompt="another", job_id="j1")
    assert caught.value.details["job_id"] == "j1"


async def test_what_is_not_there_is_reported(client: Client) -> None:
    with pytest.raises(UnknownWorkflow) as caught:
        await client.submit("none")
    assert caught.value.details["workflow"] == "none"
    with pytest.raises(UnknownWorkflow):
        await client.workflow("none")
    for asked in (client.status, client.cancel, client.forget, client.recipe):
        with pytest.raises(UnknownJob) as unknown:
            await asked("none")
        assert unknown.value.details["job_id"] == "none"
    with pytest.raises(UnknownJob):
        await client.keep("none", 5)
    with pytest.raises(UnknownJob):
        await client.job("none").outcome()


async def test_a_job_that_waits_is_cancelled_and_has_its_one_result(client: Client) -> None:
    job = await client.submit("wf", job_id="j1", meta={"row": 1})
    view = await client.status("j1")
    assert (view.state, view.acked, view.attempt <= 1) == ("queued", False, True)
    await client.cancel("j1")
    events = [event async for event in job]
    assert isinstance(events[-1], Result)
    assert [type(each) for each in events].count(Result) == 1
    assert all(isinstance(each, JobStatus | Result) for each in events)
    result = await job.outcome()
    assert (result.state, result.workflow, result.outputs) == ("cancelled", "wf", [])
    assert bytes(result.meta or b"") == b'{"row":1}'
    with pytest.raises(JobCancelled):
        await job.result()
    again = await client.cancel("j1")
    assert (again.state, again.cancelling) == ("cancelled", False)


async def test_jobs_are_listed_by_their_numbers_and_acked_once(client: Client) -> None:
    for job_id in ("j1", "j2", "j3"):
        await client.submit("wf", job_id=job_id)
        await client.cancel(job_id)
        await client.job(job_id).outcome()
    page = await client.jobs(limit=2, peek=True)
    assert ([each.job_id for each in page.jobs], page.more) == (["j1", "j2"], True)
    numbers = [each.n for each in page.jobs]
    assert numbers == sorted(numbers)
    rest = await client.jobs(numbers[-1], peek=True)
    assert ([each.job_id for each in rest.jobs], rest.more) == (["j3"], False)
    assert (await client.jobs(states=["queued"], peek=True)).jobs == []
    assert await client.ack(numbers[-1]) == 2
    assert await client.ack(numbers[-1]) == 0
    assert [each.acked for each in (await client.jobs(peek=True)).jobs] == [True, True, False]


async def test_a_set_is_accepted_once_paused_resumed_and_ends_with_one_result(
    client: Client,
) -> None:
    asked: dict[str, Any] = {"grid": {"prompt": ["a mill", "a barn", "a tower"]}}
    found = await client.submit_set("wf", set_id="s1", meta={"row": 1}, **asked)
    assert (found.id, found.total, found.workflow, found.state) == ("s1", 3, "wf", "running")
    assert await client.submit_set("wf", set_id="s1", meta={"row": 1}, **asked) is found
    with pytest.raises(Conflict) as caught:
        await client.submit_set("wf", set_id="s1", repeat=3)
    assert caught.value.details["set_id"] == "s1"
    assert (await found.pause()).state == "paused"
    view = await found.resume()
    assert (view.state, view.total, view.counts.queued) == ("running", 3, 3)
    assert (await client.status("s1-0")).set_id == "s1"
    await found.cancel()
    result = await found.outcome()
    assert (result.state, result.total, result.counts.cancelled) == ("cancelled", 3, 3)
    assert bytes(result.meta or b"") == b'{"row":1}'
    assert [(each.job_id, each.state, each.inputs) for each in result.jobs] == [
        (f"s1-{index}", "cancelled", {"prompt": prompt})
        for index, prompt in enumerate(asked["grid"]["prompt"])
    ]
    with pytest.raises(JobCancelled):
        await found.result()
    assert (await client.job_set("s1").refresh()).state == "cancelled"
    with pytest.raises(UnknownJob) as unknown:
        await client.job_set("none").outcome()
    assert unknown.value.details["set_id"] == "none"


async def test_what_a_job_left_is_forgotten_and_its_id_stays_taken(client: Client) -> None:
    job = await client.submit("wf", prompt="a mill", job_id="j1")
    with pytest.raises(Conflict):
        await client.forget("j1")
    assert (await client.recipe("j1")).inputs == {"prompt": "a mill"}
    await client.cancel("j1")
    await job.outcome()
    assert (await client.forget("j1")).forgotten
    assert not (await client.forget("j1")).forgotten
    assert (await client.status("j1")).state == "cancelled"


async def test_an_upload_that_was_not_begun_is_refused_and_one_is_complete_once(
    client: Client,
) -> None:
    given = await client.upload(b"\x89PNG some bytes", "mine")
    assert given == await client.upload(b"\x89PNG some bytes", "mine") == {"upload": "mine"}
    with pytest.raises(InvalidInput):
        await client.upload(5)


async def test_the_bridge_says_what_it_is(client: Client) -> None:
    info = await client.info()
    assert isinstance(info, BridgeInfo)
    assert {"submit", "run", "upload", "list", "ack"} <= set(info.features)
    assert await client.state() == "online"
    assert list(await client.workflows()) == ["wf"]
