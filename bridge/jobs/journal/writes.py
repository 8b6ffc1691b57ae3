"""Writes of the journal: jobs accepted, started, requeued, ended."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from bridge.aio import succeeded
from bridge.contract.errors import Expired
from bridge.contract.messages import State
from bridge.contract.numbering import Numbered
from bridge.jobs import state as transitions
from bridge.jobs.database import SENT, SURE, Cursor, Steps, Transaction
from bridge.jobs.job import Draft, Job, KeptOutput, Plan
from bridge.jobs.journal import acceptance, queries, touched
from bridge.jobs.journal.base import Base, Notice
from bridge.jobs.journal.rows import Acceptance
from bridge.jobs.journal.sequence import NextNumber, drawn, number
from bridge.jobs.journal.webhooks import NewHooks
from bridge.jobs.queue import Key
from bridge.jobs.state import Transition

log = logging.getLogger(__name__)

# How long what the broker has acknowledged is gathered before it is written down.
NOTE_S = 1.0
# A job that is over in less is not worth the write that it has started.
MARK_AFTER_S = 0.1

(_WAITING,) = transitions.before(Transition.RELEASE)
(_RUNNING,) = transitions.before(Transition.REQUEUE)
_RELEASED = transitions.after(_WAITING, Transition.RELEASE)
_REQUEUED = transitions.after(_RUNNING, Transition.REQUEUE)

_encode = msgspec.json.Encoder().encode


class AlreadyEnded(RuntimeError):
    """A job was to be given a second outcome."""


class Writes(Base):
    """The steps of each job's life, each in one transaction."""

    async def accept(self, draft: Draft, now: float) -> Acceptance:
        """Write a job down, unless its id, or its MQTT delivery, is known already."""
        new = acceptance.Encoded(draft, now)
        draw = self._draw(draft.key.client)
        tried = False

        def work(db: Transaction) -> Steps[Acceptance | Expired]:
            nonlocal tried
            again, tried = tried, True
            known = (yield from acceptance.find_existing(db, draft)) if draft.redelivered else None
            if known is None:
                look = acceptance.insert_if_new(db, new, draw)
                yield SURE
                found = look()
            else:
                found = Acceptance(known, new=False)
            if isinstance(found, Expired):
                return found
            if again and new.wrote(found.record):
                # We did, and the answer to that commit was lost.
                found = Acceptance(new.record(found.record.job.seq, found.record.n), new=True)
            if found.new:
                self._notify_of(db, draft.key)
            return found

        accepted = await self._database.run_stepped(work, touched.draft(draft))
        if isinstance(accepted, Expired):
            raise accepted
        if accepted.new:
            self._written(draw)
        return accepted

    async def released(self, job: Job, plan: Plan, media: Mapping[str, bytes]) -> int:
        """Note that all that a job waited for is here: its plan, complete, and the bytes.

        Returns the status's `n`. Raises AlreadyEnded if it no longer waits.
        """
        encoded = _encode(plan)
        draw = self._draw(job.key.client)

        def work(db: Transaction) -> int:
            n = number(db, draw)
            values = (_RELEASED, encoded, n, *job.key, _WAITING, self._life)
            if db.execute(queries.RELEASE_JOB, values).rowcount != 1:
                raise AlreadyEnded(f"job {job.key.job_id} of {job.key.client} waits no longer")
            acceptance.keep_media(db, job.key, plan, media)
            self._notify_of(db, job.key)
            return n

        blobs = (blob.sha256 for blob in plan.blobs)
        n = await self._database.run(work, touched.client(job.key.client, blobs))
        self._written(draw)
        return n

    def started(self, job: Job) -> asyncio.Future[int]:
        """Note that a job was given to a ComfyUI; the future gives the number, in its turn.

        Who awaits it, or adds a callback to it, at once continues in the order of the numbers. It
        raises DatabaseError where the number could not be had: then nothing is to be published.

        Whether ComfyUI has a job is asked of ComfyUI. The mark bounds the attempts of a job that
        takes everything down with it; for one that is over in an instant it is not worth a write,
        unless other bridges want to know.
        """
        draw, prompt_id = self._draw(job.key.client), job.prompt_id
        if draw.n is None or draw.reserve is not None:
            return self._mark_started(job, draw)

        def mark() -> None:
            if job.state == _RUNNING and job.prompt_id == prompt_id:
                self._mark_started(job, draw).add_done_callback(_log_failure)

        asyncio.get_running_loop().call_later(MARK_AFTER_S, mark)
        return self._database.in_turn(draw.n)

    def _mark_started(self, job: Job, draw: NextNumber) -> asyncio.Future[int]:
        values = (_RUNNING, job.attempt, job.instance, job.prompt_id)

        def work(db: Transaction) -> Steps[int]:
            counted = drawn(db, draw)
            db.execute(queries.START_JOB, (*values, draw.n, draw.client, *job.key))
            yield SURE
            return counted()

        return self._drawn(draw, work)

    def status_number(self, job: Job) -> asyncio.Future[int]:
        """Draw a number for a status that changes nothing; see `started` for the future."""
        draw = self._draw(job.key.client)
        if draw.n is None or draw.reserve is not None:
            return self._drawn(draw, lambda db: _number(db, draw))
        return self._database.in_turn(draw.n)

    async def requeued(self, job: Job) -> int:
        """Note that a job returns to the queue, under a new prompt id; returns the number."""
        draw = self._draw(job.key.client)
        values = (_REQUEUED, job.attempt, job.prompt_id)

        def work(db: Transaction) -> int:
            n = number(db, draw)
            db.execute(queries.REQUEUE_JOB, (*values, n, *job.key))
            self._notify_of(db, job.key)
            return n

        n = await self._database.run(work, touched.client(job.key.client))
        self._written(draw)
        return n

    async def finish(
        self,
        key: Key,
        *,
        state: State,
        result: Numbered,
        now: float,
        outputs: Iterable[KeptOutput] = (),
        keep_until: float = 0.0,
        estimate: tuple[str, float] | None = None,
        hooks: NewHooks | None = None,
    ) -> bytes:
        """Write a job's outcome, with its outputs, in one transaction; returns the result.

        `result` is the message without its number; `estimate` is a workflow, and how many seconds
        its next run is expected to take; `hooks` are who is to be sent the result.

        Raises AlreadyEnded if it has one: the first outcome stands.
        """
        if not transitions.is_outcome(state):
            raise ValueError(f"{state!r} is no outcome")
        draw, outputs = self._draw(key.client), list(outputs)
        number, tried = (draw.n, draw.client), False

        def work(db: Transaction) -> Steps[bytes | None]:
            nonlocal tried
            again, tried = tried, True
            n = drawn(db, draw)
            values = (state, now, self._life, result.head, result.tail, *number, *key, self._life)
            finished = db.execute(queries.FINISH_JOB, values)
            # From here on nothing is done unless that has ended the job.
            for each in outputs:
                blob = (each.sha256, each.size, each.data)
                db.execute(queries.KEEP_BLOB_OF_ENDED, (*blob, *key, *number))
                kept = (each.index, each.content_type, each.sha256, keep_until, *key, *number)
                db.execute(queries.INSERT_OUTPUT_OF_ENDED, kept)
            db.execute(queries.DROP_MEDIA_OF_ENDED, key)
            stands = db.execute(queries.JOB, key) if again else None
            if hooks is not None:
                yield SENT  # they have the number in them
                if finished.rowcount == 1:
                    hooks.write(db, result.with_n(n()))
            yield SURE
            ended = finished.rowcount == 1
            written = n() if ended else _number_of(stands, (state, now, self._life))
            if written is None:
                return None
            self._notify_of(db, key, Notice.ENDED)
            return result.with_n(written)

        encoded = await self._database.run_stepped(work, touched.outputs(key.client, outputs))
        if encoded is None:
            raise AlreadyEnded(f"job {key.job_id} of {key.client} has an outcome")
        self._written(draw)
        if estimate is not None:
            self._estimate(*estimate)
        if hooks is not None:
            self.webhooks.note_new()
        return encoded

    async def keep_undelivered(
        self, key: Key, undelivered: bytes, outputs: Sequence[KeptOutput]
    ) -> None:
        """Keep what a job gave until its sinks have it: its outputs, and `undelivered` about them.

        The bytes stay for as long as the job has no outcome, whatever the sweep does.
        """

        def work(db: Transaction) -> None:
            for output in outputs:
                db.execute(queries.KEEP_BLOB, (output.sha256, output.size, output.data))
                db.execute(queries.KEEP_MEDIA, (*key, output.sha256))
            db.execute(queries.KEEP_UNDELIVERED, (undelivered, *key))

        await self._database.run(work, touched.outputs(key.client, outputs))

    async def undelivered(self, key: Key) -> bytes | None:
        """Return the note about outputs that are still to be delivered; None without one."""
        row = await self._row(queries.UNDELIVERED, key)
        found: bytes | None = None if row is None else row[0]
        return found

    async def estimates(self) -> dict[str, float]:
        """The seconds that a run of each workflow is expected to take."""
        return dict(await self._rows(queries.ESTIMATES)) | self._estimates

    def _estimate(self, workflow: str, run_s: float) -> None:
        """Schedule the write of an estimate: many jobs of one workflow share one."""
        if not self._estimates:
            asyncio.get_running_loop().call_later(NOTE_S, self._note_estimates)
        self._estimates[workflow] = run_s

    def _note_estimates(self) -> None:
        estimates, self._estimates = self._estimates, {}

        def work(db: Transaction) -> None:
            for estimate in estimates.items():
                db.execute(queries.SET_ESTIMATE, estimate)

        if estimates:
            noted = self._database.run(work, touched.workflows(estimates))
            noted.add_done_callback(succeeded)


def _number(db: Transaction, draw: NextNumber) -> Steps[int]:
    n = drawn(db, draw)
    yield SURE
    return n()


def _number_of(stands: Cursor | None, outcome: tuple[State, float, str | None]) -> int | None:
    """Return the number of a job's outcome, if it is this one: its state, its time, and whose.

    Then the answer to the commit that has written it was lost.
    """
    record = None if stands is None else acceptance.read(stands)
    if record is None or (record.job.state, record.finished_at, record.owner) != outcome:
        return None
    return record.n


def _log_failure(done: asyncio.Future[int]) -> None:
    if not done.cancelled() and done.exception() is not None:
        log.error("cannot store the start of a job: %s", done.exception())
