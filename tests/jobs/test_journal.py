from __future__ import annotations

import asyncio
import json
import sqlite3
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import UNSET, Raw
from msgspec.structs import replace

from bridge.contract.errors import Expired, UnknownJob
from bridge.contract.numbering import Numbered
from bridge.contract.sources import JobOutput
from bridge.jobs.database import DatabaseError
from bridge.jobs.job import Blob, Envelope, KeptOutput, MediaInput
from bridge.jobs.journal import AlreadyEnded, Journal, KeptUpload
from bridge.jobs.journal.schema import SCHEMA
from bridge.jobs.journal.sequence import RESTORED_ABOVE
from bridge.jobs.queue import Key
from tests.jobs.drafts import PLAN, draft

KEY = Key("alice", "j1")


async def reopened(journal: Journal, where: Path | str) -> Journal:
    await journal.close()
    journal = Journal(where)
    await journal.open()
    return journal


async def accept(journal: Journal, job_id: str = "j1", **changes: Any) -> Key:
    taken = draft(job_id, **changes)
    await journal.accept(taken, 1000.0)
    return taken.key


async def finish(
    journal: Journal, key: Key, *, now: float = 2000.0, keep: float = 9e9, index: int = 0
) -> int:
    data = b"bytes of " + key.job_id.encode()
    output = KeptOutput(
        index=index, content_type="image/png", sha256=f"sha-{key.job_id}", size=len(data), data=data
    )
    result = await journal.finish(
        key,
        state="succeeded",
        result=RESULT,
        now=now,
        outputs=[output],
        keep_until=keep,
    )
    n: int = json.loads(result)["n"]
    return n


RESULT = Numbered(b'{"n": ', b"}")


async def test_what_was_accepted_is_there_after_a_restart(
    journal: Journal, where: Path | str
) -> None:
    envelope = Envelope(
        transaction=7, meta=Raw(b'{"a":1}'), response_topic="x", correlation=b"\x00\xff"
    )
    await accept(journal, start_before=5.0, timeout_s=6.0, keep_s=7.0, envelope=envelope)
    journal = await reopened(journal, where)
    (job,) = await journal.unfinished()
    assert (job.key, job.state, job.attempt, job.prompt_id) == (KEY, "queued", 0, "prompt-j1")
    assert (job.start_before, job.timeout_s, job.keep_s) == (5.0, 6.0, 7.0)
    assert job.envelope == envelope
    assert await journal.plan(KEY) == PLAN
    await journal.close()


async def test_a_plan_is_read_again_with_its_drawing(journal: Journal) -> None:
    drawing = Raw(b'{"nodes":[],"links":[]}')
    await accept(journal, plan=replace(PLAN, drawing=drawing, partner=True))
    plan = await journal.plan(KEY)
    assert plan.drawing is not UNSET
    assert bytes(plan.drawing) == bytes(drawing)
    assert plan.partner


async def test_the_same_id_is_the_same_job(journal: Journal) -> None:
    await accept(journal)
    again = await journal.accept(draft(fingerprint=b"other"), 1001.0)
    assert not again.new
    assert again.record.fingerprint == b"same"  # the caller tells the conflict by it
    other = await journal.accept(draft(client="bob"), 1001.0)
    assert other.new


async def test_a_redelivered_request_is_the_job_that_it_made(journal: Journal) -> None:
    await accept(journal, "drawn-1", delivery="session:1:hash")
    again = await journal.accept(
        draft("drawn-2", delivery="session:1:hash", redelivered=True), 1001.0
    )
    assert not again.new
    assert again.record.job.key.job_id == "drawn-1"


async def test_a_new_message_under_an_old_packet_id_is_a_new_job(journal: Journal) -> None:
    await accept(journal, "drawn-1", delivery="session:1:hash")
    again = await journal.accept(draft("drawn-2", delivery="session:1:hash"), 1001.0)
    assert again.new


async def test_a_redelivered_request_runs_once_whatever_came_meanwhile(journal: Journal) -> None:
    """No receive window bounds requests at QoS 0, or those from rules."""
    await accept(journal, "first", delivery="session:1:hash")
    for count in range(300):
        await accept(journal, f"at-qos-0-{count}")
        await accept(journal, f"other-{count}", delivery=f"session:{count + 2}:hash")
    again = await journal.accept(
        draft("second", delivery="session:1:hash", redelivered=True), 1001.0
    )
    assert not again.new
    assert again.record.job.key.job_id == "first"


