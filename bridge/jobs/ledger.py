"""What all parts of the journal stand on: the database, the numbers, and who else has it."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from bridge.jobs import membership
from bridge.jobs.database import Database, Transaction
from bridge.jobs.numbers import Draw, Sequence, all_reserved
from bridge.jobs.queue import Key
from bridge.jobs.schema import SCHEMA

# Where bridges of a group tell each other what has changed.
CHANNEL = "comfy2mqtt"

T = TypeVar("T")


class Notice(StrEnum):
    """What bridges tell each other of a job."""

    LOOK = "?"
    TAKEN = "-"
    ENDED = "."


class Ledger:
    """The database as a bridge has it, alone or among several."""

    def __init__(self, where: Path | str) -> None:
        """`where` is a file of SQLite's, or the address of a PostgreSQL database."""
        self._database = Database(where, SCHEMA)
        # Where there is PostgreSQL there may be other bridges.
        self.shared = isinstance(where, str)
        self._life: str | None = None
        # Of several bridges each draws its numbers in the database.
        self._numbers: Sequence | None = None

    async def open(self) -> None:
        """Open or create it. Raises DatabaseError."""
        await self._database.open()
        if not self.shared:
            self._numbers = Sequence(await self._database.run(all_reserved))

    async def close(self) -> None:
        """Write what was handed over, and close."""
        await self._database.close()

    @property
    def commits(self) -> int:
        """How many transactions reached the disk."""
        return self._database.commits

    def member(self, life: str) -> None:
        """Be a member of a group from now on: what this bridge does is its own."""
        self._life = life
        self._database.guard(membership.guard(life))

    async def transact(self, work: Callable[[Transaction], T]) -> T:
        """Run work on the group's tables. Raises DatabaseError, Fenced."""
        return await self._database.run(work)

    def _draw(self, client: str) -> Draw:
        """Draw a client's next number."""
        return Draw(client) if self._numbers is None else self._numbers.draw(client)

    def _written(self, draw: Draw) -> None:
        """Note that the transaction that used a number is on disk."""
        if self._numbers is not None:
            self._numbers.written(draw)

    def tell(self, db: Transaction, word: str = "") -> None:
        """Tell the other bridges something once this is committed."""
        if self.shared:
            db.execute("SELECT pg_notify(?, ?)", (CHANNEL, f"{self._life}:{word}"))

    def tell_of(self, db: Transaction, key: Key, what: Notice = Notice.LOOK) -> None:
        """Tell the other bridges what happened to a job once this is committed."""
        self.tell(db, f"{what}{key.client}/{key.job_id}")
