"""The sweep of the journal: deletes what has had its time, a little at a time.

Deleting rows of all clients has the journal alone. So one transaction deletes at most `AT_ONCE`
rows of each table, found by an index on their time, and the works of everybody else come in
between.

Bytes go with the last output or upload that named them. What else nothing refers to any more has no
time: bytes of inputs whose job has ended, or of what was forgotten, and clients. Reads, for which
nobody waits, find it, and it is checked again where it is deleted. A read takes at most
`ROWS_PER_READ` rows. One sweep does not read all of a large table: the next one continues.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, TypeAlias, TypeVar

from bridge.jobs.database import Cursor, Transaction
from bridge.jobs.journal import queries, touched
from bridge.jobs.journal.base import Base
from bridge.jobs.journal.sequence import forget_clients

T = TypeVar("T")

# Client, job or set, index, size in bytes, whether the result was acked, when it ended.
KeptOne: TypeAlias = tuple[str, str, int, int, int, float]

AT_ONCE = 200
ROWS_PER_READ = 1000
# In one sweep.
MOST_READS = 20


class Sweep(Base):
    """The sweep; of a group, one bridge at a time calls it."""

    async def sweep(
        self,
        *,
        now: float,
        results_before: float,
        forget_before: float,
        max_outputs: int | None = None,
        max_outputs_of: Callable[[str], int] | None = None,
    ) -> None:
        """Delete what is kept no longer.

        Outputs go at their own time, results that ended before `results_before` then, and ids
        that ended before `forget_before` are forgotten; so are clients that have no job any more.

        `max_outputs` bounds all outputs together, `max_outputs_of` those of a client, in bytes: it
        is called here, in the event loop. Those of acked results go first. What is forgotten while
        this reads and compares still counts then: as many more bytes may go.

        Raises DatabaseError, LeaseLost. What was deleted before that, or before this is cancelled,
        stays deleted.
        """
        if max_outputs is not None and await self._exceeds(now, max_outputs, max_outputs_of):
            kept = [
                each async for some in self._outputs(queries.OUTPUTS_AFTER, now) for each in some
            ]
            of = {each[0]: max_outputs_of(each[0]) for each in kept} if max_outputs_of else None
            over = await asyncio.to_thread(beyond_budgets, kept, max_outputs, of)
            for places in _parts(over):
                await self._drop_blobs(await self._drop_outputs(places))
        with_bytes = (queries.SWEEP_OUTPUTS, queries.SWEEP_UPLOADS)
        old = (
            (queries.SWEEP_RESULTS, results_before),
            (queries.SWEEP_JOBS, forget_before),
            (queries.SWEEP_SET_RESULTS, results_before),
            (queries.SWEEP_SETS, forget_before),
        )

        def work(db: Transaction) -> tuple[bool, list[str]]:
            dropped = [_at_most(db, sql, now) for sql in with_bytes]
            done = [_at_most(db, sql, before) for sql, before in old]
            sha256s = [_names(each) for each in dropped]
            changed = (*map(len, sha256s), *(each.rowcount for each in done))
            return AT_ONCE in changed, [*chain(*sha256s)]

        more = True
        while more:
            more, sha256s = await self._database.run(work)
            for some in _parts(sha256s):
                await self._drop_blobs(some)
        for some in _parts(await self._unused(queries.BLOBS_IN_USE)):
            await self._drop_blobs(some)
        for clients in _parts(await self._unused(queries.CLIENTS_IN_USE)):
            await self._forget_clients(clients)

    async def _exceeds(
        self, now: float, max_outputs: int, max_outputs_of: Callable[[str], int] | None
    ) -> bool:
        """True if outputs have to go: to find out which ones, each one's job is read as well."""
        held_of: Counter[str] = Counter()
        async for some in self._outputs(queries.OUTPUT_SIZES_AFTER, now):
            for client, _, _, size in some:
                held_of[client] += size
        return held_of.total() > max_outputs or (
            max_outputs_of is not None
            and any(held > max_outputs_of(client) for client, held in held_of.items())
        )

    async def _outputs(self, sql: str, now: float) -> AsyncIterator[list[Any]]:
        """Yield the rows of all outputs that are kept, so many at a time."""
        after: tuple[str, str, int] = ("", "", 0)
        while True:
            some = await self._rows(sql, (*after, now, ROWS_PER_READ))
            yield some
            if len(some) < ROWS_PER_READ:
                return
            after = some[-1][:3]

    async def _unused(self, sql: str) -> list[str]:
        """Return names to which nothing refers, of the rows after those of the last sweep."""
        unused = []
        for _ in range(MOST_READS):
            found = await self._rows(sql, (self._swept_to.get(sql, ""), ROWS_PER_READ))
            unused += [name for name, used in found if not used]
            if len(found) < ROWS_PER_READ:
                self._swept_to.pop(sql, None)
                break
            self._swept_to[sql] = found[-1][0]
        return unused

    async def _drop_outputs(self, places: Sequence[tuple[str, str, int]]) -> list[str]:
        """Delete outputs; returns the SHA-256 of their bytes."""

        def work(db: Transaction) -> list[str]:
            dropped = [db.execute(queries.DROP_OUTPUT, place) for place in places]
            return [*chain(*map(_names, dropped))]

        return await self._database.run(work)

    async def _drop_blobs(self, sha256s: Sequence[str]) -> None:
        """Delete bytes that nothing refers to; whoever lets something do so touches them too."""

        def work(db: Transaction) -> None:
            for sha256 in sha256s:
                db.execute(queries.DROP_UNUSED_BLOB, (sha256,))

        await self._database.run(work, touched.blobs(sha256s))

    async def _forget_clients(self, clients: Sequence[str]) -> None:
        forgotten = await self._database.run(lambda db: forget_clients(db, clients))
        if self._numbers is not None:
            self._numbers.forget(forgotten)


def _at_most(db: Transaction, sql: str, before: float) -> Cursor:
    return db.execute(queries.at_most(sql, AT_ONCE), (before,))


def _names(found: Cursor) -> list[str]:
    """Return rows of one name each; `rowcount` is right only once they are read (SQLite)."""
    return [name for (name,) in found]


def _parts(everything: Sequence[T]) -> Iterator[Sequence[T]]:
    """Yield so many at a time as one transaction deletes."""
    for start in range(0, len(everything), AT_ONCE):
        yield everything[start : start + AT_ONCE]


def beyond_budgets(
    kept: Iterable[KeptOne], budget: int, budgets: Mapping[str, int] | None = None
) -> list[tuple[str, str, int]]:
    """Return which outputs are beyond budgets of bytes: client, job id and index of each.

    `budgets` are those of clients. Outputs of acked results go first, then the oldest. Pure.
    """
    held = 0
    held_of: Counter[str] = Counter()
    over = []
    for client, job_id, index, size, *_ in sorted(kept, key=lambda each: (each[4], -each[5])):
        beyond = budgets is not None and held_of[client] + size > budgets[client]
        if beyond or held + size > budget:
            over.append((client, job_id, index))
        else:
            held += size
            held_of[client] += size
    return over
