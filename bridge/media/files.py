"""Bytes too large for the journal's rows, named by their SHA-256."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from bridge.atomicfile import write_file

# Up to this many bytes a blob lies in the journal itself: one commit instead of a file's.
INLINE_LIMIT = 64 * 1024

_SHA256 = re.compile(r"[0-9a-f]{64}")


class Files(Protocol):
    """The store of large blobs. The calls block: use them in a thread."""

    def open(self) -> None:
        """Make what is needed, and clear what a crash left half written."""

    def put(self, sha256: str, data: bytes | memoryview) -> None:
        """Write a blob, durable when this returns. One that is there already is only renewed."""

    def read(self, sha256: str, offset: int = 0, count: int = -1) -> bytes:
        """Return `count` bytes from `offset` on (all, if negative). Raises FileNotFoundError."""
        ...

    def sweep(self, keep: Collection[str], before: float) -> None:
        """Delete blobs that are not to be kept and were put before a time (Unix seconds).

        The time protects those that were put for a row which is about to be written.
        """

    def close(self) -> None:
        """Close what is held open."""


class Folder:
    """`Files` in a folder, one each."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        # Nothing is deleted between being found and being renewed.
        self._renewing = threading.Lock()

    def open(self) -> None:
        """Make the folder, and clear what a crash left half written."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for half in self._folder.glob("*.part-*"):
            half.unlink(missing_ok=True)

    def put(self, sha256: str, data: bytes | memoryview) -> None:
        """Write a blob, durable when this returns. One that is there already is only renewed."""
        path = self._path(sha256)
        with self._renewing:
            if path.exists():
                os.utime(path)
                return
        write_file(path, data)

    def read(self, sha256: str, offset: int = 0, count: int = -1) -> bytes:
        """Return `count` bytes from `offset` on (all, if negative). Raises FileNotFoundError."""
        with self._path(sha256).open("rb") as file:
            file.seek(offset)
            return file.read(count)

    def sweep(self, keep: Collection[str], before: float) -> None:
        """Delete blobs that are not to be kept and were put before a time."""
        for path in self._folder.iterdir():
            if path.name in keep:
                continue
            with self._renewing, suppress(FileNotFoundError):
                if path.stat().st_mtime < before:
                    path.unlink()

    def close(self) -> None:
        """Do nothing: nothing is held open."""

    def _path(self, sha256: str) -> Path:
        check_name(sha256)
        return self._folder / sha256


def check_name(sha256: str) -> None:
    """Raise ValueError for what names no blob."""
    if _SHA256.fullmatch(sha256) is None:
        raise ValueError(f"no SHA-256: {sha256!r}")
