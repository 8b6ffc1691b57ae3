"""Folders: an output's bytes as a file below a folder of the operator's.

A file is there whole or not at all, and replaces one of the same name. All that blocks runs in
its own threads: a network folder that hangs blocks nothing else.
"""

from __future__ import annotations

import asyncio
import errno
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, TypeVar

from bridge.atomicfile import replacing
from bridge.contract.errors import Forbidden
from bridge.sinks.http import Source
from bridge.sinks.schedule import STALL_S

T = TypeVar("T")
_THREADS = 4


class FolderWriter:
    """Writes files below folders."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="sink-folder")

    async def write(self, folder: Path, name: str, source: Source) -> None:
        """Write a file of that path below the folder.

        Raises OSError, TimeoutError if the folder hangs, and Forbidden if a link leads out of
        it. Cancelling it leaves no file.
        """
        stack = ExitStack()
        try:
            file = await self._do(lambda: _opened(folder, name, stack))
            async for chunk in source():
                await self._do(lambda data=chunk: file.write(data))  # type: ignore[misc]
            await self._do(stack.close)
        except BaseException:
            # Not waited for: it may be this that hangs.
            error = sys.exc_info()
            self._threads.submit(lambda: stack.__exit__(*error))
            raise

    def close(self) -> None:
        """Accept no more files; threads that hang are abandoned."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _do(self, work: Callable[[], T]) -> T:
        async with asyncio.timeout(STALL_S):
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)


def _opened(folder: Path, name: str, stack: ExitStack) -> BinaryIO:
    if not folder.is_dir():
        # A disk that is not mounted is not to be written beside.
        raise OSError(errno.ENOTDIR, "the folder is not there")
    path = folder / name
    if not path.parent.resolve().is_relative_to(folder.resolve()):
        raise Forbidden(f"{name!r} leads out of its folder by a link", path=name)
    return stack.enter_context(replacing(path))
