"""A journal that its disk has damaged: found, said in one line, and repaired as far as can be."""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from bridge.contract.errors import UnknownJob
from bridge.jobs.database import DatabaseError
from bridge.jobs.journal import Journal, repair
from bridge.jobs.journal.repair import Unrepairable
from bridge.jobs.queue import Key
from tests.jobs.drafts import draft
from tests.jobs.test_journal import finish

JOBS = 300


async def fill(path: Path) -> None:
    """Write many jobs into a journal, of which every other one has ended, and close it."""
    journal = Journal(path)
    await journal.open()
    for number in range(JOBS):
        taken = draft(f"j{number}")
        await journal.accept(taken, 1000.0)
        if number % 2:
            await finish(journal, taken.key)
    await journal.close()


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The file of a journal with many jobs: each test damages a copy of its own."""
    path = tmp_path_factory.mktemp("filled") / "journal.db"
    asyncio.run(fill(path))
    return path.read_bytes()


@pytest.fixture
def path(tmp_path: Path, filled: bytes) -> Path:
    """A journal with many jobs, closed."""
    path = tmp_path / "journal.db"
    path.write_bytes(filled)
    return path


def table_pages(path: Path) -> dict[str, int]:
    """The root page of each table and index."""
    with closing(sqlite3.connect(path)) as found:
        return dict(found.execute("SELECT name, rootpage FROM sqlite_schema WHERE rootpage > 0"))


def spoil(path: Path, *pages: int, size: int = 4096) -> None:
    with path.open("r+b") as file:
        for page in pages:
            file.seek((page - 1) * size)
            file.write(b"\xa5" * size)


def pages_of(path: Path, table: str) -> list[int]:
    """The leaves of a table's tree, by SQLite's file format."""
    data = path.read_bytes()

    def below(page: int) -> list[int]:
        start = (page - 1) * 4096
        if data[start] != 5:
            return [page]
        count = int.from_bytes(data[start + 3 : start + 5], "big")
        cells = [
            int.from_bytes(data[start + 12 + 2 * n : start + 14 + 2 * n], "big")
            for n in range(count)
        ]
        children = [int.from_bytes(data[start + cell : start + cell + 4], "big") for cell in cells]
        last = int.from_bytes(data[start + 8 : start + 12], "big")
        return [leaf for child in (*children, last) for leaf in below(child)]

    return below(table_pages(path)[table])


async def test_a_sound_journal_is_found_so(path: Path, tmp_path: Path) -> None:
    found = repair.check(path, tmp_path / "blobs")
    assert found.faults == []
    assert found.missing == []


async def test_rows_around_the_damage_are_saved_and_the_damaged_file_stays(
    path: Path, tmp_path: Path
) -> None:
    leaves = pages_of(path, "jobs")
    spoil(path, leaves[len(leaves) // 2], leaves[2])
    assert repair.check(path, tmp_path / "blobs").faults
    saved = repair.repair(path)
    assert saved.aside.exists()
    assert JOBS * 0.8 < saved.rows["jobs"] < JOBS
    assert repair.check(path, tmp_path / "blobs").faults == []
    journal = Journal(path)
    await journal.open()
    there = 0
    for number in range(JOBS):
        try:
            record = await journal.get(Key("alice", f"j{number}"))
        except UnknownJob:
            continue
        there += 1
        assert (record.result is not None) == bool(number % 2)
    assert there == saved.rows["jobs"]
    await journal.close()


async def test_an_index_that_is_damaged_costs_no_row(path: Path, tmp_path: Path) -> None:
    spoil(path, table_pages(path)["jobs_by_number"])
    assert repair.check(path, tmp_path / "blobs").faults
    assert repair.repair(path).rows["jobs"] == JOBS
    assert repair.check(path, tmp_path / "blobs").faults == []


async def test_numbers_go_on_above_all_that_may_have_been_used(path: Path) -> None:
    spoil(path, table_pages(path)["clients"])
    journal = Journal(path)
    with closing(sqlite3.connect(path)) as found:
        (highest,) = found.execute("SELECT MAX(n) FROM jobs NOT INDEXED").fetchone()
    repair.repair(path)
    await journal.open()
    taken = draft("later")
    await journal.accept(taken, 1000.0)
    assert await finish(journal, taken.key) > highest + 10_000
    # A client that has no rows left may have had numbers as well.
    stranger = draft("first", client="bob")
    await journal.accept(stranger, 1000.0)
    assert await finish(journal, stranger.key) > highest + 10_000
    await journal.close()


@pytest.mark.parametrize("content", [b"no journal at all" * 1000, b"SQLite format 3\0" + bytes(50)])
async def test_a_file_that_is_no_journal_is_reported_in_one_line(
    tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "journal.db"
    path.write_bytes(content)
    assert repair.check(path, tmp_path / "blobs").faults
    with pytest.raises(DatabaseError) as caught:
        await Journal(path).open()
    assert "doctor --journal" in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(Unrepairable, match="restore"):
        repair.repair(path)
    assert path.read_bytes() == content


async def test_damage_that_is_found_later_is_reported_in_one_line_too(path: Path) -> None:
    journal = Journal(path)
    await journal.open()
    spoil(path, *pages_of(path, "jobs"))
    keys = [Key("alice", f"j{number}") for number in range(JOBS)]
    with pytest.raises(DatabaseError, match="doctor --journal"):
        _ = [await journal.get(key) for key in keys]
    await journal.close()


async def test_nothing_is_repaired_below_a_bridge_that_runs(path: Path, tmp_path: Path) -> None:
    journal = Journal(path)
    await journal.open()
    assert repair.check(path, tmp_path / "blobs").faults == []
    with pytest.raises(DatabaseError, match="stop it first"):
        repair.repair(path)
    await journal.close()


async def test_a_journal_of_a_newer_version_is_left_alone(path: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(path)) as journal:
        journal.execute("PRAGMA user_version = 999")
    for work in (lambda: repair.check(path, tmp_path), lambda: repair.repair(path)):
        with pytest.raises(Unrepairable, match="newer"):
            work()


async def test_stored_bytes_are_compared_with_their_names(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    blobs = tmp_path / "blobs"
    blobs.mkdir()
    names: dict[str, Any] = {
        word: hashlib.sha256(word.encode()).hexdigest() for word in ("whole", "bad", "gone", "row")
    }
    journal = Journal(path)
    await journal.open()
    await journal.close()
    with closing(sqlite3.connect(path)) as made:
        for word, name in names.items():
            data = b"other" if word == "row" else None
            made.execute("INSERT INTO blobs VALUES (?, 5, ?)", (name, data))
        made.commit()
    (blobs / names["whole"]).write_bytes(b"whole")
    (blobs / names["bad"]).write_bytes(b"other")
    found = repair.check(path, blobs)
    assert sorted(found.damaged) == sorted([names["bad"], names["row"]])
    assert found.missing == [names["gone"]]
    repair.set_aside(blobs, found.damaged)
    assert not (blobs / names["bad"]).exists()
    assert (blobs / names["whole"]).exists()
