"""The journal's class: all jobs, on disk.

A job is accepted when its row is on disk, and has ended when its result is in that row; both
happen once, whatever dies in between. The journal knows nothing of MQTT or ComfyUI. Times are
arguments, in seconds by its `clock`.

Each method hands one function of a transaction to the database, whose thread runs them in the order
of the calls. Cancelling an await does not undo the call: it is written nevertheless.
All methods that return after a write raise DatabaseError if it could not be done, and LeaseLost
where the other bridges count this one as dead.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Sequence

import msgspec

from bridge.aio import succeeded
from bridge.contract.reading import UNREADABLE
from bridge.jobs.clock import ClockReading
from bridge.jobs.database import Transaction
from bridge.jobs.journal import publication, queries, rows, sets, touched, webhooks
from bridge.jobs.journal.reads import Reads
from bridge.jobs.journal.rows import Unpublished
from bridge.jobs.journal.schema import ADDED
from bridge.jobs.journal.sequence import ClientNumbers, raise_above_seen
from bridge.jobs.journal.shared import Shared
from bridge.jobs.journal.sweep import Sweep
from bridge.jobs.journal.writes import NOTE_S, Writes
from bridge.jobs.queue import Key

log = logging.getLogger(__name__)

# Among several bridges an ack counts only what is known to be published.
NOTE_SHARED_S = 0.05

_encode = msgspec.json.Encoder().encode
_decode_reading = msgspec.json.Decoder(ClockReading).decode


class Journal(Writes, Reads, Shared, Sweep):
    """All jobs, on disk. For one bridge alone every job is its own.

    Its methods are in four more files, by purpose, because one file of all would be too long to
    read; they share the database and the client's numbers. Rows that only one caller uses have
    classes of their own: `sets`, `webhooks`, `kept` and `offers`.
    """

    async def open(self) -> None:
        """Open or create it. Raises DatabaseError."""
        await self._database.open()
        await self._database.run(_add_tables)
        self.jumped_s = self.clock.resume(*await self._read(_noted_time))
        if not self.shared:
            self._numbers = ClientNumbers(await self._rows(queries.ALL_RESERVED))

    async def close(self) -> None:
        """Write what was handed over, and close."""
        self._note_published()
        self._note_estimates()
        if self._numbers is not None:  # several bridges have noted it within a minute
            noted = self._note_time()
            noted.add_done_callback(succeeded)
        await self._database.close()

    @property
    def commits(self) -> int:
        """The number of transactions that reached the disk."""
        return self._database.commits

    @property
    def round_trips(self) -> int:
        """The number of waits for a server."""
        return self._database.round_trips

    # Notes.

    async def note_time(self) -> None:
        """Note how far the journal's time is: it continues there when it is opened again."""
        await self._note_time()

    def _note_time(self) -> asyncio.Future[None]:
        reading = self.clock.read()

        def work(db: Transaction) -> None:
            before = _noted_reading(db)
            if before is None or before.at < reading.at:
                _note(db, "clock", _encode(reading).decode())

        return self._database.run(work)

    async def session(self, *, present: bool) -> str:
        """Return the name of the MQTT session that the broker keeps for us.

        A new one is made unless the broker said that it has the old: packet ids mean something
        only within one session.
        """

        def work(db: Transaction) -> str:
            known = _noted(db, "session")
            if present and known is not None:
                return known
            name = uuid.uuid4().hex
            _note(db, "session", name)
            return name

        return await self._database.run(work)

    async def pause(self, *, paused: bool) -> None:
        """Note whether jobs are to be started."""

        def work(db: Transaction) -> None:
            _note(db, "paused", str(int(paused)))
            self._notify(db)

        await self._database.run(work)

    async def paused(self) -> bool:
        """True if nothing is to be started."""
        return await self._read(lambda db: _noted(db, "paused")) == "1"

    async def mark_restored(self) -> None:
        """Note that this is a backup: what has not ended in it is lost.

        Numbers continue far above those of the backup: clients have seen some that came after it.
        """

        def work(db: Transaction) -> None:
            raise_above_seen(db)
            db.execute(queries.CANCEL_ALL_SETS)
            _note(db, "restored", "1")

        await self._database.run(work)

    async def restored(self) -> bool:
        """True if this is a backup that was put in place and not used yet."""
        return await self._read(lambda db: _noted(db, "restored")) == "1"

    async def backup_reported(self) -> None:
        """Note that what a backup lost was reported."""
        await self._database.run(lambda db: _note(db, "restored", "0"))

    # Results.

    def published(self, key: Key) -> None:
        """Note that the broker has a job's result.

        Not at once: to forget it would only mean that the same result is published once more.
        """
        self._published.append(key)
        if len(self._published) == 1:
            asyncio.get_running_loop().call_later(
                NOTE_SHARED_S if self.shared else NOTE_S, self._note_published
            )

    def _note_published(self) -> None:
        keys, self._published = self._published, []
        if keys:
            noted = self._database.run_stepped(
                lambda db: publication.note_published(db, keys, self._owner),
                touched.clients(key.client for key in keys),
            )
            noted.add_done_callback(self._raise_overtaken)

    def _raise_overtaken(self, noted: asyncio.Future[list[Key]]) -> None:
        if not succeeded(noted):
            return  # they count as not published
        overtaken = noted.result()
        if overtaken:
            raised = self._renumber(overtaken, published=True)
            raised.add_done_callback(succeeded)

    def passed_over(self, key: Key) -> None:
        """Note that the broker did not take a job's result, while it takes others'."""
        noted = self._database.run(
            lambda db: publication.pass_over(db, key), touched.client(key.client)
        )
        noted.add_done_callback(succeeded)

    def _renumber(self, keys: Sequence[Key], *, published: bool) -> asyncio.Future[None]:
        draws = [(key, self._draw(key.client)) for key in keys]
        raised = self._database.run(
            lambda db: publication.renumber(db, draws, published=published),
            touched.clients(key.client for key in keys),
        )

        def written(done: asyncio.Future[None]) -> None:
            if succeeded(done):
                for _, draw in draws:
                    self._written(draw)

        raised.add_done_callback(written)
        return raised

    async def unpublished(self, since: float, *, orphans: bool = False) -> list[Unpublished]:
        """Results to publish again, of jobs and of sets, in the order of `n`.

        Those that the broker may not have, and those that ended after `since` and that no client
        acked: a broker that dies loses what it has acknowledged. Of several bridges each has its
        own, or with `orphans` those of bridges that are no more.
        """
        if orphans:
            found = await self._rows(queries.UNPUBLISHED_OF_THE_DEAD, (since, since))
        else:
            found = await self._rows(queries.UNPUBLISHED, (self._owner, since, self._owner) * 2)
        return [rows.unpublished(row) for row in found]

    async def ack(self, client: str, up_to: int) -> int:
        """Note that a client has every result up to a number; how many were new.

        What it cannot have been sent yet is not meant (`publication`).
        """
        self._note_published()

        def work(db: Transaction) -> int:
            jobs = publication.ack(db, client, up_to, self._owner)
            return jobs + sets.ack(db, client, up_to)

        return await self._database.run(work, touched.client(client))

    async def resume(self, client: str, after: int, limit: int) -> None:
        """Ack what a client has, which asks for what comes after a number.

        Up to `limit` results that the broker did not take get numbers above that.
        """
        self._note_published()

        def work(db: Transaction) -> list[Key]:
            publication.ack(db, client, after, self._owner)
            sets.ack(db, client, after)
            return publication.passed_over(db, client, after, limit)

        missed = await self._database.run(work, touched.client(client))
        if missed:
            await self._renumber(missed, published=False)

    async def forget(self, key: Key) -> bool:
        """Delete an ended job's result, outputs and plan; False if they are gone already."""

        def work(db: Transaction) -> bool:
            found = db.execute(queries.FORGET_RESULT, key).rowcount == 1
            db.execute(queries.DROP_OUTPUTS, key)
            webhooks.forget(db, key)
            return found

        return await self._database.run(work, touched.client(key.client))


def _add_tables(db: Transaction) -> None:
    for statement in ADDED:
        db.execute(statement)


def _noted(db: Transaction, name: str) -> str | None:
    row = db.execute(queries.NOTED, (name,)).fetchone()
    return None if row is None else str(row[0])


def _noted_time(db: Transaction) -> tuple[ClockReading | None, float | None]:
    """Return the clock's last reading; without one the newest time that the journal has."""
    reading = _noted_reading(db)
    if reading is not None:
        return reading, None
    (latest,) = db.execute(queries.LATEST_TIME).fetchone()
    return None, latest


def _noted_reading(db: Transaction) -> ClockReading | None:
    """Return the clock's last reading; None in an older journal, or where it is damaged."""
    noted = _noted(db, "clock")
    try:
        return None if noted is None else _decode_reading(noted)
    except UNREADABLE as error:
        log.warning("the journal's note of the time is damaged: %s", error)
        return None


def _note(db: Transaction, name: str, value: str) -> None:
    db.execute(queries.NOTE, (name, value))
