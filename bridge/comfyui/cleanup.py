"""Deletes what a ComfyUI keeps of prompts whose outcome is on our disk: history, outputs, files.

Many prompts at a time: one by one, two requests each would cost ComfyUI more than a small job does.
"""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from pathlib import Path

from bridge.comfyui.errors import ComfyUIError

_PROMPT_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
# How long ComfyUI may keep what is here already, and how many prompts go in one request.
PAUSE_S = 0.5
AT_ONCE = 50
# After a request that failed.
RETRY_S = 30.0
# Of more that could not be deleted the oldest stay: ComfyUI bounds its history, our nodes what they
# hold.
MOST = 1000


def sweep_attempts(root: Path, keep: Collection[str], before: float) -> int:
    """Delete the folders of attempts that are over, below `root`; return how many. Blocks.

    A bridge that was killed, or a ComfyUI that died, leaves them. `keep` are the prompts that are
    followed, `before` (Unix seconds) spares what changed since then: it may be somebody's.
    """
    swept = 0
    with suppress(FileNotFoundError, NotADirectoryError):
        for folder in root.iterdir():
            with suppress(OSError):
                stale = folder.lstat().st_mtime < before and folder.name not in keep
                if stale and _PROMPT_ID.fullmatch(folder.name) and not folder.is_symlink():
                    shutil.rmtree(folder, ignore_errors=True)
                    swept += 1
    return swept


class Cleanup:
    """The cleaning up of one ComfyUI. Use `run` as a task, and `finish` before the end."""

    def __init__(self, forget: Callable[[Collection[str]], Awaitable[None]]) -> None:
        """`forget` deletes what ComfyUI keeps of some prompts; it may raise ComfyUIError."""
        self._forget = forget
        self._prompts: list[str] = []
        self._folders: list[Path] = []
        self._some = asyncio.Event()

    def add(self, prompt_id: str, folder: Path | None) -> None:
        """Note a prompt that is over; `folder` is what its nodes wrote into, on our disk."""
        self._prompts = [*self._prompts[-MOST + 1 :], prompt_id]
        if folder is not None:
            self._folders.append(folder)
        self._some.set()

    async def run(self) -> None:
        """Clean up now and then, until cancelled."""
        while True:
            await self._some.wait()
            await asyncio.sleep(PAUSE_S)
            self._some.clear()
            if not await self.finish():
                await asyncio.sleep(RETRY_S)
                self._some.set()

    async def finish(self) -> bool:
        """Clean up what was noted; False if ComfyUI does not answer. Cancelling keeps the rest."""
        while self._folders:
            await asyncio.to_thread(shutil.rmtree, self._folders.pop(), ignore_errors=True)
        while self._prompts:
            batch = self._prompts[:AT_ONCE]
            try:
                await self._forget(batch)
            except ComfyUIError:
                return False
            self._prompts = [each for each in self._prompts if each not in batch]
        return True
