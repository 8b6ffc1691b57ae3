"""Requests about jobs that exist, uploads, rates, and what errors are answered with."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bridge.config import ClientRights
from bridge.contract import requests
from bridge.contract.errors import BadRequest, DependencyFailed
from bridge.contract.topics import RequestTopic
from bridge.jobs.database import DatabaseError, LeaseLost
from bridge.jobs.job import KeptOutput
from bridge.media.files import INLINE_LIMIT
from bridge.requests.context import Answer, RequestContext
from tests.media.images import encoded, opened, photo
from tests.requests.stand import Packets, Stand, standing


@pytest.fixture
async def stand(tmp_path: Path) -> AsyncIterator[Stand]:
    async with standing(tmp_path) as stand:
        yield stand


def inline(data: bytes, content_type: str = "image/png", index: int = 0) -> KeptOutput:
    sha256 = hashlib.sha256(data).hexdigest()
    return KeptOutput(
        index=index, content_type=content_type, sha256=sha256, size=len(data), data=data
    )


def in_a_file(stand: Stand, data: bytes) -> KeptOutput:
    sha256 = hashlib.sha256(data).hexdigest()
    stand.files.put(sha256, data)
    return KeptOutput(index=0, content_type="image/png", sha256=sha256, size=len(data), data=None)


# What errors are answered with.


async def test_a_defect_costs_the_request_that_met_it_and_names_no_path(
    stand: Stand, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def defect(*_: object) -> int:
        raise ZeroDivisionError("/secret/path")

    monkeypatch.setattr(stand.journal, "ack", defect)
    answer = await stand.ask("ack", up_to=1, transaction="t")
    assert answer.error is not None
    assert (answer.error.code, answer.transaction) == ("bridge_error", "t")
    assert "ZeroDivisionError" in answer.error.message
    assert "/secret/path" not in answer.error.message
    assert "/secret/path" in caplog.text


@pytest.mark.parametrize("fault", [DatabaseError("db is away"), OSError(28, "No space", "/x")])
async def test_a_disk_or_database_that_is_away_is_busy(
    stand: Stand, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    async def away(*_: object) -> int:
        raise fault

    monkeypatch.setattr(stand.journal, "ack", away)
    error = await stand.error("ack", up_to=1)
    assert error.code == "busy"
    assert "/x" not in error.message


async def test_a_request_to_a_bridge_that_was_taken_for_dead_is_left_to_the_others(
    stand: Stand, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fenced(*_: object) -> int:
        raise LeaseLost("this bridge was counted as dead")

    monkeypatch.setattr(stand.journal, "ack", fenced)
    with pytest.raises(LeaseLost):
        await stand.ask("ack", up_to=1)
    assert caplog.text == ""


async def test_what_cannot_be_decoded_is_answered_with_its_transaction(stand: Stand) -> None:
    answer = await stand.ask("cancel", b'{"transaction": "t", "job_id": 7}')
    assert (answer.error is not None, answer.transaction) == (True, "t")
    assert (await stand.error("cancel", b"{")).code == "bad_request"
    assert (await stand.error("dance", b"{}")).details["allowed"]
    answer = await stand.ask("cancel", b"{", correlation=b"corr")
    assert answer.transaction == "corr"


async def test_the_correlation_data_is_the_transaction_of_a_request_without_one(
    stand: Stand,
) -> None:
    assert (await stand.ask("list", correlation=b"corr")).transaction == "corr"
    assert (await stand.ask("list", transaction=7, correlation=b"corr")).transaction == 7


async def test_a_payload_that_was_read_is_not_read_again_for_its_refusal(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[bytes] = []
    original = requests.transaction_of

    def reading(payload: bytes, correlation: bytes | None) -> Any:
        read.append(payload)
        return original(payload, correlation)

    monkeypatch.setattr("bridge.contract.requests.transaction_of", reading)
    assert (await stand.error("submit", b'{"workflow": "nowhere"}')).code == "unknown_workflow"
    assert read == []
    assert (await stand.error("submit", b'{"workflow": 5}')).code == "bad_request"
    assert read == [b'{"workflow": 5}']


async def test_what_an_adapter_refuses_is_answered_and_counted(tmp_path: Path) -> None:
    async with standing(tmp_path, alice=ClientRights(requests_per_s=0.1)) as stand:
        answers: list[Answer] = []
        context = RequestContext(
            topic=RequestTopic("alice", "run"), payload=b'{"transaction": "t"}'
        )
        for _ in range(3):
            stand.handler.refuse(context, BadRequest("retained"), answers.append)
        codes = [answer.error.code for answer in answers if answer.error]
        assert codes == ["bad_request", "quota_exceeded"]
        assert answers[0].transaction == "t"


async def test_a_flood_is_not_answered_at_all(tmp_path: Path) -> None:
    async with standing(tmp_path, alice=ClientRights(requests_per_s=0.1)) as stand:
        assert not stand.handler.would_drop("alice")
        assert (await stand.ask("list")).error is None
        assert (await stand.error("list")).code == "quota_exceeded"
        answers: list[Answer] = []
        context = RequestContext(topic=RequestTopic("alice", "list"))
        await stand.handler.handle(context, answers.append)
        assert answers == []
        assert stand.handler.would_drop("alice")
        assert not stand.handler.would_drop("bob")


# Jobs that exist.


async def test_a_job_is_shown_with_its_place_and_its_result(stand: Stand) -> None:
    await stand.submitted("waits", meta={"row": 1})
    await stand.finished("done", result="x")
    waits = await stand.data("status", b"waits")
    assert (waits["state"], waits["position"], waits["meta"]) == ("queued", 0, {"row": 1})
    done = await stand.data("status", job_id="done")
    assert (done["state"], done["result"]["text"]) == ("succeeded", "x")
    assert (await stand.error("status", job_id="none")).code == "unknown_job"


async def test_what_does_not_fit_a_packet_is_left_out(stand: Stand) -> None:
    await stand.finished("done", result="x" * 3000)
    assert "result" in await stand.data("status", job_id="done", room=Packets(5000))
    assert "result" not in await stand.data("status", job_id="done", room=Packets(2000))
    await stand.submitted("waits", meta={"note": "y" * 3000})
    assert "meta" not in await stand.data("status", job_id="waits", room=Packets(2000))


async def test_a_page_has_as_many_jobs_as_asked_for_and_as_fit(stand: Stand) -> None:
    for number in range(3):
        await stand.finished(f"j{number}", result="x" * 700)
    page = await stand.data("list", limit=2)
    assert ([job["job_id"] for job in page["jobs"]], page["more"]) == (["j0", "j1"], True)
    assert not (await stand.data("list", limit=3))["more"]
    small = await stand.data("list", room=Packets(1400))
    assert (len(small["jobs"]), small["more"]) == (1, True)


async def test_a_page_after_a_number_acks_up_to_it_unless_it_peeks(stand: Stand) -> None:
    await stand.finished("j0")
    n = (await stand.data("status", job_id="j0"))["n"]
    await stand.data("list", after=n, peek=True)
    assert not (await stand.data("status", job_id="j0"))["acked"]
    await stand.data("list", after=n)
    assert (await stand.data("status", job_id="j0"))["acked"]
    assert await stand.data("ack", up_to=n) == {"acked": 0}


async def test_a_cancel_ends_a_job_that_waits(stand: Stand) -> None:
    await stand.submitted("j1")
    cancelled = await stand.data("cancel", b"j1")
    assert cancelled["job_id"] == "j1"
    result = await stand.dispatcher.recorder.outcome("j1")
    assert result["state"] == "cancelled"
    again = await stand.data("cancel", b"j1")
    assert (again["state"], again["cancelling"]) == ("cancelled", False)


async def test_outputs_are_kept_longer_and_let_go_once_a_job_has_ended(stand: Stand) -> None:
    await stand.submitted("waits")
    for error in (
        await stand.error("keep", job_id="waits", keep_s=60),
        await stand.error("forget", job_id="waits"),
    ):
        assert (error.code, error.details["state"]) == ("conflict", "queued")
    await stand.finished("done", inline(b"png"))
    assert (await stand.data("keep", job_id="done", keep_s=60))["outputs"] == 1
    assert (await stand.data("forget", job_id="done"))["forgotten"]
    assert (await stand.error("fetch", job_id="done")).code == "unknown_job"


async def test_a_recipe_is_the_prompt_as_it_will_run(stand: Stand) -> None:
    await stand.submitted("j1", inputs={"prompt": "a ship", "seed": 5})
    recipe = await stand.data("recipe", job_id="j1")
    assert recipe["prompt"]["1"]["inputs"]["value"] == "a ship"
    assert recipe["inputs"] == {"prompt": "a ship", "seed": 5}


# Fetching.


async def test_an_output_comes_in_parts_that_fit_a_packet(stand: Stand) -> None:
    data = bytes(range(256)) * 8
    await stand.finished("done", inline(data))
    pieces: list[bytes] = []
    offset: int | None = 0
    while offset is not None:
        answer = await stand.ask("fetch", job_id="done", offset=offset, room=Packets(1400))
        assert answer.bytes is not None
        pieces.append(answer.bytes.data)
        assert len(pieces[-1]) < 1400
        found = answer.data
        offset = found.next if isinstance(found.next, int) else None
    assert b"".join(pieces) == data
    assert len(pieces) > 1


async def test_an_inline_part_is_base64_and_smaller(stand: Stand) -> None:
    await stand.finished("done", inline(b"x" * 2000))
    answer = await stand.ask("fetch", job_id="done", inline=True, room=Packets(1400))
    assert answer.bytes is None
    assert base64.b64decode(answer.data.base64) == b"x" * answer.data.count
    assert len(answer.data.base64) < 1400
    part = await stand.data("fetch", job_id="done", offset=1990, count=5, inline=True)
    assert (part["count"], part["next"]) == (5, 1995)


async def test_an_offset_beyond_the_end_is_refused(stand: Stand) -> None:
    await stand.finished("done", inline(b"12345"))
    assert (await stand.data("fetch", job_id="done", offset=5))["count"] == 0
    error = await stand.error("fetch", job_id="done", offset=6)
    assert (error.code, error.details["allowed"]) == ("invalid_input", "0 to 5")


async def test_a_large_output_is_read_from_its_file(stand: Stand) -> None:
    data = b"large" * 100_000
    await stand.finished("done", in_a_file(stand, data))
    answer = await stand.ask("fetch", job_id="done", offset=10, count=20)
    assert answer.bytes is not None
    assert answer.bytes.data == data[10:30]


@pytest.mark.parametrize("asked", [{}, {"inline": True}, {"width": 32}, {"offset": 2}])
@pytest.mark.parametrize("size", [2000, 500_000], ids=["row", "file"])
async def test_an_output_that_the_disk_has_damaged_is_refused_as_damaged(
    stand: Stand, tmp_path: Path, asked: dict[str, Any], size: int
) -> None:
    data = bytes(size)
    there = inline(data) if size < INLINE_LIMIT else in_a_file(stand, data)
    # Its name is of other bytes: as if these had changed.
    damaged = msgspec.structs.replace(there, sha256="a" * 64)
    if damaged.data is None:
        (tmp_path / "blobs" / damaged.sha256).write_bytes(data)
    await stand.finished("done", damaged)
    error = await stand.error("fetch", job_id="done", **asked)
    assert (error.code, error.details["output"]) == ("unknown_job", 0)
    assert "whole" in error.message


@pytest.mark.parametrize("asked", [{}, {"inline": True}, {"width": 32}])
async def test_bytes_whose_file_is_gone_are_not_kept_rather_than_busy(
    stand: Stand, asked: dict[str, Any]
) -> None:
    gone = KeptOutput(index=0, content_type="image/png", sha256="a" * 64, size=10**6, data=None)
    await stand.finished("done", gone)
    error = await stand.error("fetch", job_id="done", **asked)
    assert (error.code, error.details["output"]) == ("unknown_job", 0)


@pytest.mark.slow
async def test_an_image_is_fetched_smaller(stand: Stand) -> None:
    await stand.finished("done", inline(encoded(photo(64, 32))))
    answer = await stand.ask("fetch", job_id="done", width=16)
    assert answer.bytes is not None
    assert (answer.data.content_type, opened(answer.bytes.data).size) == ("image/webp", (16, 8))


# Uploads.


async def test_an_upload_is_whole_or_begins_goes_on_and_ends(stand: Stand) -> None:
    png = encoded(photo(8, 8))
    whole = await stand.data("upload", png, upload="whole")
    assert whole["complete"]
    begin = {"size": len(png), "sha256": hashlib.sha256(png).hexdigest(), "transaction": "t"}
    answer = await stand.ask("upload", json.dumps(begin).encode(), upload="parts")
    assert (answer.transaction, answer.data.held) == ("t", 0)
    part = await stand.data("upload", png, upload="parts", offset=0)
    assert part["held"] == len(png)
    assert (await stand.data("upload", b"", upload="parts", fin=True))["complete"]
    assert (await stand.error("upload", b"", upload="empty")).code == "bad_request"


async def test_an_upload_is_an_input(stand: Stand) -> None:
    await stand.data("upload", encoded(photo(8, 8)), upload="photo")
    given = {"upload": "photo"}
    accepted = await stand.data(
        "submit", workflow="picture", inputs={"picture": given}, job_id="j1"
    )
    assert accepted["state"] == "queued"
    recipe = await stand.data("recipe", job_id="j1")
    assert recipe["inputs"]["picture"]["content_type"] == "image/png"


async def test_an_error_of_a_part_is_answered_by_correlation(stand: Stand) -> None:
    answer = await stand.ask("upload", b"x", upload="none", offset=0, correlation=b"corr")
    assert answer.error is not None
    assert answer.transaction == "corr"


async def test_an_output_of_a_job_that_failed_is_no_input(stand: Stand) -> None:
    await stand.submitted("j1")
    await stand.data("cancel", b"j1")
    await stand.dispatcher.recorder.outcome("j1")
    given = {"job": "j1"}
    error = await stand.error("submit", workflow="picture", inputs={"picture": given})
    assert isinstance(error, DependencyFailed)


async def test_the_workflows_are_had_in_pages_that_fit_the_broker(stand: Stand) -> None:
    whole = await stand.data("workflows")
    names = [each["name"] for each in whole["workflows"]]
    assert names == sorted(stand.library.workflows)
    assert "next" not in whole
    room = Packets(1400)
    found, page = [], await stand.data("workflows", room=room)
    while "next" in page:
        found += [each["name"] for each in page.get("workflows", ())] + page.get("left_out", [])
        page = await stand.data("workflows", room=room, after=page["next"])
    found += [each["name"] for each in page.get("workflows", ())] + page.get("left_out", [])
    assert found == names
    (one,) = (await stand.data("workflows", name="simple"))["workflows"]
    assert one["name"] == "simple"
    error = await stand.error("workflows", name="none")
    assert error.code == "unknown_workflow"
