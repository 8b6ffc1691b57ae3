"""Numbers: none is used twice and all leave in order, whatever happens to disk and process."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bridge.contract.numbering import Numbered
from bridge.jobs.database import DatabaseError
from bridge.jobs.journal import Journal
from bridge.jobs.journal.sequence import NUMBER_BLOCK, ClientNumbers
from tests.jobs.drafts import draft


@contextmanager
def full_disk(journal: Journal) -> Iterator[None]:
    """Let every transaction fail, as on a full disk."""
    engine: Any = journal._database._engine

    def full(_works: object) -> Any:
        raise DatabaseError("database or disk is full")

    engine.run = full
    try:
        yield
    finally:
        del engine.run


def wait(gate: threading.Event, _db: object) -> None:
    """Hold the database's thread up."""
    gate.wait()


async def kill(journal: Journal) -> None:
    """End without another write."""
    journal._published.clear()
    await journal.close()


def test_a_number_carries_a_reservation_until_one_is_known_to_be_on_disk() -> None:
    numbers = ClientNumbers()
    first, second = numbers.draw("alice"), numbers.draw("alice")
    assert (first.n, first.reserve) == (1, 1 + NUMBER_BLOCK)
    assert (second.n, second.reserve) == (2, 2 + NUMBER_BLOCK)  # the first one's may yet fail
    numbers.written(first)
    for n in range(3, NUMBER_BLOCK + 2):
        assert numbers.draw("alice").reserve is None, n
    assert numbers.draw("alice").reserve is not None


def test_after_a_restart_numbers_go_on_above_what_was_reserved() -> None:
    numbers = ClientNumbers([("alice", 1000), ("bob", 7), ("", 500)])
    assert numbers.draw("alice").n == 1001
    assert numbers.draw("bob").n == 501
    assert numbers.draw("carol").n == 501


async def test_a_status_whose_reservation_fails_is_not_published(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.db")
    await journal.open()
    job = (await journal.accept(draft("j1"), 1.0)).record.job
    published = [await journal.status_number(job) for _ in range(NUMBER_BLOCK)]
    with full_disk(journal):
        while True:
            try:
                published.append(await journal.status_number(job))
            except DatabaseError:
                break
        assert len(published) <= 2 * NUMBER_BLOCK
    await kill(journal)
    again = Journal(tmp_path / "journal.db")
    await again.open()
    record = (await again.accept(draft("j2"), 2.0)).record
    await again.close()
    assert record.n > max(published)


async def test_a_start_whose_reservation_fails_is_not_published(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.db")
    await journal.open()
    job = (await journal.accept(draft("j1"), 1.0)).record.job
    for _ in range(NUMBER_BLOCK):
        await journal.status_number(job)
    job.state = "running"
    with full_disk(journal), pytest.raises(DatabaseError):
        await journal.started(job)
    assert await journal.started(job) > NUMBER_BLOCK
    await journal.close()


async def test_a_row_never_has_a_number_above_what_is_reserved(tmp_path: Path) -> None:
    """If the write that was to reserve more fails, the next one reserves for itself."""
    journal = Journal(tmp_path / "journal.db")
    await journal.open()
    job = (await journal.accept(draft("j1"), 1.0)).record.job
    for _ in range(NUMBER_BLOCK):
        await journal.status_number(job)
    with full_disk(journal), pytest.raises(DatabaseError):
        await journal.accept(draft("j2"), 1.0)
    # The same id again: no number is used, so that nothing is reserved either.
    assert not (await journal.accept(draft("j1"), 1.0)).new
    seen = (await journal.accept(draft("j3"), 1.0)).record.n
    await kill(journal)
    again = Journal(tmp_path / "journal.db")
    await again.open()
    assert (await again.accept(draft("j4"), 1.0)).record.n > seen
    await again.close()


async def test_numbers_leave_in_their_order_whatever_they_are_for(tmp_path: Path) -> None:
    """Written and unwritten ones, while the database is busy and while it is not."""
    journal = Journal(tmp_path / "journal.db")
    await journal.open()
    job = (await journal.accept(draft("j0"), 1.0)).record.job
    left: list[int] = []

    async def accept(index: int) -> None:
        left.append((await journal.accept(draft(f"j{index}"), 1.0)).record.n)

    async def publish() -> None:
        left.append(await journal.status_number(job))

    async def finish(index: int) -> None:
        key = draft(f"j{index}").key
        result = await journal.finish(key, state="failed", result=Numbered(b"", b""), now=1.0)
        left.append(int(result))

    def called(done: asyncio.Future[int]) -> None:
        left.append(done.result())
        journal.status_number(job).add_done_callback(lambda done: left.append(done.result()))

    for busy in (False, True):
        gate = threading.Event()
        if not busy:
            gate.set()
        held = journal._database.run(partial(wait, gate))
        await asyncio.sleep(0)
        first = 1 + 100 * busy
        works = []
        for index in range(first, first + 50):
            works += [asyncio.ensure_future(each) for each in (publish(), accept(index), publish())]
            await asyncio.sleep(0)  # each draws its number in its turn
            journal.status_number(job).add_done_callback(called)
            works.append(asyncio.ensure_future(finish(index)))
        gate.set()
        await asyncio.gather(held, *works)
    await journal.status_number(job)
    assert left == sorted(set(left))
    assert len(left) == 2 * 50 * 6
    await journal.close()
