"""A backup of what a bridge keeps, in one tar file.

Its journal, the blobs that this names, and the keys of the web adapter and of links, so that
browsers stay logged in and links stay good.

It can be made while the bridge runs. After a restore no job runs again: what had not ended when the
backup was made is `lost`, since what became of it afterwards is not in there.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import re
import shutil
import sqlite3
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO

from msgspec import Struct, structs

from bridge.atomicfile import PRIVATE, replacing, write_file
from bridge.jobs.journal import queries

JOURNAL = "journal.db"
KEYS = "keys.json"
LINK_KEY = "link.key"
# Names the bucket that has the blobs which are not in the backup.
ELSEWHERE = "elsewhere"
BLOBS = "blobs"
_BLOB = re.compile(rf"{BLOBS}/([0-9a-f]{{64}})")
_MEMBERS = (JOURNAL, KEYS, LINK_KEY, ELSEWHERE)
_CHUNK = 1024 * 1024


class BackupError(Exception):
    """A backup cannot be made, or is none; nothing was changed. The text is one line."""


class BackupReport(Struct, frozen=True):
    """A backup's contents: jobs, blobs in files and the bytes of those, and the files of keys.

    `left` are files of keys that a restore did not touch, because there were some already.
    `elsewhere` counts the blobs that the journal names and that are in a bucket instead, `bucket`.
    """

    jobs: int
    blobs: int
    size: int
    keys: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    elsewhere: int = 0
    bucket: str = ""


def back_up(
    folder: Path, target: Path, keys: Mapping[str, Path] | None = None, bucket: str = ""
) -> BackupReport:
    """Write a backup of a bridge's data folder; whole or not at all. Raises BackupError.

    Blobs that are in a bucket stay there: the backup has its name.

    `keys` are the files of KEYS and LINK_KEY, wherever they lie; one that is not there is left out.
    The backup is for its owner's eyes: it holds what clients sent, and with LINK_KEY a secret.
    """
    found = {name: path for name, path in (keys or {}).items() if path.is_file()}
    if target.exists():
        raise BackupError(f"{target} exists already: name another file")
    try:
        with tempfile.TemporaryDirectory(prefix="comfy2mqtt-backup-") as temporary:
            snapshot = Path(temporary) / JOURNAL
            jobs, blobs = _snapshot(folder / JOURNAL, snapshot)
            with (
                replacing(target, mode=PRIVATE) as file,
                tarfile.open(fileobj=file, mode="w") as tar,
            ):
                sizes = {each: _add_blob(tar, folder / BLOBS / each) for each in blobs}
                here = [size for size in sizes.values() if size is not None]
                if not bucket:
                    gone = [folder / BLOBS / each for each in blobs if sizes[each] is None]
                    _forget_swept(gone, folder / JOURNAL, snapshot)
                tar.add(snapshot, JOURNAL)
                if bucket:
                    entry = tarfile.TarInfo(ELSEWHERE)
                    entry.size = len(bucket.encode())
                    tar.addfile(entry, io.BytesIO(bucket.encode()))
                for name, path in found.items():
                    tar.add(path, name)
    except (OSError, sqlite3.Error, tarfile.TarError) as error:
        raise BackupError(f"{target}: {_why(error)}") from error
    elsewhere = len(blobs) - len(here) if bucket else 0
    size = sum(here)
    return BackupReport(jobs, len(here), size, tuple(found), elsewhere=elsewhere, bucket=bucket)


def unpack(file: Path, folder: Path, keys: Mapping[str, Path] | None = None) -> BackupReport:
    """Put a backup into a data folder that has no journal, and keys to where there are none.

    Every blob is compared with its name. Raises BackupError.
    """
    if (folder / JOURNAL).exists():
        raise BackupError(f"{folder / JOURNAL} exists: move it away first")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (
            tempfile.TemporaryDirectory(prefix="restoring-", dir=folder) as temporary,
            tarfile.open(file) as tar,
        ):
            found = Path(temporary)
            report = _extract(tar, found)
            report = _place_keys(found, keys or {}, report)
            (folder / BLOBS).mkdir(exist_ok=True)
            for blob in (found / BLOBS).iterdir():
                blob.replace(folder / BLOBS / blob.name)
            # Last: with it the folder counts.
            (found / JOURNAL).replace(folder / JOURNAL)
    except tarfile.ReadError as error:
        raise BackupError(f"{file}: not a backup of comfy2mqtt: no tar archive") from error
    except (OSError, sqlite3.Error, tarfile.TarError) as error:
        raise BackupError(f"{file}: {_why(error)}") from error
    return report


def _why(error: Exception) -> str:
    """Return an error's reason, with the file or folder that it is about."""
    if not isinstance(error, OSError) or error.strerror is None:
        return str(error)
    return error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"


