from __future__ import annotations

import asyncio
import threading
from pathlib import Path

from bridge.jobs.database import Database


async def test_a_commit_is_on_disk_before_it_is_told(tmp_path: Path) -> None:
    # What a power cut leaves cannot be tried; that SQLite waits for the disk can be asked.
    database = Database(tmp_path / "x.db", ())
    await database.open()
    (synchronous,) = await database.run(lambda db: db.execute("PRAGMA synchronous").fetchone())
    (journal,) = await database.run(lambda db: db.execute("PRAGMA journal_mode").fetchone())
    assert (synchronous, journal) == (2, "wal")  # 2 is FULL
    await database.close()


async def test_what_is_told_in_order_waits_for_those_who_are_only_just_answered(
    tmp_path: Path,
) -> None:
    database = Database(tmp_path / "x.db", ())
    await database.open()
    gate, told = threading.Event(), list[str]()
    all_told = asyncio.Event()

    def last(_: object) -> None:
        told.append("last")
        all_told.set()

    # Those that are handed over while this one runs are answered in one turn of the loop.
    held = database.run(lambda _: gate.wait())
    first, second = database.run(lambda _: None), database.run(lambda _: None)
    first.add_done_callback(lambda _: database.in_turn(None).add_done_callback(last))
    second.add_done_callback(lambda _: told.append("second"))
    gate.set()
    await held
    await all_told.wait()
    assert told == ["second", "last"]
    await database.close()
