from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import pytest

from bridge.client import Client, Event, Job, JobCancelled, JobOutput, Media, Preview
from bridge.client import job as job_module
from bridge.client import session as session_module
from bridge.contract.errors import (
    BadRequest,
    BridgeError,
    Conflict,
    InvalidInput,
    OutOfMemory,
    TooLarge,
    UnknownJob,
    UnknownWorkflow,
)
from bridge.contract.messages import JobStatus, Output, Progress, Result
from bridge.mqtt import BadAddress, ConnectionRefused, Incoming, Unreachable
from tests.client.fakebridge import Broker, FakeBridge, fake_bridge, listed

pytestmark = pytest.mark.broker


async def submitted(client: Client, fake: FakeBridge, **inputs: Any) -> Job:
    """Return a job that the bridge has accepted."""
    submitting = asyncio.create_task(client.submit("wf", **inputs))
    await fake.accept(await fake.asked("submit"))
    return await submitting


async def events_of(job: Job) -> list[Event]:
    return [event async for event in job]


# Submitting.


async def test_a_request_carries_what_was_given(client: Client, fake: FakeBridge) -> None:
    submitting = asyncio.create_task(
        client.submit(
            "wf",
            {"priority": "an input of that name"},
            job_id="my-job",
            prompt="a lighthouse",
            steps=4,
            output=Output(deliver="fetch"),
            priority=5,
            start_within_s=60,
            timeout_s=600,
            keep_s=3600,
            meta={"for": [1, None]},
            preview=True,
            workflow_version="v7",
        )
    )
    asked = await fake.asked("submit")
    assert asked.client == "alice"
    assert asked.body == {
        "transaction": asked.body["transaction"],
        "workflow": "wf",
        "workflow_version": "v7",
        "inputs": {"priority": "an input of that name", "prompt": "a lighthouse", "steps": 4},
        "job_id": "my-job",
        "meta": {"for": [1, None]},
        "priority": 5,
        "start_within_s": 60,
        "timeout_s": 600,
        "keep_s": 3600,
        "preview": True,
        "output": {"deliver": "fetch"},
    }
    await fake.accept(asked)
    job = await submitting
    assert (job.id, job.workflow, job.state) == ("my-job", "wf", "queued")


async def test_media_go_as_base64_with_their_type(
    client: Client, fake: FakeBridge, tmp_path: Path
) -> None:
    picture = tmp_path / "picture.png"
    picture.write_bytes(b"\x89PNG")
    job = asyncio.create_task(
        client.submit(
            "wf", file=picture, raw=b"\x00\xff", typed=Media(b"x", "image/webp"), text="plain"
        )
    )
    asked = await fake.asked("submit")
    assert asked.body["inputs"] == {
        "file": {"base64": base64.b64encode(b"\x89PNG").decode(), "content_type": "image/png"},
        "raw": {"base64": "AP8="},
        "typed": {"base64": "eA==", "content_type": "image/webp"},
        "text": "plain",
    }
    await fake.accept(asked)
    await job


async def test_every_job_has_an_id_of_its_own(client: Client, fake: FakeBridge) -> None:
    first, second = await submitted(client, fake), await submitted(client, fake)
    assert first.id != second.id


async def test_an_unanswered_request_is_sent_again_under_the_same_job_id(
    client: Client, fake: FakeBridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, "_FIRST_AGAIN_S", 0.01)
    submitting = asyncio.create_task(client.submit("wf"))
    first = await fake.asked("submit")
    again = await fake.asked("submit")
    assert again == first
    await fake.accept(again)
    assert (await submitting).id == first.body["job_id"]


async def test_a_request_is_sent_again_when_the_bridge_comes_back(
    client: Client, fake: FakeBridge
) -> None:
    await fake.publish("bridge/state", "online", retain=True)
    submitting = asyncio.create_task(client.submit("wf"))
    first = await fake.asked("submit")
    await fake.publish("bridge/state", "offline", retain=True)
    await fake.publish("bridge/state", "online", retain=True)
    again = await fake.asked("submit")
    assert again == first
    await fake.accept(again)
    await submitting


async def test_an_answer_that_fits_no_request_is_passed_over(
    client: Client, fake: FakeBridge
) -> None:
    submitting = asyncio.create_task(client.submit("wf"))
    asked = await fake.asked("submit")
    await fake.publish("client/alice/response/submit", "not JSON")
    await fake.publish("client/alice/response/submit", '{"status": "ok", "transaction": "other"}')
    await fake.accept(asked)
    await submitting


