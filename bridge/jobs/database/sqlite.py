"""SQLite: one file, written by one process alone; others may read it, for a backup."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from bridge.jobs.database.engine import (
    FULL_DISK,
    DatabaseError,
    Schema,
    Task,
    TransientError,
    WorkResult,
    nothing_to_keep,
    run_each,
)

# Bytes; a disk with less is full.
_LEAST_ROOM = 1024 * 1024


class _Connection(sqlite3.Connection):
    """A connection as a `Transaction`."""

    def notify(self, channel: str, text: str) -> None:
        """Do nothing: nobody else has the file."""


class Sqlite:
    """An `Engine` on a file."""

    round_trips = 0

    def __init__(self, path: Path, schema: Schema) -> None:
        self._path = path
        self.name = str(path)
        self._schema = schema
        self._connection: _Connection | None = None
        self._opened: tuple[int, int] | None = None  # the file, as the system knows it
        self._lock: sqlite3.Connection | None = None

    def open(self) -> None:
        """Open the file, or make it.

        Raises DatabaseError if another process uses it, or a newer version wrote it.
        """
        try:
            self._open()
        except (sqlite3.Error, OSError) as error:
            raise self._explain(error) from error

    def run(self, tasks: Sequence[Task]) -> list[WorkResult]:
        """Run works in one transaction; in one each where the disk has no room for them all.

        So a full disk costs no work that only reads.
        """
        try:
            return self._attempt(tasks)
        except TransientError:
            if len(tasks) == 1:
                raise
        return [self._alone(task) for task in tasks]

    def _alone(self, task: Task) -> WorkResult:
        try:
            (answer,) = self._attempt([task])
        except TransientError as error:
            return WorkResult(error=error)
        return answer

    def _attempt(self, tasks: Sequence[Task]) -> list[WorkResult]:
        connection = self._connection
        if connection is None:
            raise RuntimeError("the database is not open")
        self._see_that_it_is_there()
        try:
            connection.execute("BEGIN IMMEDIATE")
            # Disk full and the like: SQLite may have rolled back already.
            answers = self._explained(run_each(connection, tasks, (sqlite3.OperationalError,)))
            connection.execute("ROLLBACK" if nothing_to_keep(answers) else "COMMIT")
        except sqlite3.Error as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise self._explain(error) from error
        return answers

    def _see_that_it_is_there(self) -> None:
        """Raise TransientError if the file was moved or deleted.

        SQLite would write to what is left of it. A new file there would forget what was accepted,
        so none is made.
        """
        try:
            there = _identity(self._path)
        except OSError as error:
            raise TransientError(
                f"{self._path} is gone, though a bridge uses it ({error.strerror}): put it back "
                "where it was, or restart the bridge, which begins with an empty journal"
            ) from error
        if there != self._opened:
            raise TransientError(
                f"{self._path} is another file than the bridge has opened: put that one back "
                "where it was, or restart the bridge, which uses this one"
            )

    def guard(self, query: str) -> None:
        """Do nothing: nobody else has the file."""

    def interrupt(self) -> None:
        """Do nothing: a file is never long away."""

    def close(self) -> None:
        """Close the file."""
        for connection in (self._connection, self._lock):
            if connection is not None:
                connection.close()
        self._connection = self._lock = None

    def _open(self) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            kind = TransientError if error.errno in FULL_DISK else DatabaseError
            raise kind(
                f"{self._path.parent} cannot be used as the bridge's folder (data): "
                f"{error.strerror}"
            ) from error
        # A second bridge on the same folder would run every job twice. The lock is of a file of
        # its own, so that a backup can read the journal meanwhile.
        self._lock = sqlite3.connect(
            self._path.with_suffix(".lock"), isolation_level=None, timeout=1
        )
        self._lock.execute("BEGIN EXCLUSIVE")
        connection = sqlite3.connect(
            self._path, isolation_level=None, timeout=1, factory=_Connection
        )
        self._connection = connection
        connection.execute("PRAGMA journal_mode = WAL")
        # FULL: a commit survives a power cut, not only the end of the process.
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("BEGIN EXCLUSIVE")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > len(self._schema):
            raise DatabaseError(
                f"{self._path} was written by a newer version (schema {version}, "
                f"this one knows {len(self._schema)})"
            )
        for statements in self._schema[version:]:
            for statement in statements:
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {len(self._schema)}")
        connection.execute("COMMIT")
        self._opened = _identity(self._path)

    def _explained(self, answers: list[WorkResult]) -> list[WorkResult]:
        """Return the answers, those of a damaged file with what to do."""
        return [
            WorkResult(error=self._explain(each.error))
            if each.error is not None and _is_damage(each.error)
            else each
            for each in answers
        ]

    def _explain(self, error: BaseException) -> DatabaseError:
        if _is_damage(error):
            return DatabaseError(
                f"{self._path} is damaged ({error}): with the bridge stopped, "
                "`comfy2mqtt doctor --journal` saves what can be read, and "
                "`comfy2mqtt restore` puts a backup in its place"
            )
        if "locked" in str(error):
            return DatabaseError(f"another process uses {self._path}")
        kind = TransientError if self._may_pass(error) else DatabaseError
        return kind(f"{self._path}: {error}")

    def _may_pass(self, error: BaseException) -> bool:
        """True if this is a disk that is full, as far as can be seen."""
        if isinstance(error, OSError):
            return error.errno in FULL_DISK
        code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
        if code == sqlite3.SQLITE_CANTOPEN:
            # Also where a file may not be made; a full disk is seen by its room.
            with suppress(OSError):
                return shutil.disk_usage(self._path.parent).free < _LEAST_ROOM
        return code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)


def _identity(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino


def _is_damage(error: BaseException) -> bool:
    """True if the file is not what SQLite wrote; extended codes have the plain one in a byte."""
    code = getattr(error, "sqlite_errorcode", None) or 0
    return code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