def _snapshot(journal: Path, target: Path) -> tuple[int, list[str]]:
    """Copy a journal that may be in use, as it is at one moment."""
    if not journal.is_file():
        raise BackupError(f"{journal}: there is no journal; is this the bridge's folder (data)?")
    with (
        closing(_opened_to_read(journal)) as source,
        closing(sqlite3.connect(target)) as copy,
    ):
        source.backup(copy)
        return _counted(copy)


def _add_blob(tar: tarfile.TarFile, path: Path) -> int | None:
    """Add a blob; returns its size in bytes, None if it is not there."""
    try:
        with path.open("rb") as file:
            entry = tar.gettarinfo(arcname=f"{BLOBS}/{path.name}", fileobj=file)
            tar.addfile(entry, file)
    except FileNotFoundError:
        return None
    return entry.size


def _forget_swept(gone: Sequence[Path], journal: Path, snapshot: Path) -> None:
    """Take blobs out of a snapshot that the bridge has deleted since.

    Raises FileNotFoundError for one that its journal still names.
    """
    if not gone:
        return
    with closing(_opened_to_read(journal)) as present:
        named = set(_counted(present)[1])
    for path in gone:
        if path.name in named:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    with closing(sqlite3.connect(snapshot)) as copy:
        for table in ("outputs", "media", "uploads", "blobs"):
            statement = f"DELETE FROM {table} WHERE sha256 = ?"  # noqa: S608 - ours
            copy.executemany(statement, [(path.name,) for path in gone])
        copy.commit()


def _opened_to_read(journal: Path) -> sqlite3.Connection:
    return sqlite3.connect(journal.absolute().as_uri() + "?mode=ro", uri=True)


def _counted(journal: sqlite3.Connection) -> tuple[int, list[str]]:
    (jobs,) = journal.execute(queries.HOW_MANY_JOBS).fetchone()
    blobs = journal.execute(queries.FILES)
    return jobs, [sha256 for (sha256,) in blobs]


def _extract(tar: tarfile.TarFile, folder: Path) -> BackupReport:
    """Take out what a backup of ours has, and nothing else; a name in it is never a path."""
    (folder / BLOBS).mkdir()
    size = 0
    there: set[str] = set()
    for member in tar:
        match = _BLOB.fullmatch(member.name)
        if not member.isreg() or (match is None and member.name not in _MEMBERS):
            raise BackupError(f"{member.name!r} does not belong in a backup")
        with _opened(tar, member) as source:
            if match is None:
                with (folder / member.name).open("xb") as target:
                    shutil.copyfileobj(source, target, _CHUNK)
                continue
            sha256 = match[1]
            if _copy_blob(source, folder / BLOBS / sha256) != sha256:
                raise BackupError(f"{member.name} is damaged")
            there.add(sha256)
            size += member.size
    if not (folder / JOURNAL).exists():
        raise BackupError("it has no journal: not a backup of comfy2mqtt")
    with closing(sqlite3.connect(folder / JOURNAL)) as journal:
        jobs, wanted = _counted(journal)
    named = folder / ELSEWHERE
    bucket = named.read_text() if named.exists() else ""
    missing = set(wanted) - there
    if missing and not bucket:
        raise BackupError(f"it lacks {len(missing)} blobs that its journal names")
    return BackupReport(jobs, len(there), size, elsewhere=len(missing), bucket=bucket)


def _place_keys(found: Path, keys: Mapping[str, Path], report: BackupReport) -> BackupReport:
    """Move the files of keys to their places; those that are there already stay."""
    there = {name: path for name, path in keys.items() if (found / name).is_file()}
    left = tuple(name for name, path in there.items() if path.exists())
    for name, path in there.items():
        if name not in left:
            write_file(path, (found / name).read_bytes(), mode=PRIVATE)
    return structs.replace(
        report, keys=tuple(name for name in there if name not in left), left=left
    )


@contextmanager
def _opened(tar: tarfile.TarFile, member: tarfile.TarInfo) -> Iterator[IO[bytes]]:
    source = tar.extractfile(member)
    if source is None:
        raise BackupError(f"{member.name!r} is no file")
    with source:
        yield source


def _copy_blob(source: IO[bytes], path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("xb") as target:
        while data := source.read(_CHUNK):
            digest.update(data)
            target.write(data)
        target.flush()
        os.fsync(target.fileno())
    return digest.hexdigest()
