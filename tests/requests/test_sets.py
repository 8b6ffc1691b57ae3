"""Requests for sets that become sets, and the messages about those."""

from __future__ import annotations

import asyncio
import base64
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import Raw

from bridge.config import ClientRights
from bridge.contract.errors import Expired
from bridge.contract.messages import State, encode
from bridge.contract.sets import SetResult
from bridge.jobs.database import DatabaseError
from bridge.jobs.journal import Record
from bridge.jobs.queue import Key
from bridge.jobs.sets.driver import SetDriver
from tests.media.images import encoded, photo
from tests.requests.stand import MAX_QUEUE, Packets, Stand, standing

# Without a ComfyUI so many jobs of a client's sets are made ahead.
AHEAD = 2
PICTURE = {"base64": base64.b64encode(encoded(photo(8, 8))).decode()}


@pytest.fixture
async def stand(tmp_path: Path) -> AsyncIterator[Stand]:
    async with standing(tmp_path) as stand, driving(stand):
        yield stand


@asynccontextmanager
async def driving(stand: Stand) -> AsyncIterator[None]:
    task = asyncio.create_task(stand.driver.run())
    try:
        yield
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def asked(stand: Stand, **fields: Any) -> Any:
    return await stand.data("submit", **{"workflow": "simple", **fields})


async def jobs(stand: Stand, set_id: str | None = None) -> list[Record]:
    """Return alice's jobs, or those of a set, without a request: those are counted."""
    return await stand.journal.page("alice", after=0, limit=1000, set_id=set_id)


async def made(stand: Stand, set_id: str, number: int) -> list[str]:
    """Wait until so many jobs of a set were made; return their ids."""
    while len(found := await jobs(stand, set_id)) < number:  # noqa: ASYNC110 - there is no event
        await asyncio.sleep(0)
    assert len(found) == number
    return [each.job.key.job_id for each in found]


async def result(stand: Stand) -> SetResult:
    """Wait for the result of a set."""
    while not stand.notes.results:
        stand.notes.came.clear()
        await stand.notes.came.wait()
    return stand.notes.results.pop(0)


async def test_a_set_is_answered_with_its_id_and_how_many_jobs_it_has(stand: Stand) -> None:
    answer = await asked(stand, repeat=5, set_id="s1", meta={"a": 1}, transaction="t")
    assert answer == {
        "set_id": "s1",
        "workflow": "simple",
        "transaction": "t",
        "meta": {"a": 1},
        "state": "running",
        "total": 5,
        "duplicate": False,
    }
    unnamed = await asked(stand, repeat=2)
    assert unnamed["set_id"] not in ("s1", "")


async def test_a_few_of_its_jobs_are_made_at_a_time(stand: Stand) -> None:
    await asked(stand, repeat=100, set_id="s1")
    assert await made(stand, "s1", AHEAD) == ["s1-0", "s1-1"]
    await stand.data("cancel", job_id="s1-0")
    assert await made(stand, "s1", AHEAD + 1) == ["s1-1", "s1-0", "s1-2"]


async def test_its_jobs_are_jobs_like_any_other(stand: Stand) -> None:
    await asked(stand, each=[{"prompt": "a"}, {"prompt": "b"}], set_id="s1", priority=7)
    await made(stand, "s1", 2)
    view = await stand.data("status", job_id="s1-1")
    assert (view["set_id"], view["state"]) == ("s1", "queued")
    recipe = await stand.data("recipe", job_id="s1-1")
    assert recipe["inputs"]["prompt"] == "b"
    assert recipe["prompt"]["1"]["inputs"]["value"] == "b"
    job = stand.dispatcher.book.job(Key("alice", "s1-1"))
    assert job is not None
    assert job.priority == 7


async def test_each_job_of_a_repeat_has_a_seed_of_its_own(stand: Stand) -> None:
    await asked(stand, repeat=2, set_id="s1")
    await made(stand, "s1", 2)
    seeds = {(await stand.data("recipe", job_id=f"s1-{at}"))["inputs"]["seed"] for at in (0, 1)}
    assert len(seeds) == 2


async def test_a_grid_that_varies_no_seed_has_one(stand: Stand) -> None:
    await asked(stand, grid={"prompt": ["a", "b"]}, set_id="s1")
    await made(stand, "s1", 2)
    recipes = [await stand.data("recipe", job_id=f"s1-{at}") for at in (0, 1)]
    assert [each["inputs"]["prompt"] for each in recipes] == ["a", "b"]
    assert len({each["inputs"]["seed"] for each in recipes}) == 1


