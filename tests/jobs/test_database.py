from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from bridge.jobs.database import Database, DatabaseError, probe
from bridge.jobs.database.blobs import Blobs
from bridge.jobs.database.engine import TransientError
from bridge.jobs.database.notices import is_pooled, listen
from bridge.jobs.database.postgresql import in_dialect, name_of
from bridge.jobs.journal import Journal
from bridge.jobs.journal.schema import SCHEMA
from tests.support.patience import PATIENCE_S


async def test_a_commit_is_on_disk_before_it_is_answered(tmp_path: Path) -> None:
    # What a power cut leaves cannot be tried; that SQLite waits for the disk can be asked.
    database = Database(tmp_path / "x.db", ())
    await database.open()
    (synchronous,) = await database.run(lambda db: db.execute("PRAGMA synchronous").fetchone())
    (journal,) = await database.run(lambda db: db.execute("PRAGMA journal_mode").fetchone())
    assert (synchronous, journal) == (2, "wal")  # 2 is FULL
    await database.close()


async def test_ordered_answers_wait_for_earlier_ones(
    tmp_path: Path,
) -> None:
    database = Database(tmp_path / "x.db", ())
    await database.open()
    gate, told = threading.Event(), list[str]()
    all_told = asyncio.Event()

    def last(_: object) -> None:
        told.append("last")
        all_told.set()

    # Those that are handed over while this one runs are answered together.
    held = database.run(lambda _: gate.wait())
    first, second = database.run(lambda _: None), database.run(lambda _: None)
    first.add_done_callback(lambda _: database.in_turn(None).add_done_callback(last))
    second.add_done_callback(lambda _: told.append("second"))
    gate.set()
    await held
    await all_told.wait()
    assert told == ["second", "last"]
    await database.close()


async def test_of_a_group_one_goes_on_in_each_turn_of_the_loop(tmp_path: Path) -> None:
    database = Database(tmp_path / "x.db", ())
    await database.open()
    gate = threading.Event()
    turn, went_on = 0, list[tuple[int, int]]()

    def count_turns() -> None:
        nonlocal turn
        turn += 1
        asyncio.get_running_loop().call_soon(count_turns)

    async def ask(number: int) -> None:
        await database.run(lambda _: None)
        went_on.append((turn, number))

    held = database.run(lambda _: gate.wait())
    asked = [asyncio.create_task(ask(number)) for number in range(20)]
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_soon(count_turns)
    gate.set()
    await held
    await asyncio.gather(*asked)
    assert [number for _, number in went_on] == list(range(20))
    assert len({turn for turn, _ in went_on}) == 20
    await database.close()


async def test_what_was_handed_over_is_answered_before_it_is_closed(tmp_path: Path) -> None:
    database = Database(tmp_path / "x.db", ())
    await database.open()
    asked = [database.run(lambda _: None) for _ in range(20)]
    await database.close()
    assert all(each.done() for each in asked)


async def test_a_disk_without_room_costs_no_work_that_only_reads(tmp_path: Path) -> None:
    database = Database(tmp_path / "x.db", (("CREATE TABLE t (x)",),))
    await database.open()
    # As many pages as there are: to SQLite that is a full disk.
    await database.run(lambda db: db.execute("PRAGMA max_page_count = 1").fetchone())
    gate = threading.Event()
    # Those that are handed over while this one runs are one group.
    held = database.run(lambda _: gate.wait())
    works = (
        database.run(lambda db: db.execute("SELECT count(*) FROM t").fetchone()),
        database.run(lambda db: db.execute("INSERT INTO t VALUES (zeroblob(99999))").rowcount),
        database.run(lambda db: db.execute("INSERT INTO t VALUES ('small')").rowcount),
    )
    gate.set()
    await held
    before, large, small = await asyncio.gather(*works, return_exceptions=True)
    assert (before, small) == ((0,), 1)
    assert isinstance(large, TransientError)
    rows = await database.run(lambda db: list(db.execute("SELECT x FROM t")))
    assert rows == [("small",)]
    await database.close()


