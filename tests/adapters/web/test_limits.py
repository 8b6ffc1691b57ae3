from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bridge.adapters.web.limits import FREE_FAILURES, LONGEST_WAIT_S, Failures, Pace


@given(gaps=st.lists(st.floats(0, 2), min_size=1, max_size=100), rate=st.floats(0.5, 100))
def test_over_time_no_more_is_read_than_the_rate(gaps: list[float], rate: float) -> None:
    now = 0.0
    pace = Pace.of(rate, now)
    for gap in gaps:
        now += gap
        now += pace.take(now)  # left unread for so long
    assert len(gaps) <= max(1.0, rate * 4) + rate * now + 1


def test_who_keeps_to_the_rate_never_waits() -> None:
    pace = Pace.of(10.0, 0.0)
    assert [pace.take(each / 10) for each in range(1000)] == [0.0] * 1000


def test_a_few_wrong_keys_cost_nothing_and_each_further_one_twice_as_much() -> None:
    failures = Failures()
    waits = []
    for _ in range(20):
        failures.note("192.0.2.1", 0.0)
        waits.append(failures.wait_s("192.0.2.1", 0.0))
    free = FREE_FAILURES - 1
    assert waits[: free + 4] == [0.0] * free + [1.0, 2.0, 4.0, 8.0]
    assert waits[-1] == LONGEST_WAIT_S
    assert failures.wait_s("192.0.2.2", 0.0) == 0.0
    assert failures.wait_s("192.0.2.1", LONGEST_WAIT_S) == 0.0


def test_wrong_keys_are_forgotten() -> None:
    failures = Failures()
    for _ in range(FREE_FAILURES):
        failures.note("192.0.2.1", 0.0)
    failures.note("192.0.2.1", 10_000.0)
    assert failures.wait_s("192.0.2.1", 10_000.0) == 0.0


def test_an_ipv6_network_is_one_party() -> None:
    failures = Failures()
    for each in range(FREE_FAILURES):
        failures.note(f"2001:db8::{each}", 0.0)
    assert failures.wait_s("2001:db8::ffff", 0.0) > 0
    assert failures.wait_s("2001:db8:0:1::1", 0.0) == 0.0


def test_a_flood_of_addresses_is_not_remembered_for_ever() -> None:
    failures = Failures()
    for each in range(20_000):
        failures.note(f"host-{each}", 0.0)
    assert len(failures._failed) == 10_000
