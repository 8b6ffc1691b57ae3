from __future__ import annotations

import pytest

from bridge.contract.errors import QuotaExceeded
from bridge.requests.rate_limit import BURST_S, MAX_CLIENTS, RateLimiter, RequestDropped


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_burst_is_taken_then_the_rate_holds(clock: Clock) -> None:
    rates = RateLimiter(lambda _: 2.0, clock)
    for _ in range(int(2 * BURST_S)):
        rates.count("alice")
    with pytest.raises(QuotaExceeded) as caught:
        rates.count("alice")
    assert caught.value.details == {
        "limit": 2.0,
        "setting": "clients.alice.requests_per_s",
        "retry_after_s": 0.5,
    }
    clock.now += 0.5
    rates.count("alice")
    with pytest.raises(QuotaExceeded):
        rates.count("alice")


def test_one_clients_flood_is_not_anothers(clock: Clock) -> None:
    rates = RateLimiter(lambda client: 0.1 if client == "flood" else 1.0, clock)
    rates.count("flood")
    with pytest.raises(QuotaExceeded):
        rates.count("flood")
    rates.count("alice")


def test_a_refused_request_costs_nothing(clock: Clock) -> None:
    rates = RateLimiter(lambda _: 1.0, clock)
    for _ in range(int(BURST_S)):
        rates.count("alice")
    for _ in range(100):
        with pytest.raises(QuotaExceeded):
            rates.count("alice")
    clock.now += 1.0
    rates.count("alice")


def test_refusals_are_reported_at_the_same_rate_and_then_a_flood_is_passed_over(
    clock: Clock,
) -> None:
    rates = RateLimiter(lambda _: 1.0, clock)
    told = []
    for _ in range(4 * int(BURST_S)):
        try:
            rates.count("alice")
        except QuotaExceeded as error:
            told.append(type(error))
    assert told == [QuotaExceeded] * int(BURST_S) + [RequestDropped] * (2 * int(BURST_S))
    assert rates.would_drop("alice")
    assert not rates.would_drop("bob")
    clock.now += 1.0
    assert not rates.would_drop("alice")
    rates.count("alice")
    with pytest.raises(QuotaExceeded) as caught:
        rates.count("alice")
    assert caught.type is QuotaExceeded


def test_a_flood_of_names_takes_bounded_memory(clock: Clock) -> None:
    rates = RateLimiter(lambda _: 1.0, clock, new_per_s=1e9)
    for number in range(MAX_CLIENTS + 100):
        rates.count(f"c{number}")
    assert len(rates._asked_once) == MAX_CLIENTS
    for number in range(100, MAX_CLIENTS + 200):
        rates.count(f"c{number}")
    assert len(rates._known) <= MAX_CLIENTS


def test_clients_that_are_new_share_a_rate_and_those_that_are_known_do_not(clock: Clock) -> None:
    rates = RateLimiter(lambda _: 5.0, clock, new_per_s=10.0, listed=lambda name: name == "listed")
    rates.know(["of the journal"])
    rates.count("alice")
    for number in range(9):
        rates.count(f"c{number}")
    with pytest.raises(QuotaExceeded) as caught:
        rates.count("c9")
    assert caught.value.details == {
        "limit": 10.0,
        "setting": "new_clients_per_s",
        "retry_after_s": 1.0,
    }
    assert not rates.knows("c9")
    for name in ("alice", "c0", "of the journal", "listed"):
        assert rates.knows(name)
        assert not rates.would_drop(name)
        rates.count(name)
    clock.now += 0.25
    rates.count("c9")


def test_of_new_clients_above_the_rate_few_are_refused_and_the_others_passed_over(
    clock: Clock,
) -> None:
    rates = RateLimiter(lambda _: 5.0, clock, new_per_s=10.0)
    told = []
    for number in range(1000):
        if not rates.would_drop(f"c{number}"):
            try:
                rates.count(f"c{number}")
            except QuotaExceeded as error:
                told.append(type(error))
    assert set(told) == {QuotaExceeded}
    assert len(told) == 20


def test_a_flood_of_names_does_not_displace_a_client_that_asked_twice(clock: Clock) -> None:
    rates = RateLimiter(lambda _: 1.0, clock)
    rates.count("alice")
    rates.count("alice")
    for number in range(3 * MAX_CLIENTS):
        clock.now += 0.005
        rates.count(f"c{number}")
    assert rates.knows("alice")
    assert not rates.knows("c0")
