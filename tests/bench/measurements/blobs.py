"""The bytes that PostgreSQL writes for large outputs: kept in the journal, and in a bucket.

The bucket is in memory: what the database writes does not depend on it.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import time

import psycopg
from obstore.store import MemoryStore

from bridge.contract.messages import OutputInfo
from bridge.contract.numbering import Numbered
from bridge.jobs.database.blobs import Blobs
from bridge.jobs.finalizer import keep
from bridge.jobs.journal import Journal
from bridge.jobs.object_store import ObjectStore
from bridge.jobs.outputs import CollectedOutput
from bridge.media.files import Files
from tests.bench.figures import Spread
from tests.bench.report import Aim, Row
from tests.bench.stand import Measurement, Stand
from tests.jobs.drafts import draft
from tests.support.postgresql import PostgreSQL, running_postgresql

SIZE = 1_900_000
JOBS = 30
AIM = Aim(0.02)


async def measure(stand: Stand) -> list[Row]:
    """Measure the bytes of PostgreSQL's log, and the seconds, of jobs with large outputs."""
    written: dict[str, list[float]] = {"database": [], "bucket": []}
    with running_postgresql(stand.folder.parent, durable=True) as server:
        for number in range(stand.rounds):
            for where, found in written.items():
                found.append(await _written(server, where))
            told = ", ".join(f"{where} {found[-1]:.1f}" for where, found in written.items())
            stand.tell(f"round {number + 1} of {stand.rounds}: {told} KB a MB of output")
    pairs = zip(written["bucket"], written["database"], strict=True)
    return [
        Row(
            what="a journal in PostgreSQL: KB written to its log for a MB of outputs of 1.9 MB, "
            "with them in a bucket over with them in it",
            unit="KB",
            value=Spread.of(written["bucket"]),
            reference=Spread.of(written["database"]),
            ratio=Spread.of([bucket / database for bucket, database in pairs]),
            aim=AIM,
        )
    ]


async def _written(server: PostgreSQL, where: str) -> float:
    """End jobs; returns the KB of the database's log for each MB of their outputs."""
    with server.database() as address:
        files: Files = (
            Blobs(address) if where == "database" else ObjectStore(MemoryStore(), "a bucket")
        )
        journal = Journal(address)
        await journal.open()
        await asyncio.to_thread(files.open)
        before = _log(address)
        for number in range(JOBS):
            await _end(journal, files, f"j{number}")
        found = _log(address) - before
        await asyncio.to_thread(files.close)
        await journal.close()
    return 1000 * found / (JOBS * SIZE)


async def _end(journal: Journal, files: Files, job_id: str) -> None:
    job = (await journal.accept(draft(job_id), time.time())).record.job
    data = os.urandom(SIZE)
    sha256 = hashlib.sha256(data).hexdigest()
    info = OutputInfo(
        index=0, name="x", kind="image", content_type="image/png", size=SIZE, sha256=sha256
    )
    await journal.finish(
        job.key,
        state="succeeded",
        result=Numbered(b'{"n": ', b"}"),
        now=time.time(),
        outputs=await keep(files, [CollectedOutput(info, data)]),
        keep_until=time.time() + 3600,
    )


def _log(address: str) -> int:
    """Return the bytes of the database's log so far."""
    with psycopg.connect(address, autocommit=True) as connection:
        (found,) = connection.execute(
            "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint"
        ).fetchone() or (0,)
    return int(found)


MEASUREMENT = Measurement(
    "blobs", "what PostgreSQL writes for large outputs", measure, comfyui=False, rounds=3
)
