from __future__ import annotations

import pytest

from bridge.contract.errors import QuotaExceeded
from bridge.requests.rate_limit import BURST_S, MAX_CLIENTS, Flood, RateLimiter


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


def test_refusals_are_told_at_the_same_rate_and_then_a_flood_is_passed_over(clock: Clock) -> None:
    rates = RateLimiter(lambda _: 1.0, clock)
    told = []
    for _ in range(4 * int(BURST_S)):
        try:
            rates.count("alice")
        except QuotaExceeded as error:
            told.append(type(error))
    assert told == [QuotaExceeded] * int(BURST_S) + [Flood] * (2 * int(BURST_S))
    assert rates.floods("alice")
    assert not rates.floods("bob")
    clock.now += 1.0
    assert not rates.floods("alice")
    rates.count("alice")
    with pytest.raises(QuotaExceeded) as caught:
        rates.count("alice")
    assert caught.type is QuotaExceeded


def test_a_flood_of_names_takes_bounded_memory(clock: Clock) -> None:
    rates = RateLimiter(lambda _: 1.0, clock)
    for number in range(MAX_CLIENTS + 100):
        rates.count(f"c{number}")
    assert len(rates._clients) == MAX_CLIENTS
