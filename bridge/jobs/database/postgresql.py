"""PostgreSQL: one database that several bridges share.

Each transaction first takes all the locks that it needs, in one order: the journal's, shared or
alone, and then those of what its works touch (`Touched`). Whatever two transactions could do to
each other's rows, one of them waits for before it has read anything. So what the journal's logic
may rely on is the same as with SQLite, nothing can deadlock, and numbers drawn in a transaction are
committed in their order; docs/several-bridges.md has the proof.

A connection that is lost is made again. If that happens during a commit, nobody knows at first
whether it reached the disk. Before anybody is answered, the database is asked what became of the
transaction, or the works are done again until it answers, if all of them may be.
"""

from __future__ import annotations

import contextlib
import logging
import re
import threading
import time
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo

from bridge.jobs.database.engine import (
    DatabaseError,
    LeaseLost,
    Schema,
    Task,
    TransientError,
    WorkResult,
    nothing_to_keep,
    run_each,
    run_interleaved,
)
from bridge.jobs.database.pipeline import PendingResult, Pipeline
from bridge.retry import Backoff
from bridge.text import one_line, split_account

log = logging.getLogger(__name__)

# Names of advisory locks: any numbers that nobody else uses in this database. One is the whole
# journal's, which versions before this one take alone for each transaction; the other one begins
# the names of what a work touches.
_JOURNAL = 0x63326D_01
_TOUCHED = 0x63326D
# Who touches more takes the whole journal: the server's table of locks is bounded.
_MOST_TOUCHED = 512

# A bridge that freezes within a transaction holds everybody up: the server ends it after this.
FROZEN_TIMEOUT_S = 5
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 5.0
_STATUS_PAUSE_S = 0.1

# After these nothing more can be done in a transaction.
_LEASE_LOST = psycopg.errors.DivisionByZero
# What was prepared is another session's: a pooler gives each transaction any session.
_POOLED = (psycopg.errors.DuplicatePreparedStatement, psycopg.errors.InvalidSqlStatementName)
_FATAL = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    psycopg.InternalError,
    _LEASE_LOST,
    *_POOLED,
)
# These pass, if the transaction is run again.
_AGAIN = (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure)
_IN_THE_FUTURE = "22023"
# Codes and texts of what passes: no connection, no room or memory, starting up, shutting down.
_PASSING = ("08", "53", "57P")
_PASSING_TEXTS = ("starting up", "shutting down", "recovery", "too many clients")
# What libpq says of an address that it cannot use, whatever the server does.
_WRONG_ADDRESS = re.compile(
    r"invalid (port number|\w+ value|integer value|connection option|percent-encoded)"
    r"|could not match \d+|certificate file .* does not exist|may not be used with"
)

_ALONE = f"SELECT pg_advisory_xact_lock({_JOURNAL})"
_SHARED = f"SELECT pg_advisory_xact_lock_shared({_JOURNAL})"
# First the journal's lock: no row comes of the two before it. The array is of numbers in ascending
# order, and is gone through in its order.
_SHARED_AND_TOUCHED = (
    f"SELECT pg_advisory_xact_lock({_TOUCHED}, each) "  # noqa: S608 - ours
    f"FROM ({_SHARED}) AS journal, unnest(?::text::int[]) AS each"
)
_NAME = "SELECT pg_current_xact_id()::text"
_TRANSACTION_STATUS = "SELECT pg_xact_status(?::text::xid8)"


