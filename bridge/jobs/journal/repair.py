"""A journal of SQLite's that a failing disk has damaged: what is wrong, and what can be saved.

`check` only looks. `repair` copies every row that can be read into a new file, which takes the
place of the damaged one; that stays beside it. All of this blocks.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from msgspec import Struct

from bridge.atomicfile import sync_folder
from bridge.jobs.database import DatabaseError
from bridge.jobs.journal import queries, sequence
from bridge.jobs.journal.schema import ADDED, SCHEMA
from bridge.media.files import Folder

_PROBLEMS_SHOWN = 10
_LARGEST_ROWID = 2**63 - 1
_TABLES = "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY rootpage"
# Rows that name bytes which are gone.
_ORPHANS = tuple(
    f"DELETE FROM {table} WHERE sha256 NOT IN (SELECT sha256 FROM blobs)"  # noqa: S608 - ours
    for table in ("outputs", "media", "uploads")
)
# The rows of `clients` may be lost, or old.
_RESERVE_ALL_OF_JOBS = """
    INSERT INTO clients (client, reserved) SELECT client, MAX(n) FROM jobs GROUP BY client
    ON CONFLICT (client) DO UPDATE SET reserved = MAX(reserved, excluded.reserved)"""


class Unrepairable(Exception):
    """The journal cannot be repaired, or not now; the text is one line and says what to do."""


class JournalFaults(Struct, frozen=True):
    """Faults of the journal, and the hashes of stored bytes that are damaged or missing."""

    faults: list[str]
    damaged: list[str]
    missing: list[str]

    @property
    def sound(self) -> bool:
        """True if nothing is wrong."""
        return not (self.faults or self.damaged or self.missing)


class RepairReport(Struct, frozen=True):
    """A repair: rows that are in the new journal, by table, and where the damaged one is."""

    rows: dict[str, int]
    aside: Path


def check(journal: Path, blobs: Path) -> JournalFaults:
    """Compare a journal with itself, and all stored bytes with their SHA-256.

    It may be in use. Raises Unrepairable for one that a newer version wrote.
    """
    faults: list[str] = []
    damaged: list[str] = []
    missing: list[str] = []
    try:
        with closing(_opened(journal)) as source:
            _version(source)
            found = source.execute(f"PRAGMA integrity_check({_PROBLEMS_SHOWN})")
            faults += [text for (text,) in found if text != "ok"]
            orphans = source.execute("PRAGMA foreign_key_check").fetchall()
            if orphans:
                faults.append(f"{len(orphans)} rows name bytes that are not there")
            rows = source.execute("SELECT sha256, data FROM blobs WHERE data IS NOT NULL")
            damaged += [name for name, data in rows if hashlib.sha256(data).hexdigest() != name]
            files = [sha256 for (sha256,) in source.execute(queries.FILES)]
    except sqlite3.DatabaseError as error:
        return JournalFaults([*faults, str(error)], damaged, missing)
    for sha256 in files:
        try:
            with (blobs / sha256).open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
                    damaged.append(sha256)
        except OSError:
            missing.append(sha256)
    return JournalFaults(faults, damaged, missing)


def repair(journal: Path) -> RepairReport:
    """Save what can be read into a new journal, in place of the damaged one.

    Raises Unrepairable, and DatabaseError where another process uses it.
    """
    new = journal.with_name(f"{journal.name}.repairing")
    aside = journal.with_name(f"{journal.name}.damaged-{time.strftime('%Y%m%d-%H%M%S')}")
    with _locked(journal):
        new.unlink(missing_ok=True)
        try:
            with closing(_opened(journal)) as source, closing(sqlite3.connect(new)) as target:
                rows = _copied(source, target)
        except sqlite3.DatabaseError as error:
            raise Unrepairable(
                f"nothing can be read of {journal} ({error}): put a backup in its place"
                " (comfy2mqtt restore), or move it away to begin with an empty one"
            ) from None
        # The log of the damaged one first: SQLite would write it into the new one.
        for suffix in ("-wal", "-shm"):
            path = journal.with_name(journal.name + suffix)
            if path.exists():
                path.replace(aside.with_name(aside.name + suffix))
        # At no time is there no journal: a bridge that starts then would begin with an empty one.
        os.link(journal, aside)
        new.replace(journal)
        sync_folder(journal.parent)
    return RepairReport(rows, aside)


def set_aside(blobs: Path, damaged: list[str]) -> None:
    """Move damaged files aside, so that their bytes are written again when they come again."""
    folder = Folder(blobs)
    for sha256 in damaged:
        try:
            folder.read(sha256)
        except FileNotFoundError:
            continue  # Damaged, and aside now; or it was in a row


def _opened(journal: Path) -> sqlite3.Connection:
    return sqlite3.connect(journal.absolute().as_uri() + "?mode=ro", uri=True)


def _version(journal: sqlite3.Connection) -> int:
    (version,) = journal.execute("PRAGMA user_version").fetchone()
    if version > len(SCHEMA):
        raise Unrepairable("the journal was written by a newer version: use that one")
    return version or len(SCHEMA)


@contextmanager
def _locked(journal: Path) -> Iterator[None]:
    """Hold what a bridge holds while it runs."""
    with closing(
        sqlite3.connect(journal.with_suffix(".lock"), isolation_level=None, timeout=1)
    ) as lock:
        try:
            lock.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError:
            raise DatabaseError(f"a bridge uses {journal}: stop it first") from None
        yield


def _copied(source: sqlite3.Connection, target: sqlite3.Connection) -> dict[str, int]:
    version = _version(source)
    for statements in (*SCHEMA[:version], ADDED):
        for statement in statements:
            target.execute(statement)
    target.execute(f"PRAGMA user_version = {version}")
    copied: dict[str, int] = {}
    for (table,) in target.execute(_TABLES).fetchall():
        copied[table] = 0
        for row in _readable(source, table):
            marks = ", ".join("?" * len(row))
            done = target.execute(f"INSERT OR IGNORE INTO {table} VALUES ({marks})", row)  # noqa: S608
            copied[table] += done.rowcount
    for statement in _ORPHANS:
        target.execute(statement)
    target.execute(_RESERVE_ALL_OF_JOBS)
    sequence.raise_above_seen(target)
    target.commit()
    return copied


def _readable(source: sqlite3.Connection, table: str) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of a table, past those that cannot be read; indexes are not looked at."""
    query = f"SELECT rowid, * FROM {table} NOT INDEXED WHERE rowid >= ? ORDER BY rowid"  # noqa: S608
    start, step = 0, 1
    while start <= _LARGEST_ROWID:
        try:
            for rowid, *row in source.execute(query, (start,)):
                start, step = rowid + 1, 1
                yield tuple(row)
        except sqlite3.DatabaseError:
            # A page that cannot be read may hold many rows: look further and further on.
            start += step
            step *= 2
        else:
            return
