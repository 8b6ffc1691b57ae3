"""Rows of the journal as typed records, and the reads that several of its methods share."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from bridge.contract.messages import State
from bridge.jobs.database import Transaction
from bridge.jobs.job import Draft, Envelope, Job
from bridge.jobs.queue import Key
from bridge.workflows.catalogue import Needs

# How many requests may be unacknowledged at a time (MQTT's Receive Maximum).
RECEIVE_WINDOW = 256

decode_envelope = msgspec.json.Decoder(Envelope).decode

JOB_COLUMNS = (
    "client, job_id, seq, workflow, workflow_version, state, priority, attempt, prompt_id, "
    "instance, accepted_at, start_before, timeout_s, keep_s, ordered, replace_word, needs, envelope"
)
RECORD_COLUMNS = f"{JOB_COLUMNS}, fingerprint, n, finished_at, acked, result"


class Record(Struct, frozen=True):
    """A job's row: the job, and what the journal alone knows of it.

    `result` is the message as it was published, byte for byte; None while there is none, or once
    it is no longer kept.
    """

    job: Job
    fingerprint: bytes
    n: int
    finished_at: float | None = None
    acked: bool = False
    result: bytes | None = None


class Acceptance(Struct, frozen=True):
    """What became of a draft: a new job, or the one that has its id already."""

    record: Record
    new: bool


class Standing(NamedTuple):
    """Where a job stands among several bridges: who has it, and whether they are to stop it."""

    job: Job
    owner: str | None
    cancelling: bool
    ended: bool


class Unpublished(NamedTuple):
    """A result that may not have reached the broker."""

    key: Key
    envelope: Envelope
    result: bytes


class Stored(Struct, frozen=True):
    """Where an output's bytes are; `data` is None when they are a file named by the hash."""

    content_type: str
    sha256: str
    size: int
    data: bytes | None


class KeptUpload(Struct, frozen=True):
    """Bytes that a client uploaded; `data` are they where they lie in the journal itself."""

    kind: str
    content_type: str
    extension: str
    sha256: str
    size: int
    data: bytes | None = None


class AlreadyEnded(RuntimeError):
    """A job was to be given a second outcome."""


def find_record(db: Transaction, key: Key) -> Record | None:
    """A job's record, if there is one."""
    row = db.execute(
        f"SELECT {RECORD_COLUMNS} FROM jobs WHERE client = ? AND job_id = ?",  # noqa: S608 - a constant
        key,
    ).fetchone()
    return None if row is None else read_record(row)


def by_delivery(db: Transaction, delivery: str | None) -> Record | None:
    """The job that an MQTT delivery made, if it made one lately."""
    if delivery is None:
        return None
    # A packet id is used again once its message was acked. What is not acked yet lies within the
    # receive window, so only the newest rows can be meant.
    row = db.execute(
        f"SELECT {RECORD_COLUMNS} FROM jobs WHERE delivery = ? "  # noqa: S608 - a constant
        "AND seq >= (SELECT MIN(seq) FROM (SELECT seq FROM jobs ORDER BY seq DESC LIMIT ?) newest) "
        "ORDER BY seq DESC LIMIT 1",
        (delivery, RECEIVE_WINDOW),
    ).fetchone()
    return None if row is None else read_record(row)


def read_job(row: Sequence[Any]) -> Job:
    """Read a row of JOB_COLUMNS."""
    client, job_id, *rest, ordered, word, needs, envelope = row
    return Job(
        **dict(zip(_JOB_FIELDS, rest, strict=True)),
        key=Key(client, job_id),
        ordered=bool(ordered),
        replace=word,
        needs=_needs(needs),
        envelope=decode_envelope(envelope),
    )


@functools.lru_cache(maxsize=1024)
def _needs(encoded: bytes | None) -> Needs:
    """Read what a job needs: one object for all that need the same."""
    return Needs() if encoded is None else msgspec.json.decode(encoded, type=Needs)


_JOB_FIELDS = JOB_COLUMNS.split(", ")[2:-4]
_JOB_WIDTH = len(JOB_COLUMNS.split(", "))


def read_record(row: Sequence[Any]) -> Record:
    """Read a row of RECORD_COLUMNS."""
    fingerprint, n, finished_at, acked, result = row[_JOB_WIDTH:]
    return Record(
        read_job(row[:_JOB_WIDTH]),
        fingerprint,
        n,
        finished_at,
        acked=bool(acked),
        result=result,
    )


def new_job(draft: Draft, seq: int, now: float) -> Job:
    """The job that a draft becomes."""
    return Job(
        key=draft.key,
        seq=seq,
        workflow=draft.workflow,
        workflow_version=draft.workflow_version,
        state=first_state(draft),
        priority=draft.priority,
        attempt=0,
        prompt_id=draft.prompt_id,
        instance=None,
        accepted_at=now,
        start_before=draft.start_before,
        timeout_s=draft.timeout_s,
        keep_s=draft.keep_s,
        ordered=draft.ordered,
        replace=draft.replace,
        needs=draft.needs,
        envelope=draft.envelope,
    )


def first_state(draft: Draft) -> State:
    """The state that a job begins in."""
    return "waiting" if draft.plan.waits else "queued"
