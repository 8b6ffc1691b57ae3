"""The journal's table of what adapters keep: small values and pictures, by kind and name.

So they are the same for all bridges of a group, whichever of them takes the requests.
"""

from __future__ import annotations

from collections.abc import Mapping

from bridge.jobs.database import Database, Transaction
from bridge.jobs.journal import queries, touched


class Kept:
    """The kept values of a journal; all raise DatabaseError, and LeaseLost as the journal does."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def all(self, kind: str) -> dict[str, bytes]:
        """Return everything of a kind, by name."""

        def work(db: Transaction) -> dict[str, bytes]:
            return {name: bytes(value) for name, value in db.execute(queries.KEPT, (kind,))}

        return await self._database.run(work, touched.NOTHING)

    async def names(self, kind: str) -> list[str]:
        """Return the names that there are of a kind, sorted."""

        def work(db: Transaction) -> list[str]:
            return [name for (name,) in db.execute(queries.KEPT_NAMES, (kind,))]

        return await self._database.run(work, touched.NOTHING)

    async def get(self, kind: str, name: str) -> bytes | None:
        """Return what is kept under a name; None if nothing is."""

        def work(db: Transaction) -> bytes | None:
            row = db.execute(queries.KEPT_VALUE, (kind, name)).fetchone()
            return None if row is None else bytes(row[0])

        return await self._database.run(work, touched.NOTHING)

    async def keep(self, kind: str, values: Mapping[str, bytes], *, new: bool = False) -> None:
        """Keep values under their names; with `new` only those of which there is none yet."""
        query = queries.KEEP_IF_NEW if new else queries.KEEP

        def work(db: Transaction) -> None:
            for name, value in values.items():
                db.execute(query, (kind, name, value))

        await self._database.run(work, touched.kept(kind))

    async def drop(self, kind: str, name: str) -> None:
        """Keep something no longer."""

        def work(db: Transaction) -> None:
            db.execute(queries.DROP_KEPT, (kind, name))

        await self._database.run(work, touched.kept(kind))
