"""Following a job, waiting for its end, and collecting what it gave."""

from __future__ import annotations

import asyncio
import base64

import pytest

from bridge.client import Client, JobCancelled, JobOutput, Preview, fetching
from bridge.client import job as job_module
from bridge.contract.errors import (
    BridgeError,
    OutOfMemory,
    UnknownJob,
)
from bridge.contract.messages import JobStatus, Progress, Result
from tests.client.fakebridge import (
    FakeBridge,
    events_of,
    fetches,
    listed,
    part_of,
    submitted,
)

pytestmark = pytest.mark.broker


# Following.


async def test_events_come_in_order_and_end_with_the_result(
    client: Client, fake: FakeBridge
) -> None:
    job = await submitted(client, fake)
    following = asyncio.create_task(events_of(job))
    await fake.status("alice", job.id, "running")
    await fake.say("alice", job.id, "progress", {"percent": 50.0, "step": 1, "steps": 2})
    await fake.publish(f"client/alice/job/{job.id}/preview", "picture")
    await fake.output("alice", job.id, 0, b"bytes")
    await fake.end("alice", fake.result(job.id, outputs=[listed(0, b"bytes")]))
    events = await following
    kinds = [type(event) for event in events]
    assert kinds == [JobStatus, Progress, Preview, JobOutput, Result]
    output = events[3]
    assert isinstance(output, JobOutput)
    assert (output.data, output.info.width) == (b"bytes", 8)
    assert output.info.name == "out0"
    assert job.state == "succeeded"
    assert await events_of(job) == [events[0], events[1], events[3], events[4]]


async def test_several_may_follow_one_job(client: Client, fake: FakeBridge) -> None:
    job = await submitted(client, fake)
    following = [asyncio.create_task(events_of(job)) for _ in range(2)]
    waiting = asyncio.create_task(job.result())
    await fake.status("alice", job.id, "running")
    await fake.end("alice", fake.result(job.id))
    first, second = [await task for task in following]
    assert first == second
    assert await waiting == first[-1]


async def test_a_late_status_does_not_turn_a_job_back(client: Client, fake: FakeBridge) -> None:
    job = await submitted(client, fake)
    await fake.end("alice", fake.result(job.id))
    await fake.status("alice", job.id, "running")
    await job.result()
    other = await submitted(client, fake)
    await fake.end("alice", fake.result(other.id))
    await other.result()
    assert job.state == "succeeded"


async def test_what_is_not_taken_in_time_leaves_only_the_newest_progress(
    client: Client, fake: FakeBridge
) -> None:
    job = await submitted(client, fake)
    stream = aiter(job)
    await fake.status("alice", job.id, "running")
    assert isinstance(await anext(stream), JobStatus)
    for percent in range(100):
        await fake.say("alice", job.id, "progress", {"percent": float(percent)})
    await fake.end("alice", fake.result(job.id))
    await job.result()
    rest = [event async for event in stream]
    assert [type(event) for event in rest] == [Progress, Result]
    assert isinstance(rest[0], Progress)
    assert rest[0].percent == 99


async def test_unreadable_messages_about_a_job_are_passed_over(
    client: Client, fake: FakeBridge
) -> None:
    job = await submitted(client, fake)
    for topic in ("status", "progress", "output/x", "part/0/x", "unheard/of"):
        await fake.publish(f"client/alice/job/{job.id}/{topic}", "{}")
    await fake.end("alice", fake.result(job.id))
    assert (await job.result()).state == "succeeded"


async def test_a_result_that_cannot_be_read_is_an_error(client: Client, fake: FakeBridge) -> None:
    job = await submitted(client, fake)
    await fake.say("alice", job.id, "result", {"state": "from the future"})
    with pytest.raises(BridgeError, match="cannot be read"):
        await job.result()


# How it ends.


async def test_a_failure_comes_as_its_exception_and_as_an_outcome(
    client: Client, fake: FakeBridge
) -> None:
    job = await submitted(client, fake)
    error = {"code": "out_of_memory", "message": "too big", "details": {"node": "7"}}
    await fake.end("alice", fake.result(job.id, "failed", error=error))
    with pytest.raises(OutOfMemory, match="too big") as caught:
        await job.result()
    assert caught.value.details == {"node": "7"}
    with pytest.raises(OutOfMemory):
        await job.outputs()
    assert (await job.outcome()).state == "failed"


async def test_a_failure_without_a_reason_is_an_error_all_the_same(
    client: Client, fake: FakeBridge
) -> None:
    job = await submitted(client, fake)
    await fake.end("alice", fake.result(job.id, "expired"))
    with pytest.raises(BridgeError, match="expired"):
        await job.result()
    assert repr(job) == f"<Job {job.id} wf: expired>"


async def test_a_cancelled_job_says_so(client: Client, fake: FakeBridge) -> None:
    job = await submitted(client, fake)
    cancelling = asyncio.create_task(job.cancel())
    asked = await fake.asked("cancel")
    assert asked.body["job_id"] == job.id
    await fake.answer(asked, {"job_id": job.id, "state": "running", "cancelling": True})
    assert (await cancelling).cancelling
    await fake.end("alice", fake.result(job.id, "cancelled"))
    with pytest.raises(JobCancelled):
        await job.result()


async def test_a_job_that_was_done_already_gives_its_result_at_once(
    client: Client, fake: FakeBridge
) -> None:
    submitting = asyncio.create_task(client.submit("wf", job_id="again"))
    result = fake.result("again")
    await fake.accept(await fake.asked(), duplicate=True, state="succeeded", result=result)
    job = await submitting
    assert (await job.result()).n == result["n"]


