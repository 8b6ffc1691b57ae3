"""Makes the status and result messages of a job. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from msgspec import UNSET, UnsetType

from bridge.contract.errors import BridgeError, Error
from bridge.contract.messages import (
    JobStatus,
    MissingOutput,
    Outcome,
    OutputInfo,
    Result,
    Shown,
    State,
    Timings,
    or_unset,
)
from bridge.contract.sinks import Delivered
from bridge.jobs.job import Job, Plan


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


def result(
    job: Job,
    outcome: State,
    n: int,
    *,
    plan: Plan | None,
    outputs: Sequence[OutputInfo],
    error: BridgeError | None,
    comfyui_version: str | None,
    reused: bool,
    timings: Timings,
    shown: Shown | UnsetType = UNSET,
    missing: Sequence[MissingOutput] = (),
    delivered: Sequence[Delivered] | None = None,
) -> Result:
    """A job's result message."""
    wire: Error | UnsetType = UNSET if error is None else error.wire()
    return Result(
        job_id=job.key.job_id,
        workflow=job.workflow,
        set_id=or_unset(job.envelope.set_id),
        transaction=job.envelope.transaction,
        meta=job.envelope.meta,
        n=n,
        state=cast("Outcome", outcome),
        outputs=list(outputs),
        error=wire,
        inputs={} if plan is None else plan.inputs,
        workflow_version=job.workflow_version,
        instance=or_unset(job.instance),
        comfyui_version=or_unset(comfyui_version),
        reused=reused,
        timings=timings,
        attempts=job.attempt,
        shown=shown,
        missing=[*missing] or UNSET,
        delivered=UNSET if delivered is None else [*delivered],
    )
