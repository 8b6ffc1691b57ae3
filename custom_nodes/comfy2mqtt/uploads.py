"""Files that a bridge uploaded into ComfyUI's input folder, and their end.

They lie below `comfy2mqtt/` there, each named by the SHA-256 of its bytes, for nodes such as
LoadImage that read files. Nothing else there, and nothing elsewhere, is ever removed. A file that a
prompt in ComfyUI's queue names stays: it may be another bridge's.
"""

from __future__ import annotations

import os
import re
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

FOLDER = "comfy2mqtt"
_NAME = re.compile(r"[0-9a-f]{64}\.[A-Za-z0-9]{1,10}")


# A wall clock that is off by more seconds from one sweep to the next was set.
_JUMP_S = 60.0


class Jumps:
    """The times at which this process saw that the wall clock was set."""

    def __init__(self) -> None:
        self._ahead = time.time() - time.monotonic()
        self._jumped_at = float("-inf")

    def since_jump_s(self) -> float:
        """Return the seconds since then, infinite if it was not."""
        steady = time.monotonic()
        before, self._ahead = self._ahead, time.time() - steady
        if abs(self._ahead - before) > _JUMP_S:
            self._jumped_at = steady
        return steady - self._jumped_at


@dataclass(frozen=True, slots=True)
class Uploads:
    """`input_folder` and `prompts` are asked each time; `prompts` are the graphs in the queue."""

    input_folder: Callable[[], str]
    prompts: Callable[[], Iterable[Any]]
    jumps: Jumps = field(default_factory=Jumps)

    def remove(self, names: Collection[str]) -> int:
        """Remove those of these files that no prompt in the queue names; returns how many."""
        return self._remove(name for name in names if _NAME.fullmatch(name))

    def sweep(self, older_than_s: float, keep: Collection[str]) -> int:
        """Remove files that were uploaded longer ago than that, but for those of `keep`."""
        if self.jumps.since_jump_s() <= older_than_s:
            return 0  # files have the times of before
        before = time.time() - older_than_s
        old = []
        with suppress(FileNotFoundError), os.scandir(self._folder) as entries:
            for entry in entries:
                with suppress(OSError):
                    if entry.stat(follow_symlinks=False).st_mtime < before:
                        old.append(entry.name)
        return self._remove(name for name in old if _NAME.fullmatch(name) and name not in keep)

    @property
    def _folder(self) -> Path:
        return Path(self.input_folder(), FOLDER)

    def _remove(self, names: Iterable[str]) -> int:
        named = self._named()
        removed = 0
        for name in names:
            if name not in named:
                with suppress(OSError):
                    (self._folder / name).unlink()
                    removed += 1
        return removed

    def _named(self) -> set[str]:
        """The names that prompts in the queue have among their inputs."""
        return {
            name
            for prompt in self.prompts()
            for node in prompt.values()
            for value in node.get("inputs", {}).values()
            if isinstance(value, str) and FOLDER in value
            for name in _NAME.findall(value)
        }
