"""Rows of the journal as typed records."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from bridge.jobs.job import Envelope, Job, Plan
from bridge.jobs.queue import Key
from bridge.workflows.catalogue import Needs

decode_envelope = msgspec.json.Decoder(Envelope).decode
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
    client, name, envelope, result, of_set, _turn = row
    return Unpublished(Key(client, name), decode_envelope(envelope), result, bool(of_set))


def read(row: Sequence[Any]) -> Record:
    """Read a row of `queries`' `[record]`: its columns in their order."""
    client, job_id, seq, workflow, version, state, priority, attempt, prompt_id, *row = row
    instance, accepted_at, start_before, timeout_s, keep_s, ordered, word, needs, *row = row
    envelope, fingerprint, n, finished_at, acked, result, owner, cancelling = row
    return Record(
        Job(
            key=Key(client, job_id),
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
            needs=read_needs(needs),
            envelope=decode_envelope(envelope),
        ),
        fingerprint,
        n,
        finished_at,
        acked=bool(acked),
        result=result,
        owner=owner,
        cancelling=bool(cancelling),
    )


@functools.lru_cache(maxsize=1024)
def read_needs(encoded: bytes | None) -> Needs:
    """Read what a job needs: one object for all that need the same."""
    return Needs() if encoded is None else msgspec.json.decode(encoded, type=Needs)
