"""The outbox: requests that must not get lost, on disk until the bridge has them.

A request is stored before it is sent, for as long as that takes, and deleted once it is accepted or
refused. One that was neither when the program ended is sent again by the next program that opens
the same file, under the same job id: the bridge runs it once, however often it is sent.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import msgspec

from bridge.client.job import Job
from bridge.client.session import Session, encoded
from bridge.contract.errors import BridgeError, Busy, QuotaExceeded
from bridge.contract.messages import Accepted, Submit, or_none
from bridge.retry import Backoff

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


_log = logging.getLogger(__name__)

# How soon a request that found no room is sent again, in seconds, and how seldom at last.
_FIRST_AGAIN_S = 5.0
_LAST_AGAIN_S = 300.0


class Posting:
    """Call `open`, then `resume` once the session is open; `stop` before it ends, `close` after."""

    def __init__(
        self, outbox: RequestOutbox, session: Session, job_of: Callable[[str], Job]
    ) -> None:
        """`job_of` returns the job of an id, which learns what became of its request."""
        self._outbox = outbox
        self._session = session
        self._job_of = job_of
        self._left: dict[str, bytes] = {}
        # The same job may be handed in twice: each is a task of its own.
        self._tasks: dict[asyncio.Task[Accepted], str] = {}

    async def open(self) -> None:
        """Open the outbox, and read what an earlier program left in it. Raises OSError."""
        self._left = await self._outbox.open()

    def resume(self) -> None:
        """Begin to send what an earlier program left."""
        left, self._left = self._left, {}
        for job_id, request in left.items():
            self.post(msgspec.json.decode(request, type=Submit), job_id)

    async def stop(self) -> None:
        """Send no more; what the bridge has not answered stays in the outbox."""
        for posting in self._tasks:
            posting.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def close(self) -> None:
        """Close the outbox."""
        await self._outbox.close()

    @property
    def job_ids(self) -> list[str]:
        """The ids of jobs that are on their way from the outbox to the bridge."""
        return list(dict.fromkeys(self._tasks.values()))

    async def keep(self, request: Submit, job_id: str) -> None:
        """Write a request down: when this returns it is on disk. Raises OSError."""
        await self._outbox.add(job_id, encoded(request))

    def post(self, request: Submit, job_id: str) -> None:
        """Begin to send a request that lies in the outbox."""
        job = self._job_of(job_id)
        job.posted(or_none(request.workflow))
        posting = asyncio.create_task(self._deliver(request, job), name=f"post {job_id}")
        self._tasks[posting] = job_id
        posting.add_done_callback(self._posted)

    async def settled(self, request: Submit, job_id: str, *, retries: bool = False) -> Accepted:
        """Submit a request, and delete it from the outbox once it is accepted or refused.

        `retries`: that there is no room for it now is neither. Raises BridgeError.
        """
        try:
            accepted = await self._session.ask("submit", request, Accepted)
        except BridgeError as error:
            if not (retries and isinstance(error, Busy | QuotaExceeded)):
                await self._outbox.remove(job_id)
            raise
        await self._outbox.remove(job_id)
        return accepted

    async def flush(self) -> None:
        """Wait until the bridge has accepted or refused all that lies in the outbox."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _deliver(self, request: Submit, job: Job) -> Accepted:
        pause = Backoff(_FIRST_AGAIN_S, _LAST_AGAIN_S)
        while True:
            try:
                accepted = await self.settled(request, job.id, retries=True)
            except (Busy, QuotaExceeded) as error:
                _log.info("job %s waits: %s", job.id, error)
                await asyncio.sleep(pause.next())
            except BridgeError as error:
                job.refused(error)
                raise
            else:
                job.accepted(accepted)
                return accepted

    def _posted(self, posting: asyncio.Task[Accepted]) -> None:
        job_id = self._tasks.pop(posting)
        error = None if posting.cancelled() else posting.exception()
        if isinstance(error, BridgeError):
            _log.warning("job %s was refused: %s", job_id, error)
        elif error is not None:
            # It stays in the outbox: the next program that opens it tries again.
            _log.error("job %s was not sent: %s", job_id, error)