async def test_a_file_that_is_moved_away_takes_no_more_until_it_is_back(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "data", tmp_path / "elsewhere"
    database = Database(folder / "x.db", (("CREATE TABLE t (x)",),))
    await database.open()

    async def write() -> int:
        return await database.run(lambda db: db.execute("INSERT INTO t VALUES (1)").rowcount)

    assert await write() == 1
    folder.rename(elsewhere)
    with pytest.raises(
        TransientError, match=r"x\.db is gone, though a bridge uses it \(No such file"
    ):
        await write()
    folder.mkdir()
    (folder / "x.db").touch()
    with pytest.raises(TransientError, match="another file than the bridge has opened"):
        await write()
    shutil.rmtree(folder)
    elsewhere.rename(folder)
    assert await write() == 1
    await database.close()


async def test_a_server_that_is_not_there_is_reported_without_the_password() -> None:
    journal = Journal("postgresql://bridge:hunter2@127.0.0.1:9/journal")
    with pytest.raises(DatabaseError, match=r"127\.0\.0\.1:9") as caught:
        await journal.open()
    assert "hunter2" not in str(caught.value)
    await journal.close()


@pytest.mark.slow
def test_a_bridge_with_sqlite_does_without_psycopg() -> None:
    code = "import sys; sys.modules['psycopg'] = None; import bridge.service"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_database_is_called_by_its_place() -> None:
    for password in ("p%40ss", "p?ss", "p#ss", "p@ss", "p[ss"):
        address = f"postgresql://u:{password}@db.lan:5433/bridge?sslmode=require"
        assert name_of(address) == "postgresql://db.lan:5433/bridge"
    assert name_of("postgresql:///bridge?user=a@b") == "postgresql:///bridge"


def test_blobs_report_that_a_server_is_not_there_without_the_password() -> None:
    blobs = Blobs("postgresql://bridge:hunter2@127.0.0.1:9/journal")
    with pytest.raises(DatabaseError, match=r"127\.0\.0\.1:9") as caught:
        blobs.open()
    assert "hunter2" not in str(caught.value)
    blobs.close()


async def test_notices_of_a_server_that_is_away_are_waited_for(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def nothing(_: object) -> None:
        pass

    address = "postgresql://bridge:hunter2@127.0.0.1:9/journal"
    heard: list[str | None] = []
    waiting = asyncio.ensure_future(
        listen(address, "x", heard.append, began=nothing, poll=nothing, every_s=1.0)
    )
    async with asyncio.timeout(PATIENCE_S):
        while "cannot listen for notices" not in caplog.text:  # noqa: ASYNC110 - there is no event
            await asyncio.sleep(0.01)
    assert not waiting.done()
    assert not heard
    assert "hunter2" not in caplog.text
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)


@pytest.mark.parametrize(("session", "behind"), [(7, False), (8, True)])
async def test_a_pooler_is_noticed_by_the_server_process_that_answers(
    session: int,
    behind: bool,  # noqa: FBT001
) -> None:
    async def ask(sql: str, _: object) -> list[tuple[int]]:
        assert sql == "SELECT pg_backend_pid()"
        return [(session,)]

    assert await is_pooled(7, ask) is behind


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://u:hunter2@127.0.0.1:x/d",
        "postgresql://u:hunter2@127.0.0.1:99999/d",
        "postgresql://u:hunter2@127.0.0.1:9/d?port=x",
        "postgresql://u:hunter2@127.0.0.1:9/d?sslmode=x",
        "postgresql://u:hunter2@127.0.0.1,127.0.0.2/d?port=9,9,9",
        "postgresql://u:hunter2@[::1/d",
    ],
)
def test_an_address_that_cannot_be_used_is_not_tried_again_and_again(address: str) -> None:
    with pytest.raises(DatabaseError) as caught:
        probe(address)
    assert not isinstance(caught.value, TransientError)
    assert "hunter2" not in str(caught.value)


def test_every_statement_of_the_schema_is_translated_for_postgresql() -> None:
    statements = [in_dialect(each) for version in SCHEMA for each in version]
    assert not [each for each in statements if re.search(r"\b(INTEGER|REAL|BLOB)\b", each)]
    assert "seq BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY" in "".join(statements)
