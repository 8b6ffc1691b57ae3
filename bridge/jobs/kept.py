"""Bytes that the journal keeps, or names: outputs, media of jobs, uploads; and when they go."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

from bridge.jobs.database import Transaction
from bridge.jobs.job import Plan
from bridge.jobs.ledger import Ledger
from bridge.jobs.queue import Key
from bridge.jobs.records import KeptUpload, Stored
from bridge.media.files import INLINE_LIMIT


class Kept(Ledger):
    """Small ones lie in the journal itself, large ones are `Files` of that name."""

    async def keep(self, key: Key, keep_until: float) -> int:
        """Keep a job's outputs until then; returns how many there are."""

        def work(db: Transaction) -> int:
            return db.execute(
                "UPDATE outputs SET keep_until = ? WHERE client = ? AND job_id = ?",
                (keep_until, *key),
            ).rowcount

        return await self._database.run(work)

    async def output(self, key: Key, index: int) -> Stored | None:
        """Where the bytes of a job's output are, if they are kept."""

        def work(db: Transaction) -> Stored | None:
            row = db.execute(
                "SELECT o.content_type, o.sha256, b.size, b.data FROM outputs o "
                "JOIN blobs b ON b.sha256 = o.sha256 "
                "WHERE o.client = ? AND o.job_id = ? AND o.idx = ?",
                (*key, index),
            ).fetchone()
            return None if row is None else Stored(*row)

        return await self._database.run(work)

    async def keep_upload(
        self, client: str, upload: str, kept: KeptUpload, keep_until: float
    ) -> None:
        """Note an upload that is complete; one of the same name before it is replaced."""

        def work(db: Transaction) -> None:
            keep_blob(db, kept.sha256, kept.size, kept.data)
            db.execute(
                "INSERT INTO uploads VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (client, upload) "
                "DO UPDATE SET kind = excluded.kind, content_type = excluded.content_type, "
                "extension = excluded.extension, sha256 = excluded.sha256, "
                "keep_until = excluded.keep_until",
                (
                    client,
                    upload,
                    kept.kind,
                    kept.content_type,
                    kept.extension,
                    kept.sha256,
                    keep_until,
                ),
            )

        await self._database.run(work)

    async def upload(self, client: str, upload: str) -> KeptUpload | None:
        """A client's upload, without its bytes, if it is complete and still kept."""

        def work(db: Transaction) -> KeptUpload | None:
            row = db.execute(
                "SELECT u.kind, u.content_type, u.extension, u.sha256, b.size FROM uploads u "
                "JOIN blobs b ON b.sha256 = u.sha256 WHERE u.client = ? AND u.upload = ?",
                (client, upload),
            ).fetchone()
            return None if row is None else KeptUpload(*row)

        return await self._database.run(work)

    async def uploaded(self, client: str) -> int:
        """How many bytes of complete uploads are kept for a client; a row takes some too."""

        def work(db: Transaction) -> int:
            row = db.execute(
                "SELECT COALESCE(SUM(b.size + 1024), 0) FROM uploads u "
                "JOIN blobs b ON b.sha256 = u.sha256 WHERE u.client = ?",
                (client,),
            ).fetchone()
            return int(row[0])

        return await self._database.run(work)

    async def blob(self, sha256: str) -> bytes | None:
        """A small blob's bytes; None where they are a file."""

        def work(db: Transaction) -> bytes | None:
            row = db.execute("SELECT data FROM blobs WHERE sha256 = ?", (sha256,)).fetchone()
            return None if row is None else row[0]

        return await self._database.run(work)

    async def sweep(
        self,
        *,
        now: float,
        results_before: float,
        forget_before: float,
        max_outputs: int | None = None,
        max_outputs_of: Callable[[str], int] | None = None,
    ) -> None:
        """Let go of what is kept no longer.

        `max_outputs` bounds all outputs together, `max_outputs_of` those of a client, in bytes:
        those of acked results go first.

        Outputs go at their own time, results that ended before `results_before` then, and ids
        that ended before `forget_before` are forgotten.
        """

        def work(db: Transaction) -> None:
            db.execute("DELETE FROM outputs WHERE keep_until < ?", (now,))
            db.execute("DELETE FROM uploads WHERE keep_until < ?", (now,))
            if max_outputs is not None:
                _fit_outputs(db, max_outputs, max_outputs_of)
            db.execute(
                "UPDATE jobs SET result = NULL, plan = NULL "
                "WHERE result IS NOT NULL AND finished_at < ?",
                (results_before,),
            )
            db.execute("DELETE FROM jobs WHERE finished_at < ?", (forget_before,))
            unused = (
                "NOT EXISTS (SELECT 1 FROM outputs o WHERE o.sha256 = blobs.sha256) "
                "AND NOT EXISTS (SELECT 1 FROM media m WHERE m.sha256 = blobs.sha256) "
                "AND NOT EXISTS (SELECT 1 FROM uploads u WHERE u.sha256 = blobs.sha256)"
            )
            db.execute(f"DELETE FROM blobs WHERE {unused}")  # noqa: S608 - a constant

        await self._database.run(work)

    async def files(self) -> set[str]:
        """The hashes of all blobs that are files."""

        def work(db: Transaction) -> set[str]:
            return {row[0] for row in db.execute("SELECT sha256 FROM blobs WHERE data IS NULL")}

        return await self._database.run(work)


def _fit_outputs(
    db: Transaction, budget: int, budget_of: Callable[[str], int] | None = None
) -> None:
    """Drop outputs beyond budgets of bytes; the newest that nobody acked stay longest."""
    rows = db.execute(
        "SELECT o.client, o.job_id, o.idx, b.size FROM outputs o "
        "JOIN blobs b ON b.sha256 = o.sha256 "
        "JOIN jobs j ON j.client = o.client AND j.job_id = o.job_id "
        "ORDER BY j.acked, j.finished_at DESC"
    )
    held = 0
    held_of: Counter[str] = Counter()
    over = []
    for client, job_id, idx, size in rows:
        beyond = budget_of is not None and held_of[client] + size > budget_of(client)
        if beyond or held + size > budget:
            over.append((client, job_id, idx))
        else:
            held += size
            held_of[client] += size
    for place in over:
        db.execute("DELETE FROM outputs WHERE client = ? AND job_id = ? AND idx = ?", place)


def keep_blob(db: Transaction, sha256: str, size: int, data: bytes | None) -> None:
    """Keep a blob, or note that it is a file (None); whoever names it keeps it there."""
    db.execute(
        "INSERT INTO blobs VALUES (?, ?, ?) ON CONFLICT (sha256) DO NOTHING", (sha256, size, data)
    )


def keep_media(db: Transaction, key: Key, plan: Plan, media: Mapping[str, bytes]) -> None:
    """Keep a plan's bytes for as long as its job has not ended."""
    for blob in plan.blobs:
        data = media.get(blob.sha256)
        inline = data if data is not None and len(data) <= INLINE_LIMIT else None
        if data is not None:
            keep_blob(db, blob.sha256, len(data), inline)
        db.execute("INSERT INTO media VALUES (?, ?, ?) ON CONFLICT DO NOTHING", (*key, blob.sha256))
