"""The journal's permissions for a member of a group, and their end once it counts as dead."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import psycopg
import pytest
from msgspec.structs import replace

from bridge.contract.numbering import Numbered
from bridge.jobs.database import LeaseLost, Transaction
from bridge.jobs.job import Blob, Job, MediaInput, ResultWebhook
from bridge.jobs.journal import AlreadyEnded, queries, webhooks
from bridge.jobs.presence import DeadMember
from bridge.jobs.queue import Key
from tests.jobs.drafts import KEPT_PICTURE, PICTURE, PLAN, draft, waits_for_a_job
from tests.jobs.members import KEY, OVER_S, Member
from tests.jobs.test_journal_sets import job as job_of_set
from tests.jobs.test_journal_sets import new as new_set
from tests.support.patience import PATIENCE_S
from tests.support.postgresql import PostgreSQL

pytestmark = pytest.mark.postgresql

Make = Callable[[str], Awaitable[Member]]
Waits = Callable[[Awaitable[Any]], Awaitable[int]]


@pytest.fixture
def address(postgresql: PostgreSQL) -> Iterator[str]:
    with postgresql.database() as address:
        yield address


@pytest.fixture
async def make(address: str) -> AsyncIterator[Make]:
    """Makes a bridge's journal, open, but no member yet."""
    made: list[Member] = []

    async def make(name: str) -> Member:
        member = Member(address, name)
        await member.journal.open()
        made.append(member)
        return member

    yield make
    for each in made:
        await each.journal.close()


@pytest.fixture
async def a(make: Make) -> Member:
    member = await make("a")
    await member.join()
    return member


@pytest.fixture
async def b(make: Make) -> Member:
    member = await make("b")
    await member.join()
    return member


async def test_one_has_the_intake_until_it_lets_go_or_is_dead(a: Member, b: Member) -> None:
    assert (await a.beat()).intake
    assert not (await b.beat()).intake
    assert await a.journal.hand_over()
    assert not (await a.beat(staying=False)).intake
    assert (await b.beat(OVER_S)).intake
    assert (await a.beat(OVER_S)).intake


async def test_one_that_was_taken_for_dead_is_refused_everything(a: Member, b: Member) -> None:
    job = await a.accept()
    assert await a.journal.claim(job)
    await a.beat(OVER_S)
    beat = await b.beat(OVER_S)
    assert beat.intake
    (requeued,) = beat.requeued
    assert (requeued.job.key, requeued.job.state) == (KEY, "queued")
    assert requeued.job.prompt_id != job.prompt_id
    for late in (a.finish(), a.accept("j2"), a.beat(), a.journal.get(KEY)):
        with pytest.raises(LeaseLost):
            await late
    assert await b.journal.claim(requeued.job)
    await b.finish()


async def lease_of(member: Member, of: Member | None = None) -> float:
    life = (of or member).life

    def work(db: Transaction) -> float:
        (expires,) = db.execute("SELECT expires FROM members WHERE life = ?", (life,)).fetchone()
        return float(expires)

    return await member.journal._database.run(work)


async def test_one_whose_session_ended_is_dead_unless_it_renewed_its_lease(
    a: Member, b: Member
) -> None:
    await a.beat()
    job = await a.accept()
    assert await a.journal.claim(job)
    before = await lease_of(a)
    await a.beat()
    assert not (await b.beat(OVER_S, dead=[DeadMember(a.life, before)])).intake
    seen = await lease_of(a)
    beat = await b.beat(OVER_S, dead=[DeadMember(a.life, seen)])
    assert beat.intake
    assert [each.job.key for each in beat.requeued] == [KEY]
    with pytest.raises(LeaseLost):
        await a.beat()


async def test_one_whose_session_holds_its_lock_is_not_dead(
    a: Member, b: Member, address: str
) -> None:
    await a.beat()
    async with await psycopg.AsyncConnection.connect(address, autocommit=True) as session:
        hold = queries.HOLD_PRESENCE.replace("?", "%s").encode()
        await session.execute(hold, (a.life,))
        await b.beat(OVER_S)  # which shortens what others have renewed for longer
        dead = DeadMember(a.life, await lease_of(a))
        assert not (await b.beat(OVER_S, dead=[dead])).intake
        assert await looks(b) == [(*dead, True)]
    async with asyncio.timeout(PATIENCE_S):
        while await looks(b) != [(*dead, False)]:  # noqa: ASYNC110 - the server ends it
            await asyncio.sleep(0.02)
    assert (await b.beat(OVER_S, dead=[dead])).intake


async def test_after_a_start_of_the_database_all_have_time_for_a_new_session(
    a: Member, b: Member, postgresql: PostgreSQL
) -> None:
    await a.beat()
    postgresql.stop()
    postgresql.start()
    dead = DeadMember(a.life, await lease_of(b, of=a))
    assert not (await b.beat(dead=[dead])).intake
    await b.beat(OVER_S)  # it shortens the other's lease
    dead = DeadMember(a.life, await lease_of(b, of=a))
    assert (await b.beat(OVER_S, dead=[dead])).intake


