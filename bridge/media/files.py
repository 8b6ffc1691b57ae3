"""Bytes too large for the journal's rows, named by their SHA-256."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from io import BufferedReader
from pathlib import Path
from typing import NamedTuple, NoReturn, Protocol

from bridge.atomicfile import for_each, write_file

log = logging.getLogger(__name__)

# Up to this many bytes a blob lies in the journal itself: one commit instead of a file's.
INLINE_LIMIT = 64 * 1024

# How many files are remembered as complete.
_MAX_COMPARED = 4096
_SHA256 = re.compile(r"[0-9a-f]{64}")


# Deletes the blobs that are old enough but those that it is given, by their SHA-256. Blocks.
Sweeper = Callable[[Collection[str]], None]


class BlobDamaged(FileNotFoundError):
    """A blob's bytes are no longer what its name says: as good as gone."""

    def __init__(self, sha256: str) -> None:
        super().__init__(f"the blob {sha256} is damaged")


class Files(Protocol):
    """The store of large blobs. The calls block: use them in a thread."""

    def open(self) -> None:
        """Make what is needed, and clear what a crash left half written."""

    def put(self, sha256: str, data: bytes | memoryview) -> None:
        """Write a blob, durable when this returns.

        One that is there already is only renewed, one that is damaged is repaired.
        """

    def read(self, sha256: str, offset: int = 0, count: int = -1) -> bytes:
        """Return `count` bytes from `offset` on (all, if negative), of a blob that is whole.

        Raises FileNotFoundError; BlobDamaged where the bytes are not those of the name.
        """
        ...

    def sweeper(self, older_than_s: float) -> Sweeper:
        """Return what deletes blobs that are not to be kept and were put longer ago than that.

        The age protects those that were put for a row which is about to be written. It is that at
        this call: what is to be kept is found out after it. So it is no matter how long a process
        stands still in between, in which others put blobs and write their rows.
        """
        ...

    def link(self, sha256: str, lasts_s: float) -> str | None:
        """Return a URL for anybody to read a blob, valid for `lasts_s`; None if there is none."""
        ...

    @property
    def fault(self) -> str | None:
        """The fault of the store now, in a sentence; None while none is known."""
        ...

    def close(self) -> None:
        """Close what is held open."""


class Folder:
    """`Files` in a folder, one each.

    All that is read is compared with its name: when a blob is read whole, and before the first of
    its parts. A file that has not changed since is not compared again for another part.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        # Nothing is deleted between being found and being renewed.
        self._renewing = threading.Lock()
        # What a file was like when it was compared with its name.
        self._compared: OrderedDict[str, _BlobStamp] = OrderedDict()

    def open(self) -> None:
        """Make the folder, and clear what a crash left half written."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with suppress(OSError):  # what cannot be deleted harms nobody
            for_each(self._folder.glob("*.part-*"), Path.unlink)

    def put(self, sha256: str, data: bytes | memoryview) -> None:
        """Write a blob, durable when this returns.

        One that is there already is only renewed, one that is damaged is repaired.
        """
        path = self._path(sha256)
        try:
            with path.open("rb") as file:
                self._compare(sha256, file)
        except FileNotFoundError:
            write_file(path, data)
            return
        with self._renewing:
            if path.exists():
                os.utime(path)
                self._note(sha256, path.stat())
                return
        write_file(path, data)

    def read(self, sha256: str, offset: int = 0, count: int = -1) -> bytes:
        """Return `count` bytes from `offset` on (all, if negative), of a blob that is whole.

        Raises FileNotFoundError; BlobDamaged where the bytes are not those of the name.
        """
        with self._path(sha256).open("rb") as file:
            found = os.fstat(file.fileno())
            if offset == 0 and not 0 <= count < found.st_size:
                data = file.read()
                if hashlib.sha256(data).hexdigest() != sha256:
                    self._remove(sha256, found)
                return data
            self._compare(sha256, file)
            file.seek(offset)
            return file.read(count)

    def _compare(self, sha256: str, file: BufferedReader) -> None:
        """Compare an open file with its name, unless that was done. Raises BlobDamaged."""
        found = os.fstat(file.fileno())
        if self._compared.get(sha256) == _stamp(found):
            return
        if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
            self._remove(sha256, found)
        self._note(sha256, found)

    def _note(self, sha256: str, found: os.stat_result) -> None:
        self._compared[sha256] = _stamp(found)
        self._compared.move_to_end(sha256)
        if len(self._compared) > _MAX_COMPARED:
            self._compared.popitem(last=False)

    def _remove(self, sha256: str, found: os.stat_result) -> NoReturn:
        """Move a damaged file aside, where the sweep finds it: the same bytes may come again."""
        path = self._path(sha256)
        log.error("blob %s is damaged and no longer used; check the disk", sha256)
        with self._renewing, suppress(FileNotFoundError):
            if path.stat().st_ino == found.st_ino:  # else it was repaired meanwhile
                path.replace(path.with_name(f"{sha256}.damaged"))
        raise BlobDamaged(sha256)

    def sweeper(self, older_than_s: float) -> Sweeper:
        """Return what deletes blobs that are not to be kept and were put longer ago than that."""
        # The file system's clock may lag behind ours: by a tick of the kernel's, or on a network
        # drive by more. So the age is measured by what it gives the folder now.
        os.utime(self._folder)
        before = self._folder.stat().st_mtime - older_than_s

        def drop_old(path: Path) -> None:
            with self._renewing:
                if path.stat().st_mtime < before:
                    path.unlink()

        def sweep(keep: Collection[str]) -> None:
            found = self._folder.iterdir()
            for_each((path for path in found if path.name not in keep), drop_old)

        return sweep

    def link(self, _sha256: str, _lasts_s: float) -> None:
        """Return None: the bridge alone reads here."""

    @property
    def fault(self) -> None:
        """Return None: an error is the reader's or the writer's to report."""

    def close(self) -> None:
        """Do nothing: nothing is held open."""

    def _path(self, sha256: str) -> Path:
        check_name(sha256)
        return self._folder / sha256