class PostgreSQL:
    """An `Engine` on a database, given by its address: postgresql://user:password@host/name."""

    def __init__(self, address: str, schema: Schema) -> None:
        self._address = address
        self._schema = schema
        self.name = name_of(address)
        self._pipeline: Pipeline | None = None
        self._guard, self._named = "", _NAME
        self._interrupted = threading.Event()
        self._retry_at = 0.0
        self._backoff = Backoff(_FIRST_PAUSE_S, _LONGEST_PAUSE_S)
        self.round_trips = 0

    def open(self) -> None:
        """Connect, and bring the tables up to date.

        Raises DatabaseError if it cannot be reached, or a newer version wrote it.
        """
        pipeline = self._connected()
        try:
            self._begin(pipeline, None)
            self._migrate(pipeline)
            pipeline.command("COMMIT")
            pipeline.settle()
        except psycopg.Error as error:
            raise self._explain(error) from error

    def probe(self) -> str:
        """Connect, and return what the database is called. Raises DatabaseError."""
        self._connected()
        return self.name

    def run(self, tasks: Sequence[Task]) -> list[WorkResult]:
        """Run works in one transaction; once more where the connection was lost before its end.

        If it was lost during the commit of what may be done again, that is done until a server
        answers: before that nobody knows what became of it.
        """
        try:
            return self._attempt_twice(tasks)
        except _NotKnown as lost:
            log.warning("%s", lost)
        while True:
            with contextlib.suppress(DatabaseError):
                return self._attempt(tasks)
            self._pause()

    def guard(self, query: str) -> None:
        """Begin each transaction with a query: if it fails, all that was sent after it is void."""
        self._guard, self._named = query, f"{_NAME}, ({query})"

    def interrupt(self) -> None:
        """End a wait for the database."""
        self._interrupted.set()

    def close(self) -> None:
        """Disconnect."""
        if self._pipeline is not None:
            self._pipeline.close()
            self._pipeline = None

    def _attempt_twice(self, tasks: Sequence[Task]) -> list[WorkResult]:
        try:
            return self._attempt(tasks)
        except _NothingDone as nothing:
            log.warning("%s", nothing)
        return self._attempt(tasks)

    def _attempt(self, tasks: Sequence[Task]) -> list[WorkResult]:
        """Run works together; one after another where one of them fails."""
        pipeline = self._connected()
        before = pipeline.round_trips
        try:
            with contextlib.suppress(_WorkFailed):
                return self._transaction(pipeline, tasks, _together)
            return self._transaction(pipeline, tasks, _one_after_another)
        finally:
            self.round_trips += pipeline.round_trips - before

    def _transaction(
        self,
        pipeline: Pipeline,
        tasks: Sequence[Task],
        run: Callable[[_Transaction, Sequence[Task]], list[WorkResult]],
    ) -> list[WorkResult]:
        touched = _touched(tasks)
        try:
            name = self._begin(pipeline, touched)
            transaction = _Transaction(pipeline, lambda again: self._commit(pipeline, name, again))
            try:
                answers = run(transaction, tasks)
            except _WorkFailed:
                _roll_back(pipeline)
                raise
            if not transaction.committed:
                pipeline.settle()
                if nothing_to_keep(answers):
                    _roll_back(pipeline)
                    return answers
                transaction.commit(again=False)
        except psycopg.Error as error:
            raise self._nothing_done(pipeline, error) from error
        self._notify(pipeline, transaction.notices)
        return answers

    def _begin(self, pipeline: Pipeline, touched: Sequence[int] | None) -> PendingResult | None:
        """Begin a transaction; each statement after the locks sees all that was done before.

        Returns its name; None for one that only reads, which needs none.
        """
        pipeline.command("BEGIN ISOLATION LEVEL READ COMMITTED")
        if touched is None:
            pipeline.execute(_ALONE)
        elif touched:
            pipeline.execute(_SHARED_AND_TOUCHED, (f"{{{','.join(map(str, touched))}}}",))
        else:
            pipeline.execute(_SHARED)
            if self._guard:
                pipeline.execute(self._guard)
            return None
        return pipeline.execute(self._named)

    def _commit(self, pipeline: Pipeline, name: PendingResult | None, again: bool) -> None:  # noqa: FBT001
        """Commit. Raises psycopg.Error if that was refused, with what was sent before it.

        Where the answer is lost, raises _NotKnown for what may be done `again`, and finds out what
        became of all else.
        """
        commit = pipeline.command("COMMIT")
        try:
            pipeline.settle()
        except psycopg.Error as error:
            if not pipeline.closed and not commit.is_here:
                raise
            if not commit.is_here:
                lost = f"lost the connection to {self.name} during a commit"
                if again:
                    raise _NotKnown(lost) from error
                log.warning("%s", lost)
                if name is not None and not self._was_committed(name):
                    raise _NothingDone(f"{self.name}: {one_line(str(error))}") from error
        if commit.is_here and commit.status != "COMMIT":
            raise DatabaseError(f"{self.name}: the transaction ended with {commit.status}")

    def _notify(self, pipeline: Pipeline, notices: Sequence[tuple[str, str]]) -> None:
        """Send notices, after the commit: transactions that notify are committed one at a time."""
        if notices and not pipeline.closed:
            try:
                for notice in notices:
                    pipeline.execute("SELECT pg_notify(?, ?)", notice)
                pipeline.send()
            except psycopg.Error as error:
                log.warning("%s: notices were lost: %s", self.name, one_line(str(error)))

    def _nothing_done(self, pipeline: Pipeline, error: Exception) -> Exception:
        """Undo what was begun; says whether another attempt has a chance."""
        if not pipeline.closed:
            try:
                _roll_back(pipeline)
            except psycopg.Error:
                pipeline.close()
        if isinstance(error, _LEASE_LOST):
            return LeaseLost(f"{self.name}: this bridge was counted as dead")
        if pipeline.closed or isinstance(error, _AGAIN):
            return _NothingDone(f"{self.name}: {one_line(str(error))}")
        return self._explain(error)

    def _was_committed(self, name: PendingResult) -> bool:
        """Query whether a transaction was committed, until a server answers."""
        transaction, *_ = name.fetchone()
        while True:
            committed = self._is_committed(transaction)
            if committed is not None:
                return committed
            self._pause()

    def _pause(self) -> None:
        """Wait before the server is asked again for what it has done. Raises DatabaseError."""
        if self._interrupted.wait(_STATUS_PAUSE_S):
            raise DatabaseError(f"{self.name} is offline: whether it has committed is not known")

    def _is_committed(self, transaction: str) -> bool | None:
        """True if it was committed; None if that is not known yet."""
        try:
            row = self._connected().execute(_TRANSACTION_STATUS, (transaction,)).fetchone()
        except DatabaseError:
            return None
        except psycopg.Error as error:
            # A number that the server has not given out: it was lost with the server's memory.
            return False if error.sqlstate == _IN_THE_FUTURE else None
        status = None if row is None else row[0]
        return None if status == "in progress" else status == "committed"

    def _connected(self) -> Pipeline:
        """Return a connection that works as far as is known.

        Raises DatabaseError if there is none; not everybody who asks waits for that again.
        """
        if self._pipeline is not None and self._pipeline.is_alive():
            return self._pipeline
        if time.monotonic() < self._retry_at:
            raise TransientError(f"{self.name} is offline")
        try:
            self._pipeline = Pipeline(connect(self._address))
        except psycopg.Error as error:
            self._retry_at = time.monotonic() + self._backoff.next()
            raise self._explain(error) from error
        self._retry_at = 0.0
        self._backoff.reset()
        return self._pipeline

    def _migrate(self, pipeline: Pipeline) -> None:
        pipeline.execute("CREATE TABLE IF NOT EXISTS schema_version (version BIGINT NOT NULL)")
        row = pipeline.execute("SELECT version FROM schema_version").fetchone()
        version = 0 if row is None else row[0]
        if version > len(self._schema):
            raise DatabaseError(
                f"{self.name} was written by a newer version (schema {version}, "
                f"this one knows {len(self._schema)})"
            )
        for statements in self._schema[version:]:
            for statement in statements:
                pipeline.execute(in_dialect(statement))
        pipeline.execute("DELETE FROM schema_version")
        pipeline.execute("INSERT INTO schema_version VALUES (?)", (len(self._schema),))

    def _explain(self, error: Exception) -> DatabaseError:
        if isinstance(error, _POOLED):
            return DatabaseError(
                f"{self.name} is behind a pooler that gives each transaction another session: "
                "it has to be in session mode (PgBouncer: pool_mode = session), or left out"
            )
        kind = TransientError if may_pass(error) else DatabaseError
        # libpq repeats an address that it cannot read, with the password in it.
        return kind(f"{self.name}: {one_line(str(error).replace(self._address, self.name))}")


