"""The results that an ack counts, whatever was published late, by any bridge, or not at all."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from bridge.contract.numbering import Numbered
from bridge.jobs.journal import Journal
from bridge.jobs.queue import Key
from tests.jobs.drafts import draft
from tests.jobs.links import Ledger
from tests.support.postgresql import PostgreSQL

RESULT = Numbered(b"", b"")


async def accept(journal: Journal, *job_ids: str) -> None:
    for job_id in job_ids:
        job = (await journal.accept(draft(job_id), 1.0)).record.job
        await journal.claim(job)


async def finish(journal: Journal, job_id: str) -> int:
    return int(
        await journal.finish(Key("alice", job_id), state="succeeded", result=RESULT, now=2.0)
    )


async def publish(journal: Journal, *job_ids: str) -> None:
    """Let the broker acknowledge results, and wait until that is noted."""
    for job_id in job_ids:
        journal.published(Key("alice", job_id))
    await journal.ack("nobody", 0)  # what was to be noted is noted before
    await journal.get(Key("alice", job_ids[0]))


async def listed(journal: Journal, after: int) -> list[str]:
    """Do as a `list` does with `after`."""
    await journal.resume("alice", after, 50)
    return [each.job.key.job_id for each in await journal.page("alice", after=after, limit=50)]


async def acked(journal: Journal, job_id: str) -> bool:
    return (await journal.get(Key("alice", job_id))).acked


async def test_of_a_bridge_alone_an_ack_counts_what_was_sent_in_its_turn(journal: Journal) -> None:
    await accept(journal, "a", "b")
    await finish(journal, "a")
    n = await finish(journal, "b")
    await publish(journal, "a", "b")
    assert await journal.ack("alice", n) == 2


async def test_what_the_broker_did_not_take_is_not_acked_and_is_in_the_next_list(
    journal: Journal,
) -> None:
    await accept(journal, "a", "b")
    await finish(journal, "a")
    journal.passed_over(Key("alice", "a"))
    n = await finish(journal, "b")
    assert await journal.ack("alice", n) == 1
    assert await listed(journal, n) == ["a"]
    record = await journal.get(Key("alice", "a"))
    assert (record.n > n, record.acked) == (True, False)
    assert await listed(journal, record.n) == []
    assert await acked(journal, "a")


async def test_what_the_broker_takes_at_last_is_acked_by_what_was_sent_after_it_alone(
    journal: Journal,
) -> None:
    await accept(journal, "a", "b")
    await finish(journal, "a")
    journal.passed_over(Key("alice", "a"))
    n = await finish(journal, "b")
    await publish(journal, "b")
    await publish(journal, "a")
    # The client was away meanwhile.
    assert await listed(journal, n) == ["a"]
    assert not await acked(journal, "a")
    await accept(journal, "c")
    assert await journal.ack("alice", await finish(journal, "c")) == 2


async def test_a_result_that_was_given_a_new_number_is_acked_by_its_own_too(
    journal: Journal,
) -> None:
    await accept(journal, "a")
    first = await finish(journal, "a")
    journal.passed_over(Key("alice", "a"))
    await publish(journal, "a")
    assert (await journal.get(Key("alice", "a"))).n > first
    assert await journal.ack("alice", first) == 1


async def test_a_new_number_goes_on_above_after_a_restart(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.db")
    await journal.open()
    await accept(journal, "a", "b")
    await finish(journal, "a")
    journal.passed_over(Key("alice", "a"))
    n = await finish(journal, "b")
    assert await listed(journal, n) == ["a"]
    raised = (await journal.get(Key("alice", "a"))).n
    await journal.close()
    journal = Journal(tmp_path / "journal.db")
    await journal.open()
    await accept(journal, "c")
    assert await finish(journal, "c") > raised
    # What the broker did not take is tried again at the next connection, with its first number.
    found = await journal.unpublished(9.0)
    assert [each.key.job_id for each in found] == ["a", "c"]
    await journal.close()


async def test_an_older_journal_knows_who_was_sent_what(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.db")
    await journal.open()
    journal.member("a" * 32)  # numbers whose drawer was not noted, as before version 5
    await accept(journal, "a")
    n = await finish(journal, "a")
    await publish(journal, "a")
    assert await listed(journal, n + 1) == []
    await journal.close()


# Several bridges.


def test_a_result_is_overtaken_if_another_bridge_drew_a_number_since() -> None:
    ledger = Ledger()
    x, y = "x" * 32, "y" * 32
    a, b, c = (Key("alice", name) for name in "abc")
    ledger.finish(a, ledger.draw("alice", y), 1.0, y)
    ledger.finish(b, ledger.draw("alice", x), 1.0, x)
    assert ledger.note_published(b, x) == []
    assert ledger.note_published(a, y) == [a]
    ledger.renumber([a], y, published=True)
    assert ledger.page("alice", 2) == [(a, 3)]
    # x publishes its next number after a: a was sent.
    ledger.finish(c, ledger.draw("alice", x), 1.0, x)
    assert ledger.note_published(c, x) == []
    ledger.ack("alice", 2, x)
    assert ledger.acked() == {b}
    ledger.ack("alice", 4, x)
    assert ledger.acked() == {a, b, c}


@pytest.fixture
def address(postgresql: PostgreSQL) -> Iterator[str]:
    with postgresql.database() as address:
        yield address


@pytest.fixture
async def group(address: str) -> AsyncIterator[tuple[Journal, Journal]]:
    """Two members: the first one takes the requests."""
    made = []
    for name in ("x", "y"):
        journal = Journal(address)
        await journal.open()
        await journal.join(name, uuid.uuid4().hex, 100.0)
        made.append(journal)
    yield made[0], made[1]
    for journal in made:
        await journal.close()


@pytest.mark.postgresql
async def test_what_a_bridge_with_a_stalled_link_has_is_neither_acked_nor_forgotten_by_lists(
    group: tuple[Journal, Journal],
) -> None:
    x, y = group
    await accept(y, "a", "b")
    await accept(x, "c")
    await finish(y, "a")
    await finish(y, "b")
    n = await finish(x, "c")
    await publish(x, "c")
    # Nobody was sent a and b, and the client asks whichever bridge has the intake.
    assert await listed(x, n) == []
    assert await y.ack("alice", n) == 0
    assert not await acked(x, "a")
    assert not await acked(x, "b")
    # The link stays, while the client is away: it asks for what it missed.
    await publish(y, "a", "b")
    assert await listed(x, n) == ["a", "b"]
    assert not await acked(x, "a")
    # What comes after them acks them.
    await accept(x, "d")
    assert await x.ack("alice", await finish(x, "d")) == 3


@pytest.mark.postgresql
async def test_the_stalled_bridge_may_take_the_requests_itself(
    group: tuple[Journal, Journal],
) -> None:
    x, y = group
    await accept(x, "a")
    await accept(y, "b")
    await finish(x, "a")
    n = await finish(y, "b")
    await publish(y, "b")
    # x receives requests on another connection than the one that it publishes on.
    assert await listed(x, n) == []
    assert not await acked(x, "a")


@pytest.mark.postgresql
async def test_what_was_published_in_its_turn_keeps_its_number(
    group: tuple[Journal, Journal],
) -> None:
    x, _ = group
    await accept(x, "a", "b")
    numbers = [await finish(x, "a"), await finish(x, "b")]
    await publish(x, "a", "b")
    found = [(await x.get(Key("alice", job_id))).n for job_id in ("a", "b")]
    assert found == numbers
    assert await x.ack("alice", numbers[1]) == 2


@pytest.mark.postgresql
async def test_a_dead_bridges_result_that_another_one_published_is_not_acked_by_what_was_before(
    group: tuple[Journal, Journal],
) -> None:
    x, y = group
    await accept(y, "a")
    await accept(x, "b")
    await finish(y, "a")
    n = await finish(x, "b")
    await publish(x, "b")
    await y.leave()
    assert [each.key.job_id for each in await x.unpublished(9.0, orphans=True)] == ["a"]
    await publish(x, "a")
    assert await listed(x, n) == ["a"]
    assert not await acked(x, "a")
