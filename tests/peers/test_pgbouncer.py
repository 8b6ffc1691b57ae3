"""PgBouncer between bridges and their PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import psycopg
import pytest

from bridge.jobs.database import DatabaseError
from bridge.jobs.database.notices import Ask
from tests.jobs.listening import listening
from tests.jobs.members import Member
from tests.peers.pgbouncer import pooled
from tests.support.postgresql import PostgreSQL

pytestmark = [pytest.mark.peers, pytest.mark.postgresql]


@pytest.fixture
def address(postgresql: PostgreSQL) -> Iterator[str]:
    with postgresql.database() as address:
        yield address


async def test_in_session_mode_several_bridges_work_and_notify_each_other(
    postgresql: PostgreSQL, address: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def unwanted(_: Ask) -> None:
        pytest.fail("a lock that nobody can rely on")

    with pooled(postgresql, address.rpartition("/")[2], "session") as behind:
        a, b = Member(behind, "a"), Member(behind, "b")
        async with listening(behind, began=unwanted, poll=unwanted, every_s=0.05) as heard:
            assert "behind a pooler such as PgBouncer" in caplog.text
            for each in (a, b):
                await each.journal.open()
                assert await each.join() is None
            assert (await a.beat()).intake
            assert (await b.beat()).others == {"a"}
            job = await a.accept()
            claims = await asyncio.gather(a.journal.claim(job), b.journal.claim(job))
            assert sorted(claims) == [False, True]
            with psycopg.connect(address, autocommit=True) as direct:
                direct.execute("SELECT pg_notify('x', 'news')")
            assert await heard.get() == "news"
        for each in (a, b):
            await each.journal.close()


async def test_transaction_mode_is_refused_with_what_to_do(
    postgresql: PostgreSQL, address: str
) -> None:
    with pooled(postgresql, address.rpartition("/")[2], "transaction") as behind:
        members = [Member(behind, name) for name in "ab"]

        async def come() -> None:
            for each in members:
                await each.journal.open()
                await each.join()

        with pytest.raises(DatabaseError, match="pool_mode = session"):
            await come()
        for each in members:
            await each.journal.close()