def may_pass(error: Exception) -> bool:
    """True if the server is not there, is starting or stopping, or has no room.

    An address that cannot be used does not pass. A connection that is refused for another reason,
    such as a wrong password, has a FATAL in its text and no code.
    """
    if not isinstance(error, psycopg.OperationalError):
        return False
    if error.sqlstate is not None:
        return error.sqlstate.startswith(_PASSING)
    text = str(error)
    if _WRONG_ADDRESS.search(text) is not None:
        return False
    return "FATAL" not in text or any(each in text for each in _PASSING_TEXTS)


class _NothingDone(DatabaseError):
    """The transaction was undone for a reason that has passed, perhaps."""


class _NotKnown(DatabaseError):
    """Nobody knows whether the transaction was committed."""


class _WorkFailed(Exception):
    """One of several works failed: which one shows once they run one after another."""


class _Transaction:
    """A connection as a `Transaction`."""

    def __init__(self, pipeline: Pipeline, commit: Callable[[bool], None]) -> None:
        self.execute = pipeline.execute
        self.settle = pipeline.settle
        self._commit = commit
        self.committed = False
        self.notices: list[tuple[str, str]] = []

    def commit(self, *, again: bool = True) -> None:
        """Wait until it is on disk."""
        self._commit(again)
        self.committed = True

    def notify(self, channel: str, text: str) -> None:
        """Send a notice after the commit."""
        self.notices.append((channel, text))