async def test_a_run_takes_a_set_too(stand: Stand) -> None:
    answer = await stand.data("run", b'{"$repeat": 2, "$text": "a fox"}', workflow="simple")
    first = (await made(stand, answer["set_id"], 2))[0]
    assert (await stand.data("recipe", job_id=first))["inputs"]["prompt"] == "a fox"


@pytest.mark.parametrize(
    ("fields", "code", "details"),
    [
        ({"each": [{"seed": 1}, {"seed": "many"}]}, "invalid_input", {"input": "seed"}),
        ({"each": [{"seed": 1}, {"sead": 1}]}, "invalid_input", {"input": "sead"}),
        ({"grid": {"prompt": ["a"], "seed": ["x"]}}, "invalid_input", {"input": "seed"}),
        ({"grid": {"prompt": {"seeds": 2}}}, "invalid_input", {"input": "prompt"}),
        ({"grid": {"prompt": ["a"], "1.value": ["b"]}}, "invalid_input", {"input": "1.value"}),
        ({"grid": {"prompt": {"set": "no"}}}, "invalid_input", {"field": "grid", "set_id": "no"}),
        ({"each": [{"prompt": {"set": "no"}}]}, "invalid_input", {"field": "each", "set_id": "no"}),
        ({"repeat": 2, "workflow": "denied"}, "forbidden", {}),
        ({"repeat": 2, "workflow": "none"}, "unknown_workflow", {}),
        ({"repeat": 5001}, "too_large", {"limit": 5000, "setting": "clients.alice.max_set"}),
        ({"repeat": 2, "replace": "a"}, "bad_request", {"field": "replace"}),
        ({"repeat": 2, "dry_run": True}, "bad_request", {"field": "dry_run"}),
        ({"repeat": 2, "show": "hall"}, "forbidden", {}),
    ],
)
async def test_a_set_is_accepted_whole_or_not_at_all(
    stand: Stand, fields: dict[str, Any], code: str, details: dict[str, Any]
) -> None:
    error = await stand.error("submit", **{"workflow": "simple", "set_id": "s1", **fields})
    assert error.code == code, error
    assert details.items() <= error.details.items()
    assert await jobs(stand) == []
    assert (await stand.error("status", set_id="s1")).code == "unknown_job"


async def test_the_same_set_again_is_a_duplicate_and_another_one_a_conflict(stand: Stand) -> None:
    await asked(stand, repeat=3, set_id="s1")
    again = await asked(stand, repeat=3, set_id="s1")
    assert (again["duplicate"], again["total"]) == (True, 3)
    error = await stand.error("submit", workflow="simple", repeat=4, set_id="s1")
    assert (error.code, error.details["set_id"]) == ("conflict", "s1")
    await made(stand, "s1", AHEAD)


async def test_two_of_the_same_at_once_are_one_set(stand: Stand) -> None:
    answers = await asyncio.gather(*(asked(stand, repeat=3, set_id="s1") for _ in range(5)))
    assert sorted(each["duplicate"] for each in answers) == [False, True, True, True, True]


async def test_a_request_that_comes_again_without_an_id_is_one_set(stand: Stand) -> None:
    payload = b'{"workflow": "simple", "repeat": 3}'
    first = await stand.data("submit", payload, delivery="session:1:abc")
    again = await stand.data("submit", payload, delivery="session:1:abc", redelivered=True)
    assert (again["duplicate"], again["set_id"]) == (True, first["set_id"])
    other = await stand.data("submit", payload, delivery="session:2:abc", redelivered=True)
    assert not other["duplicate"]


async def test_a_set_that_was_accepted_stands_though_it_would_be_refused_now(
    stand: Stand,
) -> None:
    await asked(stand, repeat=1, set_id="s1")
    for number in range(MAX_QUEUE - 1):
        await stand.submitted(f"j{number}")
    assert (await asked(stand, repeat=1, set_id="s1"))["duplicate"]
    assert (await stand.error("submit", workflow="simple", repeat=1)).code == "busy"


async def test_the_jobs_that_sets_have_yet_to_make_are_bounded(tmp_path: Path) -> None:
    async with standing(tmp_path, alice=ClientRights(max_set=10)) as stand:
        await asked(stand, repeat=8, set_id="s1")
        error = await stand.error("submit", workflow="simple", repeat=4)
        assert (error.code, error.details["limit"]) == ("quota_exceeded", 10)
        assert error.details["setting"] == "clients.alice.max_set"
        # One was made with the set itself.
        await asked(stand, repeat=3)


