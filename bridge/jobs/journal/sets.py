"""The journal's table of sets: one row a set, whose jobs are rows of jobs like any other.

A set is accepted when its row is on disk, together with its first job, by which a redelivered
request is known again. The other jobs are written down as there is room for them, each once: the
row says how many were. A set has ended when its result is in its row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from bridge.aio import succeeded
from bridge.contract.errors import UnknownJob
from bridge.contract.messages import Outcome, State, encode
from bridge.contract.sets import SetResult, SetState
from bridge.jobs.database import Database, Statements, Steps, Transaction
from bridge.jobs.job import Draft, Envelope, KeptOutput
from bridge.jobs.journal import acceptance, queries, touched, webhooks
from bridge.jobs.journal.rows import Record, read_envelope
from bridge.jobs.journal.sequence import NextNumber, number
from bridge.jobs.queue import Key

_encode = msgspec.json.Encoder().encode


class SetRecord(Struct, frozen=True):
    """A set's row. `key` is its client and its id; `made` counts the jobs that were made.

    Some of its jobs wait for their input where it `waits`.
    """

    key: Key
    workflow: str
    fingerprint: bytes
    state: SetState
    total: int
    made: int
    waits: bool
    accepted_at: float
    envelope: Envelope
    n: int
    result: bytes | None = None
    ended: bool = False


class JobRow(Struct, frozen=True):
    """A job of a set, and where it stands."""

    index: int
    job_id: str
    state: State


class OutputRow(Struct, frozen=True):
    """An output that is kept of a job of a set; `index` is the job's, `size` in bytes."""

    index: int
    job_id: str
    output: int
    content_type: str
    size: int


class NewSet(Struct, frozen=True):
    """A set to be written down: its row, its `spec` as it is kept, and the bytes of its media.

    `blobs` are the SHA-256 of all of them; `media` has those that came with the request.
    `delivery` and `redelivered` are those of a `Draft`.
    """

    record: SetRecord
    spec: bytes
    blobs: set[str]
    media: Mapping[str, bytes]
    delivery: str | None = None
    redelivered: bool = False


class Numbers(Struct, frozen=True):
    """The journal's functions to draw numbers, report them as written, and notify other bridges.

    `owner` names this bridge among several, and is empty for one alone.
    """

    draw: Callable[[str], NextNumber]
    written: Callable[[NextNumber], None]
    notify: Callable[[Transaction, Key], None]
    owner: Callable[[], str]


