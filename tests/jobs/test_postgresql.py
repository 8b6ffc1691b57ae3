"""Faults that PostgreSQL alone can cause a journal: it goes away, and comes back."""

from __future__ import annotations

import asyncio
import signal
import uuid
from collections.abc import AsyncIterator, Iterator

import psycopg
import pytest
from msgspec.structs import replace

from bridge.contract.numbering import Numbered
from bridge.jobs.database import DatabaseError, probe
from bridge.jobs.database.postgresql import in_dialect, name_of
from bridge.jobs.job import ResultWebhook
from bridge.jobs.journal import AlreadyEnded, Journal, webhooks
from bridge.jobs.journal.schema import SCHEMA
from bridge.jobs.queue import Key
from tests.jobs.drafts import KEPT_PICTURE, draft
from tests.support.patience import PATIENCE_S
from tests.support.postgresql import PostgreSQL, running_postgresql
from tests.support.tcpproxy import TcpProxy

pytestmark = pytest.mark.postgresql

# A statement without a name is parsed (protocol 3.0, "P"): how a transaction is committed.
COMMIT = b"P\0\0\0\x0e\0COMMIT\0"
RESULT = Numbered(b'{"n":', b"}")


@pytest.fixture
def address(postgresql: PostgreSQL) -> Iterator[str]:
    with postgresql.database() as address:
        yield address


@pytest.fixture
async def proxy(postgresql: PostgreSQL) -> AsyncIterator[TcpProxy]:
    async with TcpProxy(f"http://127.0.0.1:{postgresql.port}") as proxy:
        yield proxy


@pytest.fixture
async def journal(postgresql: PostgreSQL, address: str, proxy: TcpProxy) -> AsyncIterator[Journal]:
    """A journal behind the proxy."""
    journal = Journal(address.replace(f":{postgresql.port}/", f":{proxy.url.rpartition(':')[2]}/"))
    await journal.open()
    yield journal
    await journal.close()


@pytest.fixture
async def other(address: str) -> AsyncIterator[Journal]:
    """The journal of another bridge, which the proxy is not before."""
    other = Journal(address)
    await other.open()
    yield other
    await other.close()


async def accept(journal: Journal, job_id: str) -> None:
    taken = await journal.accept(draft(job_id), 1000.0)
    assert taken.new


async def jobs(journal: Journal) -> list[str]:
    return [job.key.job_id for job in await journal.unfinished()]


async def test_a_commit_whose_answer_was_lost_is_reported_as_what_it_was(
    journal: Journal, proxy: TcpProxy
) -> None:
    await accept(journal, "j1")
    proxy.swallow_answer(COMMIT, within=True)
    await accept(journal, "j2")  # done once, and reported as done
    assert await jobs(journal) == ["j1", "j2"]


async def test_a_commit_that_was_lost_is_made_again(journal: Journal, proxy: TcpProxy) -> None:
    await accept(journal, "j1")
    proxy.swallow_request(COMMIT, within=True)
    await accept(journal, "j2")
    assert await jobs(journal) == ["j1", "j2"]


@pytest.mark.parametrize("seen", [False, True])
async def test_a_claim_whose_commit_was_lost_is_made_again(
    journal: Journal,
    proxy: TcpProxy,
    seen: bool,  # noqa: FBT001
) -> None:
    await journal.join("a", uuid.uuid4().hex, 100.0)
    job = (await journal.accept(draft("j1"), 1000.0)).record.job
    swallow = proxy.swallow_answer if seen else proxy.swallow_request
    swallow(COMMIT, within=True)
    assert await journal.claim(job)
    assert [each.key for each in await journal.unfinished()] == [job.key]


@pytest.mark.parametrize("but_for", [0, 1, 60, 120, 180, 240])
async def test_an_acceptance_is_reported_as_what_it_was_wherever_its_answer_is_cut(
    journal: Journal, proxy: TcpProxy, but_for: int
) -> None:
    await accept(journal, "j1")
    proxy.swallow_answer(COMMIT, within=True, but_for=but_for)
    taken = await journal.accept(draft("j2"), 1000.0)
    await proxy.was_closed()
    assert (taken.new, taken.record.job.state) == (True, "queued")
    assert await jobs(journal) == ["j1", "j2"]
    again = await journal.accept(draft("j2"), 1001.0)
    assert (again.new, again.record.job.seq) == (False, taken.record.job.seq)


