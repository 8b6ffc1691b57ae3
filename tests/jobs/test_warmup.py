"""The moments at which a ComfyUI is warmed."""

from __future__ import annotations

from typing import Any

from bridge.comfyui.state import InstanceState
from bridge.jobs.warmup import WarmupState


def state(name: Any = "ready", epoch: str | None = "one", **changes: Any) -> InstanceState:
    return InstanceState(name, 0.0, epoch=epoch, **changes)


def due(*states: InstanceState) -> list[bool]:
    """Return whether it is to be warmed in each of these states, one after the other."""
    known, found = WarmupState(), []
    for each in states:
        known = known.after(each)
        found.append(known.now)
    return found


def test_it_is_warmed_once_when_it_has_started() -> None:
    starting = state("starting", epoch=None)
    assert due(starting, state(), state("busy"), state()) == [False, True, False, False]


def test_one_that_was_started_again_is_warmed_again() -> None:
    assert due(state(), state("restarting", epoch=None), state(epoch="two")) == [True, False, True]
    assert due(state(), state("unreachable"), state()) == [True, False, False]


def test_one_that_was_yielded_is_warmed_when_it_is_back() -> None:
    leaving = state("busy", closed=True, yielding=True)
    left = state("yielded", closed=True, yielding=True)
    assert due(state(), leaving, left, state(), state()) == [True, False, False, True, False]


def test_what_was_freed_or_unloaded_stays_so() -> None:
    assert due(state(), state(unloads=1)) == [True, False]


def test_one_that_is_attached_is_warmed_once_and_after_a_yield() -> None:
    mine = state(epoch=None)
    away = state("unreachable", epoch=None)
    left = state("yielded", epoch=None, closed=True, yielding=True)
    assert due(mine, away, mine, left, mine) == [True, False, False, False, True]
