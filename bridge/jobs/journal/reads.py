"""Reads of the journal: jobs as they stand, and their bytes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import get_args

from bridge.contract.errors import UnknownJob
from bridge.contract.messages import State
from bridge.jobs.backlog import Backlog, backlog
from bridge.jobs.database import Transaction
from bridge.jobs.job import Job, Plan
from bridge.jobs.journal import queries, rows, touched
from bridge.jobs.journal.base import Base, any_of
from bridge.jobs.journal.rows import KeptUpload, Record, Stored, decode_plan
from bridge.jobs.queue import Key
from bridge.jobs.state import OUTCOMES
from bridge.workflows.catalogue import Needs

# Others' works come in between.
FILES_AT_ONCE = 5000


class Reads(Base):
    """Jobs as they stand, and bytes."""

    async def unfinished(self) -> list[Job]:
        """Every job without an outcome that this bridge has, in the order of acceptance."""
        return [record.job for record in await self._records(queries.UNFINISHED, (self._owner,))]

    async def claimed_by_others(self) -> list[Job]:
        """Every job without an outcome that another bridge of the group has."""
        found = await self._records(queries.CLAIMED_BY_OTHERS, (self._owner,))
        return [record.job for record in found]

    async def backlog(self) -> Backlog:
        """Return the work that has not ended, whichever bridge of the group has it."""

        def work(db: Transaction) -> Backlog:
            counts = [
                (workflow, rows.read_needs(needs) or Needs(), state, count)
                for workflow, needs, state, count in db.execute(queries.BACKLOG)
            ]
            run_s = dict(db.execute(queries.ESTIMATES))
            # Alone there is no table of members, of which those that live count.
            members = db.execute(queries.HOW_MANY_MEMBERS).fetchone()[0] if self.shared else 1
            return backlog(counts, run_s, members)

        return await self._read(work)

    async def plan(self, key: Key) -> Plan:
        """Return the plan to run a job by; kept as long as its result. Raises UnknownJob."""
        row = await self._row(queries.PLAN, key)
        if row is None or row[0] is None:
            raise UnknownJob(f"the plan of job {key.job_id!r} is not kept", job_id=key.job_id)
        return decode_plan(row[0])

    async def get(self, key: Key) -> Record:
        """A client's job. Raises UnknownJob."""
        found = await self._records(queries.JOB, key)
        if not found:
            raise UnknownJob(f"no job {key.job_id!r}", job_id=key.job_id)
        return found[0]

    async def clients(self, limit: int = 10_000) -> list[str]:
        """Return the names of clients that have jobs here, up to `limit`."""
        return [client for (client,) in await self._rows(queries.CLIENTS, (limit,))]

    async def page(
        self,
        client: str,
        *,
        after: int,
        limit: int,
        states: Iterable[State] | None = None,
        workflow: str | None = None,
        set_id: str | None = None,
    ) -> list[Record]:
        """A client's jobs, or a set's, whose latest number is above `after`, in that order."""
        wanted = get_args(State) if states is None else tuple(states)
        sql = queries.page(unended=OUTCOMES.isdisjoint(wanted), of_set=set_id is not None)
        of_set = () if set_id is None else (set_id,)
        values = (client, after, *any_of(wanted), workflow, *of_set, limit)
        return await self._records(sql, values)

    async def last_ended(self, client: str) -> list[Record]:
        """The last job of each workflow that ended, of a client."""
        return await self._records(queries.LAST_ENDED, (client, client))

    # Bytes. Small ones lie in the journal itself, large ones are `Files` of that name.

    async def keep(self, key: Key, keep_until: float) -> int:
        """Keep a job's outputs until then; returns how many there are."""
        values = (keep_until, *key)
        return await self._database.change(queries.KEEP_OUTPUTS, values, touched.client(key.client))

    async def output(self, key: Key, index: int) -> Stored | None:
        """Return the place of the bytes of a job's output, if they are kept."""
        row = await self._row(queries.OUTPUT, (*key, index))
        return None if row is None else Stored(*row)

    async def keep_upload(
        self, client: str, upload: str, kept: KeptUpload, keep_until: float
    ) -> None:
        """Note an upload that is complete; one of the same name before it is replaced."""
        described = (kept.kind, kept.content_type, kept.extension, kept.sha256)

        def work(db: Transaction) -> None:
            db.execute(queries.KEEP_BLOB, (kept.sha256, kept.size, kept.data))
            db.execute(queries.KEEP_UPLOAD, (client, upload, *described, keep_until))

        await self._database.run(work, touched.client(client, (kept.sha256,)))

    async def upload(self, client: str, upload: str) -> KeptUpload | None:
        """A client's upload, without its bytes, if it is complete and still kept."""
        row = await self._row(queries.UPLOAD, (client, upload))
        return None if row is None else KeptUpload(*row)

    async def uploaded(self, client: str) -> int:
        """Return the bytes of complete uploads that are kept for a client, rows included."""
        (size,) = await self._row(queries.UPLOADED, (client,))
        return int(size)

    async def blob(self, sha256: str) -> bytes | None:
        """A small blob's bytes; None if the blob is a file."""
        row = await self._row(queries.BLOB, (sha256,))
        return None if row is None else row[0]

    async def files(self) -> set[str]:
        """The hashes of all blobs that are files.

        They are read a part at a time. One that is written meanwhile may be missing.
        """
        found: list[str] = []
        while True:
            after = found[-1] if found else ""
            some = await self._rows(queries.FILES_AFTER, (after, FILES_AT_ONCE))
            found += [sha256 for (sha256,) in some]
            if len(some) < FILES_AT_ONCE:
                return set(found)