async def test_a_refusal_comes_as_its_exception(client: Client, fake: FakeBridge) -> None:
    cases = (("invalid_input", InvalidInput), ("conflict", Conflict), ("unheard_of", BridgeError))
    for code, kind in cases:
        submitting = asyncio.create_task(client.submit("wf", prompt=7))
        await fake.refuse(await fake.asked("submit"), code, input="prompt")
        with pytest.raises(kind) as caught:
            await submitting
        assert caught.value.details["input"] == "prompt"


async def test_an_answer_that_cannot_be_read_is_an_error(client: Client, fake: FakeBridge) -> None:
    submitting = asyncio.create_task(client.submit("wf"))
    await fake.answer(await fake.asked("submit"), {"job_id": 7})
    with pytest.raises(BridgeError, match="cannot be read"):
        await submitting


async def test_a_request_larger_than_the_broker_takes_is_refused_here(client: Client) -> None:
    with pytest.raises(TooLarge) as caught:
        await client.submit("wf", image=bytes(1_000_000))
    assert caught.value.details["limit"] == 1_000_000


async def test_names_that_are_no_ids_are_refused(client: Client, broker: Broker) -> None:
    with pytest.raises(BadRequest):
        Client(broker.url, client="a/+")
    with pytest.raises(BadRequest):
        client.job("a/b")
    with pytest.raises(UnknownWorkflow):
        await client.workflow("#")
    with pytest.raises(BadAddress):
        Client("localhost", client="alice")


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


async def fetches(fake: FakeBridge, data: bytes, piece: int) -> None:
    """Serve one output by parts of `piece` bytes."""
    offset = 0
    while offset < len(data):
        asked = await fake.asked("fetch")
        assert asked.body["offset"] == offset
        body = data[offset : offset + piece]
        job_id, index = asked.body["job_id"], asked.body["output"]
        await fake.publish(f"client/alice/job/{job_id}/part/{index}/{offset}", body.decode())
        end = offset + len(body)
        part = part_of(asked.body, data, offset, len(body))
        await fake.answer(asked, part | ({"next": end} if end < len(data) else {}))
        offset = end


def part_of(body: dict[str, Any], data: bytes, offset: int, count: int) -> dict[str, Any]:
    facts = listed(0, data)
    return {
        "job_id": body["job_id"],
        "output": body["output"],
        "offset": offset,
        "count": count,
        "size": facts["size"],
        "sha256": facts["sha256"],
        "content_type": "image/png",
    }


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
    monkeypatch.setattr(job_module, "_PART_S", 0.01)
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


# The broker's bad days.


async def test_a_job_survives_a_restarted_broker(
    broker: Broker, client: Client, fake: FakeBridge
) -> None:
    job = await submitted(client, fake)
    waiting = asyncio.create_task(job.outputs())
    await broker.kill()
    await broker.start()
    async with fake_bridge(broker) as bridge:
        # It ended while nobody could hear it: the client asks.
        result = bridge.result(job.id, outputs=[listed(0, b"1234567")])
        view = bridge.view(job.id, "succeeded", result=result)
        await bridge.answer(await bridge.asked("status"), view)
        await fetches(bridge, b"1234567", 4)
        assert (await waiting)[0].data == b"1234567"


async def test_a_request_made_while_the_broker_is_away_waits_for_it(
    broker: Broker, client: Client, fake: FakeBridge
) -> None:
    del fake
    await broker.kill()
    submitting = asyncio.create_task(client.submit("wf", job_id="patient"))
    await broker.start()
    async with fake_bridge(broker) as bridge:
        assert await bridge.accept(await bridge.asked("submit")) == "patient"
        assert (await submitting).state == "queued"


async def test_what_is_still_asked_when_the_client_closes_fails(
    broker: Broker, fake: FakeBridge
) -> None:
    async with Client(broker.url, client="alice") as client:
        submitting = asyncio.create_task(client.submit("wf"))
        asked = await fake.asked("submit")
        waiting = asyncio.create_task(client.job("old").result())
        await fake.asked("status")
    assert asked.verb == "submit"
    for each in (submitting, waiting):
        with pytest.raises(RuntimeError, match="closed"):
            await each
    with pytest.raises(RuntimeError, match="closed"):
        await client.submit("wf")


async def test_an_exception_in_the_block_comes_out_as_it_is(broker: Broker) -> None:
    with pytest.raises(LookupError):
        async with Client(broker.url, client="alice"):
            raise LookupError


