"""Keeping an eye on one ComfyUI: whether it still answers, and whether anybody uses it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from bridge.comfyui.errors import StartFailed
from bridge.comfyui.state import StateBoard


async def for_a_freeze(board: StateBoard, limit_s: float) -> None:
    """Watch a ComfyUI whose process lives. Raises StartFailed once it is away for `limit_s`."""
    state = board.present
    while True:
        while state.state != "unreachable":
            state = await board.changed(state)
        try:
            async with asyncio.timeout(limit_s):
                while state.state == "unreachable":
                    state = await board.changed(state)
        except TimeoutError:
            text = f"ComfyUI has not answered for {limit_s:g} s, though its process is there"
            raise StartFailed("frozen", text) from None


async def for_idleness(
    board: StateBoard, limit_s: float, unload: Callable[[], Awaitable[None]]
) -> None:
    """Call `unload` each time that a ComfyUI has had nothing to do for `limit_s`; at 0 never."""
    state = board.present
    while True:
        waits = limit_s if limit_s and state.state == "ready" else None
        try:
            async with asyncio.timeout(waits):
                state = await board.changed(state)
        except TimeoutError:
            await unload()
            state = await board.changed(board.present)
