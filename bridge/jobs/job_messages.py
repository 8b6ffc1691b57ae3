"""Makes the status messages of a job. Pure."""

from __future__ import annotations

from msgspec import UNSET, UnsetType

from bridge.contract.messages import JobStatus, or_unset
from bridge.jobs.job import Job


def status(
    job: Job,
    n: int = 0,
    *,
    position: int | None = None,
    eta_s: float | None = None,
    reason: str | None = None,
) -> JobStatus:
    """A job's status message.

    `position` counts the jobs that start before it; `eta_s` is the expected time until its end, in
    seconds; `reason` tells why it does not start, or was requeued.
    """
    return JobStatus(
        job_id=job.key.job_id,
        workflow=job.workflow,
        set_id=or_unset(job.envelope.set_id),
        transaction=job.envelope.transaction,
        meta=job.envelope.meta,
        n=n,
        state=job.state,
        attempt=job.attempt,
        position=or_unset(position),
        eta_s=seconds(eta_s),
        reason=or_unset(reason),
    )


def seconds(value: float | None) -> float | UnsetType:
    """Return an estimate in seconds as messages have it, to a tenth."""
    return UNSET if value is None else round(value, 1)