class Sets:
    """The sets of a journal; its methods are handed to the database as the journal's are."""

    def __init__(self, database: Database, numbers: Numbers) -> None:
        self._database = database
        self._numbers = numbers
        # Called when webhooks about a set were written down.
        self.on_hooks: Callable[[], None] = lambda: None

    async def accept(
        self, new: NewSet, first: Draft, now: float
    ) -> tuple[SetRecord, Record | None]:
        """Write a set down with its first job, unless its id, or its delivery, is known already.

        Returns the set, and that job if it is new. Raises Expired where bytes are kept no longer.
        """
        key = new.record.key
        encoded = acceptance.Encoded(first, now)
        envelope = _encode(new.record.envelope)
        draws = [self._numbers.draw(key.client), self._numbers.draw(key.client)]

        def work(db: Transaction) -> Steps[tuple[SetRecord, Record | None]]:
            known = _find(db, key)
            if known is None:
                job = yield from acceptance.find_existing(db, first)
                known = None if job is None else _set_of(db, job)
            if known is not None:
                return known, None
            n = number(db, draws[0])
            record = msgspec.structs.replace(new.record, n=n, made=1, accepted_at=now)
            db.execute(
                queries.INSERT_SET,
                (
                    *key,
                    record.workflow,
                    record.fingerprint,
                    record.state,
                    record.total,
                    record.made,
                    int(record.waits),
                    now,
                    envelope,
                    new.spec,
                    record.n,
                ),
            )
            acceptance.keep_blobs(db, media_key(key), new.blobs, new.media)
            job = acceptance.insert(db, encoded, number(db, draws[1]))()
            self._numbers.notify(db, job.job.key)
            return record, job

        touches = touched.draft(first, sha256s=new.blobs)
        found = await self._database.run_stepped(work, touches)
        if found[1] is not None:
            self._written(draws)
        return found

    async def expand(
        self, key: Key, made: int, drafts: Sequence[Draft], now: float
    ) -> list[Record] | None:
        """Write a set's next jobs, after `made`; None if the row has another count by now.

        It may have been cancelled or paused, or another bridge has continued it.
        """
        encoded = [acceptance.Encoded(each, now) for each in drafts]
        draws = [self._numbers.draw(key.client) for _ in drafts]

        def work(db: Transaction) -> list[Record] | None:
            values = (made + len(drafts), *key, made)
            if db.execute(queries.EXPAND_SET, values).rowcount != 1:
                return None
            records = []
            for each, draw in zip(encoded, draws, strict=True):
                # A job of the client's own choosing may have that name: this one gets another.
                free = each.renamed(_free(db, each.draft.key))
                records.append(acceptance.insert(db, free, number(db, draw))())
                self._numbers.notify(db, free.draft.key)
            return records

        found = await self._database.run(work, touched.draft(*drafts))
        if found is not None:
            self._written(draws)
        return found

    async def get(self, key: Key) -> SetRecord:
        """A client's set. Raises UnknownJob."""
        found = await self._database.row(queries.SET, key)
        if found is None:
            raise UnknownJob(f"no set {key.job_id!r}", set_id=key.job_id)
        return _read(found)

    async def spec(self, key: Key) -> bytes | None:
        """Return the stored specification of a set's jobs; None once it has ended."""
        found = await self._database.row(queries.SET_SPEC, key)
        return found[0] if found else None

    async def unfinished(self) -> list[tuple[SetRecord, list[Key]]]:
        """Every set without a result, in the order of acceptance, and its jobs under way.

        Those were made and have not ended; they are in their order.
        """

        def work(db: Transaction) -> list[tuple[SetRecord, list[Key]]]:
            records = [_read(row) for row in db.execute(queries.UNFINISHED_SETS)]
            found = [(each, db.execute(queries.UNDER_WAY_OF_SET, each.key)) for each in records]
            return [
                (each, [Key(each.key.client, job_id) for (job_id,) in under_way])
                for each, under_way in found
            ]

        return await self._database.run(work, touched.NOTHING)

    async def jobs(self, key: Key) -> list[JobRow]:
        """The jobs of a set that were made, in their order."""
        return [JobRow(*row) for row in await self._database.rows(queries.JOBS_OF_SET, key)]

    async def outputs(self, key: Key) -> list[OutputRow]:
        """Return the kept outputs of a set's jobs, in the order of the jobs."""
        return [OutputRow(*row) for row in await self._database.rows(queries.OUTPUTS_OF_SET, key)]

    async def results(self, key: Key) -> list[tuple[int, bytes]]:
        """Return the kept results of a set's jobs, by their places in it."""
        return await self._database.rows(queries.RESULTS_OF_SET, key)

    async def counts(self, key: Key) -> dict[State, int]:
        """Return the number of a set's jobs in each state, of those that were made."""
        return dict(await self._database.rows(queries.COUNT_SET_JOBS, key))

    async def yet_to_make(self, client: str) -> int:
        """Return the number of jobs of a client's sets that were not made yet."""
        ((found,),) = await self._database.rows(queries.UNMADE_OF_CLIENT, (client,))
        return int(found)

    async def enter(self, key: Key, state: SetState) -> SetRecord:
        """Pause a set, resume it, or note that it is to be cancelled; returns it as it is then.

        What has ended stays so, and so does what is being cancelled. Raises UnknownJob.
        """

        def work(db: Transaction) -> SetRecord | None:
            db.execute(queries.ENTER_SET_STATE, (state, *key))
            return _find(db, key)

        record = await self._database.run(work, touched.client(key.client))
        if record is None:
            raise UnknownJob(f"no set {key.job_id!r}", set_id=key.job_id)
        return record

    async def finish(
        self,
        key: Key,
        result: Callable[[SetRecord, Sequence[JobRow]], SetResult],
        now: float,
        shown: float | None = None,
        *,
        outputs: Sequence[KeptOutput] = (),
        keep_until: float = 0.0,
    ) -> bytes | None:
        """Write a set's outcome; returns its result, None if there is none to write.

        That is where it has one, where a job has not ended, or not all were made. `result` is
        called in the database's thread, with the jobs that were made; its `n` does not matter.
        `shown` is the wall clock's time, if that is another than `now`. `outputs` are what the
        set has collected.
        """
        draw, owner = self._numbers.draw(key.client), self._numbers.owner()

        def work(db: Transaction) -> bytes | None:
            record = _find(db, key)
            if record is None or record.ended:
                return None
            if record.state != "cancelling" and record.made < record.total:
                return None
            (unended,) = db.execute(queries.UNENDED_OF_SET, key).fetchone()
            if unended:
                return None
            jobs = [JobRow(*row) for row in db.execute(queries.JOBS_OF_SET, key)]
            found = result(record, jobs)
            n = number(db, draw)
            encoded = encode(msgspec.structs.replace(found, n=n))
            outcome: Outcome = found.state
            db.execute(queries.FINISH_SET, (outcome, n, encoded, now, owner or None, *key))
            db.execute(queries.DROP_MEDIA, media_key(key))
            for output in outputs:
                keep_output(db, collected_key(key), output, keep_until)
            hooks = record.envelope.webhooks
            at = now if shown is None else shown
            webhooks.new("set", key, outcome, hooks, now=now, shown=at).write(db, encoded)
            return encoded

        found = await self._database.run(work, touched.outputs(key.client, outputs))
        if found is not None:
            self._written([draw])
            self.on_hooks()
        return found

    def published(self, key: Key) -> None:
        """Note that the broker has a set's result; if that fails, it is published once more."""
        noted = self._database.change(queries.SET_PUBLISHED, key, touched.client(key.client))
        noted.add_done_callback(succeeded)

    async def store_collected(self, key: Key, outputs: Sequence[KeptOutput]) -> None:
        """Store what a set has collected, until it ends; `finish` keeps it from then on."""

        def work(db: Transaction) -> None:
            record = _find(db, key)
            if record is None or record.ended:
                return
            for output in outputs:
                db.execute(queries.KEEP_BLOB, (output.sha256, output.size, output.data))
                db.execute(queries.KEEP_MEDIA, (*media_key(key), output.sha256))

        await self._database.run(work, touched.outputs(key.client, outputs))

    async def keep(self, key: Key, keep_until: float) -> int:
        """Keep what a set has collected, and its jobs' outputs, until then; how many there are."""

        def work(db: Transaction) -> int:
            own = db.execute(queries.KEEP_OUTPUTS, (keep_until, *collected_key(key))).rowcount
            of_jobs = (keep_until, key.client, *key)
            return own + db.execute(queries.KEEP_OUTPUTS_OF_SET, of_jobs).rowcount

        return await self._database.run(work, touched.client(key.client))

    async def forget(self, key: Key) -> bool:
        """Delete an ended set's result, and what is kept of its jobs; False if nothing was."""

        def work(db: Transaction) -> bool:
            found = db.execute(queries.FORGET_SET, key).rowcount == 1
            of_jobs = (key.client, *key)
            db.execute(queries.DROP_OUTPUTS_OF_SET, of_jobs)
            db.execute(queries.DROP_OUTPUTS, collected_key(key))
            webhooks.forget(db, key)
            return db.execute(queries.FORGET_RESULTS_OF_SET, key).rowcount > 0 or found

        return await self._database.run(work, touched.client(key.client))

    def _written(self, draws: Iterable[NextNumber]) -> None:
        for draw in draws:
            self._numbers.written(draw)