async def test_what_comes_again_is_the_last_message_under_its_packet_id(journal: Journal) -> None:
    """The broker uses a packet id again only once it knows that the message before arrived."""
    await accept(journal, "first", delivery="session:1:press")
    await accept(journal, "second", delivery="session:1:other")
    press = draft("third", delivery="session:1:press", redelivered=True)
    assert (await journal.accept(press, 1001.0)).new


async def test_a_packet_id_means_something_within_its_session_only(journal: Journal) -> None:
    await accept(journal, "first", delivery="session:1:hash")
    again = draft("second", delivery="other:1:hash", redelivered=True)
    assert (await journal.accept(again, 1001.0)).new


async def test_each_job_of_a_redelivered_message_is_known(journal: Journal) -> None:
    """A message may fire several rules."""
    for rule in "ab":
        await accept(journal, f"first-{rule}", delivery=f"session:1:hash:{rule}")
    for rule in "ab":
        again = draft(f"again-{rule}", delivery=f"session:1:hash:{rule}", redelivered=True)
        assert (await journal.accept(again, 1001.0)).record.job.key.job_id == f"first-{rule}"


async def test_a_job_gets_one_outcome(journal: Journal) -> None:
    await accept(journal)
    n = await finish(journal, KEY)
    with pytest.raises(AlreadyEnded):
        await journal.finish(KEY, state="failed", result=RESULT, now=1.0)
    record = await journal.get(KEY)
    assert (record.job.state, record.n, record.result) == ("succeeded", n, b'{"n": %d}' % n)
    assert await journal.unfinished() == []
    with pytest.raises(AlreadyEnded):  # nor is anything else of it kept
        await finish(journal, KEY, index=1)
    assert await journal.output(KEY, 1) is None


async def test_a_second_outcome_leaves_no_bytes(journal: Journal) -> None:
    """Those that it names may be in a file that was never written."""
    await accept(journal)
    await finish(journal, KEY)
    output = KeptOutput(index=0, content_type="image/png", sha256="sha-j2", size=1, data=None)
    with pytest.raises(AlreadyEnded):
        await journal.finish(KEY, state="failed", result=RESULT, now=1.0, outputs=[output])
    assert await journal.files() == set()
    await finish(journal, await accept(journal, "j2"))
    assert await journal.blob("sha-j2") == b"bytes of j2"


async def test_a_result_is_kept_byte_for_byte(journal: Journal) -> None:
    await accept(journal)
    head, tail = '{"inputs":{"a":"ä \\\\x41 %s \\u0000"},"n":'.encode(), '."ü"}'.encode()
    given = await journal.finish(KEY, state="failed", result=Numbered(head, tail), now=1.0)
    record = await journal.get(KEY)
    assert given == record.result == b"%b%d%b" % (head, record.n, tail)


async def test_a_start_and_a_requeue_are_remembered(journal: Journal, where: Path | str) -> None:
    await accept(journal)
    (job,) = await journal.unfinished()
    job.attempt, job.instance = 1, "gpu"
    job.state = "running"
    assert await journal.started(job) > 1
    while (await journal.unfinished())[0].state != "running":
        pass  # SQLite's is written a moment later
    journal = await reopened(journal, where)
    (job,) = await journal.unfinished()
    assert (job.state, job.attempt, job.instance) == ("running", 1, "gpu")
    job.prompt_id = "prompt-2"
    await journal.requeued(job)
    (job,) = await journal.unfinished()
    assert (job.state, job.attempt, job.instance, job.prompt_id) == ("queued", 1, None, "prompt-2")
    await journal.close()


async def test_a_status_that_changes_nothing_has_a_number_in_its_turn(journal: Journal) -> None:
    key = await accept(journal)
    (job,) = await journal.unfinished()
    first, second = await asyncio.gather(journal.status_number(job), journal.status_number(job))
    assert (await journal.get(key)).n < first < second
    assert (await journal.unfinished())[0].state == "queued"


async def test_numbers_rise_also_across_a_restart(journal: Journal, where: Path | str) -> None:
    drawn = []
    for index in range(20):
        taken = await journal.accept(draft(f"j{index}"), 1000.0)
        drawn += [taken.record.n, await finish(journal, taken.record.job.key)]
    assert drawn == sorted(set(drawn))
    journal = await reopened(journal, where)
    assert (await journal.accept(draft("later"), 1000.0)).record.n > max(drawn)
    assert (await journal.accept(draft(client="bob"), 1000.0)).record.n == 1
    await journal.close()


