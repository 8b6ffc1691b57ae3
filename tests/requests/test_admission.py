"""Requests for work that become jobs, and the answers to the others."""

from __future__ import annotations

import asyncio
import base64
import gc
import json
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bridge.config import ClientRights
from bridge.contract.errors import Busy
from bridge.contract.messages import encode
from bridge.contract.topics import RequestTopic
from bridge.jobs.input_bounds import InputBounds
from bridge.jobs.queue import Key
from bridge.requests.context import Answer, RequestContext
from bridge.requests.permissions import EVERYBODY
from bridge.workflows.catalogue import NodeCatalogue
from tests.media.images import encoded, photo
from tests.requests.stand import MAX_QUEUE, SIMPLE, Stand, standing
from tests.requests.test_handler import inline
from tests.workflows.graphs import INFO

PICTURE = {"base64": base64.b64encode(encoded(photo(8, 8))).decode()}


@pytest.fixture
async def stand(tmp_path: Path) -> AsyncIterator[Stand]:
    async with standing(tmp_path) as stand:
        yield stand


def without(*classes: str) -> bytes:
    """The nodes of a ComfyUI whose custom nodes are not all there."""
    return msgspec.json.encode({k: v for k, v in INFO.raw.items() if k not in classes})


async def jobs(stand: Stand) -> list[str]:
    return [job["job_id"] for job in (await stand.data("list"))["jobs"]]


async def test_an_accepted_job_is_on_disk_answered_and_queued(stand: Stand) -> None:
    answer = await stand.ask("submit", workflow="simple", job_id="j1", transaction="t", meta=[1])
    assert answer.transaction == "t"
    accepted = msgspec.json.decode(encode(answer.data))
    assert (accepted["state"], accepted["position"], accepted["duplicate"]) == ("queued", 0, False)
    assert (await stand.journal.get(Key("alice", "j1"))).job.workflow == "simple"
    assert stand.dispatcher.book.job(Key("alice", "j1")) is not None
    assert stand.dispatcher.counters.accepted == 1


async def test_the_garbage_collector_does_not_go_through_waiting_jobs(stand: Stand) -> None:
    """With ten thousand of them it blocked the event loop for a tenth of a second."""
    await stand.submitted("j1")
    job = stand.dispatcher.book.entries[Key("alice", "j1")].job
    parts = (job, job.needs, job.envelope, job.envelope.put, job.envelope.webhooks)
    assert [each for each in parts if gc.is_tracked(each)] == []


async def test_a_run_names_its_workflow_and_job_in_the_topic(stand: Stand) -> None:
    accepted = await stand.data("run", b"a ship", workflow="simple", job_id="j1")
    assert accepted["job_id"] == "j1"
    recipe = await stand.data("recipe", job_id="j1")
    assert recipe["inputs"]["prompt"] == "a ship"


async def test_a_job_without_an_id_gets_one(stand: Stand) -> None:
    found = {(await stand.data("run", b"", workflow="simple"))["job_id"] for _ in range(2)}
    assert len(found) == 2


async def test_the_same_request_again_is_a_duplicate_and_another_one_a_conflict(
    stand: Stand,
) -> None:
    await stand.submitted("j1", inputs={"seed": 1})
    again = await stand.submitted("j1", inputs={"seed": 1})
    assert (again["duplicate"], again["state"]) == (True, "queued")
    error = await stand.error("submit", workflow="simple", job_id="j1", inputs={"seed": 2})
    assert (error.code, error.details["state"]) == ("conflict", "queued")
    assert stand.dispatcher.counters.accepted == 1


async def test_two_of_the_same_at_once_are_one_job(stand: Stand) -> None:
    answers = await asyncio.gather(*(stand.submitted("j1") for _ in range(5)))
    assert sorted(answer["duplicate"] for answer in answers) == [False, True, True, True, True]


async def test_a_job_that_was_accepted_stands_though_it_would_be_refused_now(
    stand: Stand,
) -> None:
    for number in range(MAX_QUEUE):
        await stand.submitted(f"j{number}")
    assert (await stand.submitted("j0"))["duplicate"]
    error = await stand.error("submit", workflow="simple", job_id="new")
    assert (error.code, error.details["setting"]) == ("busy", "max_queue")
    assert (await stand.error("submit", workflow="simple")).code == "busy"


