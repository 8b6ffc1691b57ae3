"""The results that Home Assistant has taken, and those that it acknowledges."""

from __future__ import annotations

import importlib
from typing import Any

ledger: Any = importlib.import_module("comfy2mqtt_protocol.ledger")


def test_a_result_is_taken_once() -> None:
    kept = ledger.Ledger(after=4, last="j4", taken=["j4"])
    assert not kept.take(4, "j4")
    assert kept.take(6, "j6")
    assert not kept.take(6, "j6")


def test_a_result_that_came_late_is_taken_under_whatever_number_it_comes() -> None:
    kept = ledger.Ledger(after=6, last="j6", taken=["j6"])
    # Published below what is acknowledged, and then listed above.
    assert kept.take(5, "late")
    assert not kept.take(9, "late", renumbered=True)
    # Or listed first.
    assert kept.take(10, "later", renumbered=True)
    assert not kept.take(4, "later")
    assert kept.taken == ["j6", "late", "later"]


def test_what_was_listed_under_another_number_is_acknowledged_by_that_one_too() -> None:
    kept = ledger.Ledger()
    kept.take(7, "j7", renumbered=True)
    kept.take(8, "j8", renumbered=True)
    kept.take(9, "j9")
    assert kept.to_acknowledge() == []
    kept.listed()
    assert kept.to_acknowledge() == [7, 8, 9]
    kept.acknowledged(7)
    # The answer to the second one was lost.
    assert kept.to_acknowledge() == [8, 9]
    for number in (8, 9):
        kept.acknowledged(number)
    assert (kept.after, kept.last, kept.to_acknowledge()) == (9, "j9", [])


def test_nothing_is_acknowledged_before_what_was_missed_is_listed() -> None:
    kept = ledger.Ledger()
    assert not kept.is_whole
    kept.take(9, "j9")
    assert kept.to_acknowledge() == []
    kept.take(7, "j7")
    kept.listed()
    assert kept.to_acknowledge() == [9]
    kept.acknowledged(9)
    assert (kept.after, kept.last, kept.to_acknowledge()) == (9, "j9", [])
    kept.interrupted()
    kept.take(12, "j12")
    assert kept.to_acknowledge() == []
    # One that came while the acknowledgement was on its way is still to be acknowledged.
    kept.listed()
    kept.take(14, "j14")
    kept.acknowledged(12)
    assert kept.to_acknowledge() == [14]
    # Of two acknowledgements the answers may come in any order.
    kept.acknowledged(14)
    kept.acknowledged(12)
    assert (kept.after, kept.last) == (14, "j14")


def test_a_bounded_number_of_jobs_is_remembered_and_what_is_not_acknowledged_is_known_beside() -> (
    None
):
    kept = ledger.Ledger()
    many = range(1, ledger.REMEMBERED + 101)
    assert all(kept.take(n, f"j{n}") for n in many)
    assert len(kept.taken) == ledger.REMEMBERED
    # They are listed once more before they are acknowledged.
    assert not any(kept.take(n, f"j{n}") for n in many)
    # What comes again stays for longer than what came once.
    kept.take(3, "j3")
    kept.take(9000, "j9000")
    assert kept.taken[-2:] == ["j3", "j9000"]