async def looks(member: Member) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = await member.journal._rows(
        queries.OBSERVE_OTHERS, (member.life, True)
    )
    return found


async def test_who_renews_in_time_after_all_is_not_dead(a: Member, b: Member) -> None:
    await a.beat(OVER_S)
    await a.beat()
    assert (await b.beat(OVER_S)).others == {"a"}
    assert not (await b.beat(OVER_S)).intake


async def test_a_job_is_had_by_one(a: Member, b: Member) -> None:
    job = await a.accept()
    assert sorted(await asyncio.gather(a.journal.claim(job), b.journal.claim(job))) == [False, True]
    winner, other = (a, b) if await a.journal.claim(job) else (b, a)
    with pytest.raises(AlreadyEnded):
        await other.finish()
    await winner.finish()
    assert not await winner.journal.claim(job)


async def test_who_does_not_have_a_job_changes_nothing_of_it(a: Member, b: Member) -> None:
    picture = Blob(KEPT_PICTURE.sha256, KEPT_PICTURE.size, "image/png", "png")
    plan = replace(PLAN, media=[MediaInput("i", "image", "1", "image", "media", [picture])])
    wanted = draft(plan=plan, media={picture.sha256: PICTURE})
    job = (await a.journal.accept(wanted, 1000.0)).record.job
    assert await b.journal.claim(job)
    with pytest.raises(AlreadyEnded):
        await a.finish(outputs=[KEPT_PICTURE])
    assert await a.journal.output(KEY, 0) is None
    await a.journal.sweep(now=9e9, results_before=0.0, forget_before=0.0)
    assert await a.journal.blob(picture.sha256) == PICTURE  # b has yet to use it
    await b.finish()


async def test_a_job_is_claimed_or_its_bridge_is_notified(a: Member, b: Member) -> None:
    job = await a.accept()
    await b.journal.claim(job)
    assert await a.journal.claim_to_cancel(KEY) == "queued"
    (record,) = await b.journal.records([KEY])
    assert (record.owner, record.cancelling) == (b.life, True)
    await a.accept("j2")
    claimed = await a.journal.claim_to_cancel(Key("alice", "j2"))
    assert isinstance(claimed, Job)
    assert not await b.journal.claim(claimed)
    await b.finish()
    assert await a.journal.claim_to_cancel(KEY) is None
    assert await a.journal.claim_to_cancel(Key("alice", "none")) is None


async def test_numbers_rise_whichever_bridge_draws_them(a: Member, b: Member) -> None:
    drawn = []
    for index in range(4):
        job = await a.accept(f"j{index}")
        drawn.append((await a.journal.get(job.key)).n)
        await (a, b)[index % 2].journal.claim(job)
        drawn.append(int(await (a, b)[index % 2].finish(job.key)))
    assert drawn == sorted(set(drawn))


async def test_only_what_was_published_is_acked(a: Member, b: Member) -> None:
    n = 0
    for member, job_id in ((a, "j1"), (b, "j2")):
        await member.journal.claim(await a.accept(job_id))
        n = int(await member.finish(Key("alice", job_id)))
    # Of what is perhaps not published yet the client was sent that one alone whose number it names.
    assert await a.journal.ack("alice", n) == 1
    assert [each.key.job_id for each in await a.journal.unpublished(0.0)] == ["j1"]
    assert await b.journal.unpublished(0.0) == []


async def test_what_a_dead_bridge_had_yet_to_publish_others_publish(a: Member, b: Member) -> None:
    await a.journal.claim(await a.accept())
    await a.finish()
    assert await b.journal.unpublished(3000.0, orphans=True) == []
    await a.beat(OVER_S)
    await b.beat(OVER_S)
    assert [each.key for each in await b.journal.unpublished(3000.0, orphans=True)] == [KEY]


async def test_a_bridge_that_comes_back_has_its_jobs_again(a: Member, make: Make) -> None:
    job = await a.accept()
    await a.journal.claim(job)
    again = await make("a")
    assert await again.join() is not None  # as long as the old one may live
    await a.beat(OVER_S)
    assert await again.join() is None
    (found,) = await again.journal.unfinished()
    assert found.prompt_id == job.prompt_id
    with pytest.raises(LeaseLost):
        await a.finish()
    await again.finish()


async def test_who_leaves_leaves_its_jobs_to_the_others(a: Member, b: Member) -> None:
    await b.journal.claim(await a.accept())
    await b.journal.leave()
    beat = await a.beat()
    assert [each.job.key for each in beat.requeued] == [KEY]
    assert beat.others == frozenset()


async def test_after_a_start_of_the_database_all_have_time_to_come_back(
    a: Member, b: Member
) -> None:
    await a.beat(OVER_S)
    assert not (await b.beat(10**9)).intake
    assert (await b.beat(OVER_S)).intake


