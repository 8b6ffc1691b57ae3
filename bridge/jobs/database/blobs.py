"""Large blobs in PostgreSQL, where every bridge of a group finds them.

They could be files in a shared folder as well. But then "on disk before the row that names it"
would rest on a network file system's promises, a backup would have two halves that do not fit
together, and there would be one more thing to mount on every machine.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
import threading
from collections.abc import Callable, Collection
from typing import Any, NoReturn, TypeVar

import psycopg

from bridge.jobs.clock import JumpWatch
from bridge.jobs.database.engine import DatabaseError, TransientError
from bridge.jobs.database.postgresql import connect, may_pass, name_of
from bridge.media.files import BlobDamaged, Sweeper, check_name
from bridge.text import one_line

log = logging.getLogger(__name__)

T = TypeVar("T")

# A blob is rows of this many bytes: a part of it is read without the rest.
CHUNK = 1024 * 1024
# How many blobs are remembered as complete.
_MAX_COMPARED = 4096

_SCHEMA = (
    b"""CREATE TABLE files (
        sha256 TEXT PRIMARY KEY,
        size BIGINT NOT NULL,
        put_at TIMESTAMPTZ NOT NULL
    )""",
    b"""CREATE TABLE chunks (
        sha256 TEXT NOT NULL REFERENCES files ON DELETE CASCADE,
        idx BIGINT NOT NULL,
        data BYTEA NOT NULL,
        PRIMARY KEY (sha256, idx)
    )""",
    # Most of it is compressed already: PostgreSQL need not try.
    b"ALTER TABLE chunks ALTER COLUMN data SET STORAGE EXTERNAL",
)

_Connection = psycopg.Connection[Any]


class Blobs:
    """`Files` in a database. It has a connection of its own: the journal does not wait for it."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._lock = threading.Lock()
        self._connection: _Connection | None = None
        # Those that were compared with their names; what a database has it does not change.
        self._compared: dict[str, None] = {}
        self._noting = threading.Lock()
        self._jumps = JumpWatch()

    def open(self) -> None:
        """Make the tables. Raises DatabaseError."""
        self._run(_make_tables)

    def put(self, sha256: str, data: bytes | memoryview) -> None:
        """Write a blob, durable when this returns.

        One that is there already is only renewed, one that is damaged is repaired.
        """
        check_name(sha256)
        self._run(
            lambda connection: _put(
                connection, sha256, memoryview(data), compared=sha256 in self._compared
            )
        )
        self._note(sha256)

    def read(self, sha256: str, offset: int = 0, count: int = -1) -> bytes:
        """Return `count` bytes from `offset` on (all, if negative), of a blob that is whole.

        Raises FileNotFoundError; BlobDamaged where the bytes are not those of the name.
        """
        check_name(sha256)
        if offset == 0 and count < 0:
            data = self._run(lambda connection: _read(connection, sha256, 0, -1))
            if hashlib.sha256(data).hexdigest() != sha256:
                self._delete(sha256)
            return data
        if sha256 not in self._compared:
            if not self._run(lambda connection: _is_whole(connection, sha256)):
                self._delete(sha256)
            self._note(sha256)
        return self._run(lambda connection: _read(connection, sha256, offset, count))

    def _note(self, sha256: str) -> None:
        with self._noting:
            self._compared[sha256] = None
            if len(self._compared) > _MAX_COMPARED:
                del self._compared[next(iter(self._compared))]

    def _delete(self, sha256: str) -> NoReturn:
        """Delete a damaged blob: the same bytes may come again."""
        log.error("blob %s is damaged and no longer used; check the database", sha256)
        self._run(
            lambda connection: connection.execute(b"DELETE FROM files WHERE sha256 = %s", (sha256,))
        )
        raise BlobDamaged(sha256)

    def sweeper(self, older_than_s: float) -> Sweeper:
        """Return a function that deletes unneeded blobs that were put longer ago than that.

        By the database's clock, which all bridges share; none while that was set since.
        """
        (at,) = self._run(
            lambda connection: connection.execute(
                b"SELECT extract(epoch FROM clock_timestamp())::float"
            ).fetchone()
        ) or (0.0,)
        if self._jumps.since_jump_s(at) <= older_than_s:
            return lambda _: None

        def sweep(keep: Collection[str]) -> None:
            self._run(
                lambda connection: connection.execute(
                    b"DELETE FROM files WHERE put_at < to_timestamp(%s) AND NOT sha256 = ANY (%s)",
                    (at - older_than_s, list(keep)),
                )
            )

        return sweep

    def link(self, _sha256: str, _lasts_s: float) -> None:
        """Return None: bridges alone read here."""

    @property
    def fault(self) -> None:
        """Return None: an error is the reader's or the writer's to report."""

    def close(self) -> None:
        """Disconnect."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _run(self, work: Callable[[_Connection], T]) -> T:
        """Run work in a transaction; once more where the connection was lost.

        That does no harm after a commit either: a blob is what its name says. Raises
        TransientError, or DatabaseError for what will not pass.
        """
        with self._lock:
            try:
                return self._attempt(work)
            except psycopg.OperationalError:
                pass
            try:
                return self._attempt(work)
            except psycopg.Error as error:
                kind = TransientError if may_pass(error) else DatabaseError
                raise kind(f"{name_of(self._address)}: {one_line(str(error))}") from error

    def _attempt(self, work: Callable[[_Connection], T]) -> T:
        if self._connection is None or self._connection.closed:
            self._connection = connect(self._address)
        with self._connection.transaction():
            return work(self._connection)


def _make_tables(connection: _Connection) -> None:
    # Where two bridges start at once, one waits for the other.
    connection.execute(b"SELECT pg_advisory_xact_lock(hashtext('comfy2mqtt.files'))")
    if connection.execute(b"SELECT to_regclass('chunks')").fetchone() == (None,):
        for statement in _SCHEMA:
            connection.execute(statement)


def _put(connection: _Connection, sha256: str, data: memoryview, *, compared: bool) -> None:
    new = connection.execute(
        b"INSERT INTO files VALUES (%s, %s, now()) "
        b"ON CONFLICT (sha256) DO UPDATE SET put_at = now() RETURNING xmax = 0",
        (sha256, len(data)),
    ).fetchone()
    if new != (True,):
        if compared or _is_whole(connection, sha256):
            return
        log.error("repaired the damaged blob %s", sha256)
        connection.execute(b"DELETE FROM chunks WHERE sha256 = %s", (sha256,))
        connection.execute(b"UPDATE files SET size = %s WHERE sha256 = %s", (len(data), sha256))
    for start in range(0, len(data), CHUNK):
        connection.execute(
            b"INSERT INTO chunks VALUES (%s, %s, %b)",
            (sha256, start // CHUNK, bytes(data[start : start + CHUNK])),
        )


def _is_whole(connection: _Connection, sha256: str) -> bool:
    """Compare a blob with its name, chunk by chunk. Raises FileNotFoundError."""
    row = connection.execute(b"SELECT size FROM files WHERE sha256 = %s", (sha256,)).fetchone()
    if row is None:
        raise FileNotFoundError(sha256)
    digest = hashlib.sha256()
    for start in range(0, row[0], CHUNK):
        digest.update(_read(connection, sha256, start, CHUNK))
    return digest.hexdigest() == sha256


def _read(connection: _Connection, sha256: str, offset: int, count: int) -> bytes:
    row = connection.execute(b"SELECT size FROM files WHERE sha256 = %s", (sha256,)).fetchone()
    if row is None:
        raise FileNotFoundError(sha256)
    end = row[0] if count < 0 else min(row[0], offset + count)
    if end <= offset:
        return b""
    first = offset // CHUNK
    rows = connection.execute(
        b"SELECT data FROM chunks WHERE sha256 = %s AND idx BETWEEN %s AND %s ORDER BY idx",
        (sha256, first, (end - 1) // CHUNK),
        binary=True,
    )
    data = b"".join(itertools.chain.from_iterable(rows))
    return data[offset - first * CHUNK : end - first * CHUNK]
