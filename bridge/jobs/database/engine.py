"""The interface of a database to the journal, and its types."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

T = TypeVar("T")

# The system's errors of a disk, or a quota on it, that has no room.
FULL_DISK = frozenset((errno.ENOSPC, errno.EDQUOT))

# The statements that bring version i of the tables to version i + 1, for each i.
Schema = Sequence[Sequence[str]]


class DatabaseError(Exception):
    """The database could not do it: disk full, corrupt, locked, away. Nothing was changed."""


class Away(DatabaseError):
    """A fault that may pass by itself: a full disk, or a server that is offline or starting."""


class Fenced(Exception):
    """The others took this bridge for dead: whatever it wants to do, it comes too late."""


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


class Transaction(Protocol):
    """A transaction to run statements in; each `?` stands for a parameter."""

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> Cursor:
        """Run one statement."""
        ...


# It may run more than once, if the database undid what it did: it changes nothing else.
Work = Callable[[Transaction], T]


class WorkResult(NamedTuple):
    """The value that a work returned, or the error that it raised."""

    value: Any = None
    error: BaseException | None = None


class Engine(Protocol):
    """One kind of database. All calls but `interrupt` block, and come from one thread."""

    def open(self) -> None:
        """Connect, and bring the tables up to date. Raises DatabaseError."""

    def run(self, works: Sequence[Work[Any]]) -> list[WorkResult]:
        """Run works in one transaction that is durable when this returns.

        What one of them raises undoes only that one. Raises DatabaseError where none was done.
        """
        ...

    def guard(self, query: str) -> None:
        """Begin each transaction with a query; Fenced is raised where it finds nothing."""

    def interrupt(self) -> None:
        """End a wait for the database, from another thread: nobody needs the answer any more."""

    def close(self) -> None:
        """Disconnect."""


def nothing_to_keep(answers: Sequence[WorkResult]) -> bool:
    """True if a transaction is to be undone rather than committed."""
    return all(answer.error is not None for answer in answers)


def run_each(
    db: Transaction, works: Sequence[Work[Any]], fatal: tuple[type[Exception], ...]
) -> list[WorkResult]:
    """Run works within a transaction, each in a savepoint; raises those errors that end all.

    One alone needs none: where it failed, the whole transaction is to be undone.
    """
    answers = []
    if len(works) == 1:
        try:
            return [WorkResult(works[0](db))]
        except fatal:
            raise
        except Exception as error:  # noqa: BLE001 - it is the answer
            return [WorkResult(error=error)]
    for work in works:
        db.execute("SAVEPOINT work")
        try:
            answers.append(WorkResult(work(db)))
        except fatal:
            raise
        except Exception as error:  # noqa: BLE001 - it is the answer
            db.execute("ROLLBACK TO SAVEPOINT work")
            answers.append(WorkResult(error=error))
        db.execute("RELEASE SAVEPOINT work")
    return answers