async def test_a_set_leaves_room_in_the_queue_for_others(stand: Stand) -> None:
    await asked(stand, repeat=1000, set_id="s1")
    await made(stand, "s1", AHEAD)
    await stand.submitted("button")
    assert stand.dispatcher.book.position(Key("alice", "button")) == AHEAD


async def test_sets_of_a_client_take_turns(tmp_path: Path) -> None:
    async with standing(tmp_path) as stand:
        await asked(stand, repeat=100, set_id="large")
        await asked(stand, repeat=3, set_id="small")
        async with driving(stand):
            while len(await jobs(stand, "small")) < 3:
                (first, *_) = await unended(stand)
                await stand.data("cancel", job_id=first)
                await asyncio.sleep(0)
            assert len(await jobs(stand, "large")) <= 3 + AHEAD


async def ended_one_by_one(stand: Stand) -> SetResult:
    """Cancel jobs as they are made, until a set has ended."""
    while not stand.notes.results:
        for job_id in await unended(stand):
            await stand.data("cancel", job_id=job_id)
        await asyncio.sleep(0)
    return stand.notes.results.pop(0)


async def unended(stand: Stand) -> list[str]:
    return [each.job.key.job_id for each in await jobs(stand) if each.job.state == "queued"]


async def test_a_set_ends_with_one_result_that_lists_its_jobs(stand: Stand) -> None:
    await asked(stand, grid={"prompt": ["a", "b", "c"]}, set_id="s1", meta=[1])
    found = await ended_one_by_one(stand)
    assert (found.set_id, found.state, found.total) == ("s1", "cancelled", 3)
    assert found.meta == Raw(b"[1]")
    assert found.counts.cancelled == 3
    assert [(each.job_id, each.state, each.inputs["prompt"]) for each in found.jobs] == [
        ("s1-0", "cancelled", "a"),
        ("s1-1", "cancelled", "b"),
        ("s1-2", "cancelled", "c"),
    ]
    assert found.n > max(each.n for each in await jobs(stand))
    view = await stand.data("status", set_id="s1")
    assert view["result"] == msgspec.json.decode(encode(found))
    assert (view["state"], view["counts"]["cancelled"]) == ("cancelled", 3)
    assert (await asked(stand, grid={"prompt": ["a", "b", "c"]}, set_id="s1", meta=[1]))["result"]
    assert stand.notes.results == []


async def test_a_set_is_cancelled_as_one(stand: Stand) -> None:
    await asked(stand, repeat=500, set_id="s1")
    await made(stand, "s1", AHEAD)
    view = await stand.data("cancel", set_id="s1")
    assert view["state"] == "cancelling"
    found = await result(stand)
    assert (found.state, found.counts.cancelled, len(found.jobs)) == ("cancelled", 500, 500)
    assert found.jobs[499].job_id == "s1-499"
    assert len(await jobs(stand, "s1")) == AHEAD
    assert (await stand.data("cancel", set_id="s1"))["state"] == "cancelled"
    assert (await stand.data("resume", set_id="s1"))["state"] == "cancelled"


