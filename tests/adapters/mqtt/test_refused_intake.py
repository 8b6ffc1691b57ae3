"""A bridge that cannot connect gives a group's requests up."""

from __future__ import annotations

from bridge.adapters.mqtt.refused_intake import FIRST_LEASES, MOST_LEASES, RefusedIntake

LEASE_S = 10.0
FIRST_S = FIRST_LEASES * LEASE_S


def gives_up_after(refused: RefusedIntake, now: float) -> float:
    """Return how long it takes until it gives up, if it tries every second from now on."""
    seconds = 0.0
    while True:
        refused.tries(now + seconds)
        seconds += 1
        if refused.gives_up(now + seconds, has_intake=True, others=True):
            return seconds


def test_it_tries_for_some_leases_and_twice_as_long_each_further_time() -> None:
    refused = RefusedIntake(LEASE_S)
    took = [gives_up_after(refused, 1000.0 * number) for number in range(7)]
    most_s = MOST_LEASES * LEASE_S
    assert took == [FIRST_S, 2 * FIRST_S, 4 * FIRST_S, 8 * FIRST_S, 16 * FIRST_S, most_s, most_s]


def test_a_connection_begins_it_again() -> None:
    refused = RefusedIntake(LEASE_S)
    gives_up_after(refused, 0.0)
    refused.tries(100.0)
    refused.accepted()
    # A day later that connection ends.
    assert gives_up_after(refused, 86_400.0) == FIRST_S


def test_who_is_alone_gives_nothing_up() -> None:
    refused = RefusedIntake(LEASE_S)
    refused.tries(0.0)
    assert not refused.gives_up(10 * FIRST_S, has_intake=True, others=False)
    assert refused.gives_up(10 * FIRST_S, has_intake=True, others=True)


def test_who_lost_the_intake_meanwhile_begins_again() -> None:
    refused = RefusedIntake(LEASE_S)
    refused.tries(0.0)
    assert not refused.gives_up(10 * FIRST_S, has_intake=False, others=True)
    assert gives_up_after(refused, 86_400.0) == FIRST_S
