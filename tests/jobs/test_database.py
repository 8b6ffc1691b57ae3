from __future__ import annotations

import asyncio
import threading
from pathlib import Path

from bridge.jobs.database import Database


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
