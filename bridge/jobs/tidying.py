"""Tidying up at a ComfyUI after jobs whose outcome is on disk: what it holds for us, and files.

Many at a time: told one by one, two requests a job would cost ComfyUI more than a small job does.
"""

from __future__ import annotations

import asyncio
import shutil
from contextlib import suppress

from msgspec import Struct

from bridge.comfyui.errors import ComfyUIError
from bridge.comfyui.instance import Instance
from bridge.workflows.binding import FOLDER

# How long ComfyUI may hold outputs that are here already, and how many prompts go in one request.
PAUSE_S = 0.5
AT_ONCE = 50


class _Done(Struct, frozen=True):
    prompt_id: str
    saved_files: bool


class Tidying:
    """One ComfyUI's. Use `run` as a task, and `finish` before the end."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._done: list[_Done] = []
        self._some = asyncio.Event()

    def add(self, prompt_id: str, *, saved_files: bool) -> None:
        """Note a prompt that is through; `saved_files`: its nodes wrote into its folder."""
        self._done.append(_Done(prompt_id, saved_files))
        self._some.set()

    async def run(self) -> None:
        """Tidy up now and then."""
        while True:
            await self._some.wait()
            await asyncio.sleep(PAUSE_S)
            await self.finish()

    async def finish(self) -> None:
        """Tidy up what was noted."""
        self._some.clear()
        while self._done:
            now, self._done = self._done[:AT_ONCE], self._done[AT_ONCE:]
            with suppress(ComfyUIError):  # away: it forgets by itself, or our nodes make room
                await self._instance.forget([each.prompt_id for each in now])
            folder = self._instance.output_folder
            for each in now:
                if folder is not None and each.saved_files:
                    path = folder / FOLDER / each.prompt_id
                    await asyncio.to_thread(shutil.rmtree, path, ignore_errors=True)
