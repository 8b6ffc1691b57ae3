from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import count

import pytest

from bridge.comfyui.state import StateBoard


@pytest.fixture
def board() -> StateBoard:
    ticks: Iterator[int] = count(100)
    return StateBoard(clock=lambda: next(ticks))


def test_it_begins_stopped(board: StateBoard) -> None:
    assert (board.present.state, board.present.since) == ("stopped", 100)
    assert not board.present.usable


def test_since_is_when_the_state_was_entered(board: StateBoard) -> None:
    board.set("starting")
    board.set("starting", last_error="slow")
    assert (board.present.since, board.present.last_error) == (101, "slow")
    board.set("ready")
    assert board.present.since == 102
    assert board.present.usable


async def test_a_change_wakes_all_who_wait(board: StateBoard) -> None:
    seen = board.present
    waiting = [asyncio.create_task(board.changed(seen)) for _ in range(2)]
    asyncio.get_running_loop().call_soon(board.set, "starting")
    assert [(await one).state for one in waiting] == ["starting", "starting"]


async def test_one_who_gives_up_does_not_disturb_the_others(board: StateBoard) -> None:
    seen = board.present
    impatient, patient = (asyncio.create_task(board.changed(seen)) for _ in range(2))
    asyncio.get_running_loop().call_soon(impatient.cancel)
    await asyncio.gather(impatient, return_exceptions=True)
    board.set("starting")
    assert (await patient).state == "starting"


async def test_a_change_that_was_missed_is_told_at_once(board: StateBoard) -> None:
    seen = board.present
    board.set("starting")
    board.set("ready")
    assert (await board.changed(seen)).state == "ready"