def _together(transaction: _Transaction, tasks: Sequence[Task]) -> list[WorkResult]:
    try:
        answers = run_interleaved(transaction, tasks, transaction.settle, transaction.commit)
        if not transaction.committed:
            transaction.settle()
    except (*_FATAL, DatabaseError):
        raise
    except Exception as error:
        raise _WorkFailed from error
    return answers


def _one_after_another(transaction: _Transaction, tasks: Sequence[Task]) -> list[WorkResult]:
    return run_each(transaction, tasks, _FATAL, transaction.settle)


def _touched(tasks: Sequence[Task]) -> list[int] | None:
    """Return the locks of what works touch, in the order of all; None for the whole journal.

    Two names may have one lock: then one waits for the other in vain.
    """
    names = set[str]()
    for task in tasks:
        if task.touched is None:
            return None
        names |= task.touched
    if len(names) > _MOST_TOUCHED:
        return None
    return sorted({zlib.crc32(name.encode()) - 2**31 for name in names})


def _roll_back(pipeline: Pipeline) -> None:
    with contextlib.suppress(psycopg.Error):
        pipeline.settle()  # after an error nothing is done that was sent together with it
    pipeline.command("ROLLBACK")
    pipeline.settle()


def connect(address: str) -> psycopg.Connection[Any]:
    """Connect. Raises psycopg.Error."""
    connection = psycopg.connect(watched(address, "comfy2mqtt"), autocommit=True)
    _run_script(
        connection,
        f"SET idle_in_transaction_session_timeout = '{FROZEN_TIMEOUT_S}s';"
        "SET client_min_messages = warning;"
        # A commit survives a power cut, whatever the server's default is.
        "SELECT set_config('synchronous_commit', 'on', false) "
        "WHERE current_setting('synchronous_commit') = 'off'",
    )
    return connection


def watched(address: str, application: str) -> str:
    """Return how to connect so that a peer or a network that died is noticed within seconds.

    `application` is the connection's name at the server. Raises psycopg.Error.
    """
    return make_conninfo(
        address,
        application_name=application,
        connect_timeout=5,
        keepalives_idle=5,
        keepalives_interval=2,
        keepalives_count=3,
        tcp_user_timeout=10_000,
    )


def name_of(address: str) -> str:
    """Return a database's name for messages: without user and password."""
    _, rest = split_account(address)
    return f"postgresql://{rest.partition('?')[0].rpartition('@')[2]}"


def in_dialect(statement: str) -> str:
    """Translate a statement of the schema; the types alone differ."""
    for pattern, replacement in _TYPES:
        statement = re.sub(pattern, replacement, statement)
    return statement


_TYPES = (
    (r"\bseq INTEGER PRIMARY KEY\b", "seq BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY"),
    (r"\bINTEGER\b", "BIGINT"),
    (r"\bREAL\b", "DOUBLE PRECISION"),
    (r"\bBLOB\b", "BYTEA"),
)


def _run_script(connection: psycopg.Connection[Any], statements: str) -> psycopg.Cursor[Any]:
    """Run several statements in one packet; returns what the last one gave."""
    cursor = connection.execute(statements.encode(), prepare=False)  # more than one cannot be
    while cursor.nextset():
        pass
    return cursor
