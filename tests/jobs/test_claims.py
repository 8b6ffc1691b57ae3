"""The owner of a job, as the journal decides it: one journal, used by one bridge, then another."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bridge.contract.numbering import Numbered
from bridge.jobs.job import Job
from bridge.jobs.journal import AlreadyEnded, Journal
from bridge.jobs.queue import Key
from tests.jobs.drafts import draft, waits_for_a_job

A, B = "a" * 32, "b" * 32
KEY = Key("alice", "j1")
RESULT = Numbered(b"", b"")


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    journal = Journal(tmp_path / "journal.db")
    await journal.open()
    journal.member(A)
    yield journal
    await journal.close()


async def accept(journal: Journal, job_id: str = "j1") -> Job:
    return (await journal.accept(draft(job_id), 1.0)).record.job


async def finish(journal: Journal, key: Key = KEY) -> int:
    return int(await journal.finish(key, state="succeeded", result=RESULT, now=2.0))


async def test_a_job_that_one_bridge_has_no_other_gets(journal: Journal) -> None:
    job = await accept(journal)
    assert await journal.claim(job)
    assert await journal.claim(job)
    journal.member(B)
    assert not await journal.claim(job)
    with pytest.raises(AlreadyEnded):
        await finish(journal)
    assert await journal.unfinished() == []
    journal.member(A)
    assert [each.key for each in await journal.unfinished()] == [KEY]
    await finish(journal)
    assert not await journal.claim(job)


async def test_a_claim_brings_what_another_bridge_has_changed(journal: Journal) -> None:
    stale = await accept(journal)
    job = (await journal.get(KEY)).job
    job.attempt, job.prompt_id = 2, "prompt-2"
    await journal.requeued(job)
    assert await journal.claim(stale)
    assert (stale.attempt, stale.prompt_id) == (2, "prompt-2")


async def test_who_cancels_gets_hold_of_a_job_or_its_bridge_is_asked(journal: Journal) -> None:
    assert await journal.claim_to_cancel(KEY) is None
    await journal.claim(await accept(journal))
    await accept(journal, "free")
    journal.member(B)
    assert await journal.claim_to_cancel(KEY) == "queued"
    (record,) = await journal.records([KEY, Key("alice", "none")])
    assert (record.owner, record.cancelling, record.ended) == (A, True, False)
    claimed = await journal.claim_to_cancel(Key("alice", "free"))
    assert isinstance(claimed, Job)
    journal.member(A)
    assert not await journal.claim(claimed)
    await finish(journal)
    assert await journal.claim_to_cancel(KEY) is None
    assert (await journal.records([KEY]))[0].ended


async def test_jobs_that_nobody_has_are_those_in_the_queue_and_if_asked_for_those_that_wait(
    journal: Journal,
) -> None:
    await journal.accept(draft("waits", plan=waits_for_a_job("source")), 1.0)
    await journal.claim(await accept(journal, "had"))
    await accept(journal, "free")
    running = await accept(journal, "running")
    running.state = "running"
    await journal.claim(running)
    await journal.started(running)
    assert await journal.unowned(waiting=False) == {Key("alice", "free")}
    assert await journal.unowned(waiting=True) == {Key("alice", "free"), Key("alice", "waits")}


async def test_each_bridge_publishes_its_own_and_acks_only_what_can_have_been_seen(
    journal: Journal,
) -> None:
    n = 0
    for life, job_id in ((A, "j1"), (B, "j2")):
        journal.member(life)
        await journal.claim(await accept(journal, job_id))
        n = await finish(journal, Key("alice", job_id))
    assert [each.key.job_id for each in await journal.unpublished(9.0)] == ["j2"]
    assert await journal.ack("alice", n) == 1
    journal.member(A)
    assert [each.key.job_id for each in await journal.unpublished(9.0)] == ["j1"]
    # Nobody of those lives is a member.
    assert [each.key.job_id for each in await journal.unpublished(9.0, orphans=True)] == ["j1"]


async def test_a_job_that_was_claimed_while_it_waited_is_anybodys_once_it_is_released(
    journal: Journal,
) -> None:
    plan = waits_for_a_job("source")
    job = (await journal.accept(draft("waits", plan=plan), 1.0)).record.job
    await journal.claim(job)
    journal.member(B)
    with pytest.raises(AlreadyEnded):
        await journal.released(job, plan, {})
    journal.member(A)
    await journal.released(job, plan, {})
    assert await journal.unowned(waiting=False) == {job.key}
