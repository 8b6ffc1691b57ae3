"""The progress of a set, and the number of its jobs that may wait."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.contract.messages import State
from bridge.contract.sets import Counts
from bridge.jobs.sets import progress
from bridge.jobs.sets.progress import Pace


def test_a_comfyui_never_idles_and_a_slow_set_keeps_few_in_the_queue() -> None:
    assert progress.window(1, 0.0) == 4
    assert progress.window(3, 0.1) == 8
    assert progress.window(0, 0.0) == 2


def test_jobs_that_are_over_in_no_time_are_made_further_ahead_within_a_bound() -> None:
    assert progress.window(1, 40.0) == 20
    assert progress.window(1, 10_000.0) == progress.MOST


def test_quick_jobs_are_made_many_at_once_and_slow_ones_as_there_is_room() -> None:
    assert [progress.room(1, 0.0, taken) for taken in (0, 3, 4)] == [4, 1, 0]
    assert [progress.room(1, 80.0, taken) for taken in (0, 20, 21, 40)] == [40, 20, 0, 0]


def test_the_pace_is_that_of_the_last_second() -> None:
    pace = Pace()
    for now in (0.0, 0.5, 0.9, 1.2):
        pace.ended(now)
    assert pace.per_s(1.3) == 3.0
    assert pace.per_s(5.0) == 0.0


def test_places_are_dealt_out_in_turn() -> None:
    assert progress.share(5, {"a": 1000, "b": 1000, "c": 1}) == {"a": 2, "b": 2, "c": 1}
    assert progress.share(2, {"a": 9, "b": 9, "c": 9}) == {"a": 1, "b": 1}
    assert progress.share(9, {"a": 2}) == {"a": 2}
    assert progress.share(0, {"a": 2}) == {}
    assert progress.share(-3, {"a": 2}) == {}


@given(st.integers(-2, 100), st.dictionaries(st.integers(), st.integers(0, 50), max_size=8))
def test_no_more_places_are_dealt_out_than_there_are_and_none_is_left_over(
    free: int, wanted: dict[int, int]
) -> None:
    given = progress.share(free, wanted)
    assert sum(given.values()) == min(max(free, 0), sum(wanted.values()))
    assert all(0 < number <= wanted[name] for name, number in given.items())
    for name, number in given.items():
        # Nobody has two more than another who wanted them.
        assert all(
            number - given.get(other, 0) <= 1 or given.get(other, 0) == wanted[other]
            for other in wanted
        ), name


def test_jobs_that_were_not_made_are_queued_or_cancelled_with_their_set() -> None:
    states: dict[State, int] = {"running": 1, "succeeded": 2}
    assert progress.tally(states, 10) == Counts(running=1, succeeded=2, queued=7)
    assert progress.tally(states, 10, cancelled=True) == Counts(running=1, succeeded=2, cancelled=7)
    assert progress.unended(Counts(waiting=1, queued=2, running=3, failed=4)) == 6


@pytest.mark.parametrize(
    ("counts", "cancelled", "outcome"),
    [
        (Counts(succeeded=3), False, "succeeded"),
        (Counts(succeeded=3), True, "succeeded"),
        (Counts(succeeded=2, cancelled=1), True, "cancelled"),
        (Counts(succeeded=1, failed=1, expired=1), False, "failed"),
        (Counts(succeeded=2, expired=1), False, "expired"),
        (Counts(succeeded=2, cancelled=1), False, "cancelled"),
    ],
)
def test_a_set_has_one_outcome(counts: Counts, outcome: str, *, cancelled: bool) -> None:
    assert progress.outcome(counts, 3, cancelled=cancelled) == outcome
