"""Rows of the journal as typed records.

A row that cannot be read, since it was damaged or an earlier version wrote what this one does not
read, costs its job alone: nothing here raises for it but what reads a plan.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from bridge.contract.reading import UNREADABLE
from bridge.jobs.job import Envelope, Job, Plan
from bridge.jobs.queue import Key
from bridge.workflows.catalogue import Needs

log = logging.getLogger(__name__)

# A damaged column may even be no bytes.
_DAMAGED = (*UNREADABLE, TypeError)

_decode_envelope = msgspec.json.Decoder(Envelope).decode
_decode_needs = msgspec.json.Decoder(Needs).decode
decode_plan = msgspec.json.Decoder(Plan).decode


class Record(Struct, frozen=True):
    """A job's row: the job, and what the journal alone knows of it.

    `result` is the message as it was published, byte for byte; None while there is none, or once
    it is no longer kept. Among several bridges `owner` is the life of the one that has the job, or
    gave it its outcome, and `cancelling` that it is to stop the job.
    """

    job: Job
    fingerprint: bytes
    n: int
    finished_at: float | None = None
    acked: bool = False
    result: bytes | None = None
    owner: str | None = None
    cancelling: bool = False

    @property
    def ended(self) -> bool:
        """True if the job has its outcome."""
        return self.finished_at is not None


class Unpublished(NamedTuple):
    """A result to publish again: a job's, or a set's (`of_set`) by the set's id."""

    key: Key
    envelope: Envelope
    result: bytes
    of_set: bool = False


class Acceptance(Struct, frozen=True):
    """A draft's outcome: a new job, or the one that has its id already."""

    record: Record
    new: bool


class Stored(Struct, frozen=True):
    """An output's bytes; `data` is None when they are a file named by the hash."""

    content_type: str
    sha256: str
    size: int
    data: bytes | None


class KeptUpload(Struct, frozen=True):
    """Bytes that a client uploaded; `data` has them if they are in the journal itself."""

    kind: str
    content_type: str
    extension: str
    sha256: str
    size: int
    data: bytes | None = None


def unpublished(row: Sequence[Any]) -> Unpublished:
    """Read a row of `queries.UNPUBLISHED`."""
    client, name, encoded, result, of_set, _turn = row
    key = Key(client, name)
    return Unpublished(key, read_envelope(key, encoded) or Envelope(), result, bool(of_set))


def read(row: Sequence[Any]) -> Record:
    """Read a row of `queries`' `[record]`: its columns in their order."""
    client, job_id, seq, workflow, version, state, priority, attempt, prompt_id, *row = row
    instance, accepted_at, start_before, timeout_s, keep_s, ordered, word, needs, *row = row
    encoded, fingerprint, n, finished_at, acked, result, owner, cancelling = row
    key = Key(client, job_id)
    wanted, envelope = read_needs(needs), read_envelope(key, encoded)
    if wanted is None:
        _report(key, "what it needs")
    return Record(
        Job(
            key=key,
            seq=seq,
            workflow=workflow,
            workflow_version=version,
            state=state,
            priority=priority,
            attempt=attempt,
            prompt_id=prompt_id,
            instance=instance,
            accepted_at=accepted_at,
            start_before=start_before,
            timeout_s=timeout_s,
            keep_s=keep_s,
            ordered=bool(ordered),
            replace=word,
            needs=wanted or Needs(),
            envelope=envelope or Envelope(),
            damaged=wanted is None or envelope is None,
        ),
        fingerprint,
        n,
        finished_at,
        acked=bool(acked),
        result=result,
        owner=owner,
        cancelling=bool(cancelling),
    )


def read_envelope(key: Key, encoded: bytes) -> Envelope | None:
    """Read the envelope of a job or a set; one that cannot be read is logged, and None."""
    try:
        return _decode_envelope(encoded)
    except _DAMAGED as error:
        _report(key, f"its envelope ({error})")
        return None


@functools.lru_cache(maxsize=1024)
def read_needs(encoded: bytes | None) -> Needs | None:
    """Read what a job needs: one object for all that need the same. None: it cannot be read."""
    try:
        return Needs() if encoded is None else _decode_needs(encoded)
    except _DAMAGED:
        return None


@functools.lru_cache(maxsize=1024)
def _report(key: Key, what: str) -> None:
    """Log a row that is damaged: once, however often it is read."""
    log.error(
        "the journal's row of %s of client %s is damaged: %s cannot be read",
        key.job_id,
        key.client,
        what,
    )
