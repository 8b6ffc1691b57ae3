"""The outbox: requests that must not get lost, on disk until the bridge has them.

A request is stored before it is sent, and deleted once it is accepted or refused. One that was
neither when the program ended is sent again by the next program that opens the same file, under the
same job id: the bridge runs it once, however often it is sent.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


class RequestOutbox:
    """One client's requests in a file; several clients may share it."""

    def __init__(self, path: Path, owner: str) -> None:
        """`owner` distinguishes this client's requests from others'."""
        self._path = path
        self._owner = owner
        self._db: sqlite3.Connection | None = None
        # One thread owns the connection: what is cancelled while it runs there ends before the next
        # begins.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="outbox")

    async def open(self) -> dict[str, bytes]:
        """Open or create it; returns what is left in it, by job id, oldest first."""
        return await self._in_thread(self._open)

    async def close(self) -> None:
        """Close it."""
        await self._in_thread(self._close)
        self._thread.shutdown(wait=False)

    async def add(self, job_id: str, request: bytes) -> None:
        """Store a request: when this returns it is on disk. Raises OSError."""
        await self._run(
            "INSERT INTO outbox (owner, job_id, request) VALUES (?, ?, ?) "
            "ON CONFLICT (owner, job_id) DO UPDATE SET request = excluded.request",
            (self._owner, job_id, request),
        )

    async def remove(self, job_id: str) -> None:
        """Delete a request. Raises OSError."""
        await self._run("DELETE FROM outbox WHERE owner = ? AND job_id = ?", (self._owner, job_id))

    async def _run(self, statement: str, values: tuple[str | bytes, ...]) -> None:
        await self._in_thread(lambda: self._execute(statement, values))

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    # These block.

    def _open(self) -> dict[str, bytes]:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(self._path, isolation_level=None, timeout=30)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.execute(
                "CREATE TABLE IF NOT EXISTS outbox (seq INTEGER PRIMARY KEY, owner TEXT NOT NULL, "
                "job_id TEXT NOT NULL, request BLOB NOT NULL, UNIQUE (owner, job_id))"
            )
            rows = self._db.execute(
                "SELECT job_id, request FROM outbox WHERE owner = ? ORDER BY seq", (self._owner,)
            )
            return dict(rows.fetchall())
        except sqlite3.Error as error:
            raise OSError(f"{self._path}: {error}") from error

    def _close(self) -> None:
        db, self._db = self._db, None
        if db is not None:
            db.close()

    def _execute(self, statement: str, values: tuple[str | bytes, ...]) -> None:
        if self._db is None:
            raise RuntimeError("the outbox is closed")
        try:
            self._db.execute(statement, values)
        except sqlite3.Error as error:
            raise OSError(f"{self._path}: {error}") from error
