"""The interface of a database to the journal, and its types."""

from __future__ import annotations

import errno
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias, TypeVar

T = TypeVar("T")

# The system's errors of a disk, or a quota on it, that has no room.
FULL_DISK = frozenset((errno.ENOSPC, errno.EDQUOT))

# The statements that bring version i of the tables to version i + 1, for each i.
Schema = Sequence[Sequence[str]]


class DatabaseError(Exception):
    """The database could not do it: disk full, corrupt, locked, away. Nothing was changed."""


class TransientError(DatabaseError):
    """A fault that may pass by itself: a full disk, or a server that is offline or starting."""


class LeaseLost(Exception):
    """The others count this bridge as dead: whatever it wants to do, it comes too late."""


class Cursor(Protocol):
    """A statement's result: iterate over its rows."""

    @property
    def rowcount(self) -> int:
        """The number of rows that were changed."""
        ...

    def fetchone(self) -> Any:
        """Return the next row, None after the last."""
        ...

    def __iter__(self) -> Iterator[Any]: ...


class Statements(Protocol):
    """A connection to run statements on; each `?` stands for a parameter."""

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> Cursor:
        """Run one statement."""
        ...


class Transaction(Statements, Protocol):
    """A transaction to run statements in."""

    def notify(self, channel: str, text: str) -> None:
        """Notify other processes once this is committed; a notice may be lost."""
        ...


# It may run more than once, if the database undid what it did: it changes nothing else.
Work = Callable[[Transaction], T]

# A work that yields before it looks into a result, since others may send statements meanwhile. It
# yields `SURE` once it has sent its last one, if it raises nothing after that, and may be done
# again, after it was done, if the answer to a commit is lost.
Steps = Generator[int, None, T]
Stepped = Callable[[Transaction], Steps[T]]
SENT, SURE = range(2)

# What a work touches, by names: none other touches it at the same time, in whichever bridge. None
# stands for everything; a work that touches nothing only reads.
Touched: TypeAlias = frozenset[str] | None


class Task(NamedTuple):
    """A work that was handed over, and what it touches."""

    work: Work[Any] | Stepped[Any]
    touched: Touched
    stepped: bool

    def steps(self, db: Transaction) -> Steps[Any]:
        """Begin the work; the generator returns its value."""
        if self.stepped:
            return (yield from self.work(db))
        return self.work(db)


class WorkResult(NamedTuple):
    """The value that a work returned, or the error that it raised."""

    value: Any = None
    error: BaseException | None = None


class Engine(Protocol):
    """One kind of database. All calls but `interrupt` block, and come from one thread."""

    name: str
    """Its name in messages."""
    round_trips: int
    """The number of waits for a server."""

    def open(self) -> None:
        """Connect, and bring the tables up to date. Raises DatabaseError."""

    def run(self, tasks: Sequence[Task]) -> list[WorkResult]:
        """Run works in one transaction that is durable when this returns.

        What one of them raises undoes only that one. Raises DatabaseError if none was done.
        """
        ...

    def guard(self, query: str) -> None:
        """Begin each transaction with a query; a division by zero in it raises LeaseLost."""

    def interrupt(self) -> None:
        """End a wait for the database, from another thread: nobody needs the answer any more."""

    def close(self) -> None:
        """Disconnect."""


def nothing_to_keep(answers: Sequence[WorkResult]) -> bool:
    """True if a transaction is to be undone rather than committed."""
    return all(answer.error is not None for answer in answers)


def run_each(
    db: Transaction,
    tasks: Sequence[Task],
    fatal: tuple[type[Exception], ...],
    settle: Callable[[], None] = lambda: None,
) -> list[WorkResult]:
    """Run works within a transaction, one after another, each in a savepoint.

    Raises those errors that end all. One alone needs no savepoint: where it failed, the whole
    transaction is to be undone. `settle` waits for what a work has sent.
    """
    answers = []
    alone = len(tasks) == 1
    for task in tasks:
        if not alone:
            db.execute("SAVEPOINT work")
        try:
            value = complete(task.steps(db))
            settle()
            answers.append(WorkResult(value))
        except fatal:
            raise
        except Exception as error:  # noqa: BLE001 - it is the answer
            if not alone:
                db.execute("ROLLBACK TO SAVEPOINT work")
            answers.append(WorkResult(error=error))
        if not alone:
            db.execute("RELEASE SAVEPOINT work")
    return answers


def run_interleaved(
    db: Transaction,
    tasks: Sequence[Task],
    settle: Callable[[], None],
    commit: Callable[[], None],
) -> list[WorkResult]:
    """Run works within a transaction, a step of each at a time; `settle` waits for the results.

    So does `commit`, which is called instead once all are sure.

    Those that touch the same run in their order, and so does everything with one that touches
    everything, or only reads. So each finds what it would find if they ran one after another.
    Raises what one of them raises: then all is to be undone.
    """
    together = _Interleaved(len(tasks))
    waiting = list(enumerate(tasks))
    while waiting or together.under_way:
        together.run_next()
        waiting = together.start(db, waiting)
        if together.under_way:
            (commit if together.sure == len(tasks) else settle)()
    return together.answers


class _Interleaved:
    """The works of `run_interleaved`."""

    def __init__(self, count: int) -> None:
        self.answers = [WorkResult()] * count
        # Each with its place, and whether it is yet to send something.
        self.under_way: list[tuple[int, Task, Steps[Any], bool]] = []
        self.sure = 0

    def run_next(self) -> None:
        """Run the next step of each that is under way."""
        under_way, self.under_way = self.under_way, []
        for place, task, steps, _ in under_way:
            self._step(place, task, steps)

    def start(self, db: Transaction, waiting: list[tuple[int, Task]]) -> list[tuple[int, Task]]:
        """Start those that need not wait for an earlier one; returns the others."""
        held_back = []
        held = set[str]()
        alone = False
        for _, task, _, sends in self.under_way:
            held.update(task.touched or () if sends else ())
            alone = alone or (sends and not task.touched)
        for place, task in waiting:
            free = held.isdisjoint(task.touched) if task.touched else not held
            if alone or not free:
                held_back.append((place, task))
            elif not self._step(place, task, task.steps(db)):
                continue
            held.update(task.touched or ())
            alone = alone or not task.touched
        return held_back

    def _step(self, place: int, task: Task, steps: Steps[Any]) -> bool:
        """Run a work's next step; returns whether it is yet to send something."""
        try:
            step = next(steps)
        except StopIteration as end:
            self.answers[place] = WorkResult(end.value)
            return False
        self.under_way.append((place, task, steps, step == SENT))
        self.sure += step == SURE
        return step == SENT


def complete(steps: Steps[T]) -> T:
    """Run a work to its end, and return its value."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            value: T = end.value
            return value
