from __future__ import annotations

from bridge.adapters.web.limits import FREE_FAILURES, LONGEST_WAIT_S, Failures


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