async def test_a_job_is_resumed_by_its_id(client: Client, fake: FakeBridge) -> None:
    waiting = asyncio.create_task(client.job("old").result())
    asked = await fake.asked("status")
    assert asked.body["job_id"] == "old"
    await fake.answer(asked, fake.view("old", "succeeded", result=fake.result("old")))
    assert (await waiting).job_id == "old"


async def test_a_job_that_nobody_knows_raises(client: Client, fake: FakeBridge) -> None:
    job = client.job("never")
    waiting = [asyncio.create_task(job.result()), asyncio.create_task(events_of(job))]
    await fake.refuse(await fake.asked("status"), "unknown_job")
    for each in waiting:
        with pytest.raises(UnknownJob):
            await each


async def test_the_same_job_is_the_same_object(client: Client, fake: FakeBridge) -> None:
    job = await submitted(client, fake)
    assert client.job(job.id) is job


async def test_a_result_that_was_dropped_is_asked_for_in_the_end(
    client: Client, fake: FakeBridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_module, "_CHECK_S", 0.01)
    job = await submitted(client, fake)
    waiting = asyncio.create_task(job.result())
    await fake.answer(await fake.asked("status"), fake.view(job.id, "running"))
    asked = await fake.asked("status")
    await fake.answer(asked, fake.view(job.id, "succeeded", result=fake.result(job.id)))
    assert (await waiting).state == "succeeded"


async def test_who_gives_up_asking_leaves_it_to_the_next_who_waits(
    client: Client, fake: FakeBridge
) -> None:
    job = client.job("old")
    impatient = asyncio.create_task(job.result())
    patient = asyncio.create_task(job.result())
    await fake.asked("status")
    impatient.cancel()
    asked = await fake.asked("status")
    await fake.answer(asked, fake.view("old", "succeeded", result=fake.result("old")))
    await patient
    assert impatient.cancelled()


# Outputs.


async def test_outputs_that_were_pushed_are_verified_and_not_fetched(
    client: Client, fake: FakeBridge
) -> None:
    job = await submitted(client, fake)
    await fake.output("alice", job.id, 0, b"first")
    await fake.output("alice", job.id, 1, b"second")
    outputs = [listed(0, b"first"), listed(1, b"second")]
    await fake.end("alice", fake.result(job.id, outputs=outputs))
    assert [output.data for output in await job.outputs()] == [b"first", b"second"]


@pytest.mark.parametrize("pushed", [None, b"damaged", b"cut"])
async def test_an_output_that_did_not_arrive_whole_is_fetched_in_parts(
    client: Client, fake: FakeBridge, pushed: bytes | None
) -> None:
    data = b"1234567"
    job = await submitted(client, fake)
    following = asyncio.create_task(events_of(job))
    if pushed is not None:
        await fake.output("alice", job.id, 0, pushed, sha256=listed(0, data)["sha256"])
    await fake.end("alice", fake.result(job.id, outputs=[listed(0, data)]))
    assert [type(event) for event in await following] == [Result]
    collecting = asyncio.create_task(job.outputs())
    await fetches(fake, data, 3)
    (output,) = await collecting
    assert output.data == data
    assert (await job.outputs())[0].data == data


async def test_a_part_whose_bytes_do_not_come_is_asked_for_within_the_answer(
    client: Client, fake: FakeBridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "_PART_S", 0.01)
    data = b"1234567"
    job = await submitted(client, fake)
    await fake.end("alice", fake.result(job.id, outputs=[listed(0, data)]))
    collecting = asyncio.create_task(job.outputs())
    asked = await fake.asked("fetch")
    while not asked.body.get("inline"):
        await fake.answer(asked, part_of(asked.body, data, 0, 7))
        asked = await fake.asked("fetch")
    part = part_of(asked.body, data, 0, 7) | {"base64": base64.b64encode(data).decode()}
    await fake.answer(asked, part)
    assert (await collecting)[0].data == data


async def test_parts_that_stay_too_short_are_an_error(client: Client, fake: FakeBridge) -> None:
    data = b"1234567"
    job = await submitted(client, fake)
    await fake.end("alice", fake.result(job.id, outputs=[listed(0, data)]))
    collecting = asyncio.create_task(job.outputs())
    for _ in range(3):
        asked = await fake.asked("fetch")
        await fake.publish(f"client/alice/job/{job.id}/part/0/0", "123")
        await fake.answer(asked, part_of(asked.body, data, 0, 7))
    with pytest.raises(BridgeError, match="do not come"):
        await collecting


async def test_bytes_that_stay_wrong_are_an_error(client: Client, fake: FakeBridge) -> None:
    job = await submitted(client, fake)
    await fake.end("alice", fake.result(job.id, outputs=[listed(0, b"right")]))
    collecting = asyncio.create_task(job.outputs())
    for _ in range(3):
        await fetches(fake, b"wrong", 5)
    with pytest.raises(BridgeError, match="SHA-256") as caught:
        await collecting
    assert caught.value.code == "damaged"


async def test_an_output_that_is_not_kept_any_more_says_so(
    client: Client, fake: FakeBridge
) -> None:
    job = await submitted(client, fake)
    await fake.end("alice", fake.result(job.id, outputs=[listed(0, b"gone")]))
    collecting = asyncio.create_task(job.outputs())
    await fake.refuse(await fake.asked("fetch"), "unknown_job", output=0)
    with pytest.raises(UnknownJob):
        await collecting
