"""The sweep: rows that have had their time, and how many it deletes at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from bridge.contract.errors import UnknownJob
from bridge.jobs.database import Transaction
from bridge.jobs.database.database import Database
from bridge.jobs.database.engine import Touched, Work
from bridge.jobs.journal import Journal, KeptUpload, sweep
from bridge.jobs.queue import Key
from tests.jobs.drafts import draft
from tests.jobs.test_journal import KEY, accept, finish, reopened


async def test_clients_without_a_job_are_forgotten_and_their_numbers_are_not_used_again(
    journal: Journal, where: Path | str
) -> None:
    seen: dict[str, int] = {}
    for index in range(20):
        key = await accept(journal, client=f"c{index}")
        seen[key.client] = await finish(journal, key)
    job = (await journal.accept(draft("stays", "c0"), 1000.0)).record.job
    for _ in range(30):
        seen["c0"] = await journal.status_number(job)
    await journal.sweep(now=1e10, results_before=9e9, forget_before=9e9)
    rows = await journal._rows("SELECT client FROM clients ORDER BY client")
    assert rows == [("",), ("c0",)]
    if journal._numbers is not None:
        assert [*journal._numbers._blocks] == ["c0"]
    assert await journal.status_number(job) == seen["c0"] + 1
    again = (await journal.accept(draft(client="c1"), 1000.0)).record.n
    assert again > seen["c1"]
    await journal.sweep(now=1e10, results_before=9e9, forget_before=9e9)
    journal = await reopened(journal, where)
    assert (await journal.accept(draft("j2", "c1"), 1000.0)).record.n > again
    assert (await journal.accept(draft(client="c2"), 1000.0)).record.n > seen["c2"]
    await journal.close()


async def test_a_client_that_comes_back_while_it_is_forgotten_gets_higher_numbers(
    journal: Journal, where: Path | str
) -> None:
    seen = await finish(journal, await accept(journal, "j0"))
    for index in range(1, 5):
        sweeping = asyncio.ensure_future(
            journal.sweep(now=1e10, results_before=9e9, forget_before=9e9)
        )
        await asyncio.sleep(0)
        coming = asyncio.ensure_future(journal.accept(draft(f"j{index}"), 1000.0))
        await sweeping
        n = (await coming).record.n
        assert n > seen
        seen = await finish(journal, Key("alice", f"j{index}"))
        assert seen > n
        journal = await reopened(journal, where)
    await journal.close()


async def test_each_thing_is_kept_for_its_own_time(journal: Journal) -> None:
    await accept(journal)
    await finish(journal, KEY, now=1000.0, keep=1100.0)

    await journal.sweep(now=1099.0, results_before=999.0, forget_before=0.0)
    assert await journal.output(KEY, 0) is not None
    await journal.sweep(now=1101.0, results_before=999.0, forget_before=0.0)
    assert await journal.output(KEY, 0) is None
    assert (await journal.get(KEY)).result is not None

    await journal.sweep(now=2000.0, results_before=1001.0, forget_before=999.0)
    record = await journal.get(KEY)
    assert (record.job.state, record.result) == ("succeeded", None)  # the id is remembered
    with pytest.raises(UnknownJob):
        await journal.plan(KEY)

    await journal.sweep(now=3000.0, results_before=1001.0, forget_before=1001.0)
    with pytest.raises(UnknownJob):
        await journal.get(KEY)


async def test_an_output_that_is_kept_is_fetched_by_its_jobs_id_as_long(journal: Journal) -> None:
    await accept(journal)
    await finish(journal, KEY, now=1000.0, keep=1100.0)
    assert await journal.keep(KEY, 9000.0) == 1
    await journal.sweep(now=3000.0, results_before=2000.0, forget_before=2000.0)
    assert (await journal.get(KEY)).job.state == "succeeded"
    assert await journal.output(KEY, 0) is not None
    await journal.sweep(now=9001.0, results_before=2000.0, forget_before=2000.0)
    with pytest.raises(UnknownJob):
        await journal.get(KEY)


async def test_outputs_over_the_budget_go_acked_ones_first_then_the_oldest(
    journal: Journal,
) -> None:
    keys = [await accept(journal, f"j{index}") for index in range(4)]
    for index, key in enumerate(keys[1:] + keys[:1]):  # j0 is the newest
        await finish(journal, key, now=1000.0 + index)
    sizes = 2 * len(b"bytes of j0")
    await journal.sweep(now=0.0, results_before=0.0, forget_before=0.0, max_outputs=sizes)
    kept = [key.job_id for key in keys if await journal.output(key, 0) is not None]
    assert kept == ["j0", "j3"]
    await journal.ack("alice", (await journal.get(keys[3])).n)
    await journal.sweep(now=0.0, results_before=0.0, forget_before=0.0, max_outputs=sizes // 2)
    kept = [key.job_id for key in keys if await journal.output(key, 0) is not None]
    assert kept == ["j0"]


async def test_the_jobs_of_outputs_are_read_only_where_some_exceed_a_budget(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    for index in range(2):
        await finish(journal, await accept(journal, f"j{index}", client=f"c{index}"))
    size = len(b"bytes of j0")
    asked: list[str] = []
    rows = journal._rows

    def noting(sql: str, values: Sequence[Any] = ()) -> asyncio.Future[list[Any]]:
        asked.append(sql)
        return rows(sql, values)

    monkeypatch.setattr(journal, "_rows", noting)
    for budget, of_client, are_read in ((2, 1, False), (1, 1, True), (1, 0, True)):
        asked.clear()
        await journal.sweep(
            now=0.0,
            results_before=0.0,
            forget_before=0.0,
            max_outputs=budget * size,
            max_outputs_of=lambda _, most=of_client * size: most,  # type: ignore[misc]
        )
        assert any("finished_at" in sql for sql in asked) == are_read


async def test_one_clients_outputs_do_not_cost_anothers(journal: Journal) -> None:
    for index, client in enumerate(("alice", "bob", "bob", "bob")):
        key = await accept(journal, f"j{index}", client=client)
        await finish(journal, key, now=1000.0 + index)
    size = len(b"bytes of j0")
    await journal.sweep(
        now=0.0,
        results_before=0.0,
        forget_before=0.0,
        max_outputs=4 * size,
        max_outputs_of=lambda client: {"alice": 9, "bob": 2}[client] * size,
    )
    kept = [
        index
        for index, client in enumerate(("alice", "bob", "bob", "bob"))
        if await journal.output(Key(client, f"j{index}"), 0) is not None
    ]
    assert kept == [0, 2, 3]


class Watched:
    """A database whose transactions of the sweep are counted, with the rows that each changes."""

    def __init__(self, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
        self._run = database.run
        self.changed: list[dict[str, int]] = []
        monkeypatch.setattr(database, "run", self.run)

    def run(self, work: Work[Any], touched: Touched = None) -> asyncio.Future[Any]:
        def counted(db: Transaction) -> Any:
            changed: dict[str, int] = {}
            found = work(_Counting(db, changed))
            self.changed.append(changed)
            return found

        return self._run(counted, touched)


class _Counting:
    """A transaction that counts the rows which each of its statements changes."""

    def __init__(self, db: Transaction, changed: dict[str, int]) -> None:
        self._db = db
        self._changed = changed
        self.notify = db.notify

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> Any:
        result = self._db.execute(sql, parameters)
        if sql.lstrip().startswith("SELECT"):
            return result
        rows = [*result] if "RETURNING" in sql else None
        kind = " ".join(sql.split()[:3])
        count = result.rowcount if rows is None else len(rows)
        self._changed[kind] = self._changed.get(kind, 0) + count
        return result if rows is None else iter(rows)


async def fill(journal: Journal, count: int) -> None:
    """Add `count` jobs that ended, each of a client of its own, and as many uploads."""
    for index in range(count):
        key = await accept(journal, f"j{index}", client=f"c{index}")
        await finish(journal, key, now=1000.0, keep=1100.0)
        kept = KeptUpload("image", "image/png", "png", f"upload-{index}", 5, b"bytes")
        await journal.keep_upload(key.client, "picture", kept, keep_until=1100.0)


async def blobs(journal: Journal) -> int:
    """Return the number of bytes that are kept, each counted once."""
    ((count,),) = await journal._rows("SELECT COUNT(*) FROM blobs")
    return int(count)


async def test_a_transaction_of_the_sweep_changes_so_many_rows_at_most(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "AT_ONCE", 3)
    monkeypatch.setattr(sweep, "ROWS_PER_READ", 4)
    await fill(journal, 10)
    watched = Watched(journal._database, monkeypatch)
    await journal.sweep(now=2000.0, results_before=2000.0, forget_before=2000.0)
    assert max(count for each in watched.changed for count in each.values()) == 3
    for table in ("outputs", "uploads", "jobs", "blobs"):
        assert await journal._rows(f"SELECT COUNT(*) FROM {table}") == [(0,)]  # noqa: S608
    assert await journal._rows("SELECT client FROM clients") == [("",)]


async def test_outputs_over_the_budget_are_deleted_so_many_at_a_time(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "AT_ONCE", 3)
    await fill(journal, 7)
    watched = Watched(journal._database, monkeypatch)
    await journal.sweep(now=0.0, results_before=0.0, forget_before=0.0, max_outputs=0)
    dropped = [each.get("DELETE FROM outputs", 0) for each in watched.changed]
    assert [count for count in dropped if count] == [3, 3, 1]


async def test_others_write_between_the_transactions_of_a_sweep(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "AT_ONCE", 1)
    await fill(journal, 10)
    watched = Watched(journal._database, monkeypatch)
    sweeping = asyncio.ensure_future(
        journal.sweep(now=2000.0, results_before=2000.0, forget_before=2000.0)
    )
    await asyncio.sleep(0)  # it has handed over its first
    await journal.accept(draft("late", "late"), 2000.0)
    assert len(watched.changed) < 5
    await sweeping
    assert len(watched.changed) > 10
    assert [job.key.client for job in await journal.unfinished()] == ["late"]


async def test_a_large_table_is_looked_through_by_one_sweep_after_another(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "ROWS_PER_READ", 2)
    monkeypatch.setattr(sweep, "MOST_READS", 2)
    for index in range(10):
        await finish(journal, await accept(journal, f"j{index}"))
        await journal.forget(Key("alice", f"j{index}"))
    for left in (6, 2, 0):
        await journal.sweep(now=0.0, results_before=0.0, forget_before=0.0)
        assert await blobs(journal) == left
    await finish(journal, await accept(journal, "a"))  # it begins again
    await journal.forget(Key("alice", "a"))
    await journal.sweep(now=0.0, results_before=0.0, forget_before=0.0)
    assert await blobs(journal) == 0


@pytest.mark.parametrize(
    ("how", "left"),
    [
        ({"now": 2000.0}, 1),
        ({"now": 0.0, "max_outputs": 0}, 7),  # six uploads that are kept longer
    ],
    ids=["time", "budget"],
)
async def test_bytes_go_in_the_same_sweep_as_what_named_them_however_many_there_are(
    journal: Journal, monkeypatch: pytest.MonkeyPatch, how: dict[str, Any], left: int
) -> None:
    monkeypatch.setattr(sweep, "ROWS_PER_READ", 2)
    monkeypatch.setattr(sweep, "MOST_READS", 2)
    await fill(journal, 6)
    shared = KeptUpload("image", "image/png", "png", "sha-j1", 5, b"bytes")
    await journal.keep_upload("c9", "picture", shared, keep_until=9e9)
    assert await blobs(journal) == 12
    await journal.sweep(**how, results_before=0.0, forget_before=0.0)
    assert await blobs(journal) == left
    assert await journal.blob("sha-j1") is not None


async def test_all_blobs_that_are_files_are_found(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.jobs.journal.reads.FILES_AT_ONCE", 2)
    for index in range(4):
        kept = KeptUpload("image", "image/png", "png", f"sha-{index}", 5)
        await journal.keep_upload("alice", f"u{index}", kept, keep_until=9e9)
    assert await journal.files() == {f"sha-{index}" for index in range(4)}