async def test_an_acceptance_whose_answer_was_lost_is_one_whatever_became_of_the_job_since(
    journal: Journal, proxy: TcpProxy, other: Journal
) -> None:
    proxy.swallow_answer(COMMIT, within=True)
    proxy.refuse()
    pending = asyncio.ensure_future(journal.accept(draft("j1"), 1000.0))
    await proxy.was_closed()
    (job,) = await other.unfinished()
    job.state, job.attempt, job.prompt_id = "running", 1, "another"
    await other.started(job)
    proxy.open()
    taken = await pending
    assert (taken.new, taken.record.job.state) == (True, "queued")
    assert (await other.get(job.key)).job.state == "running"


async def test_an_acceptance_that_was_lost_is_none_if_another_bridge_was_faster(
    journal: Journal, proxy: TcpProxy, other: Journal
) -> None:
    proxy.swallow_request(COMMIT, within=True)
    proxy.refuse()
    pending = asyncio.ensure_future(journal.accept(draft("j1"), 1000.0))
    await proxy.was_closed()
    assert (await other.accept(draft("j1"), 1000.5)).new
    proxy.open()
    assert not (await pending).new


# With webhooks the commit's answer is a short one.
@pytest.mark.parametrize(
    ("but_for", "hooks"),
    [
        *((but_for, False) for but_for in (None, 0, 1, 60, 120, 180, 240)),
        *((but_for, True) for but_for in (None, 0, 1, 30, 60)),
    ],
)
async def test_an_outcome_is_reported_as_what_it_was_wherever_its_answer_is_cut(
    journal: Journal,
    proxy: TcpProxy,
    but_for: int | None,
    hooks: bool,  # noqa: FBT001
) -> None:
    key = draft("j1").key
    await accept(journal, "j1")
    if but_for is None:
        proxy.swallow_request(COMMIT, within=True)
    else:
        proxy.swallow_answer(COMMIT, within=True, but_for=but_for)
    result = await end(journal, key, hooks=hooks)
    await proxy.was_closed()
    record = await journal.get(key)
    assert (record.job.state, record.result) == ("succeeded", result)
    assert result == RESULT.with_n(record.n)
    assert await journal.output(key, 0) is not None
    assert len(await journal.webhooks.due(9.0, (), 9)) == hooks
    with pytest.raises(AlreadyEnded):
        await end(journal, key, hooks=hooks)


async def test_an_outcome_that_was_lost_is_none_if_another_bridge_was_faster(
    journal: Journal, proxy: TcpProxy, other: Journal
) -> None:
    key = draft("j1").key
    await accept(journal, "j1")
    proxy.swallow_request(COMMIT, within=True)
    proxy.refuse()
    pending = asyncio.ensure_future(end(journal, key, hooks=True))
    await proxy.was_closed()
    await other.finish(key, state="cancelled", result=RESULT, now=2.0)
    proxy.open()
    with pytest.raises(AlreadyEnded):
        await pending
    assert await journal.output(key, 0) is None
    assert await journal.webhooks.due(9.0, (), 9) == []


async def test_what_another_bridge_keeps_after_a_lost_answer_is_not_dropped(
    journal: Journal, proxy: TcpProxy, other: Journal
) -> None:
    await journal.adapter_store.keep("image", {"demo": b"old"})
    proxy.swallow_answer(COMMIT, within=True)
    proxy.refuse()
    pending = asyncio.ensure_future(journal.adapter_store.drop("image", "demo"))
    await proxy.was_closed()
    await other.adapter_store.keep("image", {"demo": b"new"})
    proxy.open()
    await pending
    assert await other.adapter_store.get("image", "demo") == b"new"


async def end(journal: Journal, key: Key, *, hooks: bool) -> bytes:
    new = webhooks.new("job", key, "succeeded", [ResultWebhook("https://h/")], now=2.0, shown=2.0)
    return await journal.finish(
        key,
        state="succeeded",
        result=RESULT,
        now=2.0,
        outputs=[KEPT_PICTURE],
        keep_until=9.0,
        hooks=new if hooks else None,
    )


async def test_a_connection_that_was_cut_is_made_again(journal: Journal, proxy: TcpProxy) -> None:
    await accept(journal, "j1")
    proxy.cut()
    await accept(journal, "j2")
    assert await jobs(journal) == ["j1", "j2"]