async def test_a_set_is_cancelled_though_the_database_is_away(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.jobs.sets.driver.RETRY_S", 0.0)
    cancel, away = stand.dispatcher.cancel, [DatabaseError("away")]

    async def cancelling(key: Key) -> State | None:
        if away:
            raise away.pop()
        return await cancel(key)

    monkeypatch.setattr(stand.dispatcher, "cancel", cancelling)
    await asked(stand, repeat=2, set_id="s1")
    await made(stand, "s1", 2)
    await stand.data("cancel", set_id="s1")
    found = await result(stand)
    assert (found.state, found.counts.cancelled, away) == ("cancelled", 2, [])


async def test_a_set_that_is_cancelled_while_all_sets_are_read_is_cancelled(
    tmp_path: Path,
) -> None:
    async with standing(tmp_path) as stand:
        await asked(stand, repeat=1, set_id="s1")
        key = Key("alice", "s1")
        await asyncio.gather(stand.driver._read_all(), stand.driver.enter(key, "cancelling"))
        async with driving(stand):
            assert (await result(stand)).state == "cancelled"


async def test_a_set_that_is_paused_makes_no_jobs_until_it_is_resumed(stand: Stand) -> None:
    await asked(stand, repeat=4, set_id="s1")
    await made(stand, "s1", AHEAD)
    assert (await stand.data("pause", set_id="s1"))["state"] == "paused"
    for job_id in await unended(stand):
        await stand.data("cancel", job_id=job_id)
    assert (await stand.data("status", set_id="s1"))["counts"]["cancelled"] == AHEAD
    assert await unended(stand) == []
    assert stand.notes.results == []
    assert (await stand.data("resume", set_id="s1"))["state"] == "running"
    await made(stand, "s1", 4)


async def test_a_set_goes_on_where_it_was_after_a_restart(stand: Stand) -> None:
    await asked(stand, repeat=4, set_id="s1")
    await asked(stand, repeat=4, set_id="s2")
    await stand.data("pause", set_id="s2")
    with restarted(stand):
        async with driving(stand):
            found = await ended_one_by_one(stand)
    assert (found.set_id, [each.job_id for each in found.jobs]) == (
        "s1",
        ["s1-0", "s1-1", "s1-2", "s1-3"],
    )
    assert (await stand.data("status", set_id="s2"))["state"] == "paused"


@contextmanager
def restarted(stand: Stand) -> Iterator[None]:
    """Replace the driver by one that knows only what the journal has, and ignore the old one."""
    old = stand.driver
    stand.driver = SetDriver(
        stand.journal,
        stand.dispatcher,
        stand.notes,
        catalogue=lambda: stand.library.catalogue,
        limits=old._limits,
        collector=stand.collector,
    )
    old._leads = lambda: False
    yield


async def test_what_is_forgotten_of_a_set_is_all_that_is_kept_of_its_jobs(stand: Stand) -> None:
    await asked(stand, repeat=2, set_id="s1")
    error = await stand.error("forget", set_id="s1")
    assert (error.code, error.details["set_id"]) == ("conflict", "s1")
    await stand.data("cancel", set_id="s1")
    await result(stand)
    assert await stand.data("forget", set_id="s1") == {"set_id": "s1", "forgotten": True}
    assert await stand.data("forget", set_id="s1") == {"set_id": "s1", "forgotten": False}
    assert "result" not in await stand.data("status", set_id="s1")
    assert all(each.result is None for each in await jobs(stand, "s1"))
    assert (await asked(stand, repeat=2, set_id="s1"))["duplicate"]


async def test_an_ack_is_of_sets_too_and_a_list_of_a_set_acks_nothing(stand: Stand) -> None:
    await asked(stand, repeat=1, set_id="s1")
    await stand.data("cancel", set_id="s1")
    found = await result(stand)
    await stand.data("list", set_id="s1", after=found.n)
    assert [each.of_set for each in await stand.journal.unpublished(0.0)] == [False, True]
    assert await stand.data("ack", up_to=found.n) == {"acked": 2}
    assert await stand.journal.unpublished(0.0) == []


async def test_media_that_all_jobs_have_is_read_once_and_kept_until_the_last(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = 0
    take = stand.media.take_one

    async def counted(*given: Any) -> Any:
        nonlocal read
        read += 1
        return await take(*given)

    monkeypatch.setattr(stand.media, "take_one", counted)
    await asked(stand, workflow="picture", inputs={"picture": PICTURE}, repeat=50, set_id="s1")
    assert read == 1
    await made(stand, "s1", AHEAD)
    for job_id in await unended(stand):
        await stand.data("cancel", job_id=job_id)
    await sweep(stand)
    await made(stand, "s1", 2 * AHEAD)
    recipe = await stand.data("recipe", job_id="s1-3")
    assert await stand.journal.blob(recipe["inputs"]["picture"]["sha256"]) is not None
    await stand.data("cancel", set_id="s1")
    await result(stand)
    await sweep(stand)
    assert await stand.journal.blob(recipe["inputs"]["picture"]["sha256"]) is None


async def sweep(stand: Stand) -> None:
    await stand.journal.sweep(now=0.0, results_before=0.0, forget_before=0.0)


@pytest.mark.timeout(20)  # it fails by waiting
@pytest.mark.parametrize(
    "way", [{"grid": {"picture": {"set": "s1"}}}, {"each": [{"picture": {"set": "s1"}}]}]
)
async def test_a_set_maps_over_the_jobs_of_another_that_were_not_made_yet(
    stand: Stand, way: dict[str, Any]
) -> None:
    await asked(stand, repeat=5, set_id="s1")
    answer = await asked(stand, workflow="picture", set_id="s2", **way)
    assert answer["total"] == 5
    # They wait, and block no others: the jobs that they wait for have to be made.
    await made(stand, "s2", 5)
    await made(stand, "s1", AHEAD)
    state: State = "waiting"
    assert {each.job.state for each in await jobs(stand, "s2")} == {state}
    await stand.data("cancel", set_id="s1")
    first, second = await result(stand), await result(stand)
    assert {first.set_id, second.set_id} == {"s1", "s2"}
    failed = first if first.set_id == "s2" else second
    assert (failed.state, failed.counts.failed) == ("failed", 5)
    assert failed.jobs[4].inputs["picture"] == {"job": "s1-4", "output": 0}


async def test_a_result_of_a_set_fits_its_packet(stand: Stand) -> None:
    stand.notes.room = 2000
    await asked(stand, repeat=200, set_id="s1")
    await stand.data("cancel", set_id="s1")
    found = await result(stand)
    assert found.more
    assert 0 < len(found.jobs) < 200
    assert found.counts.cancelled == 200
    view = await stand.data("status", set_id="s1", room=Packets(600))
    assert "result" not in view
    assert view["state"] == "cancelled"


async def test_statuses_say_how_far_a_set_is(stand: Stand) -> None:
    await asked(stand, repeat=5, set_id="s1")
    while not stand.notes.statuses:
        stand.notes.came.clear()
        await stand.notes.came.wait()
    first = stand.notes.statuses[0]
    assert (first.state, first.total, first.counts.queued) == ("running", 5, 5)
    await stand.data("pause", set_id="s1")
    while stand.notes.statuses[-1].state != "paused":
        stand.notes.came.clear()
        await stand.notes.came.wait()


async def test_a_job_of_the_clients_own_that_has_a_name_of_the_set_stays_what_it_is(
    stand: Stand,
) -> None:
    await stand.submitted("s1-1", inputs={"seed": 77})
    await asked(stand, repeat=2, set_id="s1")
    assert await made(stand, "s1", 2) == ["s1-0", "s1-1-1"]
    assert (await stand.data("recipe", job_id="s1-1"))["inputs"]["seed"] == 77
    await stand.data("cancel", set_id="s1")
    assert [each.job_id for each in (await result(stand)).jobs] == ["s1-0", "s1-1-1"]
    assert await unended(stand) == ["s1-1"]


async def test_a_defect_in_a_set_costs_that_set_alone(
    stand: Stand, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await stand.data("pause", set_id=(await asked(stand, repeat=3, set_id="s1"))["set_id"])
    stand.driver._specs.clear()
    spec = stand.journal.sets.spec

    async def broken(key: Key) -> bytes | None:
        if key.job_id == "s1":
            raise KeyError("a defect")
        return await spec(key)

    monkeypatch.setattr(stand.journal.sets, "spec", broken)
    await stand.data("resume", set_id="s1")
    while "defect in the bridge" not in caplog.text:  # noqa: ASYNC110 - there is no event
        await asyncio.sleep(0)
    await asked(stand, repeat=1, set_id="s2")
    await stand.data("cancel", set_id="s2")
    assert (await result(stand)).set_id == "s2"
    assert (await stand.data("status", set_id="s1"))["state"] == "running"


@pytest.mark.parametrize("repeat", [AHEAD, 5])
async def test_a_set_whose_row_is_damaged_ends(
    stand: Stand, tmp_path: Path, caplog: pytest.LogCaptureFixture, repeat: int
) -> None:
    await asked(stand, repeat=repeat, set_id="s1")
    job_ids = await made(stand, "s1", AHEAD)
    with sqlite3.connect(tmp_path / "journal.db") as database:
        database.execute("UPDATE sets SET spec = '{'")
    database.close()
    stand.driver._specs.clear()
    for job_id in job_ids if repeat == AHEAD else job_ids[:1]:
        await stand.data("cancel", job_id=job_id)
    found = await result(stand)
    assert (found.set_id, found.state, found.counts.cancelled) == ("s1", "cancelled", repeat)
    assert [each.inputs for each in found.jobs] == [{}] * repeat
    assert "its row in the journal is damaged" in caplog.text


async def test_a_set_whose_media_is_gone_ends(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def gone(*_: Any) -> None:
        raise Expired("the bytes of an input are kept no longer")

    monkeypatch.setattr(stand.journal.sets, "expand", gone)
    await asked(stand, repeat=3, set_id="s1")
    found = await result(stand)
    assert (found.state, found.counts.cancelled) == ("cancelled", 3)
