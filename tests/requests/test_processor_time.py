from __future__ import annotations

import pytest

from bridge.contract.errors import Busy, QuotaExceeded
from bridge.contract.requests import VERBS
from bridge.contract.topics import RUN, UPLOAD
from bridge.requests.permissions import Granted
from bridge.requests.processor_time import (
    BURST_S,
    COSTS,
    MAX_CLIENTS,
    MAX_WORKS,
    MAX_WORKS_OF_ONE,
    ProcessorTime,
)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_every_verb_has_a_cost() -> None:
    assert {*VERBS, RUN, UPLOAD} == set(COSTS)
    assert all(cost > 0 for cost in COSTS.values())


def test_who_spent_its_share_is_refused_what_costs_much_until_it_is_paid_back(clock: Clock) -> None:
    time = ProcessorTime(lambda _: 0.5, clock)
    time.spend("mallory", 0.5 * BURST_S + 1.0)
    with pytest.raises(QuotaExceeded) as refused:
        time.request("mallory", "list")
    assert refused.value.details["retry_after_s"] == pytest.approx(2.0, abs=0.01)
    assert refused.value.details["limit"] == 0.5
    time.request("mallory", "cancel")
    time.request("alice", "list")
    clock.now += 3.0
    time.request("mallory", "list")


def test_large_payloads_are_spent_by_their_bytes(clock: Clock) -> None:
    time = ProcessorTime(lambda _: 0.25, clock)
    for _ in range(5):
        time.request("camera", "submit", 1_000_000)
    time.request("camera", "submit")
    for _ in range(200):
        time.request("mallory", "upload", 16_000_000)
    with pytest.raises(QuotaExceeded):
        time.request("mallory", "submit")


@pytest.mark.parametrize("rate", [0.1, 100.0, 1_000.0])
def test_requests_within_their_rate_are_never_refused_for_what_they_cost(
    clock: Clock, rate: float
) -> None:
    granted = Granted(requests_per_s=rate)
    time = ProcessorTime(lambda _: granted.processor_share, clock)
    for _ in range(int(60 * rate)):
        time.request("alice", "submit")
        clock.now += 1 / rate


def test_works_are_counted_for_each_client_and_for_all(clock: Clock) -> None:
    time = ProcessorTime(lambda _: 1.0, clock)
    begun = 0
    for client in range(MAX_WORKS):
        for _ in range(MAX_WORKS_OF_ONE):
            if begun < MAX_WORKS:
                time.begin(f"c{client}")
                begun += 1
        with pytest.raises(Busy):
            time.begin(f"c{client}")
    time.end("c0", 0.1)
    time.begin("c1000")


def test_a_flood_of_names_takes_bounded_memory(clock: Clock) -> None:
    time = ProcessorTime(lambda _: 1.0, clock)
    for number in range(MAX_CLIENTS + 100):
        time.request(f"c{number}", "status")
    assert len(time._clients) == MAX_CLIENTS