async def test_a_redelivered_request_is_known_to_the_bridge_that_took_over(
    a: Member, b: Member
) -> None:
    session = await a.journal.session(present=False)
    delivery = f"{session}:1:press"
    first = await a.journal.accept(draft("drawn-1", delivery=delivery), 1000.0)
    for count in range(300):  # none of them under that packet id
        await a.journal.accept(draft(f"o{count}", delivery=f"{session}:{count + 2}:x"), 1000.0)
    await a.beat(OVER_S)
    await b.beat(OVER_S)
    # The broker hands the session over.
    assert await b.journal.session(present=True) == session
    again = draft("drawn-2", delivery=delivery, redelivered=True)
    acceptance = await b.journal.accept(again, 1000.0)
    assert not acceptance.new
    assert acceptance.record.job.key == first.record.job.key


async def test_each_sees_what_the_others_have(a: Member, b: Member) -> None:
    job = await a.accept()
    assert await b.journal.claimed_by_others() == []  # it is nobody's yet
    assert await a.journal.claim(job)
    assert [each.key for each in await b.journal.claimed_by_others()] == [KEY]
    assert await a.journal.claimed_by_others() == []
    await a.finish()
    assert await b.journal.claimed_by_others() == []


async def set_clock(member: Member, by_s: float) -> None:
    """Do to the leases what it does to them if the database's clock is set."""

    def work(db: Transaction) -> None:
        db.execute("UPDATE members SET expires = expires - ?", (by_s,))

    await member.journal._database.run(work)
    last = member.journal._last_beat
    if last is not None:
        member.journal._last_beat = replace(last, database=last.database - by_s)


async def test_a_database_clock_that_is_set_forward_takes_nobody_for_dead(
    a: Member, b: Member
) -> None:
    await a.beat()
    await set_clock(a, 8 * 86_400.0)
    beat = await a.beat()
    assert beat.intake
    assert beat.others == {"b"}
    await b.accept()  # it is still a member


async def test_a_database_clock_that_is_set_back_lets_no_lease_run_for_ever(
    a: Member, b: Member
) -> None:
    await set_clock(b, -8 * 86_400.0)
    await a.beat(1.0)

    def longest(db: Transaction) -> float:
        (seconds,) = db.execute(
            "SELECT MAX(expires) - EXTRACT(EPOCH FROM clock_timestamp()) FROM members"
        ).fetchone()
        return float(seconds)

    assert await a.journal._database.run(longest) <= 70.0
    assert (await b.beat()).others == {"a"}


@pytest.fixture
def waits(a: Member) -> Waits:
    """Returns how often a step of the bridge a waits for the server."""

    async def waits(step: Awaitable[Any]) -> int:
        before = a.journal.round_trips
        await step
        return a.journal.round_trips - before

    return waits


async def test_each_step_of_a_job_waits_for_the_server_at_most_so_often(
    a: Member, waits: Waits
) -> None:
    await a.accept("first")  # its client is known then
    await a.beat()  # and a has the intake
    job = await a.accept()
    picture = Blob(KEPT_PICTURE.sha256, KEPT_PICTURE.size, "image/png", "png")
    plan = replace(PLAN, media=[MediaInput("i", "image", "1", "image", "media", [picture])])
    media = {picture.sha256: PICTURE}
    assert await waits(a.accept("j2")) == 1
    assert await waits(a.journal.accept(draft("j3", plan=plan, media=media), 1000.0)) == 1
    assert await waits(a.journal.claim(job)) == 1
    assert await waits(a.journal.started(job)) == 1
    assert await waits(a.finish(outputs=[KEPT_PICTURE])) == 1
    assert await waits(a.beat()) == 1


async def test_what_has_to_look_first_waits_as_often_as_the_page_says(
    a: Member, waits: Waits
) -> None:
    """That is docs/several-bridges.md."""
    picture = Blob(KEPT_PICTURE.sha256, KEPT_PICTURE.size, "image/png", "png")
    plan = replace(PLAN, media=[MediaInput("i", "image", "1", "image", "media", [picture])])
    media = {picture.sha256: PICTURE}
    journal, job = a.journal, await a.accept()
    await journal.claim(job)
    again = draft("j2", delivery="session:1:message", redelivered=True)
    assert await waits(journal.accept(again, 1000.0)) == 4
    assert await waits(journal.accept(again, 1000.0)) == 2
    waiting = (await journal.accept(draft("j3", plan=waits_for_a_job("j1")), 1000.0)).record.job
    assert await waits(journal.released(waiting, plan, media)) == 3 + 1
    assert await waits(journal.requeued(job)) == 3
    hook = ResultWebhook("https://example.com/hook")
    hooks = webhooks.new("job", job.key, "failed", [hook], now=2000.0, shown=2000.0)
    ended = journal.finish(
        job.key, state="failed", result=Numbered(b"", b""), now=2000.0, hooks=hooks
    )
    assert await waits(ended) == 2
    wanted = replace(new_set(), blobs={picture.sha256}, media=media)
    assert await waits(journal.sets.accept(wanted, job_of_set(0), 1000.0)) == 6 + 1
    jobs = [job_of_set(index) for index in (1, 2, 3)]
    assert await waits(journal.sets.expand(wanted.record.key, 1, jobs, 1000.0)) == 2 + 3 * 3
