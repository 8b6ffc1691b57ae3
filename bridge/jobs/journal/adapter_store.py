"""The journal's table of what adapters keep: small values and pictures, by kind and name.

So they are the same for all bridges of a group, whichever of them takes the requests.
"""

from __future__ import annotations

from collections.abc import Mapping

from bridge.jobs.database import Database, Transaction
from bridge.jobs.journal import queries, touched


class AdapterStore:
    """The values that adapters keep in a journal.

    All methods raise DatabaseError, and LeaseLost as the journal does.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def all(self, kind: str) -> dict[str, bytes]:
        """Return everything of a kind, by name."""
        found = await self._database.rows(queries.KEPT, (kind,))
        return {name: bytes(value) for name, value in found}

    async def names(self, kind: str) -> list[str]:
        """Return the names that there are of a kind, sorted."""
        return [name for (name,) in await self._database.rows(queries.KEPT_NAMES, (kind,))]

    async def get(self, kind: str, name: str) -> bytes | None:
        """Return the value of a name; None if there is none."""
        found = await self._database.row(queries.KEPT_VALUE, (kind, name))
        return bytes(found[0]) if found else None

    async def keep(self, kind: str, values: Mapping[str, bytes], *, new: bool = False) -> None:
        """Keep values under their names; with `new` only those of which there is none yet."""
        query = queries.KEEP_IF_NEW if new else queries.KEEP

        def work(db: Transaction) -> None:
            for name, value in values.items():
                db.execute(query, (kind, name, value))

        await self._database.run(work, touched.adapter_store(kind))

    async def drop(self, kind: str, name: str) -> None:
        """Delete a value, if there is one."""

        def work(db: Transaction) -> None:
            # Not `change`: run again, it would delete what another bridge has kept meanwhile.
            db.execute(queries.DROP_KEPT, (kind, name))

        await self._database.run(work, touched.adapter_store(kind))
