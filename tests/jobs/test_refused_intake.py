"""A bridge that has no connection releases a group's requests."""

from __future__ import annotations

from bridge.adapters.mqtt.subscriber import WILL_DELAY_LEASES
from bridge.jobs.group import BEATS
from bridge.jobs.refused_intake import FIRST_LEASES, MOST_LEASES, RefusedIntake

LEASE_S = 10.0
FIRST_S = FIRST_LEASES * LEASE_S
BEAT_S = LEASE_S / BEATS


def gives_up_after(refused: RefusedIntake, now: float) -> float:
    """Return how long it takes until it gives up, if its heart beats from now on."""
    seconds = 0.0
    while not refused.gives_up(now + seconds, has_intake=True, others=True):
        seconds += BEAT_S
    return seconds


def test_it_tries_for_some_leases_and_twice_as_long_each_further_time() -> None:
    refused = RefusedIntake(LEASE_S)
    took = [gives_up_after(refused, 1000.0 * number) for number in range(7)]
    most_s = MOST_LEASES * LEASE_S
    assert took == [FIRST_S, 2 * FIRST_S, 4 * FIRST_S, 8 * FIRST_S, 16 * FIRST_S, most_s, most_s]


def test_it_gives_up_before_the_will_says_that_nobody_takes_requests() -> None:
    assert BEAT_S + gives_up_after(RefusedIntake(LEASE_S), 0.0) < WILL_DELAY_LEASES * LEASE_S


def test_a_connection_begins_it_again() -> None:
    refused = RefusedIntake(LEASE_S)
    gives_up_after(refused, 0.0)
    refused.receives = True
    assert not refused.gives_up(10 * FIRST_S, has_intake=True, others=True)
    # A day later that connection ends.
    refused.receives = False
    assert gives_up_after(refused, 86_400.0) == FIRST_S


def test_who_is_alone_gives_nothing_up() -> None:
    refused = RefusedIntake(LEASE_S)
    assert not refused.gives_up(0.0, has_intake=True, others=False)
    assert not refused.gives_up(10 * FIRST_S, has_intake=True, others=False)
    assert gives_up_after(refused, 10 * FIRST_S) == FIRST_S


def test_who_lost_the_intake_meanwhile_begins_again() -> None:
    refused = RefusedIntake(LEASE_S)
    assert not refused.gives_up(0.0, has_intake=True, others=True)
    assert not refused.gives_up(10 * FIRST_S, has_intake=False, others=True)
    assert gives_up_after(refused, 86_400.0) == FIRST_S
