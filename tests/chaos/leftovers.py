"""Leftovers at the end that should not be there: processes, files, memory."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from tests.chaos.faults import comfyuis
from tests.support.bridge import BridgeProcess
from tests.support.comfyui import wait_for_end

# A bridge that has seen a few hundred jobs has no reason to be larger.
MEMORY = 200 * 1024 * 1024
TIDY_S = 20.0


async def leftovers(bridges: list[BridgeProcess]) -> list[str]:
    """Stop the bridges, all at once, and tell what is left of them."""
    return [*chain(*await asyncio.gather(*map(_left, bridges)))]


async def _left(bridge: BridgeProcess) -> list[str]:
    broken = []
    name = bridge.folder.name
    size = resident(bridge.pid)
    if size > MEMORY:
        broken.append(f"{name} has {size // 1024**2} MB")
    if not await _tidied(bridge):
        broken += [f"{name} left {path}" for path in _files(bridge)]
    children = comfyuis(bridge.pid)
    status = await bridge.stop()
    if status:
        broken.append(f"{name} ended with {status}")
    for pid in children:
        if not await asyncio.to_thread(wait_for_end, pid):
            broken.append(f"{name} left the process {pid}")
    return broken


async def _tidied(bridge: BridgeProcess) -> bool:
    """Wait until the bridge has tidied up after its last jobs, which it does now and then."""
    try:
        async with asyncio.timeout(TIDY_S):
            while any(_files(bridge)):  # noqa: ASYNC110 - nobody tells of it
                await asyncio.sleep(0.2)
    except TimeoutError:
        return False
    return True


def _files(bridge: BridgeProcess) -> Iterator[Path]:
    """Files of jobs: what ComfyUI saved for us, and uploads that were begun."""
    data = Path(bridge.settings["data"])
    for folder in (data / "comfyui", data / "uploads"):
        for path in folder.rglob("*"):
            if path.is_file() and ("output" in path.parts or "uploads" in path.parts):
                yield path


def resident(pid: int) -> int:
    """The bytes of memory that a process has."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
