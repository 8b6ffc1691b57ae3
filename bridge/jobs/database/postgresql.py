"""PostgreSQL: one database that several bridges share.

One transaction writes at a time, whichever bridge it is of, as with SQLite: a lock of the
database's own is held from its begin to its commit. So what the journal's logic may rely on is the
same on both, nothing can deadlock, and numbers drawn in a transaction are committed in their order.

A connection that is lost is made again. If that happens during a commit, nobody knows at first
whether it reached the disk; the database is asked for the fate of the transaction before anybody
is answered.
"""

from __future__ import annotations

import functools
import logging
import re
import threading
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import psycopg

from bridge.jobs.database.engine import (
    Away,
    Cursor,
    DatabaseError,
    Fenced,
    Schema,
    Work,
    WorkResult,
    nothing_to_keep,
    run_each,
)
from bridge.retry import Backoff

log = logging.getLogger(__name__)

# Names of advisory locks: any number that nobody else uses in this database.
_WRITER = 0x63326D_01

CONNECT_TIMEOUT_S = 5
# A bridge that freezes within a transaction holds everybody up: the server ends it after this.
FROZEN_TIMEOUT_S = 5
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 5.0
_FATE_PAUSE_S = 0.1

# After these nothing more can be done in a transaction.
_FATAL = (psycopg.OperationalError, psycopg.InterfaceError, psycopg.InternalError)
_IN_THE_FUTURE = "22023"
# Codes and texts of what passes: no connection, no room or memory, starting up, shutting down.
_PASSING = ("08", "53", "57P")
_PASSING_TEXTS = ("starting up", "shutting down", "recovery", "too many clients")


class PostgreSQL:
    """An `Engine` on a database, given by its address: postgresql://user:password@host/name."""

    def __init__(self, address: str, schema: Schema) -> None:
        self._address = address
        self._schema = schema
        self._name = name_of(address)
        self._connection: psycopg.Connection[Any] | None = None
        self._guard = ""
        self._interrupted = threading.Event()
        self._retry_at = 0.0
        self._backoff = Backoff(_FIRST_PAUSE_S, _LONGEST_PAUSE_S)

    def open(self) -> None:
        """Connect, and bring the tables up to date.

        Raises DatabaseError if it cannot be reached, or a newer version wrote it.
        """
        connection = self._connected()
        try:
            with connection.transaction():
                self._migrate(connection)
        except psycopg.Error as error:
            raise self._explain(error) from error

    def probe(self) -> str:
        """Connect, and return what the database is called. Raises DatabaseError."""
        self._connected()
        return self._name

    def run(self, works: Sequence[Work[Any]]) -> list[WorkResult]:
        """Run works in one transaction; once more where the connection was lost before its end."""
        try:
            return self._attempt(works)
        except _NothingDone as nothing:
            log.warning("%s", nothing)
        return self._attempt(works)

    def guard(self, query: str) -> None:
        """Begin each transaction with a query from now on."""
        self._guard = query

    def interrupt(self) -> None:
        """End a wait for the database."""
        self._interrupted.set()

    def close(self) -> None:
        """Disconnect."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _attempt(self, works: Sequence[Work[Any]]) -> list[WorkResult]:
        connection = self._connected()
        try:
            self._begin(connection)
            answers = run_each(_Statements(connection), works, _FATAL)
            if nothing_to_keep(answers):
                connection.rollback()
                return answers
            transaction = _current(connection)
        except psycopg.Error as error:
            raise self._nothing_done(connection, error) from error
        except Fenced:
            connection.rollback()
            raise
        try:
            ending = connection.execute(b"COMMIT", prepare=False).statusmessage
        except psycopg.Error as error:
            if not connection.closed:
                raise self._nothing_done(connection, error) from error
            log.warning("lost the connection to %s during a commit", self._name)
            if transaction is not None and not self._was_committed(transaction):
                raise _NothingDone(f"{self._name}: {error}") from error
        else:
            if ending != "COMMIT":
                raise DatabaseError(f"{self._name}: the transaction ended with {ending}")
        return answers

    def _begin(self, connection: psycopg.Connection[Any]) -> None:
        """Begin a transaction, alone; after the lock, since only then nothing changes any more."""
        cursor = _run_script(
            connection, f"BEGIN; SELECT pg_advisory_xact_lock({_WRITER}); {self._guard}"
        )
        if self._guard and cursor.fetchone() is None:
            raise Fenced(f"{self._name}: this bridge was counted as dead")

    def _nothing_done(self, connection: psycopg.Connection[Any], error: Exception) -> DatabaseError:
        """Undo what was begun; says whether another attempt has a chance."""
        if not connection.closed:
            try:
                connection.rollback()
            except psycopg.Error:
                connection.close()
        if connection.closed or isinstance(error, psycopg.errors.DeadlockDetected):
            return _NothingDone(f"{self._name}: {error}")
        return self._explain(error)

    def _was_committed(self, transaction: str) -> bool:
        """Query the fate of a transaction until a server answers."""
        while True:
            fate = self._fate(transaction)
            if fate is not None:
                return fate
            if self._interrupted.wait(_FATE_PAUSE_S):
                raise DatabaseError(f"{self._name} is away: what it has done is not known")

    def _fate(self, transaction: str) -> bool | None:
        """True if it was committed; None if that is not known yet."""
        try:
            row = (
                self._connected()
                .execute(b"SELECT pg_xact_status(%s::xid8)", (transaction,))
                .fetchone()
            )
        except DatabaseError:
            return None
        except psycopg.Error as error:
            # A number that the server has not given out: it was lost with the server's memory.
            return False if error.sqlstate == _IN_THE_FUTURE else None
        status = None if row is None else row[0]
        return None if status == "in progress" else status == "committed"

    def _connected(self) -> psycopg.Connection[Any]:
        """Return a connection that works as far as is known.

        Raises DatabaseError if there is none; not everybody who asks waits for that again.
        """
        if self._connection is not None and not self._connection.closed:
            return self._connection
        if time.monotonic() < self._retry_at:
            raise Away(f"{self._name} is away")
        try:
            self._connection = connect(self._address)
        except psycopg.Error as error:
            self._retry_at = time.monotonic() + self._backoff.next()
            raise self._explain(error) from error
        self._retry_at = 0.0
        self._backoff.reset()
        return self._connection

    def _migrate(self, connection: psycopg.Connection[Any]) -> None:
        connection.execute(f"SELECT pg_advisory_xact_lock({_WRITER})".encode())
        connection.execute(b"CREATE TABLE IF NOT EXISTS schema_version (version BIGINT NOT NULL)")
        row = connection.execute(b"SELECT version FROM schema_version").fetchone()
        version = 0 if row is None else row[0]
        if version > len(self._schema):
            raise DatabaseError(
                f"{self._name} was written by a newer version (schema {version}, "
                f"this one knows {len(self._schema)})"
            )
        for statements in self._schema[version:]:
            for statement in statements:
                connection.execute(in_dialect(statement).encode())
        connection.execute(b"DELETE FROM schema_version")
        connection.execute(b"INSERT INTO schema_version VALUES (%s)", (len(self._schema),))

    def _explain(self, error: Exception) -> DatabaseError:
        kind = Away if may_pass(error) else DatabaseError
        return kind(f"{self._name}: {error}")


def may_pass(error: Exception) -> bool:
    """True if the server is not there, is starting or stopping, or has no room.

    A connection that it refuses for another reason, such as a wrong password, has a FATAL in its
    text and no code.
    """
    if not isinstance(error, psycopg.OperationalError):
        return False
    if error.sqlstate is not None:
        return error.sqlstate.startswith(_PASSING)
    text = str(error)
    return "FATAL" not in text or any(each in text for each in _PASSING_TEXTS)


class _NothingDone(DatabaseError):
    """The transaction was undone for a reason that has passed, perhaps."""


class _Statements:
    """A connection as a `Transaction`."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> Cursor:
        """Run one statement."""
        return self._connection.execute(_with_percent(sql), parameters, binary=True)