def media_key(key: Key) -> Key:
    """Return the key under which a set's media is kept: no job can have it."""
    return Key(key.client, f"set/{key.job_id}")


# What a set has collected is kept likewise, among the outputs of jobs.
collected_key = media_key


def keep_output(db: Transaction, key: Key, output: KeptOutput, keep_until: float) -> None:
    """Keep an output of a job, or of a set, until a time."""
    db.execute(queries.KEEP_BLOB, (output.sha256, output.size, output.data))
    db.execute(
        queries.INSERT_OUTPUT,
        (*key, output.index, output.content_type, output.sha256, keep_until),
    )


def ack(db: Statements, client: str, n: int) -> int:
    """Note that a client has the set's result with a number, if one has it; how many were new.

    A higher number acks no set's result: the client cannot have listed it.
    """
    return db.execute(queries.ACK_SET, (client, n)).rowcount


def _find(db: Transaction, key: Key) -> SetRecord | None:
    row = db.execute(queries.SET, key).fetchone()
    return None if row is None else _read(row)


def _set_of(db: Transaction, job: Record) -> SetRecord | None:
    set_id = job.job.envelope.set_id
    return None if set_id is None else _find(db, Key(job.job.key.client, set_id))


def _free(db: Transaction, key: Key) -> Key:
    free, more = key, 0
    while db.execute(queries.IS_JOB, free).fetchone() is not None:
        more += 1
        free = Key(key.client, f"{key.job_id}-{more}")
    return free


def _read(row: Sequence[Any]) -> SetRecord:
    client, set_id, workflow, fingerprint, state, total, made, *row = row
    waits, at, encoded, n, result, end = row
    key = Key(client, set_id)
    return SetRecord(
        key,
        workflow,
        fingerprint,
        state,
        total,
        made,
        bool(waits),
        at,
        read_envelope(key, encoded) or Envelope(),
        n,
        result,
        ended=end is not None,
    )