async def test_answers_come_in_the_order_of_the_questions(journal: Journal) -> None:
    told: list[int] = []

    async def one(index: int) -> None:
        await accept(journal, f"j{index}")
        told.append(index)

    await asyncio.gather(*(one(index) for index in range(200)))
    assert told == list(range(200))
    assert journal.commits < 100  # many at a time share a commit


async def test_jobs_are_listed_by_number_until_acked(journal: Journal) -> None:
    keys = [await accept(journal, f"j{index}") for index in range(4)]
    numbers = [await finish(journal, key) for key in keys[:3]]
    page = await journal.page("alice", after=numbers[0], limit=10)
    assert [record.job.key.job_id for record in page] == ["j1", "j2"]
    only = await journal.page("alice", after=0, limit=10, states=["queued"])
    assert [record.job.key.job_id for record in only] == ["j3"]
    assert await journal.page("alice", after=0, limit=10, workflow="other") == []
    assert len(await journal.page("alice", after=0, limit=2)) == 2
    assert await journal.page("bob", after=0, limit=10) == []

    assert await journal.ack("alice", numbers[1]) == 2
    assert await journal.ack("alice", numbers[1]) == 0
    assert [record.acked for record in await journal.page("alice", after=0, limit=10)] == [
        False,
        True,
        True,
        False,
    ]


async def test_results_that_may_be_lost_are_published_again(
    journal: Journal, where: Path | str
) -> None:
    for index, now in enumerate((100.0, 200.0, 300.0, 400.0)):
        key = await accept(journal, f"j{index}")
        await finish(journal, key, now=now)
        if index in (0, 2):
            journal.published(key)
    await accept(journal, "unfinished")
    journal = await reopened(journal, where)
    found = [each.key.job_id for each in await journal.unpublished(since=250.0)]
    assert found == ["j1", "j2", "j3"]
    await journal.ack("alice", 10_000)
    assert await journal.unpublished(since=0.0) == []
    await journal.close()


async def test_outputs_are_found_by_their_index(journal: Journal) -> None:
    await accept(journal)
    await finish(journal, KEY)
    stored = await journal.output(KEY, 0)
    assert stored is not None
    assert (stored.content_type, stored.size, stored.data) == ("image/png", 11, b"bytes of j1")
    assert await journal.output(KEY, 1) is None
    assert await journal.output(Key("bob", "j1"), 0) is None


async def test_media_stays_as_long_as_its_job(journal: Journal) -> None:
    large = b"x" * 100_000
    items: list[Any] = [Blob(name, 1, "image/png", "png") for name in ("small", "large")]
    media = MediaInput("picture", "image", "1", "image", "media", items)
    plan = replace(PLAN, media=[media])
    await accept(journal, plan=plan, media={"small": b"tiny", "large": large})
    assert await journal.blob("small") == b"tiny"
    assert await journal.blob("large") is None  # a file
    assert await journal.files() == {"large"}
    await journal.sweep(now=0.0, results_before=0.0, forget_before=0.0)
    assert await journal.files() == {"large"}
    await finish(journal, KEY)
    await journal.sweep(now=0.0, results_before=0.0, forget_before=0.0)
    assert await journal.files() == set()
    assert await journal.blob("small") is None


async def test_damaged_bytes_are_repaired_when_the_same_come_again(journal: Journal) -> None:
    items: list[Any] = [Blob("small", 1, "image/png", "png")]
    plan = replace(PLAN, media=[MediaInput("picture", "image", "1", "image", "media", items)])
    await accept(journal, plan=plan, media={"small": b"damaged"})
    await accept(journal, "j2", plan=plan, media={"small": b"tiny"})
    assert await journal.blob("small") == b"tiny"