async def test_a_clients_own_share_of_the_queue_is_bounded(tmp_path: Path) -> None:
    async with standing(tmp_path, alice=ClientRights(max_queue=1)) as stand:
        await stand.submitted("j1")
        error = await stand.error("submit", workflow="simple", job_id="j2")
        assert (error.code, error.details["setting"]) == (
            "quota_exceeded",
            "clients.alice.max_queue",
        )
        assert (await stand.data("submit", workflow="simple", client="bob"))["position"] == 1


async def test_what_a_client_may_not_do_is_refused(tmp_path: Path) -> None:
    limited = ClientRights(workflows=("other",), max_priority=0)
    async with standing(tmp_path, alice=limited) as stand:
        for given in (
            {"workflow": "simple"},
            {"workflow": "other", "priority": 1},
            {"prompt": SIMPLE},
            {"workflow": "other", "show": "frame"},
        ):
            assert (await stand.error("submit", **given)).code == "forbidden", given
        assert await jobs(stand) == []


async def test_a_workflow_with_nodes_that_are_denied_is_refused(stand: Stand) -> None:
    error = await stand.error("submit", workflow="denied")
    assert (error.code, error.details["setting"]) == ("forbidden", "deny_nodes")
    assert error.details["nodes"] == ["LoadImage"]


async def test_a_client_may_send_a_workflow_of_its_own_where_that_is_allowed(
    tmp_path: Path,
) -> None:
    async with standing(tmp_path, **{EVERYBODY: ClientRights(inline=True)}) as stand:
        await stand.data("submit", prompt=SIMPLE, job_id="j1")
        recipe = await stand.data("recipe", job_id="j1")
        assert recipe["prompt"]["3"]["class_type"] == "Loader"


async def test_a_number_is_no_choice_where_its_text_is_one(tmp_path: Path) -> None:
    sized = {"input": {"required": {"size": [[1, 2]]}}, "output": ["IMAGE"]}

    def prompt(size: Any) -> dict[str, Any]:
        taken = {"images": ["1", 0], "filename_prefix": "x"}
        return {
            "1": {"class_type": "Sized", "inputs": {"size": size}},
            "2": {"class_type": "SaveImage", "inputs": taken},
        }

    async with standing(tmp_path, **{EVERYBODY: ClientRights(inline=True)}) as stand:
        await stand.library.update("main", msgspec.json.encode({**INFO.raw, "Sized": sized}))
        before = await stand.error("submit", prompt=prompt("1"))
        await stand.data("submit", prompt=prompt(1), job_id="j1")
        after = await stand.error("submit", prompt=prompt("1"))
        assert (after.code, after.message) == (before.code, before.message)
        assert after.code == "comfyui_unavailable"


def with_partner_node() -> bytes:
    paid = {"input": {"required": {}}, "output": ["IMAGE"], "api_node": True}
    return msgspec.json.encode({**INFO.raw, "Paid": paid})


COSTLY = {
    "1": {"class_type": "Paid", "inputs": {}},
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "x"}},
}


async def test_a_node_that_costs_money_is_for_those_who_may_spend_it(tmp_path: Path) -> None:
    rights = {
        "alice": ClientRights(inline=True, partner_nodes=True),
        "bob": ClientRights(inline=True),
    }
    async with standing(tmp_path, **rights) as stand:
        await stand.library.update("main", with_partner_node())
        await stand.data("submit", prompt=COSTLY, job_id="j1")
        await stand.data("submit", prompt=SIMPLE, job_id="j2")
        for dry_run in (False, True):
            error = await stand.error("submit", client="bob", prompt=COSTLY, dry_run=dry_run)
            assert (error.code, error.details) == (
                "forbidden",
                {"setting": "clients.bob.partner_nodes", "nodes": ["Paid"]},
            )
        assert (await stand.data("submit", client="bob", prompt=SIMPLE))["state"] == "queued"

        plans = [await stand.journal.plan(Key("alice", job)) for job in ("j1", "j2")]
        assert [plan.partner for plan in plans] == [True, False]


async def test_who_may_spend_may_do_so_before_it_is_known_what_costs(tmp_path: Path) -> None:
    rights = {
        "alice": ClientRights(inline=True, partner_nodes=True),
        "bob": ClientRights(inline=True),
    }
    async with standing(tmp_path, **rights) as stand:
        stand.library._state = msgspec.structs.replace(
            stand.library._state, catalogue=NodeCatalogue()
        )
        plans = {}
        for client in rights:
            await stand.data("submit", client=client, prompt=COSTLY, job_id="j1")
            plans[client] = await stand.journal.plan(Key(client, "j1"))
        assert {client: plan.partner for client, plan in plans.items()} == {
            "alice": True,
            "bob": False,
        }


