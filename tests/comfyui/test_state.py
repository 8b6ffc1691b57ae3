from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.comfyui.state import (
    TABLE,
    Closing,
    Connected,
    Died,
    Disconnected,
    InstanceState,
    Lifecycle,
    LifecycleEvent,
    QueueLength,
    Resumed,
    Starting,
    Stopped,
    Unguarded,
    Unloaded,
    Unusable,
    Vacated,
    Yielding,
)

UP = Connected("0.3.75", "one")
AWAY = Disconnected("nobody answers", "unreachable")
DEAD = Died("it was killed", "killed", crash_loop=False)
LOOP = Died("it exits", "exited", crash_loop=True)


def after(*happened: LifecycleEvent) -> InstanceState:
    """The state after some events, one in each second."""
    lifecycle = Lifecycle(100.0)
    for now, event in enumerate(happened, 101):
        lifecycle.handle(event, now)
    return lifecycle.state


# -- the table ----------------------------------------------------------------------------------


def test_it_begins_stopped() -> None:
    state = after()
    assert (state.state, state.since, state.usable) == ("stopped", 100, False)


@pytest.mark.parametrize(
    ("happened", "state"),
    [
        ((Starting(),), "starting"),
        ((Starting(), UP), "ready"),
        ((Starting(), UP, QueueLength(2)), "busy"),
        ((Starting(), UP, QueueLength(2), QueueLength(0)), "ready"),
        ((Starting(), AWAY), "unreachable"),
        ((Starting(), AWAY, AWAY, UP), "ready"),
        ((Starting(), UP, QueueLength(1), AWAY, UP), "busy"),
        ((Starting(), DEAD), "restarting"),
        ((Starting(), UP, QueueLength(1), DEAD, Starting(), UP), "ready"),
        ((Starting(), UP, AWAY, LOOP), "crash_loop"),
        ((Starting(), LOOP, Starting()), "starting"),
        ((Starting(), UP, Closing(), Stopped()), "stopped"),
        ((Starting(), LOOP, Stopped(), Starting()), "starting"),
        ((Starting(), UP, Yielding()), "ready"),
        ((Starting(), UP, Yielding(), Vacated()), "yielded"),
        ((Starting(), UP, Yielding(), Vacated(), QueueLength(1)), "yielded"),
        ((Starting(), UP, Yielding(), Vacated(), QueueLength(1), Resumed()), "busy"),
        ((Starting(), UP, Yielding(), AWAY, Vacated()), "unreachable"),
        ((Starting(), UP, Yielding(), AWAY, Vacated(), UP), "yielded"),
        ((Starting(), UP, Yielding(), Vacated(), AWAY, Resumed()), "unreachable"),
        ((Starting(), UP, Yielding(), Resumed(), Vacated()), "ready"),
        ((Starting(), UP, Yielding(), Vacated(), DEAD, Starting(), UP), "ready"),
    ],
)
def test_what_leads_from_one_state_to_the_next(
    happened: tuple[LifecycleEvent, ...], state: str
) -> None:
    assert after(*happened).state == state


def test_every_state_can_be_left_when_the_bridge_ends() -> None:
    for state, row in TABLE.items():
        assert row[Stopped] == "stopped", state


@pytest.mark.parametrize("event", [UP, AWAY, QueueLength(1), DEAD])
def test_what_cannot_happen_without_a_process_is_a_defect(event: LifecycleEvent) -> None:
    with pytest.raises(AssertionError, match="while stopped"):
        after(event)


anything = st.sampled_from(
    [
        *(Starting(), UP, Connected(None, None), AWAY, QueueLength(0), QueueLength(1), DEAD, LOOP),
        *(Stopped(), Closing(), Unusable("hung", "hung"), Yielding(), Vacated(), Resumed()),
        Unloaded(),
    ]
)


@given(st.lists(anything, max_size=30))
def test_whatever_happens_a_yielding_one_gets_no_prompts(happened: list[LifecycleEvent]) -> None:
    lifecycle = Lifecycle(0.0)
    yielding = False
    for now, event in enumerate(happened):
        try:
            state = lifecycle.handle(event, now)
        except AssertionError:
            assert type(event) not in TABLE[lifecycle.state.state]
            continue
        yielding = (yielding or isinstance(event, Yielding)) and not isinstance(event, Resumed)
        assert state.yielding == yielding
        assert not (yielding and state.usable)
        assert state.state != "yielded" or yielding
        assert state.since <= now


# -- details ------------------------------------------------------------------------------------


def test_since_is_when_the_state_was_entered() -> None:
    state = after(Starting(), AWAY, Disconnected("still nobody", "unreachable"))
    assert (state.since, state.last_error) == (102, "still nobody")
    assert after(Starting(), AWAY, UP).since == 103


def test_deaths_and_unloads_are_counted_and_the_last_error_is_kept() -> None:
    state = after(Starting(), DEAD, Starting(), UP, Unloaded(), Unloaded())
    assert (state.restarts, state.unloads) == (1, 2)
    assert (state.last_error, state.reason) == ("it was killed", "killed")
    assert (state.version, state.epoch) == ("0.3.75", "one")


# -- why one gets no prompts --------------------------------------------------------------------


def test_an_unusable_one_gets_prompts_again_once_its_queue_is_empty() -> None:
    unusable = (Starting(), UP, QueueLength(2), Unusable("it hangs", "hung"))
    state = after(*unusable)
    assert (state.state, state.usable, state.reason) == ("busy", False, "hung")
    assert not after(*unusable, QueueLength(1)).usable
    assert after(*unusable, QueueLength(0)).usable


def test_an_unusable_one_gets_prompts_again_once_it_is_another_process() -> None:
    unusable = (Starting(), UP, Unusable("it hangs", "hung"))
    assert not after(*unusable, AWAY, UP).usable
    assert after(*unusable, AWAY, Connected("0.3.75", "two")).usable
    assert after(*unusable, AWAY, Connected("0.3.75", None)).usable  # it may be another


def test_resuming_opens_what_was_closed_by_yielding_alone() -> None:
    assert not after(Starting(), UP, Yielding()).usable
    assert after(Starting(), UP, Yielding(), Resumed()).usable
    state = after(Starting(), UP, Unusable("it hangs", "hung"), Yielding(), Resumed())
    assert not state.usable


def test_one_that_is_to_stop_gets_no_prompts_until_it_is_another_process() -> None:
    assert not after(Starting(), UP, Closing()).usable
    assert not after(Starting(), UP, Closing(), AWAY, UP).usable
    assert after(Starting(), UP, Closing(), Stopped(), Starting(), Connected(None, "two")).usable


def test_that_it_is_not_guarded_lasts_until_it_is_started_again() -> None:
    assert after(Starting(), Unguarded(), UP, DEAD).unguarded
    assert not after(Starting(), Unguarded(), UP, DEAD, Starting()).unguarded


def test_one_that_two_want_left_to_others_is_used_again_when_both_give_it_back() -> None:
    left = (Starting(), UP, Yielding("gpu"), Yielding(), Vacated())
    assert after(*left, Resumed()).state == "yielded"
    assert after(*left, Resumed("gpu")).state == "yielded"
    assert after(*left, Resumed("gpu"), Resumed()).usable
