"""The journal's sets, on both databases."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from bridge.contract.errors import UnknownJob
from bridge.contract.numbering import Numbered
from bridge.contract.sets import Counts, SetResult
from bridge.jobs.job import Draft, Envelope, KeptOutput
from bridge.jobs.journal import Journal, Unpublished
from bridge.jobs.journal.schema import SCHEMA
from bridge.jobs.journal.sets import JobRow, NewSet, OutputRow, SetRecord, collected_key, media_key
from bridge.jobs.queue import Key
from tests.jobs.drafts import draft

KEY = Key("alice", "s1")
NOW = 1000.0
RESULT = Numbered(b'{"n": ', b"}")


def new(key: Key = KEY, total: int = 5, **changes: object) -> NewSet:
    record = SetRecord(
        key=key,
        workflow="demo",
        fingerprint=b"same",
        state="running",
        total=total,
        made=0,
        waits=False,
        accepted_at=NOW,
        envelope=Envelope(transaction="t"),
        n=0,
    )
    found = NewSet(record, b"spec", set(), {})
    return msgspec.structs.replace(found, **changes)


def job(index: int, key: Key = KEY, **changes: object) -> Draft:
    envelope = Envelope(set_id=key.job_id, set_index=index)
    return draft(f"{key.job_id}-{index}", client=key.client, envelope=envelope, **changes)


async def accepted(journal: Journal, key: Key = KEY, total: int = 5) -> SetRecord:
    record, first = await journal.sets.accept(new(key, total), job(0, key), NOW)
    assert first is not None
    return record


async def ended(journal: Journal, *indexes: int, now: float = NOW) -> None:
    for index in indexes:
        await journal.finish(
            Key("alice", f"s1-{index}"),
            state="succeeded",
            result=RESULT,
            now=now,
        )


def result(record: SetRecord, rows: Sequence[JobRow]) -> SetResult:
    return SetResult(
        set_id=record.key.job_id,
        workflow=record.workflow,
        n=0,
        state="succeeded",
        total=record.total,
        counts=Counts(succeeded=len(rows)),
    )


async def test_a_set_is_there_with_its_first_job_after_a_restart(
    journal: Journal, where: Path | str
) -> None:
    await accepted(journal)
    await journal.close()
    again = Journal(where)
    await again.open()
    ((record, _),) = await again.sets.unfinished()
    assert (record.key, record.total, record.made, record.ended) == (KEY, 5, 1, False)
    assert record.envelope.transaction == "t"
    assert await again.sets.spec(KEY) == b"spec"
    assert await again.sets.jobs(KEY) == [JobRow(0, "s1-0", "queued")]
    await again.close()
    await journal.open()


async def test_a_set_is_written_down_once(journal: Journal) -> None:
    first = await accepted(journal)
    record, job_of_it = await journal.sets.accept(new(), job(0), NOW)
    assert (record, job_of_it) == (first, None)
    other, _ = await journal.sets.accept(new(Key("bob", "s1")), job(0, Key("bob", "s1")), NOW)
    assert other.key.client == "bob"


async def test_a_request_that_was_delivered_again_is_known_by_its_first_job(
    journal: Journal,
) -> None:
    await journal.sets.accept(new(), job(0, delivery="s:1:a"), NOW)
    other = Key("alice", "other")
    again = job(0, other, delivery="s:1:a", redelivered=True)
    record, first = await journal.sets.accept(new(other), again, NOW)
    assert (record.key, first) == (KEY, None)
    # The packet id was given to another message since.
    await journal.accept(draft("j1", delivery="s:1:b"), NOW)
    record, first = await journal.sets.accept(new(other), again, NOW)
    assert record.key == other


async def test_its_jobs_are_made_once_whoever_makes_them(journal: Journal) -> None:
    await accepted(journal)
    records = await journal.sets.expand(KEY, 1, [job(1), job(2)], NOW)
    assert records is not None
    assert [each.job.key.job_id for each in records] == ["s1-1", "s1-2"]
    assert [each.job.seq for each in records] == sorted(each.job.seq for each in records)
    # Another bridge, that had not seen it.
    assert await journal.sets.expand(KEY, 1, [job(1), job(2)], NOW) is None
    assert len(await journal.sets.jobs(KEY)) == 3
    assert (await journal.sets.get(KEY)).made == 3
    assert await journal.sets.yet_to_make("alice") == 2
    assert await journal.sets.yet_to_make("bob") == 0


async def test_nothing_is_made_of_a_set_that_is_paused_or_cancelled(journal: Journal) -> None:
    await accepted(journal)
    for state in ("paused", "cancelling"):
        assert (await journal.sets.enter(KEY, state)).state == state
        assert await journal.sets.expand(KEY, 1, [job(1)], NOW) is None
    assert (await journal.sets.enter(KEY, "running")).state == "cancelling"
    with pytest.raises(UnknownJob):
        await journal.sets.enter(Key("alice", "none"), "paused")


async def test_a_set_ends_once_and_not_before_its_jobs(journal: Journal) -> None:
    await accepted(journal, total=2)
    assert await journal.sets.finish(KEY, result, NOW) is None  # one is to be made
    await journal.sets.expand(KEY, 1, [job(1)], NOW)
    await ended(journal, 0)
    assert await journal.sets.counts(KEY) == {"queued": 1, "succeeded": 1}
    ((_, under_way),) = await journal.sets.unfinished()
    assert under_way == [Key("alice", "s1-1")]
    assert await journal.sets.finish(KEY, result, NOW) is None  # one has not ended
    await ended(journal, 1)
    encoded = await journal.sets.finish(KEY, result, NOW)
    assert encoded is not None
    found = msgspec.json.decode(encoded, type=SetResult)
    jobs = await journal.page("alice", after=0, limit=10, set_id="s1")
    assert found.n > max(each.n for each in jobs)
    record = await journal.sets.get(KEY)
    assert (record.state, record.n, record.result, record.ended) == (
        "succeeded",
        found.n,
        encoded,
        True,
    )
    assert await journal.sets.finish(KEY, result, NOW) is None
    assert await journal.sets.spec(KEY) is None
    assert await journal.sets.unfinished() == []
    assert (await journal.sets.enter(KEY, "paused")).state == "succeeded"


async def test_a_cancelled_set_ends_without_the_jobs_that_were_not_made(
    journal: Journal,
) -> None:
    await accepted(journal, total=100)
    await journal.sets.enter(KEY, "cancelling")
    assert await journal.sets.finish(KEY, result, NOW) is None
    await ended(journal, 0)
    assert await journal.sets.finish(KEY, result, NOW) is not None


async def test_a_result_is_published_again_until_it_was_published_or_acked(
    journal: Journal,
) -> None:
    await accepted(journal, total=1)
    await ended(journal, 0)
    encoded = await journal.sets.finish(KEY, result, NOW)
    assert encoded is not None
    of_job, of_set = await journal.unpublished(NOW + 1)
    assert not of_job.of_set
    assert of_set == Unpublished(KEY, Envelope(transaction="t"), encoded, of_set=True)
    journal.published(of_job.key)
    journal.sets.published(KEY)
    await journal.ack("nobody", 0)  # what was to be noted is noted before
    assert await journal.unpublished(NOW + 1) == []
    # The broker may have lost them since.
    assert len(await journal.unpublished(NOW - 1)) == 2
    assert await journal.ack("alice", number_of(encoded)) == 2
    assert await journal.unpublished(NOW - 1) == []


async def test_what_is_missing_of_jobs_and_sets_comes_in_the_order_of_the_numbers(
    journal: Journal,
) -> None:
    await accepted(journal, total=1)
    before = (await journal.accept(draft("before"), NOW)).record.job
    after = (await journal.accept(draft("after"), NOW)).record.job
    await journal.finish(before.key, state="succeeded", result=RESULT, now=NOW)
    await ended(journal, 0)
    await journal.sets.finish(KEY, result, NOW)
    await journal.finish(after.key, state="succeeded", result=RESULT, now=NOW)
    found = await journal.unpublished(NOW + 1)
    assert [each.key.job_id for each in found] == ["before", "s1-0", "s1", "after"]


@pytest.mark.parametrize("asking", [False, True])
async def test_a_sets_result_is_acked_by_its_own_number_alone(
    journal: Journal, *, asking: bool
) -> None:
    await accepted(journal, total=1)
    await ended(journal, 0)
    encoded = await journal.sets.finish(KEY, result, NOW)
    assert encoded is not None
    journal.sets.published(KEY)

    async def ack(n: int) -> None:
        if asking:
            await journal.resume("alice", n, 9)
        else:
            await journal.ack("alice", n)

    await ack(10**6)
    assert [each.of_set for each in await journal.unpublished(NOW - 1)] == [True]
    await ack(number_of(encoded))
    assert await journal.unpublished(NOW - 1) == []


def number_of(encoded: bytes) -> int:
    return msgspec.json.decode(encoded, type=SetResult).n


async def test_a_set_is_forgotten_after_its_results_and_its_jobs_not_before_it(
    journal: Journal,
) -> None:
    await accepted(journal, total=2)
    await ended(journal, 0, now=NOW)
    # It has been paused for as long as ids are remembered.
    await journal.sweep(now=NOW + 99, results_before=NOW + 50, forget_before=NOW + 50)
    assert await journal.sets.counts(KEY) == {"succeeded": 1}
    await journal.sets.expand(KEY, 1, [job(1)], NOW)
    await ended(journal, 1, now=NOW + 60)
    await journal.sets.finish(KEY, result, NOW + 60)
    await journal.sweep(now=NOW + 99, results_before=NOW + 70, forget_before=NOW + 50)
    assert (await journal.sets.get(KEY)).result is None
    await journal.sweep(now=NOW + 99, results_before=NOW + 70, forget_before=NOW + 70)
    with pytest.raises(UnknownJob):
        await journal.sets.get(KEY)


async def test_the_bytes_of_a_sets_media_are_kept_until_it_has_ended(journal: Journal) -> None:
    bytes_of_it = new(total=1, blobs={"ab"}, media={"ab": b"x"})
    await journal.sets.accept(bytes_of_it, job(0), NOW)
    await ended(journal, 0)
    await sweep(journal)
    assert await journal.blob("ab") == b"x"
    await journal.sets.finish(KEY, result, NOW)
    await sweep(journal)
    assert await journal.blob("ab") is None
    assert media_key(KEY) != KEY


async def sweep(journal: Journal) -> None:
    await journal.sweep(now=NOW, results_before=0.0, forget_before=0.0)


async def test_of_a_backup_no_set_goes_on(journal: Journal) -> None:
    await accepted(journal)
    await journal.mark_restored()
    ((record, _),) = await journal.sets.unfinished()
    assert record.state == "cancelling"


async def test_a_journal_from_before_sets_has_its_jobs_and_takes_sets(tmp_path: Path) -> None:
    old = sqlite3.connect(tmp_path / "journal.db")
    for version in SCHEMA[:4]:
        for statement in version:
            old.execute(statement)
    old.execute("PRAGMA user_version = 4")
    old.execute(
        """INSERT INTO jobs (client, job_id, workflow, workflow_version, fingerprint, state,
            priority, attempt, prompt_id, accepted_at, envelope, plan, n)
        VALUES ('alice', 'j1', 'demo', 'v1', 'f', 'queued', 0, 0, 'p', 1.0, '{}', '{}', 1)"""
    )
    old.commit()
    old.close()
    journal = Journal(tmp_path / "journal.db")
    await journal.open()
    (kept,) = await journal.unfinished()
    assert (kept.key.job_id, kept.envelope.set_id) == ("j1", None)
    await accepted(journal)
    assert len(await journal.page("alice", after=0, limit=10)) == 2
    await journal.close()


async def test_what_a_set_has_collected_is_kept_as_outputs_are(journal: Journal) -> None:
    def output(data: bytes) -> KeptOutput:
        sha256 = hashlib.sha256(data).hexdigest()
        return KeptOutput(
            index=0, content_type="image/png", sha256=sha256, size=len(data), data=data
        )

    await accepted(journal, total=1)
    await journal.finish(
        Key("alice", "s1-0"),
        state="succeeded",
        result=RESULT,
        now=NOW,
        outputs=[output(b"of the job")],
        keep_until=NOW + 50,
    )
    assert await journal.sets.outputs(KEY) == [OutputRow(0, "s1-0", 0, "image/png", 10)]
    assert [index for index, _ in await journal.sets.results(KEY)] == [0]
    await journal.sets.finish(
        KEY, result, NOW, outputs=[output(b"of the set")], keep_until=NOW + 50
    )
    collected = collected_key(KEY)
    await journal.sweep(now=NOW, results_before=0.0, forget_before=0.0, max_outputs=20)
    assert (await journal.output(collected, 0)) is not None
    await journal.ack("alice", (await journal.sets.get(KEY)).n)
    await journal.sweep(now=NOW, results_before=0.0, forget_before=NOW + 1, max_outputs=20)
    assert (await journal.sets.get(KEY)).ended  # it is fetched by this id
    await journal.sweep(now=NOW + 60, results_before=0.0, forget_before=NOW + 1)
    assert (await journal.output(collected, 0)) is None
    with pytest.raises(UnknownJob):
        await journal.sets.get(KEY)


async def test_what_a_set_has_collected_is_within_the_budgets(journal: Journal) -> None:
    await accepted(journal, total=1)
    await ended(journal, 0)
    data = b"x" * 100
    kept = KeptOutput(
        index=0,
        content_type="image/png",
        sha256=hashlib.sha256(data).hexdigest(),
        size=100,
        data=data,
    )
    await journal.sets.finish(KEY, result, NOW, outputs=[kept], keep_until=NOW + 50)
    for budget, is_kept in ((100, True), (99, False)):
        await journal.sweep(now=NOW, results_before=0.0, forget_before=0.0, max_outputs=budget)
        assert (await journal.output(collected_key(KEY), 0) is not None) == is_kept
