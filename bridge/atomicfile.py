"""Files that are replaced whole or not at all, and are on the disk when a call returns; sweeps.

All of this blocks: use it in a thread.
"""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

# A file's mode before the process' umask; and of a file that holds a secret.
PUBLIC = 0o666
PRIVATE = 0o600


@contextmanager
def replacing(path: Path, *, mode: int = PUBLIC, overwrite: bool = True) -> Iterator[BinaryIO]:
    """Open a new file that takes the place of `path` when the block ends without an error.

    Makes the folder if there is none. Until then the file is `<name>.part-<random>` beside
    `path`, and is deleted after an error; only a killed process leaves one. Without `overwrite`
    raises FileExistsError if somebody else has made `path` meanwhile. Raises OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part-{secrets.token_hex(6)}")
    try:
        with os.fdopen(os.open(part, _FLAGS, mode), "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if overwrite:
            part.replace(path)
        else:
            os.link(part, path)
    finally:
        part.unlink(missing_ok=True)
    sync_folder(path.parent)


def write_file(
    path: Path, data: bytes | memoryview, *, mode: int = PUBLIC, overwrite: bool = True
) -> None:
    """Write all of a file's bytes; as `replacing` otherwise."""
    with replacing(path, mode=mode, overwrite=overwrite) as file:
        file.write(data)


def for_each(paths: Iterable[Path], work: Callable[[Path], None]) -> None:
    """Do `work` at each path, also after one at which it fails; one that is gone is no failure.

    Raises the first OSError once all are done.
    """
    failures: list[OSError] = []
    for path in paths:
        try:
            work(path)
        except FileNotFoundError:
            continue
        except OSError as failure:
            failures.append(failure)
    if failures:
        raise failures[0]


def try_folder(folder: Path) -> None:
    """Make a file in a folder that is gone at once. Raises OSError where none can be made."""
    with tempfile.TemporaryFile(dir=folder):
        pass


def sync_folder(folder: Path) -> None:
    """Write a folder's list of files to the disk; does nothing on Windows, which has no way."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
