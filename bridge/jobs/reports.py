"""What is said about a job: its messages, and how often."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import cast

from msgspec import UNSET, UnsetType

from bridge.comfyui.events import Preview
from bridge.contract.errors import BridgeError, Error
from bridge.contract.messages import (
    JobStatus,
    Outcome,
    OutputInfo,
    Progress,
    Result,
    Shown,
    Timings,
    or_unset,
)
from bridge.jobs.estimates import Estimates
from bridge.jobs.job import Job, Plan
from bridge.jobs.listener import Listener
from bridge.jobs.progress import Standing

PROGRESS_INTERVAL_S = 0.2
PREVIEW_INTERVAL_S = 0.2


def status(
    job: Job,
    n: int,
    *,
    position: int | None = None,
    eta_s: float | None = None,
    reason: str | None = None,
) -> JobStatus:
    """A job's status message; `eta_s` is in how many seconds it is expected to have ended."""
    return JobStatus(
        job_id=job.key.job_id,
        workflow=job.workflow,
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
    """Return seconds as a message tells what is not exact anyhow."""
    return UNSET if value is None else round(value, 1)


def result(
    job: Job,
    n: int,
    *,
    plan: Plan | None,
    outputs: Sequence[OutputInfo],
    error: BridgeError | None,
    comfyui_version: str | None,
    reused: bool,
    timings: Timings,
    shown: Shown | UnsetType = UNSET,
) -> Result:
    """A job's result message; the job's state is its outcome."""
    wire: Error | UnsetType = UNSET if error is None else error.wire()
    return Result(
        job_id=job.key.job_id,
        workflow=job.workflow,
        transaction=job.envelope.transaction,
        meta=job.envelope.meta,
        n=n,
        state=cast("Outcome", job.state),
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
    )


class Reporter:
    """Tells how one run gets on, a few times a second at most; the newest figure wins."""

    def __init__(self, listener: Listener, job: Job, estimates: Estimates) -> None:
        self._listener = listener
        self._job = job
        self._estimates = estimates
        self._began = time.monotonic()
        self._told = 0.0  # that it has begun, the status tells
        self._next_progress = 0.0
        self._next_preview = 0.0

    def progress(self, standing: Standing) -> None:
        """Publish a figure, unless it is the last one again or comes too soon."""
        now = time.monotonic()
        if standing.percent <= self._told or now < self._next_progress:
            return
        self._told, self._next_progress = standing.percent, now + PROGRESS_INTERVAL_S
        progress = Progress(
            job_id=self._job.key.job_id,
            workflow=self._job.workflow,
            transaction=self._job.envelope.transaction,
            meta=self._job.envelope.meta,
            percent=standing.percent,
            node=or_unset(standing.node),
            step=or_unset(standing.step),
            steps=or_unset(standing.steps),
            eta_s=seconds(
                self._estimates.left_of(self._job.workflow, standing.percent, now - self._began)
            ),
        )
        self._listener.progress(self._job, progress)

    def preview(self, preview: Preview) -> None:
        """Publish a preview, unless it comes too soon."""
        now = time.monotonic()
        if now < self._next_preview:
            return
        self._next_preview = now + PREVIEW_INTERVAL_S
        self._listener.preview(self._job, preview.content_type, preview.data)
