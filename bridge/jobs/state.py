"""The states of a job, as a table.

    waiting ──release──> queued ──start──> running ──succeed──> succeeded
       │                   ^  │               │ ├────fail─────> failed
       │                   └──│───requeue─────┘ └───cancel────> cancelled
       └── cancel, expire, fail from waiting and queued as well; expired only before the start

Every other transition is illegal: it raises and changes nothing. The four states on the right are
outcomes. No transition leads out of them, so that a job gets exactly one.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from bridge.contract.messages import State


class Transition(StrEnum):
    """The transitions between the states of a job."""

    RELEASE = "release"
    START = "start"
    REQUEUE = "requeue"
    SUCCEED = "succeed"
    FAIL = "fail"
    CANCEL = "cancel"
    EXPIRE = "expire"


class IllegalTransition(RuntimeError):
    """Something happened to a job that cannot happen in its state: a defect of ours."""

    def __init__(self, state: State, transition: Transition) -> None:
        super().__init__(f"a job that is {state} cannot {transition}")
        self.state = state
        self.transition = transition


OUTCOMES: frozenset[State] = frozenset({"succeeded", "failed", "cancelled", "expired"})

TRANSITIONS: Mapping[tuple[State, Transition], State] = {
    ("waiting", Transition.RELEASE): "queued",
    ("waiting", Transition.FAIL): "failed",
    ("waiting", Transition.CANCEL): "cancelled",
    ("waiting", Transition.EXPIRE): "expired",
    ("queued", Transition.START): "running",
    ("queued", Transition.FAIL): "failed",
    ("queued", Transition.CANCEL): "cancelled",
    ("queued", Transition.EXPIRE): "expired",
    ("running", Transition.REQUEUE): "queued",
    ("running", Transition.SUCCEED): "succeeded",
    ("running", Transition.FAIL): "failed",
    ("running", Transition.CANCEL): "cancelled",
}


def after(state: State, transition: Transition) -> State:
    """Return the state that follows.

    Raises IllegalTransition for what the table does not have.
    """
    try:
        return TRANSITIONS[state, transition]
    except KeyError:
        raise IllegalTransition(state, transition) from None


def first(*, waits: bool) -> State:
    """Return the state that a job begins in; one `waits` for bytes that are not here yet."""
    return "waiting" if waits else "queued"


def before(transition: Transition) -> frozenset[State]:
    """Return the states in which something can happen."""
    return frozenset(state for state, what in TRANSITIONS if what is transition)


def is_outcome(state: State) -> bool:
    """True if a job in this state has ended."""
    return state in OUTCOMES
