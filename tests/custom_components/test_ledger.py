"""The results that Home Assistant has taken, and those that it acknowledges."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

ledger: Any = importlib.import_module("comfy2mqtt_protocol.ledger")


def acknowledge_all(kept: Any) -> None:
    for number in kept.to_acknowledge():
        kept.acknowledged(number)


def test_a_result_is_taken_once() -> None:
    kept = ledger.Ledger(after=4, last="j4", taken={"j4": 4})
    assert not kept.take(4, "j4", 4)
    assert kept.take(6, "j6", 6)
    assert not kept.take(6, "j6", 6)


def test_a_result_that_came_late_is_taken_under_whatever_number_it_comes() -> None:
    kept = ledger.Ledger(after=6, last="j6", taken={"j6": 6})
    # Published below what is acknowledged, and then listed above.
    assert kept.take(5, "late", 5)
    assert not kept.take(9, "late", 5)
    # Or listed first.
    assert kept.take(10, "later", 4)
    assert not kept.take(4, "later", 4)
    assert kept.taken == {"j6": 6, "late": 5, "later": 4}


def test_what_was_listed_under_another_number_is_acknowledged_by_that_one_too() -> None:
    kept = ledger.Ledger()
    kept.take(7, "j7", 3)
    kept.take(8, "j8", 4)
    kept.take(9, "j9", 9)
    assert kept.to_acknowledge() == [7, 8, 9]
    kept.acknowledged(7)
    # The answer to the second one was lost.
    assert kept.to_acknowledge() == [8, 9]
    acknowledge_all(kept)
    assert (kept.after, kept.last, kept.to_acknowledge()) == (9, "j9", [])


def test_what_comes_while_an_acknowledgement_is_on_its_way_is_still_to_be_acknowledged() -> None:
    kept = ledger.Ledger()
    kept.take(9, "j9", 9)
    kept.take(7, "j7", 7)
    assert kept.to_acknowledge() == [9]
    kept.take(12, "j12", 12)
    kept.acknowledged(9)
    assert (kept.after, kept.last, kept.to_acknowledge()) == (9, "j9", [12])
    kept.acknowledged(12)
    # An answer that comes twice changes nothing.
    kept.acknowledged(9)
    assert (kept.after, kept.last, kept.to_acknowledge()) == (12, "j12", [])


def test_it_is_settled_once_a_list_had_nothing_until_it_is_interrupted() -> None:
    kept = ledger.Ledger()
    assert not kept.is_settled
    kept.settled()
    assert kept.is_settled
    kept.interrupted()
    assert not kept.is_settled


def test_what_is_not_settled_is_remembered_however_much_it_is() -> None:
    kept = ledger.Ledger()
    many = range(1, ledger.REMEMBERED + 101)
    # The broker did not take the first one: it comes again after all others are acknowledged.
    assert all(kept.take(n, f"j{n}", n) for n in many)
    acknowledge_all(kept)
    assert not kept.take(9000, "j1", 1)
    assert kept.to_acknowledge() == [9000]
    acknowledge_all(kept)
    kept.settled()
    assert len(kept.taken) == ledger.REMEMBERED
    # What comes again stays for longer than what came once.
    assert "j1" in kept.taken
    assert "j2" not in kept.taken
    # From then on those are remembered that came last.
    kept.take(9001, "j9001", 9001)
    acknowledge_all(kept)
    assert len(kept.taken) == ledger.REMEMBERED
    assert "j9001" in kept.taken


def test_an_id_that_is_used_again_gives_another_result() -> None:
    kept = ledger.Ledger(after=4, last="daily", taken={"daily": 4, "of an older version": None})
    assert kept.take(900, "daily", 900)
    assert not kept.take(900, "daily", 900)
    # Where a number is not known it may be the same one.
    assert not kept.take(901, "daily", None)
    assert not kept.take(902, "of an older version", 5)
    assert kept.take(903, "of an older version", 903)


def test_a_journal_from_a_backup_gives_no_result_twice() -> None:
    before = ledger.Ledger()
    assert before.take(5, "j5", 5)
    after = ledger.Ledger(taken=before.taken)
    assert not after.take(5, "j5", 5)
    # In a new journal the same id is another job's.
    assert after.take(2, "j5", 2)


class Journal:
    """A bridge's results of one client: `n` of each, its own number, and what became of it.

    Every third one fits no packet, and is listed without its result.
    """

    def __init__(self) -> None:
        self.last = 0
        self.rows: dict[str, dict[str, Any]] = {}

    def end(self, *, taken: bool) -> str:
        self.last += 1
        job_id = f"j{self.last}"
        self.rows[job_id] = {"n": self.last, "own": self.last, "taken": taken, "acked": False}
        return job_id

    def ack(self, up_to: int) -> None:
        for row in self.rows.values():
            row["acked"] |= row["n"] == up_to or (row["taken"] and row["n"] < up_to)

    def list(self, after: int) -> list[tuple[int, str, int | None]]:
        self.ack(after)
        for row in self.rows.values():
            if row["n"] <= after and not row["acked"]:
                self.last += 1
                row["n"] = self.last
        found = [
            (row["n"], job_id, row["own"] if row["own"] % 3 else None)
            for job_id, row in self.rows.items()
        ]
        return sorted(each for each in found if each[0] > after)


class World:
    """A bridge, and a Home Assistant that remembers two results."""

    def __init__(self) -> None:
        self.journal, self.kept = Journal(), ledger.Ledger()
        self.new: list[str] = []

    def take(self, n: int, job_id: str, own: int | None) -> None:
        if self.kept.take(n, job_id, own):
            self.new.append(job_id)

    def acknowledge(self) -> None:
        for number in self.kept.to_acknowledge():
            self.journal.ack(number)
            self.kept.acknowledged(number)

    # What may happen.

    def came(self) -> None:
        job_id = self.journal.end(taken=True)
        self.take(self.journal.last, job_id, self.journal.last)
        if self.kept.is_settled:
            self.acknowledge()

    def not_taken(self) -> None:
        self.journal.end(taken=False)

    def missed(self) -> None:
        self.journal.end(taken=True)
        self.kept.interrupted()

    def interrupted(self) -> None:
        self.kept.interrupted()
        while listed := self.journal.list(self.kept.after):
            for each in listed:
                self.take(*each)
            self.acknowledge()
        self.kept.settled()


@given(st.lists(st.sampled_from(["came", "not_taken", "missed", "interrupted"]), max_size=40))
def test_each_result_is_new_once_and_acknowledged_in_the_end(steps: list[str]) -> None:
    world = World()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ledger, "REMEMBERED", 2)
        for step in ("interrupted", *steps, "interrupted"):
            getattr(world, step)()
    assert sorted(world.new) == sorted(world.journal.rows)
    assert all(row["acked"] for row in world.journal.rows.values())