class MigratingFiles:
    """`Files` that took the place of others: new blobs go to it, old ones are read where they are.

    The old ones are swept as before, until none is left.
    """

    def __init__(self, new: Files, old: Files) -> None:
        self._new = new
        self._old = old

    def open(self) -> None:
        """Open both."""
        self._old.open()
        self._new.open()

    def put(self, sha256: str, data: bytes | memoryview) -> None:
        """Write a blob to the new ones."""
        self._new.put(sha256, data)

    def read(self, sha256: str, offset: int = 0, count: int = -1) -> bytes:
        """Return `count` bytes from `offset` on (all, if negative), from where the blob is.

        Raises FileNotFoundError; BlobDamaged where the bytes are not those of the name.
        """
        try:
            return self._new.read(sha256, offset, count)
        except Exception as failure:  # noqa: BLE001 - also of a store that is away
            try:
                return self._old.read(sha256, offset, count)
            except BlobDamaged:
                raise
            except FileNotFoundError:
                raise failure from None

    def sweeper(self, older_than_s: float) -> Sweeper:
        """Return what sweeps both."""
        new, old = self._new.sweeper(older_than_s), self._old.sweeper(older_than_s)

        def sweep(keep: Collection[str]) -> None:
            try:
                old(keep)
            finally:
                new(keep)

        return sweep

    def link(self, sha256: str, lasts_s: float) -> str | None:
        """Return an address of a blob among the new ones; None if none is."""
        return self._new.link(sha256, lasts_s)

    @property
    def fault(self) -> str | None:
        """The fault of the new ones."""
        return self._new.fault

    def close(self) -> None:
        """Close both."""
        self._new.close()
        self._old.close()


class _BlobStamp(NamedTuple):
    """A file's identity, size and time: the same as long as nobody has written to it."""

    inode: int
    size: int
    modified_ns: int


def _stamp(found: os.stat_result) -> _BlobStamp:
    return _BlobStamp(found.st_ino, found.st_size, found.st_mtime_ns)


def whole(sha256: str, data: bytes) -> bytes:
    """Return small bytes from the journal. Raises BlobDamaged if they are others now."""
    if hashlib.sha256(data).hexdigest() != sha256:
        log.error("blob %s is damaged and not used; check the journal's disk", sha256)
        raise BlobDamaged(sha256)
    return data


def kept_bytes(
    files: Files, sha256: str, data: bytes | None, offset: int = 0, count: int = -1
) -> bytes:
    """Return bytes from a row of the journal, which has `data`, or from the file, if it is None.

    `count` of them from `offset` on, all if negative. Raises FileNotFoundError; BlobDamaged
    where the bytes are not those of the name. Blocks.
    """
    if data is None:
        return files.read(sha256, offset, count)
    return whole(sha256, data)[offset : None if count < 0 else offset + count]


async def read_kept(
    files: Files, sha256: str, data: bytes | None, offset: int = 0, count: int = -1
) -> bytes:
    """Return what `kept_bytes` does, a file's bytes by way of a thread; a row's are few."""
    if data is None:
        return await asyncio.to_thread(files.read, sha256, offset, count)
    return kept_bytes(files, sha256, data, offset, count)


async def put_large(files: Files, media: Mapping[str, bytes]) -> None:
    """Store the bytes that are too many for a row, by SHA-256; before their row is written."""
    for sha256, data in media.items():
        if len(data) > INLINE_LIMIT:
            await asyncio.to_thread(files.put, sha256, data)


def compare_all(files: Files, names: Iterable[str]) -> tuple[list[str], list[str]]:
    """Compare blobs with their names; returns those that are damaged, and those missing. Blocks."""
    damaged, missing = [], []
    for sha256 in names:
        try:
            files.read(sha256, 0, 0)
        except BlobDamaged:
            damaged.append(sha256)
        except FileNotFoundError:
            missing.append(sha256)
    return damaged, missing


def check_name(sha256: str) -> None:
    """Raise ValueError for what names no blob."""
    if _SHA256.fullmatch(sha256) is None:
        raise ValueError(f"no SHA-256: {sha256!r}")
