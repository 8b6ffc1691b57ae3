"""The events, the input of the core: everything that can happen to jobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from msgspec import Struct

from bridge.contract.errors import BridgeError
from bridge.jobs.core.pool import Availability
from bridge.jobs.job import Job, Plan
from bridge.jobs.queue import Key
from bridge.workflows.catalogue import Needs

# What happens to one job.


class JobEvent(Struct, frozen=True):
    """An event about one job; it has no effect if the core does not have that job."""

    key: Key


class JobAccepted(Struct, frozen=True):
    """The journal has a job that has not ended: a new one, or one that another bridge accepted."""

    job: Job


class Resolved(JobEvent, frozen=True):
    """All bytes that a job waited for are here; `media` holds the new ones by SHA-256."""

    plan: Plan
    media: Mapping[str, bytes]


class Unresolvable(JobEvent, frozen=True):
    """A job waited for something that it cannot get."""

    error: BridgeError


class Released(JobEvent, frozen=True):
    """The journal has noted, with number `n`, that a job is queued."""

    n: int


class Claimed(JobEvent, frozen=True):
    """The journal has noted that the job is this bridge's. The fields may differ from ours."""

    attempt: int
    prompt_id: str


class ClaimLost(JobEvent, frozen=True):
    """Another bridge has the job, or it has ended."""


class Began(JobEvent, frozen=True):
    """ComfyUI began to run a job's prompt."""


class LeftComfyUI(JobEvent, frozen=True):
    """ComfyUI is done with a job's prompt, and has room for another one."""


class AttemptSucceeded(JobEvent, frozen=True):
    """An attempt has all outputs. `run_s` is None if ComfyUI computed nothing for it."""

    run_s: float | None


class AttemptFailed(JobEvent, frozen=True):
    """An attempt failed, and another one would fail too. `counts` is as in AttemptBroke."""

    error: BridgeError
    counts: bool = False


class AttemptStopped(JobEvent, frozen=True):
    """An attempt was stopped, by us or at ComfyUI. `prompt_id` is for a next attempt."""

    prompt_id: str


class AttemptBroke(JobEvent, frozen=True):
    """An attempt failed for a reason that may not affect the next one, which has `prompt_id`.

    Attempts that began at ComfyUI count; `counts`: so does this one, even if it did not begin.
    `free_memory`: ComfyUI is to free its memory first. `no_room`: its disk is full, which is not
    the job's fault.
    """

    error: BridgeError
    prompt_id: str
    counts: bool = False
    free_memory: bool = False
    no_room: bool = False


class Requeued(JobEvent, frozen=True):
    """The journal has noted, under number `n`, that a job is back in the queue."""

    n: int


class Finished(JobEvent, frozen=True):
    """A job's outcome is in the journal, and its result is published."""


class WriteFailed(JobEvent, frozen=True):
    """A job's outcome or outputs could not be written. Writing is retried, so this may repeat."""


class OutputsStored(JobEvent, frozen=True):
    """A job's outputs are on disk, until its sinks have them and its outcome is written."""


class Vanished(JobEvent, frozen=True):
    """The journal has no such job, or it has an outcome already: the first outcome stands."""


class Defect(JobEvent, frozen=True):
    """A defect of ours: it fails this job and affects nothing else."""

    error: BridgeError


class TakenElsewhere(JobEvent, frozen=True):
    """Another bridge has claimed a job."""


class EndedElsewhere(JobEvent, frozen=True):
    """A job ended at another bridge."""


# What somebody asks for.


class CancelRequested(Struct, frozen=True):
    """A client wants a job cancelled."""

    key: Key


class ClearRequested(Struct, frozen=True):
    """The operator wants all jobs cancelled that have not started, of one client or of all."""

    client: str | None


class RequeueRequested(Struct, frozen=True):
    """The jobs at a ComfyUI are to be stopped and requeued.

    `waits_for` is what that ComfyUI waits for; None if the operator asked for this.
    """

    instance: str
    waits_for: str | None = None


class Paused(Struct, frozen=True):
    """The operator paused the queue, or resumed it."""

    paused: bool


class Draining(Struct, frozen=True):
    """The bridge is about to stop: nothing more is started."""


# The surroundings.


class Recovered(Struct, frozen=True):
    """The journal has these jobs from before this process, in the order of acceptance."""

    jobs: Sequence[Job]


class InstanceChanged(Struct, frozen=True):
    """A ComfyUI is in another state."""

    name: str
    availability: Availability


class PromptsListed(Struct, frozen=True):
    """The prompts in a ComfyUI's queue, running or waiting; None if it did not answer."""

    instance: str
    prompt_ids: frozenset[str] | None


class CatalogueChanged(Struct, frozen=True):
    """The ComfyUIs have reported again what they have installed."""


class OthersChanged(Struct, frozen=True):
    """Other ComfyUIs of other bridges take jobs than before, or this bridge leads the group now."""


class ModelsLoaded(Struct, frozen=True):
    """A ComfyUI has run something that needs this, though no job did: its models are loaded."""

    instance: str
    needs: Needs


class InstanceHeld(Struct, frozen=True):
    """A ComfyUI gets no jobs for this `reason`, though it may be usable; None: it gets them.

    From the first of these on, a `ReportDemand` says whether jobs wait for that ComfyUI.
    """

    instance: str
    reason: str | None


class Schedule(Struct, frozen=True):
    """All events of one moment were handled: jobs can be given to ComfyUIs."""


class Tick(Struct, frozen=True):
    """Time went by: `Core.wakes_at` asked for it."""


Event: TypeAlias = (
    JobAccepted
    | Resolved
    | Unresolvable
    | Released
    | Claimed
    | ClaimLost
    | Began
    | LeftComfyUI
    | AttemptSucceeded
    | AttemptFailed
    | AttemptStopped
    | AttemptBroke
    | Requeued
    | Finished
    | WriteFailed
    | OutputsStored
    | Vanished
    | Defect
    | TakenElsewhere
    | EndedElsewhere
    | CancelRequested
    | ClearRequested
    | RequeueRequested
    | Paused
    | Draining
    | Recovered
    | InstanceChanged
    | PromptsListed
    | CatalogueChanged
    | OthersChanged
    | ModelsLoaded
    | InstanceHeld
    | Schedule
    | Tick
)
