"""The base of the journal's parts: its database, clients' numbers, notices to other bridges."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from enum import StrEnum
from itertools import chain, islice, repeat
from pathlib import Path
from typing import Any, TypeVar, get_args

from bridge.aio import succeeded
from bridge.contract.messages import State
from bridge.jobs.clock import Clock
from bridge.jobs.database import Database, Stepped, Transaction, Work
from bridge.jobs.journal import membership, rows, touched
from bridge.jobs.journal.adapter_store import AdapterStore
from bridge.jobs.journal.commands import PassedCommands
from bridge.jobs.journal.offers import Offers
from bridge.jobs.journal.rows import Record
from bridge.jobs.journal.schema import SCHEMA
from bridge.jobs.journal.sequence import ClientNumbers, NextNumber
from bridge.jobs.journal.sets import Numbers, Sets
from bridge.jobs.journal.webhooks import Webhooks
from bridge.jobs.queue import Key

T = TypeVar("T")

# Where bridges of a group notify each other of what has changed.
CHANNEL = "comfy2mqtt"
# By this notice the others are asked to look which nodes their ComfyUIs have.
ASK_NODES = "nodes"


class Notice(StrEnum):
    """A notice between bridges about a job."""

    CHANGED = "?"
    TAKEN = "-"
    ENDED = "."


class Base:
    """State and helpers of all parts of the journal."""

    def __init__(self, where: Path | str, clock: Clock | None = None) -> None:
        """`where` is a file of SQLite's, or the address of a PostgreSQL database."""
        self._database = Database(where, SCHEMA)
        self.clock = clock or Clock()
        self.jumped_s = 0.0
        """By how much the wall clock was set while nobody had the journal open."""
        # Where there is PostgreSQL there may be other bridges.
        self.shared = isinstance(where, str)
        # Of several bridges, what names this one since its start.
        self._life: str | None = None
        self._last_beat: membership.HeartbeatTimes | None = None
        # Of several bridges each counts in the database.
        self._numbers: ClientNumbers | None = None
        self._published: list[Key] = []
        self._estimates: dict[str, float] = {}
        # Where the sweep of a large table continues: the name up to which it has come.
        self._swept_to: dict[str, str] = {}
        # Whether there may be other bridges that want to know what happens to jobs.
        self._has_peers = self.shared
        numbers = Numbers(self._draw, self._written, self._notify_of, lambda: self._owner)
        self.sets = Sets(self._database, numbers)
        self.webhooks = Webhooks(self._database)
        self.adapter_store = AdapterStore(self._database)
        self.offers = Offers(self._database)
        self.commands = PassedCommands(self._database, lambda: self._owner, self._notify)
        self.sets.on_hooks = self.webhooks.note_new

    def _notify(self, db: Transaction, word: str = "") -> None:
        """Notify the other bridges of something once this is committed."""
        db.notify(CHANNEL, f"{self._life}:{word}")

    def _notify_of(self, db: Transaction, key: Key, what: Notice = Notice.CHANGED) -> None:
        """Notify the other bridges of what happened to a job once this is committed."""
        if self._has_peers:
            self._notify(db, f"{what}{key.client}/{key.job_id}")

    @property
    def _owner(self) -> str:
        """The owner of this bridge's jobs, as queries compare it; empty for a bridge alone."""
        return self._life or ""

    def _read(self, work: Work[T]) -> asyncio.Future[T]:
        return self._database.run(work, touched.NOTHING)

    def _rows(self, sql: str, values: Sequence[Any] = ()) -> asyncio.Future[list[Any]]:
        return self._database.rows(sql, values)

    async def _row(self, sql: str, values: Sequence[Any]) -> Any:
        return await self._database.row(sql, values)

    async def _records(self, sql: str, values: Sequence[Any]) -> list[Record]:
        return [rows.read(row) for row in await self._rows(sql, values)]

    def _draw(self, client: str) -> NextNumber:
        """Draw a client's next number."""
        if self._numbers is None:
            return NextNumber(client, drawer=self._life)
        return self._numbers.draw(client)

    def _written(self, draw: NextNumber) -> None:
        """Note that the transaction that used a number is on disk."""
        if self._numbers is not None:
            self._numbers.written(draw)

    def _drawn(self, draw: NextNumber, work: Stepped[int]) -> asyncio.Future[int]:
        def written(done: asyncio.Future[int]) -> None:
            if succeeded(done):
                self._written(draw)

        future = self._database.run_stepped(work, touched.client(draw.client))
        future.add_done_callback(written)
        return future


def any_of(wanted: Iterable[State]) -> list[str]:
    """Return parameters for `[any_states]`: as many as there are states, whichever are wanted."""
    return [*islice(chain(wanted, repeat("")), len(get_args(State)))]
