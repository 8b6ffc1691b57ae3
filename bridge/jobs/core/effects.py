"""The effects, the output of the core: each is a command, which an event may answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from msgspec import Struct

from bridge.contract.errors import BridgeError
from bridge.contract.messages import JobStatus, State
from bridge.jobs.job import Plan
from bridge.jobs.queue import Key


class JobEffect(Struct, frozen=True):
    """An effect that is about one job."""

    key: Key


class Resolve(JobEffect, frozen=True):
    """Gather the bytes that a job waits for. Answered by Resolved or Unresolvable."""


class StopResolving(JobEffect, frozen=True):
    """Stop gathering a job's bytes. Not answered."""


class ReleaseJob(JobEffect, frozen=True):
    """Write that a job is queued, since its bytes are here. Answered by Released or Vanished."""

    plan: Plan
    media: Mapping[str, bytes]


class Claim(JobEffect, frozen=True):
    """Write that a job is this bridge's. Answered by Claimed or ClaimLost."""


class StartJob(JobEffect, frozen=True):
    """Run a job at a ComfyUI.

    `adopt`: ComfyUI may have its prompt already, from before this process; `began`: it was seen to
    run there. Answered by Began, by LeftComfyUI, and at the end by one of the four
    events of an attempt's end, Vanished and Defect.
    """

    instance: str
    adopt: bool
    began: bool


class StopJob(JobEffect, frozen=True):
    """Stop a job that is at a ComfyUI. Its end is reported as for StartJob."""


class MarkStarted(JobEffect, frozen=True):
    """Note that a job runs, and publish its status under the next number. Not answered."""

    status: JobStatus


class Announce(JobEffect, frozen=True):
    """Publish a status under the next number, with nothing to write. Not answered."""

    status: JobStatus


class PublishStatus(JobEffect, frozen=True):
    """Publish a status whose number the journal has given. Not answered."""

    status: JobStatus


class Requeue(JobEffect, frozen=True):
    """Write that a job is back in the queue, in `delay_s` seconds. Answered by Requeued.

    `reason` is for the log, at INFO if it is `expected`, else at WARNING. `free`: first have this
    ComfyUI free its memory.
    """

    reason: str
    expected: bool
    delay_s: float = 0.0
    free: str | None = None


class Finish(JobEffect, frozen=True):
    """Publish a job's outputs, write its outcome, publish its result. Answered by Finished.

    `expect_s` is how long the workflow's next run is expected to take, if that has changed.
    """

    outcome: State
    error: BridgeError | None = None
    expect_s: float | None = None


class ListPrompts(Struct, frozen=True):
    """Ask a ComfyUI for the prompts in its queue. Answered by PromptsListed."""

    instance: str


class CancelPrompt(Struct, frozen=True):
    """Cancel a prompt of ours at a ComfyUI that nobody follows. Not answered."""

    instance: str
    prompt_id: str


class ReportDemand(Struct, frozen=True):
    """Report whether a ComfyUI that hooks may hold has jobs, there or waiting. Not answered."""

    instance: str
    wanted: bool


class ReportBlocked(Struct, frozen=True):
    """Report that the reason changed for which a ComfyUI gets no jobs, apart from its state.

    `why` is a phrase that follows its name; None: it gets jobs. Not answered.
    """

    instance: str
    why: str | None


class JobLeft(JobEffect, frozen=True):
    """A job left the core: it has `outcome`, or (None) another bridge has it."""

    outcome: State | None


class ReportDefect(Struct, frozen=True):
    """A defect of ours, to be logged with its trace. Not answered."""

    error: Exception


Effect: TypeAlias = (
    ReportDefect
    | Resolve
    | StopResolving
    | ReleaseJob
    | Claim
    | StartJob
    | StopJob
    | MarkStarted
    | Announce
    | PublishStatus
    | Requeue
    | Finish
    | ListPrompts
    | CancelPrompt
    | ReportDemand
    | ReportBlocked
    | JobLeft
)