async def test_while_the_database_is_away_work_is_refused_and_then_done(
    journal: Journal, proxy: TcpProxy
) -> None:
    await accept(journal, "j1")
    proxy.close()
    await proxy.ended()
    with pytest.raises(DatabaseError, match="postgresql://127"):
        await accept(journal, "j2")
    proxy.open()
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                await accept(journal, "j3")
            except DatabaseError:
                await asyncio.sleep(0.05)  # it tells nobody when it is back
            else:
                break
    assert await jobs(journal) == ["j1", "j3"]


async def test_nobody_waits_for_ever_for_the_outcome_of_a_commit(
    journal: Journal, proxy: TcpProxy
) -> None:
    await accept(journal, "j1")
    proxy.swallow_answer(COMMIT, within=True)
    pending = asyncio.ensure_future(accept(journal, "j2"))
    await asyncio.sleep(0)
    proxy.refuse()
    await journal.close()
    with pytest.raises(DatabaseError, match="not known"):
        await pending


async def test_nobody_waits_for_ever_for_a_database_that_does_not_answer(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.jobs.database.database.CLOSE_S", 0.2)
    journal = Journal(address)
    await journal.open()
    with psycopg.connect(address) as other:
        other.execute("LOCK TABLE jobs")
        pending = asyncio.ensure_future(accept(journal, "j1"))
        await asyncio.sleep(0)
        async with asyncio.timeout(PATIENCE_S):
            with pytest.raises(DatabaseError, match="does not answer"):
                await journal.close()
    pending.cancel()
    await asyncio.gather(pending, return_exceptions=True)


async def test_what_was_accepted_survives_a_killed_server() -> None:
    with running_postgresql() as server, server.database() as address:
        server.stop(signal.SIGQUIT)
        server.start(durable=True)
        journal = Journal(address)
        await journal.open()
        await asyncio.gather(*(accept(journal, f"j{index}") for index in range(20)))
        server.stop(signal.SIGQUIT)  # at once, as after a crash
        server.start(durable=True)
        await accept(journal, "later")
        assert await jobs(journal) == [*(f"j{index}" for index in range(20)), "later"]
        await journal.close()


async def test_a_newer_journal_is_left_alone(address: str) -> None:
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute("CREATE TABLE schema_version (version BIGINT NOT NULL)")
        connection.execute("INSERT INTO schema_version VALUES (99)")
    journal = Journal(address)
    with pytest.raises(DatabaseError, match="newer version"):
        await journal.open()
    await journal.close()


def test_doctor_sees_whether_it_can_be_reached(address: str) -> None:
    assert probe(address) == name_of(address)
    with pytest.raises(DatabaseError, match="does not exist") as caught:
        probe(f"{address}-none")
    assert "tests@" not in str(caught.value)


def test_the_reason_of_a_database_that_is_away_has_one_line() -> None:
    with pytest.raises(DatabaseError, match="refused") as caught:
        probe("postgresql://nobody@127.0.0.1:9/none")
    assert str(caught.value).isprintable()


async def test_a_journal_of_an_older_version_is_brought_up_to_date(address: str) -> None:
    with psycopg.connect(address) as connection:
        for statement in [each for version in SCHEMA[:3] for each in version]:
            connection.execute(in_dialect(statement).encode())
        connection.execute("CREATE TABLE schema_version (version BIGINT NOT NULL)")
        connection.execute("INSERT INTO schema_version VALUES (3)")
        connection.execute("INSERT INTO clients VALUES ('alice', 41)")
    journal = Journal(address)
    await journal.open()
    wanted = draft("j1", delivery="session:1:hash")
    assert (await journal.accept(wanted, 1.0)).record.n == 42
    assert not (await journal.accept(replace(wanted, redelivered=True), 1.0)).new
    await journal.close()


async def test_a_commit_survives_a_power_cut_whatever_the_servers_default_is(
    address: str,
) -> None:
    journal = Journal(address)
    await journal.open()
    assert await journal._rows("SHOW synchronous_commit") == [("on",)]
    await journal.close()


async def test_a_client_that_froze_in_a_transaction_holds_nobody_up_for_long(
    journal: Journal, address: str
) -> None:
    await accept(journal, "j1")
    with psycopg.connect(address) as frozen:
        frozen.execute("SET idle_in_transaction_session_timeout = '100ms'")
        frozen.commit()
        frozen.execute("LOCK TABLE jobs")
        await accept(journal, "j2")
        with pytest.raises(psycopg.Error):
            frozen.execute("SELECT 1")
    assert (await journal.get(Key("alice", "j2"))).job.state == "queued"
