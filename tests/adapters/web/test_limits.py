from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bridge.adapters.web.limits import (
    FREE_FAILURES,
    LONGEST_WAIT_S,
    OF_A_KEY,
    OF_A_NETWORK,
    OF_ALL,
    ConnectionPlaces,
    Failures,
    UnfinishedBudgets,
    heaviest_above,
    network_of,
)


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


def test_an_ipv6_address_counts_as_its_64_and_a_mapped_one_as_its_ipv4_address() -> None:
    assert network_of("2001:db8::1") == network_of("2001:db8::ffff:2") == "2001:db8::/64"
    assert network_of("::ffff:192.0.2.1") == network_of("192.0.2.1") == "192.0.2.1"
    assert network_of("::ffff:192.0.2.1") != network_of("::ffff:192.0.2.2")
    assert network_of("unknown") == "unknown"


def test_a_network_over_its_places_gives_up_its_own_oldest() -> None:
    places: ConnectionPlaces[int] = ConnectionPlaces(10, 3)
    assert [places.enter(each, "a") for each in range(5)] == [None, None, None, 0, 1]
    assert places.full("a")
    assert not places.full("b")
    assert places.enter(9, "b") is None
    assert sorted(places) == [2, 3, 4, 9]


def test_when_all_places_are_taken_the_network_with_most_gives_one_up() -> None:
    places: ConnectionPlaces[str] = ConnectionPlaces(6, 4)
    for number in range(4):
        places.enter(f"a{number}", "a")
    places.enter("b0", "b")
    places.enter("b1", "b")
    assert places.enter("c0", "c") == "a0"
    assert places.enter("d0", "d") == "a1"
    assert len(places) == 6


def test_behind_a_proxy_there_may_be_as_many_as_there_are_places() -> None:
    places: ConnectionPlaces[int] = ConnectionPlaces(6, 2)
    assert [places.enter(each, "proxy", shared=True) for each in range(6)] == [None] * 6
    assert places.enter(6, "proxy", shared=True) == 0
    assert places.enter(7, "other") == 1


@given(
    moves=st.lists(
        st.tuples(st.booleans(), st.integers(0, 30), st.sampled_from("abc")), max_size=200
    )
)
def test_places_are_never_more_than_there_are(moves: list[tuple[bool, int, str]]) -> None:
    places: ConnectionPlaces[tuple[int, str]] = ConnectionPlaces(8, 4)
    there: set[tuple[int, str]] = set()
    for enters, number, network in moves:
        who = (number, network)
        if enters and who not in there:
            there.add(who)
            victim = places.enter(who, network)
            if victim is not None:
                there.remove(victim)
        elif not enters:
            places.leave(who, network)
            there.discard(who)
        assert set(places) == there
        assert len(places) <= 8
        assert all(sum(each[1] == name for each in there) <= 4 for name in "abc")


def test_unfinished_messages_count_for_a_key_a_network_and_all_and_nothing_is_kept() -> None:
    budgets = UnfinishedBudgets(1_000)
    key, network, everybody = budgets.enter("k1", "192.0.2.1")
    assert (key.limit, network.limit, everybody.limit) == (
        OF_A_KEY * 1_000,
        OF_A_NETWORK * 1_000,
        OF_ALL * 1_000,
    )
    other_key, same_network, _ = budgets.enter("k2", "192.0.2.1")
    assert other_key is not key
    assert same_network is network
    budgets.leave("k1", "192.0.2.1")
    assert budgets.enter("k2", "192.0.2.1")[0] is other_key
    for _ in range(2):
        budgets.leave("k2", "192.0.2.1")
    assert len(budgets) == 0
    for number in range(1_000):
        budgets.enter(f"k{number}", f"n{number}")
        budgets.leave(f"k{number}", f"n{number}")
    assert len(budgets) == 0


def test_of_a_keys_readers_those_with_most_waiting_leave_until_the_rest_fits() -> None:
    waiting = [("a", "k1", 50), ("b", "k1", 90), ("c", "k1", 70), ("d", "k2", 100), ("e", "k3", 0)]
    assert heaviest_above(waiting, 120) == ["b"]
    assert heaviest_above(waiting, 119) == ["b", "c"]
    assert heaviest_above(waiting, 1_000) == []
    assert heaviest_above(waiting, 0) == ["b", "c", "a", "d"]
