"""The journal: what was accepted, and what became of it.

A job is accepted when its row is on disk, and has ended when its result is in that row; both
happen once, whatever dies in between. The journal knows nothing of MQTT or ComfyUI. Times are
arguments.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from bridge.contract.errors import UnknownJob
from bridge.contract.messages import State
from bridge.contract.numbering import Numbered
from bridge.jobs.claims import Claims
from bridge.jobs.database import Transaction
from bridge.jobs.job import Draft, Job, KeptOutput, Plan
from bridge.jobs.kept import Kept, keep_blob, keep_media
from bridge.jobs.ledger import Notice
from bridge.jobs.numbers import Draw, go_on_above, number
from bridge.jobs.queue import Key
from bridge.jobs.records import (
    JOB_COLUMNS,
    RECORD_COLUMNS,
    Acceptance,
    AlreadyEnded,
    Record,
    Unpublished,
    by_delivery,
    decode_envelope,
    find_record,
    first_state,
    new_job,
    read_job,
    read_record,
)

# How long what the broker has acknowledged is gathered before it is written down.
NOTE_S = 1.0
# Among several bridges an ack counts only what is known to be published.
NOTE_SHARED_S = 0.05
# A job that is over in less is not worth the write that it has started.
MARK_AFTER_S = 0.1

log = logging.getLogger(__name__)

_encode = msgspec.json.Encoder().encode
_decode_plan = msgspec.json.Decoder(Plan).decode


class Journal(Claims, Kept):
    """All jobs, on disk."""

    def __init__(self, where: Path | str) -> None:
        """`where` is a file of SQLite's, or the address of a PostgreSQL database."""
        super().__init__(where)
        self._published: list[Key] = []

    async def close(self) -> None:
        """Write what was handed over, and close."""
        self._note_published()
        await super().close()

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
            self.tell(db)

        await self._database.run(work)

    async def paused(self) -> bool:
        """Whether nothing is to be started."""
        return await self._database.run(lambda db: _noted(db, "paused")) == "1"

    async def mark_restored(self) -> None:
        """Note that this is a backup: what has not ended in it is lost.

        Numbers go on far above those of the backup: clients have seen some that came after it.
        """

        def work(db: Transaction) -> None:
            go_on_above(db)
            _note(db, "restored", "1")

        await self._database.run(work)

    async def restored(self) -> bool:
        """Whether this is a backup that was put in place and not used yet."""
        return await self._database.run(lambda db: _noted(db, "restored")) == "1"

    async def taken_up(self) -> None:
        """Note that what a backup lost was told."""
        await self._database.run(lambda db: _note(db, "restored", "0"))

    async def accept(self, draft: Draft, now: float) -> Acceptance:
        """Write a job down, unless its id, or its MQTT delivery, is known already."""
        envelope = _encode(draft.envelope)
        plan = _encode(draft.plan)
        needs = _encode(draft.needs)
        draw = self._draw(draft.key.client)

        def work(db: Transaction) -> Acceptance:
            known = find_record(db, draft.key)
            if known is None and draft.redelivered:
                known = by_delivery(db, draft.delivery)
            if known is not None:
                return Acceptance(known, new=False)
            n = number(db, draw)
            cursor = db.execute(
                "INSERT INTO jobs (client, job_id, workflow, workflow_version, fingerprint, "
                "delivery, state, priority, attempt, prompt_id, accepted_at, start_before, "
                "timeout_s, keep_s, ordered, replace_word, needs, envelope, plan, n) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING seq",
                (
                    *draft.key,
                    draft.workflow,
                    draft.workflow_version,
                    draft.fingerprint,
                    draft.delivery,
                    first_state(draft),
                    draft.priority,
                    draft.prompt_id,
                    now,
                    draft.start_before,
                    draft.timeout_s,
                    draft.keep_s,
                    int(draft.ordered),
                    draft.replace,
                    needs,
                    envelope,
                    plan,
                    n,
                ),
            )
            (seq,) = cursor.fetchone()
            keep_media(db, draft.key, draft.plan, draft.media)
            self.tell_of(db, draft.key)
            return Acceptance(Record(new_job(draft, seq, now), draft.fingerprint, n), new=True)

        acceptance = await self._database.run(work)
        if acceptance.new:
            self._written(draw)
        return acceptance

    async def released(self, job: Job, plan: Plan, media: Mapping[str, bytes]) -> int:
        """Note that all that a job waited for is here: its plan, complete, and the bytes."""
        encoded = _encode(plan)
        draw = self._draw(job.key.client)

        def work(db: Transaction) -> int:
            n = number(db, draw)
            cursor = db.execute(
                # One that this bridge had claimed in its last life is anybody's again.
                "UPDATE jobs SET state = 'queued', plan = ?, n = ?, owner = NULL "
                "WHERE client = ? AND job_id = ? AND state = 'waiting' "
                "AND (owner IS NULL OR owner = ?)",
                (encoded, n, *job.key, self._life),
            )
            if cursor.rowcount != 1:
                raise AlreadyEnded(f"job {job.key.job_id} of {job.key.client} waits no longer")
            keep_media(db, job.key, plan, media)
            self.tell_of(db, job.key)
            return n

        n = await self._database.run(work)
        self._written(draw)
        return n

    def started(self, job: Job) -> asyncio.Future[int]:
        """Note that a job was given to a ComfyUI; the future gives the number, in its turn.

        Who awaits it, or adds a callback to it, at once goes on in the order of the numbers. It
        raises DatabaseError where the number could not be had: then nothing is to be published.

        Whether ComfyUI has a job is asked of ComfyUI. The mark bounds the attempts of a job that
        takes everything down with it; for one that is over in an instant it is not worth a write,
        unless other bridges want to know.
        """
        draw, prompt_id = self._draw(job.key.client), job.prompt_id
        if draw.n is None or draw.reserve is not None:
            return self._mark(job, draw)

        def mark() -> None:
            if job.state == "running" and job.prompt_id == prompt_id:
                self._mark(job, draw).add_done_callback(_log_failure)

        asyncio.get_running_loop().call_later(MARK_AFTER_S, mark)
        return self._database.in_turn(draw.n)

    def _mark(self, job: Job, draw: Draw) -> asyncio.Future[int]:
        values = (job.attempt, job.instance, job.prompt_id)

        def work(db: Transaction) -> int:
            n = number(db, draw)
            db.execute(
                "UPDATE jobs SET state = 'running', attempt = ?, instance = ?, prompt_id = ?, "
                "n = ? WHERE client = ? AND job_id = ? AND finished_at IS NULL",
                (*values, n, *job.key),
            )
            return n

        return self._drawn(draw, work)

    def told(self, job: Job) -> asyncio.Future[int]:
        """Draw a number for a status that changes nothing; see `started` for the future."""
        draw = self._draw(job.key.client)
        if draw.n is None or draw.reserve is not None:
            return self._drawn(draw, lambda db: number(db, draw))
        return self._database.in_turn(draw.n)

    def _drawn(self, draw: Draw, work: Callable[[Transaction], int]) -> asyncio.Future[int]:
        def written(done: asyncio.Future[int]) -> None:
            if not done.cancelled() and done.exception() is None:
                self._written(draw)

        future = self._database.run(work)
        future.add_done_callback(written)
        return future

    async def requeued(self, job: Job) -> int:
        """Note that a job goes back to the queue, under a new prompt id."""
        draw = self._draw(job.key.client)

        def work(db: Transaction) -> int:
            n = number(db, draw)
            db.execute(
                "UPDATE jobs SET state = 'queued', attempt = ?, instance = NULL, prompt_id = ?, "
                "n = ?, owner = NULL WHERE client = ? AND job_id = ? AND finished_at IS NULL",
                (job.attempt, job.prompt_id, n, *job.key),
            )
            self.tell_of(db, job.key)
            return n

        n = await self._database.run(work)
        self._written(draw)
        return n

    async def finish(
        self,
        key: Key,
        *,
        state: State,
        result: Numbered,
        now: float,
        outputs: Sequence[KeptOutput] = (),
        keep_until: float = 0.0,
        estimate: tuple[str, float] | None = None,
    ) -> bytes:
        """Write a job's outcome, with its outputs, in one transaction; returns the result.

        `result` is the message without its number; `estimate` is a workflow, and how many seconds
        its next run is expected to take.

        Raises AlreadyEnded where there is one: the first outcome stands.
        """
        draw = self._draw(key.client)

        def work(db: Transaction) -> bytes:
            n = number(db, draw)
            encoded = result.with_n(n)
            cursor = db.execute(
                "UPDATE jobs SET state = ?, n = ?, result = ?, finished_at = ?, owner = ? "
                "WHERE client = ? AND job_id = ? AND finished_at IS NULL "
                "AND (owner IS NULL OR owner = ?)",
                (state, n, encoded, now, self._life, *key, self._life),
            )
            if cursor.rowcount != 1:
                raise AlreadyEnded(f"job {key.job_id} of {key.client} has an outcome")
            self.tell_of(db, key, Notice.ENDED)
            for output in outputs:
                keep_blob(db, output.sha256, output.size, output.data)
                db.execute(
                    "INSERT INTO outputs VALUES (?, ?, ?, ?, ?, ?)",
                    (*key, output.index, output.content_type, output.sha256, keep_until),
                )
            db.execute("DELETE FROM media WHERE client = ? AND job_id = ?", key)
            if estimate is not None:
                db.execute(
                    "INSERT INTO estimates VALUES (?, ?) "
                    "ON CONFLICT (workflow) DO UPDATE SET run_s = excluded.run_s",
                    estimate,
                )
            return encoded

        encoded = await self._database.run(work)
        self._written(draw)
        return encoded

    async def estimates(self) -> dict[str, float]:
        """How many seconds a run of each workflow is expected to take."""

        def work(db: Transaction) -> dict[str, float]:
            return dict(db.execute("SELECT workflow, run_s FROM estimates"))

        return await self._database.run(work)

    def published(self, key: Key) -> None:
        """Note that the broker has a job's result.

        Not at once: to forget it would only mean that the same result is told once more.
        """
        self._published.append(key)
        if len(self._published) == 1:
            asyncio.get_running_loop().call_later(
                NOTE_SHARED_S if self.shared else NOTE_S, self._note_published
            )

    def _note_published(self) -> None:
        keys, self._published = self._published, []

        def work(db: Transaction) -> None:
            for key in keys:
                db.execute("UPDATE jobs SET published = 1 WHERE client = ? AND job_id = ?", key)

        if keys:
            noted = self._database.run(work)
            noted.add_done_callback(lambda done: done.cancelled() or done.exception())

    async def unpublished(self, since: float, *, orphans: bool = False) -> list[Unpublished]:
        """Results to publish again, in the order of `n`.

        Those that the broker may not have, and those that ended after `since` and that no client
        acked: a broker that dies loses what it has acknowledged. Of several bridges each has its
        own, or with `orphans` those of bridges that are no more.
        """
        whose: str = ""
        values: list[float | str] = [since]
        if orphans:
            whose = "AND NOT EXISTS (SELECT 1 FROM members WHERE life = jobs.owner) "
        elif self._life is not None:
            whose, values = "AND owner = ? ", [since, self._life]

        def work(db: Transaction) -> list[Unpublished]:
            rows = db.execute(
                "SELECT client, job_id, envelope, result FROM jobs WHERE result IS NOT NULL "  # noqa: S608 - built of constants
                f"AND acked = 0 AND (published = 0 OR finished_at >= ?) {whose}"
                "ORDER BY client, n",
                values,
            )
            return [
                Unpublished(Key(client, job_id), decode_envelope(envelope), result)
                for client, job_id, envelope, result in rows
            ]

        return await self._database.run(work)

    async def unfinished(self) -> list[Job]:
        """Every job without an outcome that this bridge has, in the order of acceptance."""
        ours = "" if self._life is None else "AND owner = ? "
        values = () if self._life is None else (self._life,)

        def work(db: Transaction) -> list[Job]:
            rows = db.execute(
                f"SELECT {JOB_COLUMNS} FROM jobs WHERE finished_at IS NULL {ours}ORDER BY seq",  # noqa: S608 - built of constants
                values,
            )
            return [read_job(row) for row in rows]

        return await self._database.run(work)

    async def plan(self, key: Key) -> Plan:
        """What is needed to run a job; kept as long as its result. Raises UnknownJob."""

        def work(db: Transaction) -> bytes | None:
            row = db.execute(
                "SELECT plan FROM jobs WHERE client = ? AND job_id = ?", key
            ).fetchone()
            return None if row is None else row[0]

        plan = await self._database.run(work)
        if plan is None:
            raise UnknownJob(f"the plan of job {key.job_id!r} is not kept", job_id=key.job_id)
        return _decode_plan(plan)

    async def get(self, key: Key) -> Record:
        """A client's job. Raises UnknownJob."""
        record = await self._database.run(lambda db: find_record(db, key))
        if record is None:
            raise UnknownJob(f"no job {key.job_id!r}", job_id=key.job_id)
        return record

    async def page(
        self,
        client: str,
        *,
        after: int,
        limit: int,
        states: Iterable[State] | None = None,
        workflow: str | None = None,
    ) -> list[Record]:
        """A client's jobs whose latest number is above `after`, in that order."""
        where, values = "client = ? AND n > ?", [client, after]
        filters: list[Any] = []
        if states is not None:
            filters = list(states)
            where += f" AND state IN ({', '.join('?' * len(filters))})"
        if workflow is not None:
            filters.append(workflow)
            where += " AND workflow = ?"

        def work(db: Transaction) -> list[Record]:
            rows = db.execute(
                f"SELECT {RECORD_COLUMNS} FROM jobs WHERE {where} ORDER BY n LIMIT ?",  # noqa: S608 - built of constants
                (*values, *filters, limit),
            )
            return [read_record(row) for row in rows]

        return await self._database.run(work)

    async def ack(self, client: str, up_to: int) -> int:
        """Note that a client has every result up to a number; how many were new.

        Bridges publish side by side: what another has yet to publish is not meant.
        """
        told = "" if self._life is None else "AND (published = 1 OR owner = ?)"
        values = (client, up_to) if self._life is None else (client, up_to, self._life)

        def work(db: Transaction) -> int:
            return db.execute(
                "UPDATE jobs SET acked = 1 "  # noqa: S608 - built of constants
                f"WHERE client = ? AND n <= ? AND acked = 0 AND finished_at IS NOT NULL {told}",
                values,
            ).rowcount

        return await self._database.run(work)

    async def forget(self, key: Key) -> bool:
        """Let go of an ended job's result, outputs and plan; False if they are gone already."""

        def work(db: Transaction) -> bool:
            cursor = db.execute(
                "UPDATE jobs SET result = NULL, plan = NULL, acked = 1 WHERE client = ? "
                "AND job_id = ? AND finished_at IS NOT NULL AND result IS NOT NULL",
                key,
            )
            db.execute("DELETE FROM outputs WHERE client = ? AND job_id = ?", key)
            return cursor.rowcount == 1

        return await self._database.run(work)


def _log_failure(done: asyncio.Future[int]) -> None:
    if not done.cancelled() and done.exception() is not None:
        log.error("cannot note a start: %s", done.exception())


def _noted(db: Transaction, name: str) -> str | None:
    row = db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
    return None if row is None else str(row[0])


def _note(db: Transaction, name: str, value: str) -> None:
    db.execute(
        "INSERT INTO meta VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        (name, value),
    )