async def test_bytes_that_are_kept_no_longer_cannot_become_an_input(journal: Journal) -> None:
    """An upload may be swept between its being named and the job's being written down."""
    kept = KeptUpload("image", "image/png", "png", "a" * 64, 5, b"bytes")
    await journal.keep_upload("alice", "picture", kept, keep_until=100.0)
    media = MediaInput("i", "image", "1", "image", "media", [Blob("a" * 64, 5, "image/png", "png")])
    plan = replace(PLAN, media=[media, media])
    await journal.accept(draft("in-time", plan=plan), 1.0)
    await finish(journal, Key("alice", "in-time"))
    await journal.sweep(now=200.0, results_before=0.0, forget_before=0.0)
    with pytest.raises(Expired) as caught:
        await journal.accept(draft("late", plan=plan), 1.0)
    assert caught.value.details == {"sha256": "a" * 64}
    with pytest.raises(UnknownJob):
        await journal.get(Key("alice", "late"))
    assert not (await journal.accept(draft("in-time", plan=plan), 1.0)).new
    waits = replace(media, items=[JobOutput("in-time")])
    await journal.accept(draft("waits", plan=replace(PLAN, media=[waits])), 1.0)
    (job,) = await journal.unfinished()
    with pytest.raises(Expired):
        await journal.released(job, plan, {})
    (job,) = await journal.unfinished()
    assert job.state == "waiting"
    assert await journal.released(job, plan, {"a" * 64: b"bytes"}) > 0


async def test_the_numbers_of_a_restored_journal_are_above_all_that_were_seen(
    journal: Journal, where: Path | str
) -> None:
    key = await accept(journal)
    seen = await finish(journal, key)
    await journal.mark_restored()
    restored = await reopened(journal, where)
    assert await restored.restored()
    again = await restored.accept(draft("j2"), 1000.0)
    other = await restored.accept(draft("j2", "newcomer"), 1000.0)
    assert min(again.record.n, other.record.n) >= seen + RESTORED_ABOVE
    assert (await restored.accept(draft("j3"), 1000.0)).record.n == again.record.n + 1
    await restored.backup_reported()
    assert not await restored.restored()
    await restored.close()


async def test_the_session_changes_only_when_the_broker_forgot_it(journal: Journal) -> None:
    first = await journal.session(present=True)
    assert await journal.session(present=True) == first
    second = await journal.session(present=False)
    assert second != first
    assert await journal.session(present=True) == second


async def test_two_bridges_cannot_share_a_file(tmp_path: Path) -> None:
    first, second = (Journal(tmp_path / "journal.db") for _ in range(2))
    await first.open()
    with pytest.raises(DatabaseError, match="another process"):
        await second.open()
    await second.close()
    await accept(first)  # the first is none the worse
    await first.close()


async def test_a_journal_of_the_first_version_is_brought_up_to_date(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    connection = sqlite3.connect(path)
    for statement in SCHEMA[0]:
        connection.execute(statement)
    plan = msgspec.json.encode(PLAN)
    values = ("alice", "j1", "demo", "v1", b"same", "queued", 0, 1, "prompt", 5.0, b"{}", plan, 7)
    columns = (
        "client, job_id, workflow, workflow_version, fingerprint, state, priority, attempt, "
        "prompt_id, accepted_at, envelope, plan, n"
    )
    marks = ", ".join("?" * len(values))
    connection.execute(f"INSERT INTO jobs ({columns}) VALUES ({marks})", values)  # noqa: S608
    connection.execute("INSERT INTO clients VALUES ('alice', 1000)")
    connection.execute("PRAGMA user_version = 1")
    connection.commit()
    connection.close()
    journal = Journal(path)
    await journal.open()
    (job,) = await journal.unfinished()
    assert (job.key, job.attempt, job.ordered, job.replace) == (
        Key("alice", "j1"),
        1,
        False,
        None,
    )
    assert await journal.plan(job.key) == PLAN
    assert await finish(journal, job.key) > 1000
    await journal.close()


async def test_a_newer_journal_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    journal = Journal(path)
    with pytest.raises(DatabaseError, match="newer version"):
        await journal.open()
    await journal.close()


async def test_a_journal_that_is_none_says_so(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    path.write_bytes(b"this is no database" * 1000)
    journal = Journal(path)
    with pytest.raises(DatabaseError, match=r"journal\.db"):
        await journal.open()
    await journal.close()


async def test_one_failing_work_harms_no_other(journal: Journal) -> None:
    await accept(journal)
    await finish(journal, KEY)
    bad = journal.finish(KEY, state="failed", result=RESULT, now=1.0)
    good = journal.accept(draft("j2"), 1.0)
    results = await asyncio.gather(bad, good, return_exceptions=True)
    assert isinstance(results[0], AlreadyEnded)
    assert (await journal.get(Key("alice", "j2"))).job.state == "queued"