async def test_an_unknown_workflow_or_input_is_refused_with_what_there_is(stand: Stand) -> None:
    error = await stand.error("submit", workflow="simpel")
    assert (error.code, error.details["allowed"]) == (
        "unknown_workflow",
        ["denied", "picture", "simple"],
    )
    error = await stand.error("submit", workflow="simple", inputs={"promt": "x"})
    assert error.code == "invalid_input"
    assert await jobs(stand) == []


async def test_what_no_comfyui_has_is_asked_for_once_more_and_then_refused(stand: Stand) -> None:
    await stand.library.update("main", without("Loader"))
    error = await stand.error("submit", workflow="simple")
    assert (error.code, stand.refreshed) == ("comfyui_unavailable", 1)
    assert "Loader" in error.message
    stand.fresh_info = msgspec.json.encode(INFO.raw)
    assert (await stand.submitted("j1"))["state"] == "queued"
    assert stand.refreshed == 2


async def test_what_a_comfyui_was_found_to_have_is_looked_for_again_once_it_has_less(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = 0
    lacking = NodeCatalogue.lacking

    def counted(catalogue: NodeCatalogue, nodes: Any) -> Any:
        nonlocal looked
        looked += 1
        return lacking(catalogue, nodes)

    monkeypatch.setattr(NodeCatalogue, "lacking", counted)
    await stand.submitted("j1")
    await stand.submitted("j2")
    assert looked == 1
    await stand.library.update("main", without("Loader"))
    error = await stand.error("submit", workflow="simple")
    assert error.code == "comfyui_unavailable"


async def test_a_dry_run_answers_what_would_be_and_keeps_nothing(stand: Stand) -> None:
    await stand.submitted("j1")
    report = await stand.data("submit", workflow="simple", dry_run=True, inputs={"seed": 5})
    assert (report["runnable"], report["position"]) == (True, 1)
    assert report["inputs"] == {"prompt": "a barn", "seed": 5}
    await stand.library.update("main", without("Loader"))
    report = await stand.data("submit", workflow="simple", dry_run=True)
    assert (report["runnable"], report["missing"]["nodes"]) == (False, ["Loader"])
    assert await jobs(stand) == ["j1"]


async def test_a_picture_within_a_request_is_kept_and_bounded(stand: Stand) -> None:
    await stand.data("submit", workflow="picture", job_id="j1", inputs={"picture": PICTURE})
    recipe = await stand.data("recipe", job_id="j1")
    assert recipe["inputs"]["picture"]["content_type"] == "image/png"
    large = {"base64": base64.b64encode(b"x" * 100_001).decode()}
    error = await stand.error("submit", workflow="picture", inputs={"picture": large})
    assert (error.code, error.details["limit"]) == ("too_large", 100_000)
    text = {"base64": base64.b64encode(b"no picture").decode()}
    error = await stand.error("submit", workflow="picture", inputs={"picture": text})
    assert (error.code, error.details["type"]) == ("invalid_input", "image")


async def test_a_picture_that_unpacks_to_gigabytes_is_refused_wherever_it_comes_from(
    stand: Stand,
) -> None:
    bomb = bytearray(encoded(photo(8, 8)))
    bomb[16:24] = struct.pack(">II", 13_000, 13_000)
    await stand.data("upload", bytes(bomb), upload="small")
    await stand.data("upload", bytes(bomb) + bytes(80_000), upload="large")
    await stand.finished("drawn", inline(bytes(bomb)))
    sources: list[dict[str, Any]] = [
        {"base64": base64.b64encode(bomb).decode()},
        {"upload": "small"},
        {"upload": "large"},
        {"job": "drawn", "output": 0},
    ]
    for source in sources:
        error = await stand.error("submit", workflow="picture", inputs={"picture": source})
        assert error.code == "invalid_input", source
        assert error.details == {
            "input": "picture",
            "found": 13_000 * 13_000,
            "limit": 8192 * 8192,
            "setting": "max_input_pixels",
        }
    assert await jobs(stand) == ["drawn"]


async def test_a_client_whose_files_take_long_is_refused_before_its_large_ones_are_decoded(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_many(_bounds: InputBounds, client: str) -> None:
        assert client == "alice"
        raise Busy("files of this client are being looked at: ask again", retry=True)

    monkeypatch.setattr(InputBounds, "check_room", too_many)
    for size, code in ((300_000, "busy"), (1_000, "invalid_input")):
        wrong = {"base64": "?" * size}
        error = await stand.error("submit", workflow="picture", inputs={"picture": wrong})
        assert error.code == code
    assert "seed" in (await stand.data("submit", workflow="simple", dry_run=True))["inputs"]


async def test_a_large_picture_is_a_file_before_the_job_is_accepted(stand: Stand) -> None:
    png = encoded(photo(165, 165))
    assert 64 * 1024 - 1 < len(png) < 100_000
    accepted = await stand.data("run", png, workflow="picture", job_id="j1")
    assert accepted["state"] == "queued"
    recipe = await stand.data("recipe", job_id="j1")
    assert stand.files.read(recipe["inputs"]["picture"]["sha256"]) == png


async def test_a_topic_that_is_not_allowed_is_no_input(tmp_path: Path) -> None:
    topic = {"topic": "home/door/camera"}
    async with standing(tmp_path, alice=ClientRights(input_topics=("home/+/camera",))) as stand:
        accepted = await stand.data("submit", workflow="picture", inputs={"picture": topic})
        assert accepted["state"] == "waiting"
        error = await stand.error(
            "submit", workflow="picture", inputs={"picture": topic}, client="bob"
        )
        assert error.details["setting"] == "clients.bob.input_topics"


async def test_a_job_starts_in_time_or_never(stand: Stand) -> None:
    await stand.data("submit", workflow="simple", job_id="j1", expiry_s=30)
    record = await stand.journal.get(Key("alice", "j1"))
    assert record.job.start_before == pytest.approx(record.job.accepted_at + 30, abs=5)
    await stand.submitted("j2")
    assert (await stand.journal.get(Key("alice", "j2"))).job.start_before is None


async def test_a_job_may_wait_for_longer_than_its_request(stand: Stand) -> None:
    await stand.data("submit", workflow="simple", job_id="j1", start_within_s=600, expiry_s=30)
    record = await stand.journal.get(Key("alice", "j1"))
    assert record.job.start_before == pytest.approx(record.job.accepted_at + 600, abs=5)


@pytest.mark.parametrize(
    ("properties", "traced", "reply"),
    [
        ([], None, False),
        ([("traceparent", f"00-{'a' * 32}-{'b' * 16}-01")], f"00-{'a' * 32}-{'b' * 16}-01", False),
        (
            [("traceparent", f"00-{'a' * 32}-{'b' * 16}-01"), ("tracestate", "vendor=1")],
            f"00-{'a' * 32}-{'b' * 16}-01",
            False,
        ),
        ([("traceparent", "no trace"), ("tracestate", "vendor=1")], None, False),
        ([("reply", "output")], None, True),
    ],
)
async def test_what_came_beside_the_work_is_kept_for_the_answer(
    stand: Stand, properties: list[tuple[str, str]], traced: str | None, *, reply: bool
) -> None:
    await stand.data(
        "run",
        b"",
        workflow="simple",
        job_id="j1",
        user_properties=properties,
        correlation=b"\xff",
        response_topic="here",
    )
    envelope = (await stand.journal.get(Key("alice", "j1"))).job.envelope
    assert (envelope.traceparent, envelope.reply_output) == (traced, reply)
    assert envelope.tracestate == (dict(properties).get("tracestate") if traced else None)
    assert (envelope.correlation, envelope.response_topic) == (b"\xff", "here")


async def test_a_cancel_that_follows_at_once_means_the_job(stand: Stand) -> None:
    submitting = asyncio.create_task(stand.submitted("j1"))
    await asyncio.sleep(0)
    await stand.data("cancel", b"j1")
    await submitting
    assert (await stand.dispatcher.recorder.outcome("j1"))["state"] == "cancelled"


async def test_numbers_leave_in_their_order(stand: Stand) -> None:
    """Nothing is awaited between a job's number and its answer."""
    order: list[Any] = []

    def respond(answer: Answer) -> None:
        order.append(answer.data.job_id)

    stand.dispatcher.recorder.status = lambda job, *_: order.append(job.key.job_id)  # type: ignore[method-assign]
    for job_id in ("a", "b"):
        payload = json.dumps({"workflow": "simple", "job_id": job_id}).encode()
        context = RequestContext(topic=RequestTopic("alice", "submit"), payload=payload)
        await stand.handler.handle(context, respond)
    assert order == ["a", "a", "b", "b"]
