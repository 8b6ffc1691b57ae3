"""The files that were uploaded to ComfyUIs for jobs: removed as soon as no job needs them.

They are in ComfyUI's input folder and are named by their content, so that jobs share them. Only our
nodes can remove a file there; in a ComfyUI without them the files stay. Files that a bridge could
not remove before it ended are removed by age.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Sequence
from typing import Protocol

from bridge.aio import wait_set
from bridge.comfyui.client import ComfyClient
from bridge.comfyui.errors import ComfyUIError, NotFound
from bridge.jobs.queue import Key

log = logging.getLogger(__name__)

# How long ComfyUI may take to remove files: a job that needs one of them waits for that.
ANSWER_S = 5.0
RETRY_S = 30.0
# Files of bridges that ended before they could remove them are looked for this often.
SWEEP_EVERY_S = 3600.0
# How many names are remembered for a ComfyUI that is offline; older ones are left to the sweep.
MOST = 10_000


class ComfyUIHost(Protocol):
    """A ComfyUI; its `client` raises ComfyUIUnreachable while there is none."""

    name: str

    @property
    def client(self) -> ComfyClient:
        """Its HTTP client."""
        ...


class InputFiles:
    """The files that jobs need at each ComfyUI. Run `run` as a task; all on one loop's thread."""

    def __init__(self, comfyuis: Sequence[ComfyUIHost], keep_s: float) -> None:
        """A file that no known job needs is removed when it is `keep_s` seconds old."""
        self._comfyuis = {comfyui.name: comfyui for comfyui in comfyuis}
        self._keep_s = keep_s
        self._needed_by: dict[str, set[Key]] = {}
        self._uploaded_to: dict[str, set[str]] = {}
        self._files_of: dict[Key, set[str]] = {}
        self._due: dict[str, dict[str, None]] = {name: {} for name in self._comfyuis}
        self._some = {name: asyncio.Event() for name in self._comfyuis}
        self._removing: set[str] = set()
        self._removed = asyncio.Event()

    async def take(self, key: Key, names: Collection[str], comfyui: str) -> None:
        """Note that a job is about to upload these files to a ComfyUI, until `release`."""
        while self._removing.intersection(names):
            self._removed.clear()
            await self._removed.wait()
        if names and comfyui in self._comfyuis:
            self._files_of.setdefault(key, set()).update(names)
        for name in self._files_of.get(key, ()):
            self._needed_by.setdefault(name, set()).add(key)
            self._uploaded_to.setdefault(name, set()).add(comfyui)

    def release(self, key: Key) -> None:
        """Note that a job has ended: files that no other job needs are removed soon."""
        for name in self._files_of.pop(key, ()):
            users = self._needed_by[name]
            users.discard(key)
            if not users:
                del self._needed_by[name]
                self._remove_soon(name, self._uploaded_to.pop(name))

    def unneeded(self, names: Collection[str]) -> None:
        """Remove files of a job that its client forgot, unless another job needs them."""
        for name in names:
            if name not in self._needed_by:
                self._remove_soon(name, self._comfyuis)

    def _remove_soon(self, name: str, comfyuis: Collection[str]) -> None:
        for comfyui in comfyuis:
            due = self._due[comfyui]
            due[name] = None
            if len(due) > MOST:
                del due[next(iter(due))]
            self._some[comfyui].set()

    async def run(self) -> None:
        """Remove files until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for name in self._comfyuis:
                tasks.create_task(self._serve(name))

    async def finish(self) -> None:
        """Remove the files that are due, at the ComfyUIs that answer."""
        for name in self._comfyuis:
            await self._remove(name)

    async def _serve(self, comfyui: str) -> None:
        loop = asyncio.get_running_loop()
        sweep_at = loop.time()
        while True:
            done = await self._remove(comfyui)
            if done and loop.time() >= sweep_at:
                done = await self._sweep(comfyui)
                sweep_at = loop.time() + SWEEP_EVERY_S if done else sweep_at
            if done:
                await wait_set(self._some[comfyui], max(0.0, sweep_at - loop.time()))
            else:
                await asyncio.sleep(RETRY_S)

    async def _remove(self, comfyui: str) -> bool:
        """Remove what is due at a ComfyUI; False if it does not answer."""
        self._some[comfyui].clear()
        due = self._due[comfyui]
        for name in [each for each in due if each in self._needed_by]:
            del due[name]  # until that job ends
            self._uploaded_to[name].add(comfyui)
        names = set(due)
        if not names:
            return True
        self._removing |= names
        try:
            async with asyncio.timeout(ANSWER_S):
                await self._comfyuis[comfyui].client.remove_uploads(names)
        except NotFound:
            log.debug("ComfyUI at %s lacks our nodes: files uploaded to it stay there", comfyui)
        except (ComfyUIError, TimeoutError):
            return False
        finally:
            self._removing -= names
            self._removed.set()
        for name in names:
            due.pop(name, None)
        return True

    async def _sweep(self, comfyui: str) -> bool:
        """Remove old files of jobs that nobody here knows; False if it does not answer."""
        try:
            await self._comfyuis[comfyui].client.sweep_uploads(self._keep_s, self._needed_by.keys())
        except NotFound:
            return True
        except ComfyUIError:
            return False
        return True
