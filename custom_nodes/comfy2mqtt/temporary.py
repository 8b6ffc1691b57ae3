"""Media as files, for nodes that take a path and not the bytes.

All lie in one folder below ComfyUI's own for what is temporary, under the hash of their bytes: no
request has a say in a path but for the last few letters. Within a budget of bytes the least
recently used go first. The folder goes when the process ends; where it is killed, ComfyUI empties
the folder above when it next starts.

Only ComfyUI's worker thread comes here, so there is no lock.
"""

from __future__ import annotations

import atexit
import re
import shutil
import tempfile
from collections import Counter
from functools import cached_property
from pathlib import Path

from .errors import MediaTooLarge, ValueOutOfLimits
from .media import is_sha256

_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,16}")


def is_suffix(text: str) -> bool:
    """True if a file's name may end in it: a dot and up to 16 letters or digits."""
    return _SUFFIX.fullmatch(text) is not None


class TemporaryFiles:
    """Files below `parent` by hash and suffix, least recently used first; `budget` in bytes."""

    def __init__(self, parent: Path, budget: int) -> None:
        self._parent = parent
        self._budget = budget
        self._sizes: dict[str, int] = {}
        self._removed: Counter[str] = Counter()

    def put(self, sha256: str, suffix: str, data: bytes) -> Path:
        """The path of a file with these bytes, whose hash the caller has checked.

        Raises MediaTooLarge where they are above the whole budget.
        """
        if not is_sha256(sha256) or (suffix and not is_suffix(suffix)):
            raise ValueOutOfLimits("file", f"'{sha256}{suffix}'", "no name for a file")
        if len(data) > self._budget:
            raise MediaTooLarge(len(data), self._budget)
        name = sha256 + suffix
        path = self._folder / name
        if self._sizes.pop(name, None) is None or not path.exists():
            self._make_room(len(data))
            # Beside it first: whoever finds the name finds the whole file.
            unfinished = path.with_name("unfinished")
            unfinished.write_bytes(data)
            unfinished.replace(path)
        self._sizes[name] = len(data)
        return path

    def removals(self, name: str) -> int:
        """Return how often the file with this name was removed. Counts as a use of it.

        ComfyUI asks before a prompt begins, so none that the prompt uses is the oldest then.
        """
        size = self._sizes.pop(name, None)
        if size is not None and (self._folder / name).exists():
            self._sizes[name] = size
        elif size is not None:
            self._removed[name] += 1
        return self._removed[name]

    @cached_property
    def _folder(self) -> Path:
        self._parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix="comfy2mqtt-", dir=self._parent))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        return folder

    def _make_room(self, size: int) -> None:
        while self._sizes and sum(self._sizes.values()) + size > self._budget:
            oldest = next(iter(self._sizes))
            del self._sizes[oldest]
            self._removed[oldest] += 1
            (self._folder / oldest).unlink(missing_ok=True)
