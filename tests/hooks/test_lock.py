"""The holder of a GPU: requests, priorities, time."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.contract.errors import BadRequest, Busy
from bridge.contract.operator import RequestGpu
from bridge.hooks.lock import BRIDGE, MAX_WAITING, TURN_S, Lock, SavedLock


class Rig(Lock):
    """A lock with a clock."""

    def __init__(self, kept: SavedLock | None = None) -> None:
        super().__init__(kept)
        self.now = 1000.0

    def ask(self, holder: str, **fields: Any) -> bool:
        return self.request(RequestGpu(holder=holder, **fields), self.now)

    def bridge(self, *, wants: bool = True) -> None:
        self.want(wanted=wants, now=self.now)

    def later(self, seconds: float) -> None:
        self.now += seconds
        self.advance(self.now)

    def holder(self) -> str | None:
        return None if self.lease is None else self.lease.holder

    def leaves_to(self) -> str | None:
        claim = self.claim(self.now)
        return None if claim is None else claim.holder


def test_what_is_free_is_given_at_once_and_ends_with_its_time() -> None:
    lock = Rig()
    assert lock.ask("games", for_s=600.0)
    assert (lock.holder(), lock.lent, lock.wakes_at(lock.now) - lock.now) == ("games", True, 600.0)
    lock.later(599.0)
    assert lock.holder() == "games"
    lock.later(1.0)
    assert lock.holder() is None


def test_who_asks_again_has_it_for_longer() -> None:
    lock = Rig()
    lock.ask("games", for_s=600.0)
    lock.later(500.0)
    assert lock.ask("games", for_s=600.0)
    lock.later(599.0)
    assert lock.holder() == "games"
    lock.later(1.0)
    assert lock.holder() is None


def test_the_bridge_waits_until_a_lease_is_over_whatever_comes() -> None:
    lock = Rig()
    lock.ask("games", priority=-100, for_s=600.0)
    lock.bridge()
    assert not lock.ours
    assert not lock.ask("films", priority=100)
    assert (lock.holder(), lock.leaves_to()) == ("games", None)
    assert lock.release("games", lock.now)
    assert lock.holder() == "films"
    assert lock.release("films", lock.now)
    assert lock.holder() == BRIDGE


def test_a_higher_priority_has_the_bridge_leave_at_once() -> None:
    lock = Rig()
    lock.bridge()
    assert not lock.ask("games", priority=1)
    assert lock.leaves_to() == "games"
    assert lock.ours  # until what runs has ended
    lock.vacated(lock.now)
    assert lock.holder() == "games"
    lock.release("games", lock.now)
    assert (lock.holder(), lock.leaves_to()) == (BRIDGE, None)


def test_the_same_priority_has_it_leave_after_its_turn() -> None:
    lock = Rig()
    lock.bridge()
    lock.ask("games")
    assert lock.leaves_to() is None
    assert lock.wakes_at(lock.now) == lock.now + TURN_S
    lock.later(TURN_S)
    assert lock.leaves_to() == "games"
    lock.vacated(lock.now)
    assert lock.holder() == "games"
    lock.ask("films")
    # The bridge is next: it has waited for longer. Then it has its turn again.
    lock.release("games", lock.now)
    assert (lock.holder(), lock.leaves_to()) == (BRIDGE, None)
    lock.later(TURN_S)
    assert lock.leaves_to() == "films"


def test_a_lower_priority_has_it_only_when_the_bridge_has_nothing_to_do() -> None:
    lock = Rig()
    lock.bridge()
    lock.ask("miner", priority=-1, wait_s=86_400.0)
    lock.later(3600.0)
    assert lock.leaves_to() is None
    lock.bridge(wants=False)
    assert lock.leaves_to() == "miner"
    lock.bridge()  # a job came before it was handed over
    assert lock.leaves_to() is None
    lock.bridge(wants=False)
    lock.vacated(lock.now)
    assert lock.holder() == "miner"


def test_nothing_is_handed_over_that_nobody_claims_any_more() -> None:
    lock = Rig()
    lock.bridge()
    lock.ask("games", priority=1)
    assert lock.release("games", lock.now)
    lock.vacated(lock.now)
    assert (lock.holder(), lock.leaves_to()) == (BRIDGE, None)


def test_the_bridge_gives_up_nothing_that_it_wants_again() -> None:
    lock = Rig()
    lock.bridge()
    lock.ask("games", priority=5)
    lock.give_up(lock.now)
    assert lock.holder() == BRIDGE


def test_of_two_who_ask_at_once_the_first_of_the_highest_priority_gets_it() -> None:
    lock = Rig()
    lock.ask("first")
    for holder, priority in (("low", -5), ("one", 5), ("two", 5)):
        assert not lock.ask(holder, priority=priority)
    order = []
    while (owner := lock.holder()) is not None:
        order.append(owner)
        lock.release(owner, lock.now)
    assert order == ["first", "one", "two", "low"]


def test_who_waits_and_asks_again_keeps_its_place_with_what_it_says_now() -> None:
    lock = Rig()
    lock.ask("first")
    lock.ask("one", for_s=10.0)
    lock.ask("two")
    lock.ask("one", for_s=20.0)
    assert [each.holder for each in sorted(lock.waiting, key=lambda each: each.order)] == [
        "one",
        "two",
    ]
    lock.release("first", lock.now)
    assert (lock.holder(), lock.wakes_at(lock.now) - lock.now) == ("one", 20.0)


def test_a_request_that_has_waited_too_long_counts_no_more() -> None:
    lock = Rig()
    lock.ask("first", for_s=600.0)
    lock.ask("gone", wait_s=60.0)
    assert lock.wakes_at(lock.now) - lock.now == 60.0
    lock.later(600.0)
    assert lock.holder() is None
    assert not lock.waiting


def test_who_does_not_want_to_wait_gets_it_now_or_not_at_all() -> None:
    lock = Rig()
    assert lock.ask("first", wait_s=0.0)
    assert not lock.ask("second", wait_s=0.0)
    assert not lock.waiting


def test_giving_back_twice_or_for_nothing_does_nothing() -> None:
    lock = Rig()
    lock.bridge()
    assert not lock.release("games", lock.now)
    assert not lock.release(BRIDGE, lock.now)
    assert lock.ours


def test_nobody_is_the_bridge_and_not_everybody_waits() -> None:
    lock = Rig()
    with pytest.raises(BadRequest):
        lock.ask(BRIDGE)
    lock.ask("first")
    for number in range(MAX_WAITING):
        lock.ask(f"p{number}")
    with pytest.raises(Busy):
        lock.ask("one-more")
    assert not lock.ask("p5", priority=3)  # who waits already may still say something new
    assert len(lock.waiting) == MAX_WAITING


def test_after_a_restart_others_have_what_they_had_and_the_bridge_has_nothing() -> None:
    lock = Rig()
    lock.bridge()
    lock.ask("games", priority=1, for_s=600.0)
    kept = msgspec.json.decode(msgspec.json.encode(lock.kept()), type=SavedLock)
    again = Rig(kept)
    again.advance(again.now)
    assert again.holder() == "games"  # it waited for the bridge alone
    kept = again.kept()
    again = Rig(kept)
    again.later(599.0)
    assert again.holder() == "games"
    again.later(1.0)
    assert again.holder() is None


def test_what_is_published_says_who_has_it_who_is_next_and_until_when() -> None:
    lock = Rig()
    assert msgspec.to_builtins(lock.view("card", lock.now, shown, 60.0)) == {
        "gpu": "card",
        "waiting": [],
    }
    lock.bridge()
    lock.ask("games", priority=1)
    assert msgspec.to_builtins(lock.view("card", lock.now, shown, 60.0)) == {
        "gpu": "card",
        "holder": "bridge",
        "priority": 0,
        "since": 2000.0,
        "until": 2060.0,
        "leaving": True,
        "waiting": [{"holder": "games", "priority": 1}],
    }
    lock.vacated(lock.now)
    view = lock.view("card", lock.now, shown, 60.0)
    assert (view.holder, view.until) == ("games", 2600.0)
    assert [each.holder for each in view.waiting] == ["bridge"]


def shown(at: float) -> float:
    return at + 1000.0


_STEPS = st.one_of(
    st.tuples(
        st.just("ask"),
        st.sampled_from("abcd"),
        st.integers(-2, 2),
        st.sampled_from([1.0, 100.0]),
        st.sampled_from([0.0, 50.0, 500.0]),
    ),
    st.tuples(st.just("release"), st.sampled_from("abcd")),
    st.tuples(st.just("bridge"), st.booleans()),
    st.tuples(st.just("vacated")),
    st.tuples(st.just("give up")),
    st.tuples(st.just("later"), st.floats(0, 120)),
)


@given(st.lists(_STEPS, max_size=60))
def test_whatever_comes_one_has_it_and_nobody_is_forgotten(steps: list[Any]) -> None:
    lock = Rig()
    wants = False
    for step in steps:
        before = lock.lease
        match step:
            case "ask", holder, priority, for_s, wait_s:
                lock.ask(holder, priority=priority, for_s=for_s, wait_s=wait_s)
            case "release", holder:
                lock.release(holder, lock.now)
            case "bridge", wants:
                lock.bridge(wants=wants)
            case ("vacated",):
                lock.vacated(lock.now)
            case ("give up",):
                lock.give_up(lock.now)
            case "later", seconds:
                lock.later(seconds)
        waiting = [each.holder for each in lock.waiting]
        assert len(waiting) == len(set(waiting))
        assert lock.holder() not in waiting
        if lock.holder() is None:
            assert not waiting
            assert not wants
        if before is not None and before.holder != BRIDGE and lock.lease != before:
            # Nobody lost it before its time, but by giving it back or asking again.
            over = before.until is not None and before.until <= lock.now
            assert over or step[:2] in (("release", before.holder), ("ask", before.holder))
        assert lock.wakes_at(lock.now) > lock.now
        # A lock that is read from what was kept continues where this one was.
        assert Lock(lock.kept()).kept() == lock.kept()
