from __future__ import annotations

from typing import get_args

import pytest

from bridge.contract.messages import Outcome, State
from bridge.jobs import state
from bridge.jobs.state import Happening, IllegalTransition

STATES = get_args(State)


@pytest.mark.parametrize("outcome", get_args(Outcome))
@pytest.mark.parametrize("happening", Happening)
def test_nothing_leads_out_of_an_outcome(outcome: State, happening: Happening) -> None:
    assert state.is_outcome(outcome)
    with pytest.raises(IllegalTransition) as caught:
        state.after(outcome, happening)
    assert caught.value.state == outcome


def test_every_state_leads_to_an_outcome() -> None:
    for begin in STATES:
        reached, found = {begin}, [begin]
        while found:
            here = found.pop()
            for happening in Happening:
                try:
                    there = state.after(here, happening)
                except IllegalTransition:
                    continue
                if there not in reached:
                    reached.add(there)
                    found.append(there)
        assert any(state.is_outcome(each) for each in reached)


def test_a_job_that_runs_cannot_expire() -> None:
    with pytest.raises(IllegalTransition, match="running cannot expire"):
        state.after("running", Happening.EXPIRE)


def test_a_job_begins_in_a_state_that_leads_on() -> None:
    assert state.after(state.first(waits=True), Happening.RELEASE) == state.first(waits=False)
    assert state.after(state.first(waits=False), Happening.START) == "running"


@pytest.mark.parametrize("happening", Happening)
def test_what_can_happen_can_happen_in_those_states_alone(happening: Happening) -> None:
    for each in STATES:
        if each in state.before(happening):
            state.after(each, happening)
        else:
            with pytest.raises(IllegalTransition):
                state.after(each, happening)