def connect(address: str) -> psycopg.Connection[Any]:
    """Connect so that a peer or a network that died is noticed within seconds.

    Raises psycopg.Error.
    """
    connection = psycopg.connect(
        address,
        autocommit=True,
        application_name="comfy2mqtt",
        connect_timeout=CONNECT_TIMEOUT_S,
        keepalives_idle=5,
        keepalives_interval=2,
        keepalives_count=3,
        tcp_user_timeout=10_000,
    )
    _run_script(
        connection,
        f"SET idle_in_transaction_session_timeout = '{FROZEN_TIMEOUT_S}s';"
        "SET client_min_messages = warning;"
        # A commit survives a power cut, whatever the server's default is.
        "SELECT set_config('synchronous_commit', 'on', false) "
        "WHERE current_setting('synchronous_commit') = 'off'",
    )
    return connection


def name_of(address: str) -> str:
    """Return a database's name for messages: without user and password."""
    parts = urlsplit(address)
    host = parts.netloc.rpartition("@")[2]
    return f"postgresql://{host}{parts.path}"


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


@functools.cache
def _with_percent(sql: str) -> bytes:
    return sql.replace("%", "%%").replace("?", "%s").encode()


def _run_script(connection: psycopg.Connection[Any], statements: str) -> psycopg.Cursor[Any]:
    """Run several statements in one packet; returns what the last one gave."""
    cursor = connection.execute(statements.encode(), prepare=False)  # more than one cannot be
    while cursor.nextset():
        pass
    return cursor


def _current(connection: psycopg.Connection[Any]) -> str | None:
    """Name the current transaction; None if it has not written anything."""
    row = connection.execute(b"SELECT pg_current_xact_id_if_assigned()::text").fetchone()
    return None if row is None else row[0]
