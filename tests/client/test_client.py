"""A client's requests to a bridge."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import pytest

from bridge.client import Client, Media
from bridge.contract.errors import (
    BadRequest,
    BridgeError,
    Conflict,
    InvalidInput,
    TooLarge,
    UnknownWorkflow,
)
from bridge.contract.messages import Output
from bridge.mqtt import BadAddress
from tests.client.fakebridge import (
    Broker,
    FakeBridge,
    submitted,
)

pytestmark = pytest.mark.broker


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
        "ordered": False,
        "start_within_s": 60,
        "timeout_s": 600,
        "keep_s": 3600,
        "preview": True,
        "dry_run": False,
        "output": {"deliver": "fetch"},
    }
    await fake.accept(asked)
    job = await submitting
    assert (job.id, job.workflow, job.state) == ("my-job", "wf", "queued")


async def test_a_job_may_wait_for_longer_than_the_answer_to_its_request(
    client: Client, fake: FakeBridge
) -> None:
    submitting = asyncio.create_task(client.submit("wf", within_s=30.0))
    asked = await fake.asked("submit")
    assert asked.body["start_within_s"] == 31_536_000
    await fake.accept(asked)
    await submitting


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
        await client.submit("wf", prompt="x" * 1_000_000)
    assert caught.value.details["limit"] == 1_000_000


async def test_names_that_are_no_ids_are_refused(client: Client, broker: Broker) -> None:
    with pytest.raises(BadRequest):
        Client(broker.url, client="a/+")
    with pytest.raises(BadRequest):
        client.job("a/b")
    with pytest.raises(UnknownWorkflow):
        await client.workflow("#")
    with pytest.raises(BadAddress):
        Client("ftp://localhost", client="alice")


# What is listed and retained.


async def test_jobs_are_listed_in_pages_and_acked(client: Client, fake: FakeBridge) -> None:
    listing = asyncio.create_task(client.jobs(3, states=["succeeded"], workflow="wf", limit=1))
    asked = await fake.asked("list")
    wanted = {
        "after": 3,
        "states": ["succeeded"],
        "workflow": "wf",
        "limit": 1,
    }
    assert asked.body.items() >= wanted.items()
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


async def test_the_bridges_state_and_info_are_reported(client: Client, fake: FakeBridge) -> None:
    assert await client.state() is None
    assert await client.info() is None
    assert client.online is None
    limits = {
        "max_inline_input": 1,
        "max_upload": 1,
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
