"""Writing jobs down, one alone or several of a set, within a transaction of the journal."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from bridge.contract.errors import Expired
from bridge.jobs.database import SENT, Cursor, Steps, Transaction
from bridge.jobs.job import Draft, Job, Plan
from bridge.jobs.journal import queries, rows
from bridge.jobs.journal.rows import Acceptance, Record
from bridge.jobs.journal.sequence import NextNumber, drawn
from bridge.jobs.queue import Key
from bridge.media.files import INLINE_LIMIT

_encode = msgspec.json.Encoder().encode


class Encoded:
    """A draft as its row has it: encoded once, outside of the transaction."""

    def __init__(self, draft: Draft, now: float) -> None:
        self.draft = draft
        self.job: Job = replace(draft.job, accepted_at=now)
        self.needs = _encode(draft.job.needs)
        self.envelope = _encode(draft.job.envelope)
        self.plan = _encode(draft.plan)

    def record(self, seq: int, n: int) -> Record:
        """Return it as it is when it was written down."""
        return Record(replace(self.job, seq=seq), self.draft.fingerprint, n)

    def wrote(self, known: Record) -> bool:
        """True if a row is this one, by what nobody changes; others may have run it since."""
        is_it = self.job.accepted_at, self.job.workflow_version, self.draft.fingerprint
        return is_it == (known.job.accepted_at, known.job.workflow_version, known.fingerprint)

    def renamed(self, key: Key) -> Encoded:
        """Return the same under another id."""
        if key == self.draft.key:
            return self
        found = copy.copy(self)
        found.job = replace(self.job, key=key)
        found.draft = replace(self.draft, job=found.job)
        return found


def find_existing(db: Transaction, draft: Draft) -> Steps[Record | None]:
    """Return the job that has a draft's id, or that the same MQTT delivery made before."""
    row = db.execute(queries.JOB, draft.key)
    yield SENT
    found = read(row)
    if found is None and draft.redelivered and draft.delivery is not None:
        found = _find_delivered(db, draft.delivery)
    return found


def insert(db: Transaction, new: Encoded, n: int) -> Callable[[], Record]:
    """Write a new job down, under its number; its id must be free. Raises Expired.

    The function returned looks at what was written.
    """
    keep_media(db, new.job.key, new.draft.plan, new.draft.media)
    inserted = db.execute(queries.INSERT_JOB, (*_values(new), n))

    def record() -> Record:
        (seq,) = inserted.fetchone()
        return new.record(seq, n)

    return record


def insert_if_new(
    db: Transaction, new: Encoded, draw: NextNumber
) -> Callable[[], Acceptance | Expired]:
    """Write a job down, unless its id is known; everything is sent without looking at it.

    The function returned looks: Expired is what would have been raised, were the job written.
    """
    key, media = new.job.key, new.draft.media
    sha256s = _sha256s(new.draft.plan)
    n, number = drawn(db, draw), (draw.n, draw.client)
    found = db.execute(queries.JOB, key)
    for sha256 in sha256s & media.keys():
        _keep_blob(db, sha256, media[sha256])
    values = (*_values(new), *number, *sha256s)
    inserted = db.execute(queries.insert_job_if_new(len(sha256s)), values)
    for sha256 in sha256s:
        db.execute(queries.KEEP_MEDIA_OF_NEW, (sha256, *key, *number))
    there = [(sha256, db.execute(queries.IS_BLOB, (sha256,))) for sha256 in sha256s]

    def look() -> Acceptance | Expired:
        known = read(found)
        if known is not None:
            return Acceptance(known, new=False)
        row = inserted.fetchone()
        if row is None:
            return _gone(next(sha256 for sha256, blob in there if blob.fetchone() is None))
        return Acceptance(new.record(row[0], n()), new=True)

    return look


def _values(new: Encoded) -> tuple[Any, ...]:
    """Return a new job's columns, but for its number."""
    job, draft, envelope = new.job, new.draft, new.draft.job.envelope
    return (
        *job.key,
        job.workflow,
        job.workflow_version,
        draft.fingerprint,
        draft.delivery,
        None if draft.delivery is None else _packet(draft.delivery),
        job.state,
        job.priority,
        job.attempt,
        job.prompt_id,
        job.accepted_at,
        job.start_before,
        job.timeout_s,
        job.keep_s,
        int(job.ordered),
        job.replace,
        new.needs,
        new.envelope,
        new.plan,
        envelope.set_id,
        envelope.set_index,
    )


def find(db: Transaction, sql: str, values: Sequence[Any]) -> Record | None:
    """Return the job that a query finds."""
    return read(db.execute(sql, values))


def read(found: Cursor) -> Record | None:
    """Return the job that was found."""
    row = found.fetchone()
    return None if row is None else rows.read(row)


def keep_media(db: Transaction, key: Key, plan: Plan, media: Mapping[str, bytes]) -> None:
    """Keep a plan's bytes for as long as its job has not ended.

    Raises Expired where some were kept when they were named, and are no longer.
    """
    keep_blobs(db, key, _sha256s(plan), media)


def keep_blobs(db: Transaction, key: Key, sha256s: set[str], media: Mapping[str, bytes]) -> None:
    """Keep bytes under a key; `media` has those that are new. Raises Expired."""
    for sha256 in sha256s:
        data = media.get(sha256)
        if data is not None:
            _keep_blob(db, sha256, data)
        if db.execute(queries.KEEP_MEDIA, (*key, sha256)).rowcount != 1:
            raise _gone(sha256)


def _keep_blob(db: Transaction, sha256: str, data: bytes) -> None:
    inline = data if len(data) <= INLINE_LIMIT else None
    db.execute(queries.KEEP_BLOB, (sha256, len(data), inline))


def _sha256s(plan: Plan) -> set[str]:
    return {blob.sha256 for blob in plan.blobs}


def _gone(sha256: str) -> Expired:
    return Expired("the bytes of an input are kept no longer", sha256=sha256)


def _find_delivered(db: Transaction, delivery: str) -> Record | None:
    """The job that an MQTT delivery made, if it can be that one which comes again.

    The broker delivers a message again as long as it has not got our PUBACK, however long that
    takes and whatever came meanwhile; and before that it gives the message's packet id to no
    other. So what comes again is the last message that came under its packet id: what came under
    it before that was acknowledged.

    Two messages alike cannot be distinguished if they were given the same packet id, nothing that
    became a job came under it in between, and the second was lost with the connection on its first
    way: it counts as the first. That no request runs twice is more important.
    """
    last = db.execute(queries.LAST_OF_PACKET, (_packet(delivery),)).fetchone()
    if last is not None and _message(last[0]) != _message(delivery):
        return None
    return find(db, queries.JOB_OF_DELIVERY, (delivery,))


def _packet(delivery: str) -> str:
    """Return the key of a delivery's packet id (see `Draft`) in its session."""
    return ":".join(delivery.split(":")[:2])


def _message(delivery: str) -> str:
    """Return the key of a delivery's message: one may have made several jobs."""
    return ":".join(delivery.split(":")[:3])
