"""The numbers `n` of what is told about a client's jobs.

Within a client nothing with a higher number may be published before one with a lower: a client
that asks for what comes after n says that it has all up to n. That holds if a number is drawn with
the transaction that writes what it stands for, and published as soon as that is answered, with
nothing awaited between: the database answers in the order in which it was asked.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from typing import Protocol

from msgspec import Struct

from bridge.jobs.database import Database, Transaction

# How many numbers a client is given ahead at a time: one write in so many messages.
NUMBER_BLOCK = 1000

# How far above those of a backup the numbers go on: more than any client had messages since.
RESTORED_ABOVE = 1_000_000
# No client has this name. Its row is what the numbers of clients without a row begin above.
_FLOOR = ""

# Gives the number, in the transaction that is handed over next.
Draw = Callable[[Transaction], int]


class Numbers(Protocol):
    """All clients' numbers."""

    async def open(self) -> None:
        """Read what was given out before. Raises DatabaseError."""

    def draw(self, client: str) -> Draw:
        """Draw a client's next number, for the transaction that is handed over next."""
        ...


class Reserved:
    """Numbers of one bridge alone: from memory, of blocks that are reserved on disk.

    So most of what is told needs no write; a restart goes on above what was reserved.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._clients: defaultdict[str, _Block] = defaultdict(_Block)

    async def open(self) -> None:
        """Read what was reserved before."""
        known = dict(await self._database.run(_all_reserved))
        floor = known.pop(_FLOOR, 0)
        self._clients.default_factory = lambda: _Block(floor + 1)
        for client, reserved in known.items():
            self._clients[client] = _Block(reserved + 1, reserved)

    def draw(self, client: str) -> Draw:
        """Draw a client's next number."""
        n = self.take(client)
        return lambda _: n

    def take(self, client: str) -> int:
        """Take a client's next number at once; whatever it is for must be in the same order."""
        block = self._clients[client]
        if block.next > block.reserved:
            block.reserved = block.next + NUMBER_BLOCK
            reserved = block.reserved
            # Not awaited: it is on disk before anything that comes after it.
            future = self._database.run(lambda db: _reserve(db, client, reserved))
            future.add_done_callback(block.check)
        n = block.next
        block.next += 1
        return n


class Shared:
    """Numbers of several bridges: drawn in the transaction itself.

    One writes at a time, so that a higher number is never on disk before a lower one.
    """

    async def open(self) -> None:
        """Do nothing."""

    def draw(self, client: str) -> Draw:
        """Draw a client's next number."""

        def draw(db: Transaction) -> int:
            (n,) = db.execute(
                "INSERT INTO clients VALUES "
                "(?, 1 + COALESCE((SELECT reserved FROM clients WHERE client = ?), 0)) "
                "ON CONFLICT (client) DO UPDATE SET reserved = clients.reserved + 1 "
                "RETURNING reserved",
                (client, _FLOOR),
            ).fetchone()
            return int(n)

        return draw


class _Block(Struct):
    """One client's numbers: the next to draw, and up to which the disk knows of."""

    next: int = 1
    reserved: int = 0

    def check(self, reserving: asyncio.Future[None]) -> None:
        """Reserve again with the next number if the disk could not take it."""
        if reserving.cancelled() or reserving.exception() is not None:
            self.reserved = 0


def go_on_above(db: Transaction) -> None:
    """Have all numbers go on far above those that there are: clients may have seen higher ones."""
    (highest,) = db.execute("SELECT COALESCE(MAX(reserved), 0) FROM clients").fetchone()
    _reserve(db, _FLOOR, highest)
    db.execute("UPDATE clients SET reserved = ?", (highest + RESTORED_ABOVE,))


def _all_reserved(db: Transaction) -> list[tuple[str, int]]:
    return list(db.execute("SELECT client, reserved FROM clients"))


def _reserve(db: Transaction, client: str, reserved: int) -> None:
    db.execute(
        "INSERT INTO clients VALUES (?, ?) "
        "ON CONFLICT (client) DO UPDATE SET reserved = excluded.reserved",
        (client, reserved),
    )