async def test_a_fault_of_the_clients_own_is_not_swallowed(broker: Broker) -> None:
    def stumble(_: Incoming) -> None:
        raise LookupError

    def run(client: Client) -> asyncio.Task[Job]:
        client._session._heard = stumble
        return asyncio.create_task(client.submit("wf"))

    async def use() -> None:
        async with fake_bridge(broker) as fake, Client(broker.url, client="alice") as client:
            submitting = run(client)
            await fake.asked("submit")
            await fake.status("alice", "any", "running")
            with pytest.raises(LookupError):
                await submitting

    with pytest.raises(LookupError):
        await use()


async def test_entering_can_be_cancelled() -> None:
    async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(never, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await Client(f"mqtt://127.0.0.1:{port}", client="alice").__aenter__()


async def test_a_broker_that_is_not_there_is_told_at_once(broker: Broker) -> None:
    await broker.stop()
    with pytest.raises(Unreachable):
        await Client(broker.url, client="alice").__aenter__()


async def test_a_broker_that_does_not_know_us_is_told_at_once(broker: Broker) -> None:
    await broker.stop()
    broker.anonymous = "false"
    await broker.start()
    with pytest.raises(ConnectionRefused):
        await Client(broker.url, client="alice").__aenter__()


# What is listed and retained.


async def test_jobs_are_listed_in_pages_and_acked(client: Client, fake: FakeBridge) -> None:
    listing = asyncio.create_task(client.jobs(3, states=["succeeded"], workflow="wf", limit=1))
    asked = await fake.asked("list")
    assert asked.body | {"transaction": ""} == {
        "transaction": "",
        "after": 3,
        "states": ["succeeded"],
        "workflow": "wf",
        "limit": 1,
    }
    await fake.answer(asked, {"jobs": [fake.view("old", "succeeded")], "more": True})
    page = await listing
    assert (page.jobs[0].job_id, page.more) == ("old", True)

    acking = asyncio.create_task(client.ack(7))
    asked = await fake.asked("ack")
    assert asked.body["up_to"] == 7
    await fake.answer(asked, {"acked": 2})
    assert await acking == 2


async def test_cancel_and_status_go_by_id_too(client: Client, fake: FakeBridge) -> None:
    asking = asyncio.create_task(client.status("old"))
    await fake.answer(await fake.asked("status"), fake.view("old", "queued", position=2))
    assert (await asking).position == 2
    cancelling = asyncio.create_task(client.cancel("old"))
    report = {"job_id": "old", "state": "cancelled", "cancelling": False}
    await fake.answer(await fake.asked("cancel"), report)
    assert (await cancelling).state == "cancelled"


async def test_definitions_are_read_from_what_is_retained(client: Client, fake: FakeBridge) -> None:
    assert await client.workflows() == {}
    for name in ("b", "a", "gone"):
        definition: dict[str, Any] = {"name": name, "title": name, "version": "1"}
        body = json.dumps(definition | {"inputs": {}, "outputs": []})
        await fake.publish(f"workflow/{name}", body, retain=True)
    await fake.publish("workflow/gone", "", retain=True)
    assert list(await client.workflows()) == ["a", "b"]
    assert (await client.workflow("a")).title == "a"
    with pytest.raises(UnknownWorkflow):
        await client.workflow("gone")


async def test_many_definitions_are_all_read(client: Client, fake: FakeBridge) -> None:
    for number in range(200):
        name = f"wf{number:03}"
        definition: dict[str, Any] = {"name": name, "title": "t" * 2000, "version": "1"}
        body = json.dumps(definition | {"inputs": {}, "outputs": []})
        await fake.publish(f"workflow/{name}", body, retain=True)
    assert len(await client.workflows()) == 200


async def test_the_bridges_state_and_info_are_told(client: Client, fake: FakeBridge) -> None:
    assert await client.state() is None
    assert await client.info() is None
    assert client.online is None
    limits = {
        "max_inline_input": 1,
        "max_queue": 2,
        "max_queue_per_client": 3,
        "keep_results_s": 4,
        "keep_outputs_s": 5,
        "remember_ids_s": 6,
    }
    info = {"name": "home", "version": "0.1", "contract": 1, "limits": limits, "features": []}
    body = json.dumps(info | {"isolation": "unknown"})
    await fake.publish("bridge/info", body, retain=True)
    await fake.publish("bridge/state", "online", retain=True)
    found = await client.info()
    assert found is not None
    assert found.limits.max_queue == 2
    assert await client.state() == "online"
    await submitted(client, fake)
    assert client.online
