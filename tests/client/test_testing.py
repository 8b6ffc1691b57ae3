"""The client on a bridge in memory, which programs may use in tests of their own."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from bridge.client import Client, Damaged, JobCancelled, JobOutput, sync
from bridge.client.inputs import INLINE_BYTES, Media
from bridge.client.testing import PAGE_BYTES, InMemoryBridge
from bridge.client.testing_sets import PART_BYTES
from bridge.contract.errors import (
    BadRequest,
    Busy,
    Conflict,
    ExecutionError,
    InvalidInput,
    UnknownJob,
    UnknownWorkflow,
)
from bridge.contract.messages import JobStatus, Output, Result
from bridge.contract.retained import Definition
from tests.media.images import encoded, photo
from tests.support.definitions import definition

PNG = encoded(photo(8, 8))


@pytest.fixture
def bridge() -> InMemoryBridge:
    bridge = InMemoryBridge()
    bridge.outputs["wf"] = [("image/png", PNG)]
    return bridge


@pytest.fixture
async def client(bridge: InMemoryBridge) -> AsyncIterator[Client]:
    async with bridge.client("alice") as client:
        yield client


async def test_what_cannot_be_read_ends_no_client(bridge: InMemoryBridge, client: Client) -> None:
    job = await client.submit("wf")
    await job.result()
    topics = bridge.topics
    told = topics.info, topics.job("alice", job.id, "status"), topics.response("alice", "submit")
    for topic in told:
        bridge._publish(topic, b'{"status": "\xff"}')
        bridge._publish(topic, b'{"x": ' + b"[" * 100_000)
    await (await client.submit("wf")).result()


async def test_a_job_runs_and_gives_its_outputs(bridge: InMemoryBridge, client: Client) -> None:
    job = await client.submit("wf", prompt="a barn", meta={"row": 1})
    (output,) = await job.outputs()
    assert (output.data, output.info.content_type) == (PNG, "image/png")
    assert (await job.images())[0].size == (8, 8)
    assert bridge.submitted[0].inputs == {"prompt": "a barn"}
    assert (job.workflow, job.state) == ("wf", "succeeded")


async def test_a_text_that_is_not_utf_8_is_refused_before_it_is_sent(
    bridge: InMemoryBridge, client: Client, tmp_path: Path
) -> None:
    with pytest.raises(BadRequest, match="surrogate"):
        await client.submit("wf", prompt="\udcff")
    async with bridge.client("bob", outbox=tmp_path / "outbox") as careful:
        with pytest.raises(BadRequest, match="surrogate"):
            await careful.submit("wf", prompt="\udcff")
    assert bridge.submitted == []


async def test_events_end_with_the_result(client: Client) -> None:
    events = [event async for event in await client.submit("wf")]
    assert isinstance(events[-1], Result)
    assert [type(each) for each in events].count(Result) == 1
    assert any(isinstance(each, JobOutput) for each in events)
    states = [each.state for each in events if isinstance(each, JobStatus)]
    assert states in ([], ["running"])


async def test_what_the_broker_does_not_retain_is_asked_for(bridge: InMemoryBridge) -> None:
    bridge.retains = False
    # More than a page holds.
    text = "x" * (PAGE_BYTES // 3)
    for name in ("a", "b", "c", "d"):
        bridge.workflows[name] = replace(definition(name), description=text)
    async with bridge.client("alice") as client:
        found = await client.workflows()
        assert (list(found), found["d"].description) == (["a", "b", "c", "d"], text)
        assert (await client.workflow("c")).name == "c"
        with pytest.raises(UnknownWorkflow):
            await client.workflow("e")
        assert await client.state() == "online"
        assert await client.info() == bridge.info


async def test_how_a_job_fails_is_its_exception(bridge: InMemoryBridge, client: Client) -> None:
    bridge.failures["wf"] = ExecutionError("a node failed", node="3")
    job = await client.submit("wf")
    with pytest.raises(ExecutionError, match="a node failed"):
        await job.result()
    assert (await job.outcome()).state == "failed"


async def test_a_refusal_is_its_exception_and_only_once(
    bridge: InMemoryBridge, client: Client
) -> None:
    bridge.refusals = [Busy("full")]
    with pytest.raises(Busy, match="full"):
        await client.submit("wf")
    await (await client.submit("wf")).result()


async def test_one_id_is_one_job(bridge: InMemoryBridge, client: Client) -> None:
    for _ in range(2):
        assert (await (await client.submit("wf", {"seed": 1}, job_id="j1")).result()).n > 0
    with pytest.raises(Conflict):
        await client.submit("wf", {"seed": 2}, job_id="j1")
    assert len(bridge.submitted) == 1


async def test_a_job_that_is_held_waits_is_cancelled_or_runs(
    bridge: InMemoryBridge, client: Client
) -> None:
    bridge.held.add("wf")
    first, second = [await client.submit("wf", job_id=each) for each in ("first", "second")]
    assert (await client.status("first")).state == "queued"
    assert (await first.cancel()).state == "cancelled"
    with pytest.raises(JobCancelled):
        await first.result()
    waiting = asyncio.create_task(second.outputs())
    await asyncio.sleep(0)
    with pytest.raises(Conflict):
        await client.keep("second", 60.0)
    bridge.finish("alice", "second")
    assert [each.data for each in await waiting] == [PNG]
    assert (await client.cancel("second")).state == "succeeded"


async def test_a_job_is_resumed_by_its_id(client: Client) -> None:
    await (await client.submit("wf", job_id="j1")).result()
    again = client.job("j1")
    assert (await again.result()).job_id == "j1"
    assert "j1" in repr(again)
    with pytest.raises(UnknownJob):
        await client.job("other").result()
    with pytest.raises(BadRequest):
        client.job("no id/")


async def test_large_outputs_are_fetched_in_parts(bridge: InMemoryBridge, client: Client) -> None:
    data = bytes(range(256)) * 1024
    assert len(data) > 2 * PART_BYTES
    bridge.outputs["wf"] = [("image/png", data)]
    job = await client.submit("wf", output=Output(deliver="fetch"))
    assert [each.data for each in await job.outputs()] == [data]
    await client.forget(job.id)
    assert not (await client.forget(job.id)).forgotten
    job._outputs.received.clear()
    with pytest.raises(UnknownJob):
        await job.outputs()


async def test_an_output_that_stays_wrong_is_damaged(
    bridge: InMemoryBridge, client: Client
) -> None:
    job = await client.submit("wf")
    await job.result()
    info, _ = bridge._jobs["alice", job.id].outputs[0]
    bridge._jobs["alice", job.id].outputs[0] = (info, b"x" * info.size)
    job._outputs.received.clear()
    with pytest.raises(Damaged):
        await job.outputs()


async def test_jobs_are_listed_and_acked(client: Client) -> None:
    for number in range(3):
        await (await client.submit("wf", job_id=f"j{number}")).result()
    page = await client.jobs(limit=2)
    assert ([job.job_id for job in page.jobs], page.more) == (["j0", "j1"], True)
    rest = await client.jobs(after=page.jobs[-1].n, states=["succeeded"], workflow="wf")
    assert [job.job_id for job in rest.jobs] == ["j2"]
    assert (await client.status("j0")).acked
    assert await client.ack(rest.jobs[-1].n) == 1
    assert (await client.keep("j0", 60.0)).outputs == 1
    assert (await client.recipe("j0")).workflow == "wf"


@pytest.mark.parametrize("given", ["bytes", "path", "file", "picture", "media", "list"])
async def test_media_go_as_base64_or_by_upload(
    bridge: InMemoryBridge, client: Client, given: str, tmp_path: Path
) -> None:
    (tmp_path / "photo.png").write_bytes(PNG)
    values: dict[str, Any] = {
        "bytes": PNG,
        "path": tmp_path / "photo.png",
        "file": io.BytesIO(PNG),
        "picture": photo(8, 8),
        "media": Media(b"x" * (INLINE_BYTES + 1)),
        "list": [PNG],
    }
    await client.submit("wf", image=values[given])
    found = bridge.submitted[0].inputs["image"]
    if given == "media":
        (data,) = bridge.uploads.values()
        assert (data, found.keys()) == (b"x" * (INLINE_BYTES + 1), {"upload"})
    else:
        assert "base64" in (found[0] if given == "list" else found)


async def test_media_are_uploaded_where_the_broker_takes_small_packets(
    bridge: InMemoryBridge, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.client.testing._MemoryConnection.packet_limit", 16_000)
    await client.submit("wf", image=b"x" * 1000, job_id="small")
    await client.submit("wf", image=b"y" * 3000, job_id="large")
    small, large = (each.inputs["image"] for each in bridge.submitted)
    assert small.keys() == {"base64"}
    assert large.keys() == {"upload"}


async def test_an_upload_is_made_once(bridge: InMemoryBridge, client: Client) -> None:
    for _ in range(2):
        assert await client.upload(PNG, "photo") == {"upload": "photo"}
    assert bridge.uploads == {("alice", "photo"): PNG}
    with pytest.raises(InvalidInput):
        await client.upload(7)


async def test_what_is_retained_is_read(bridge: InMemoryBridge, client: Client) -> None:
    bridge.workflows["wf"] = Definition(
        name="wf", title="A workflow", version="1", inputs={}, outputs=[]
    )
    assert (await client.workflow("wf")).title == "A workflow"
    assert list(await client.workflows()) == ["wf"]
    assert (await client.state(), client.online) == ("online", True)
    assert await client.info() == bridge.info
    for name in ("other", "no id/"):
        with pytest.raises(UnknownWorkflow):
            await client.workflow(name)
    with pytest.raises(UnknownWorkflow):
        await client.submit("other")


async def test_an_outbox_is_emptied(
    bridge: InMemoryBridge, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    outbox = tmp_path / "outbox.db"
    async with bridge.client("alice", outbox=outbox) as client:
        await (await client.submit("wf", job_id="now")).result()
        later = await client.submit("wf", job_id="later", wait=False)
        await client.flush()
        assert (client.posting, (await later.result()).state) == ([], "succeeded")
        bridge.refusals = [InvalidInput("no")]
        refused = await client.submit("wf", wait=False)
        with pytest.raises(InvalidInput):
            await refused.result()
        await client.flush()
        assert "was refused" in caplog.text


async def test_several_clients_get_their_own_jobs(bridge: InMemoryBridge) -> None:
    async with bridge.client("alice") as alice, bridge.client("bob") as bob:
        await (await alice.submit("wf", job_id="j1")).result()
        assert (await bob.jobs()).jobs == []
        with pytest.raises(UnknownJob):
            await bob.status("j1")


def test_a_script_uses_it_without_await(bridge: InMemoryBridge) -> None:
    with sync.Client("mqtt://nowhere", "alice", connect=bridge.connect) as client:
        job = client.submit("wf", job_id="j1", prompt="x")
        assert isinstance(list(job)[-1], Result)
        assert job.images(10.0)[0].size == (8, 8)
        assert [each.data for each in job.outputs()] == [PNG]
        assert (job.id, job.workflow, job.state) == ("j1", "wf", "succeeded")
        assert job.result() == job.outcome()
        assert job.cancel().state == job.refresh().state == "succeeded"
        assert client.jobs(limit=5).jobs[0].job_id == "j1"
        assert client.job("j1").result(timeout_s=5).job_id == "j1"
        client.flush()
        assert client.status("j1").state == "succeeded"
    with pytest.raises(RuntimeError, match="closed"):
        client.status("j1")


def test_a_call_of_a_script_is_documented_as_the_awaited_one() -> None:
    assert sync.Client.cancel.__doc__ == Client.cancel.__doc__
    assert sync.Client.keep.__name__ == "keep"
    assert sync.Job.outputs.__doc__
