"""A database behind one thread, with commits in groups.

The event loop hands over functions; the thread runs all that wait in one transaction, each in a
savepoint of its own, and answers them after the commit is on disk. So a commit's cost is shared
by those who come at the same time, and no success is reported before it is durable. One of those
who waited continues in each turn of the event loop: what arrives does not wait for all of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import queue
import threading
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from bridge.jobs.database.engine import (
    SURE,
    DatabaseError,
    Engine,
    Schema,
    Stepped,
    Steps,
    Task,
    Touched,
    Transaction,
    Work,
    WorkResult,
)
from bridge.jobs.database.sqlite import Sqlite
from bridge.resources import how_to_add

if TYPE_CHECKING:
    from bridge.jobs.database.postgresql import PostgreSQL

T = TypeVar("T")

# What was handed over: work, or an answer that is only to come in its turn.
_Asked: TypeAlias = tuple[Task | WorkResult, asyncio.Future[Any]]
_Answered: TypeAlias = tuple[asyncio.Future[Any], WorkResult]

# A group is bounded so that one commit, and thus one answer, does not take ever longer.
MAX_GROUP = 256
# A database that does not answer keeps nobody longer from ending.
CLOSE_S = 5.0


class Database:
    """A database, used by this process through one thread."""

    def __init__(self, where: Path | str, schema: Schema) -> None:
        """`where` is a file of SQLite's, or the address of a PostgreSQL database."""
        self._where = where
        self._schema = schema
        self._engine: Engine | None = None
        self._inbox: queue.SimpleQueue[_Asked | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._unanswered = 0
        self._answers: deque[_Answered] = deque()
        self.commits = 0  # for the bench: how many reached the disk

    async def open(self) -> None:
        """Connect, bring the tables up to date, start the thread.

        Raises DatabaseError if it cannot be opened, another process uses it, or a newer version
        wrote it.
        """
        engine = self._engine = _engine(self._where, self._schema)
        self._loop = asyncio.get_running_loop()
        opened: asyncio.Future[None] = self._loop.create_future()
        self._unanswered = 1
        self._thread = threading.Thread(
            target=self._serve, args=(engine, opened), name="journal", daemon=True
        )
        self._thread.start()
        await opened

    @property
    def round_trips(self) -> int:
        """The number of waits for a server, for the bench."""
        return 0 if self._engine is None else self._engine.round_trips

    async def close(self) -> None:
        """Finish what was handed over, then close.

        Raises DatabaseError if the database, or its disk, lets us wait too long: then the thread
        is left to itself, and ends with the process.
        """
        if self._thread is not None and self._engine is not None:
            thread, self._thread = self._thread, None
            self._inbox.put(None)
            self._engine.interrupt()
            await asyncio.to_thread(thread.join, CLOSE_S)
            if thread.is_alive():
                raise DatabaseError(
                    f"{self._engine.name} does not answer: what was yet to be written there is "
                    "written, or done again, after the next start"
                )
            if self._answers:
                await asyncio.wait([future for future, _ in self._answers])

    def guard(self, query: str) -> None:
        """Begin each transaction with a query; a division by zero in it raises LeaseLost."""
        if self._engine is not None:
            self._engine.guard(query)

    def run(self, work: Work[T], touched: Touched = None) -> asyncio.Future[T]:
        """Hand over work; the future is done when its commit is on disk.

        Works run in the order of the calls, and none of another bridge that touches the same
        meanwhile. Raises DatabaseError through the future; what `work` raises comes through as it
        is, and undoes only that work.
        """
        return self._hand_over(Task(work, touched, stepped=False))

    def rows(self, sql: str, values: Sequence[Any] = ()) -> asyncio.Future[list[Any]]:
        """Read rows by one statement, with one wait for the database."""

        def work(db: Transaction) -> Steps[list[Any]]:
            found = db.execute(sql, values)
            yield SURE
            return list(found)

        return self.run_stepped(work, frozenset())

    async def row(self, sql: str, values: Sequence[Any] = ()) -> Any:
        """Read the first row of those; None if there is none."""
        found = await self.rows(sql, values)
        return found[0] if found else None

    def change(self, sql: str, values: Sequence[Any], touched: Touched) -> asyncio.Future[int]:
        """Run one statement that may be run again; returns how many rows it changed.

        It waits for the database once. If the answer to its commit is lost, it is run until there
        is one, whatever other bridges have done with its rows meanwhile.
        """

        def work(db: Transaction) -> Steps[int]:
            changed = db.execute(sql, values)
            yield SURE
            return changed.rowcount

        return self.run_stepped(work, touched)

    def run_stepped(self, work: Stepped[T], touched: Touched) -> asyncio.Future[T]:
        """Hand over work as `run` does; between its steps those run that touch something else."""
        return self._hand_over(Task(work, touched, stepped=True))

    def _hand_over(self, task: Task) -> asyncio.Future[Any]:
        if self._loop is None:
            raise RuntimeError("the database is not open")
        future: asyncio.Future[Any] = self._loop.create_future()
        self._inbox.put((task, future))
        self._unanswered += 1
        return future

    def in_turn(self, value: T) -> asyncio.Future[T]:
        """Return a value once all that was handed over before is answered, well or not.

        Who awaits such a future, or adds a callback to it, continues in the order of the calls of
        this and of `run`. Nothing is written, and no error comes by it.
        """
        if self._loop is None:
            raise RuntimeError("the database is not open")
        future: asyncio.Future[T] = self._loop.create_future()
        if self._unanswered:
            self._inbox.put((WorkResult(value), future))
            self._unanswered += 1
        else:
            self._loop.call_soon(_settle, future, WorkResult(value))
        return future

    def _serve(self, engine: Engine, opened: asyncio.Future[None]) -> None:
        with contextlib.closing(engine):
            try:
                engine.open()
            except Exception as error:  # noqa: BLE001 - it is the answer
                self._answer([(opened, WorkResult(error=error))])
                return
            self._answer([(opened, WorkResult())])
            while group := self._next_group():
                self._answer(self._run_group(engine, group))

    def _run_group(self, engine: Engine, group: Sequence[_Asked]) -> list[_Answered]:
        tasks = [task for task, _ in group if isinstance(task, Task)]
        if not tasks:
            answers = []
        else:
            try:
                answers = engine.run(tasks)
            except Exception as error:  # noqa: BLE001 - it is everybody's answer
                answers = [WorkResult(error=error)] * len(tasks)
            else:
                self.commits += 1
        answered = iter(answers)
        return [
            (future, task if isinstance(task, WorkResult) else next(answered))
            for task, future in group
        ]

    def _next_group(self) -> list[_Asked]:
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

    def _answer(self, answers: Sequence[_Answered]) -> None:
        """Wake the event loop once for the whole group."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended: nobody waits
                self._loop.call_soon_threadsafe(self._settle, answers)

    def _settle(self, answers: Sequence[_Answered]) -> None:
        idle = not self._answers
        self._answers.extend(answers)
        if idle:
            self._settle_next()

    def _settle_next(self) -> None:
        if self._loop is not None and self._answers:
            _settle(*self._answers[0])
            # After those who waited have continued: what they publish comes first.
            self._loop.call_soon(self._answered)

    def _answered(self) -> None:
        self._unanswered -= 1
        self._answers.popleft()
        self._settle_next()


def _settle(future: asyncio.Future[Any], answer: WorkResult) -> None:
    if future.done():  # whoever waited was cancelled; the work is done nevertheless
        return
    if answer.error is None:
        future.set_result(answer.value)
    else:
        future.set_exception(answer.error)


def probe(address: str) -> str:
    """See whether a PostgreSQL database can be reached, and return what it is called; blocks.

    Raises DatabaseError.
    """
    engine = _postgresql(address, ())
    with contextlib.closing(engine):
        return engine.probe()


def _engine(where: Path | str, schema: Schema) -> Engine:
    if isinstance(where, Path):
        return Sqlite(where, schema)
    return _postgresql(where, schema)


def need_driver() -> None:
    """See that PostgreSQL's driver is installed, which is an extra. Raises DatabaseError."""
    try:
        importlib.import_module("psycopg")
    except ImportError:
        raise DatabaseError(
            f"a journal in PostgreSQL needs psycopg: {how_to_add('postgresql')}"
        ) from None


def _postgresql(address: str, schema: Schema) -> PostgreSQL:
    need_driver()
    from bridge.jobs.database.postgresql import PostgreSQL  # noqa: PLC0415 - an extra

    return PostgreSQL(address, schema)
