from __future__ import annotations

import asyncio

import pytest

from bridge.comfyui import watch
from bridge.comfyui.errors import StartFailed
from bridge.comfyui.state import StateBoard


@pytest.fixture
def board() -> StateBoard:
    board = StateBoard()
    board.set("ready")
    return board


async def test_one_that_is_away_for_too_long_is_frozen(board: StateBoard) -> None:
    board.set("unreachable")
    with pytest.raises(StartFailed) as caught:
        await watch.for_a_freeze(board, 0.01)
    assert caught.value.failure == "frozen"


async def test_one_that_comes_back_is_not(board: StateBoard) -> None:
    watching = asyncio.create_task(watch.for_a_freeze(board, 600))
    for state in ("unreachable", "ready", "unreachable"):
        board.set(state)
        await asyncio.sleep(0)
    assert not watching.done()
    watching.cancel()


async def test_models_are_unloaded_once_each_time_that_it_is_idle(board: StateBoard) -> None:
    unloads: asyncio.Queue[None] = asyncio.Queue()

    async def unload() -> None:
        unloads.put_nowait(None)

    watching = asyncio.create_task(watch.for_idleness(board, 0.01, unload))
    await unloads.get()
    board.set("busy")
    board.set("ready")
    await unloads.get()
    assert unloads.empty()
    watching.cancel()
