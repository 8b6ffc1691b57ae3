"""Members of a group, as the journal has them: for tests of several bridges on one PostgreSQL."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence

from bridge.contract.numbering import Numbered
from bridge.jobs.job import Job, KeptOutput
from bridge.jobs.journal import Journal
from bridge.jobs.journal.membership import HeartbeatResult
from bridge.jobs.presence import DeadMember
from bridge.jobs.queue import Key
from tests.jobs.drafts import draft

KEY = Key("alice", "j1")
# With a lease that is over at once, and no time of grace after a start of the database.
LONG_S, OVER_S = 100.0, 0.0


class Member:
    """A bridge's journal, and its life in the group."""

    def __init__(self, address: str, name: str) -> None:
        self.journal = Journal(address)
        self.name = name
        self.life = uuid.uuid4().hex

    async def join(self, lease_s: float = LONG_S) -> float | None:
        return await self.journal.join(self.name, self.life, lease_s)

    async def beat(
        self, lease_s: float = LONG_S, *, staying: bool = True, dead: Sequence[DeadMember] = ()
    ) -> HeartbeatResult:
        return await self.journal.beat(lease_s, staying=staying, dead=dead)

    async def accept(self, job_id: str = "j1") -> Job:
        return (await self.journal.accept(draft(job_id), 1000.0)).record.job

    async def finish(self, key: Key = KEY, outputs: Iterable[KeptOutput] = ()) -> bytes:
        return await self.journal.finish(
            key,
            state="succeeded",
            result=Numbered(b"", b""),
            now=2000.0,
            outputs=outputs,
            keep_until=9000.0,
        )
