"""SQLite behind one thread, with commits in groups.

The event loop hands over functions; the thread runs all that wait in one transaction, each in a
savepoint of its own, and answers them after the commit is on disk. So a commit's cost is shared
by those who come at the same time, and nobody is told of success before it is durable.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

T = TypeVar("T")

# A group is bounded so that one commit, and thus one answer, does not take ever longer.
MAX_GROUP = 256


class DatabaseError(Exception):
    """The database could not do it: disk full, corrupt, locked. Nothing was changed."""


class Transaction(Protocol):
    """What the journal's logic needs of a database, whichever it is."""

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> sqlite3.Cursor:
        """Run one statement."""
        ...


Work = Callable[[Transaction], T]


class Database:
    """One SQLite file, used by one process alone."""

    def __init__(self, path: Path, schema: Sequence[Sequence[str]]) -> None:
        """`schema[i]` has the statements that bring version i to version i + 1."""
        self._path = path
        self._schema = schema
        self._inbox: queue.SimpleQueue[tuple[Work[Any], asyncio.Future[Any]] | None] = (
            queue.SimpleQueue()
        )
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._unanswered = 0
        self.commits = 0  # for the bench: how many reached the disk

    async def open(self) -> None:
        """Open the file, bring its schema up to date, start the thread.

        Raises DatabaseError if another process uses it, or a newer version wrote it.
        """
        self._loop = asyncio.get_running_loop()
        opened: asyncio.Future[None] = self._loop.create_future()
        self._unanswered = 1
        self._thread = threading.Thread(
            target=self._serve, args=(opened,), name="journal", daemon=True
        )
        self._thread.start()
        await opened

    async def close(self) -> None:
        """Finish what was handed over, then close."""
        if self._thread is not None:
            self._inbox.put(None)
            await asyncio.to_thread(self._thread.join)
            self._thread = None

    def run(self, work: Work[T]) -> asyncio.Future[T]:
        """Hand over work; the future is done when its commit is on disk.

        Works run in the order of the calls. Raises DatabaseError through the future; what `work`
        raises comes through as it is, and undoes only that work.
        """
        if self._loop is None:
            raise RuntimeError("the database is not open")
        future: asyncio.Future[T] = self._loop.create_future()
        self._inbox.put((work, future))
        self._unanswered += 1
        return future

    def in_order(self, call: Callable[[], None]) -> None:
        """Call once all that was handed over before is answered: at once, if it is."""
        if self._unanswered:
            self.run(lambda _: None).add_done_callback(lambda _: call())
        else:
            call()

    def _serve(self, opened: asyncio.Future[None]) -> None:
        try:
            connection = self._connect()
        except (sqlite3.Error, OSError, DatabaseError) as error:
            reason = error if isinstance(error, DatabaseError) else self._explain(error)
            self._answer([(opened, None, reason)])
            return
        self._answer([(opened, None, None)])
        with contextlib.closing(connection):
            while group := self._next_group():
                self._answer(self._commit(connection, group))

    def _connect(self) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self._path, isolation_level=None, timeout=1)
        # Exclusive: a second bridge on the same folder would run every job twice.
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("PRAGMA journal_mode = WAL")
        # FULL: a commit survives a power cut, not only the end of the process.
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("BEGIN EXCLUSIVE")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > len(self._schema):
            connection.close()
            raise DatabaseError(
                f"{self._path} was written by a newer version (schema {version}, "
                f"this one knows {len(self._schema)})"
            )
        for statements in self._schema[version:]:
            for statement in statements:
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {len(self._schema)}")
        connection.execute("COMMIT")
        return connection

    def _next_group(self) -> list[tuple[Work[Any], asyncio.Future[Any]]]:
        """Wait for work; an empty list means: close."""
        first = self._inbox.get()
        if first is None:
            return []
        group = [first]
        while len(group) < MAX_GROUP:
            try:
                item = self._inbox.get_nowait()
            except queue.Empty:
                break
            if item is None:
                self._inbox.put(None)  # first what was handed over before
                break
            group.append(item)
        return group

    def _commit(
        self,
        connection: sqlite3.Connection,
        group: list[tuple[Work[Any], asyncio.Future[Any]]],
    ) -> list[tuple[asyncio.Future[Any], Any, BaseException | None]]:
        answers: list[tuple[asyncio.Future[Any], Any, BaseException | None]] = []
        try:
            connection.execute("BEGIN IMMEDIATE")
            for work, future in group:
                connection.execute("SAVEPOINT work")
                try:
                    answers.append((future, work(connection), None))
                except Exception as error:
                    if isinstance(error, sqlite3.OperationalError):
                        raise  # disk full and the like: SQLite may have rolled back already
                    connection.execute("ROLLBACK TO work")
                    answers.append((future, None, error))
                connection.execute("RELEASE work")
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            reason = self._explain(error)
            return [(future, None, reason) for _, future in group]
        self.commits += 1
        return answers

    def _explain(self, error: Exception) -> DatabaseError:
        if "locked" in str(error):
            return DatabaseError(f"another process uses {self._path}")
        return DatabaseError(f"{self._path}: {error}")

    def _answer(self, answers: list[tuple[asyncio.Future[Any], Any, BaseException | None]]) -> None:
        """Wake the event loop once for the whole group."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended: nobody waits
                self._loop.call_soon_threadsafe(self._settle, answers)

    def _settle(self, answers: list[tuple[asyncio.Future[Any], Any, BaseException | None]]) -> None:
        self._unanswered -= len(answers)
        for future, value, error in answers:
            if future.done():  # whoever waited was cancelled; the work is done all the same
                continue
            if error is None:
                future.set_result(value)
            else:
                future.set_exception(error)
