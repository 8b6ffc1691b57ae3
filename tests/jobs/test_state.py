from __future__ import annotations

from typing import get_args

import pytest

from bridge.contract.messages import Outcome, State
from bridge.jobs import state
from bridge.jobs.state import IllegalTransition, Transition

STATES = get_args(State)


@pytest.mark.parametrize("outcome", get_args(Outcome))
@pytest.mark.parametrize("transition", Transition)
def test_nothing_leads_out_of_an_outcome(outcome: State, transition: Transition) -> None:
    assert state.is_outcome(outcome)
    with pytest.raises(IllegalTransition) as caught:
        state.after(outcome, transition)
    assert caught.value.state == outcome


def test_every_state_leads_to_an_outcome() -> None:
    for begin in STATES:
        reached, found = {begin}, [begin]
        while found:
            here = found.pop()
            for transition in Transition:
                try:
                    there = state.after(here, transition)
                except IllegalTransition:
                    continue
                if there not in reached:
                    reached.add(there)
                    found.append(there)
        assert any(state.is_outcome(each) for each in reached)


def test_a_job_that_runs_cannot_expire() -> None:
    with pytest.raises(IllegalTransition, match="running cannot expire"):
        state.after("running", Transition.EXPIRE)


def test_a_job_begins_in_a_state_that_leads_on() -> None:
    assert state.after(state.first(waits=True), Transition.RELEASE) == state.first(waits=False)
    assert state.after(state.first(waits=False), Transition.START) == "running"


@pytest.mark.parametrize("transition", Transition)
def test_what_can_happen_can_happen_in_those_states_alone(transition: Transition) -> None:
    for each in STATES:
        if each in state.before(transition):
            state.after(each, transition)
        else:
            with pytest.raises(IllegalTransition):
                state.after(each, transition)
