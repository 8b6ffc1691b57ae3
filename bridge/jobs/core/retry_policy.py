"""Decides what follows an attempt that did not succeed: its job's end, or another attempt. Pure."""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Struct

from bridge.contract.errors import BridgeError, ComfyUIUnavailable, Expired, Interrupted
from bridge.jobs.core import events
from bridge.jobs.core.entry import Entry, StopReason, Withdrawal
from bridge.jobs.job import Job
from bridge.jobs.state import Transition

# A job that fills the disk each time itself is given up after this many attempts: some hours.
MAX_NO_ROOM = 20

Unsuccessful: TypeAlias = events.AttemptFailed | events.AttemptStopped | events.AttemptBroke


class JobEnds(Struct, frozen=True):
    """The job ends; `attempt` is the number of its attempts that count."""

    transition: Transition
    error: BridgeError | None
    attempt: int


class JobReturns(Struct, frozen=True):
    """The job returns to the queue because of `error`; `attempt` is as for Ends.

    `prompt_id` is for the next attempt. `retried`: nobody asked for that. `no_room`: its ComfyUI's
    disk is full. `free_memory`: its ComfyUI is to free its memory first. `withdrawn`: it is to end
    once it is back.
    """

    error: BridgeError
    prompt_id: str
    attempt: int
    retried: bool = False
    no_room: bool = False
    free_memory: bool = False
    withdrawn: Withdrawal | None = None


def after_attempt(
    entry: Entry, event: Unsuccessful, *, max_attempts: int, ahead: float
) -> JobEnds | JobReturns:
    """Return what follows for a job; `ahead` is by how much the wall clock is ahead, in seconds."""
    job = entry.job
    if isinstance(event, events.AttemptFailed):
        return JobEnds(Transition.FAIL, event.error, _counted(job, event))
    requested = _as_requested(entry, event.prompt_id, ahead)
    if requested is not None:
        return requested
    if isinstance(event, events.AttemptStopped):
        text = "somebody stopped it at ComfyUI itself"
        error = Interrupted(text, instance=entry.instance)
        return JobEnds(Transition.CANCEL, error, job.attempt)
    if event.no_room and entry.no_room < MAX_NO_ROOM:
        # That is not the job's fault: the attempt does not count.
        attempt = job.attempt - (job.state == "running")
        return JobReturns(event.error, event.prompt_id, attempt, retried=True, no_room=True)
    attempt = _counted(job, event)
    # A second attempt with the memory freed is enough: a third would fail like it.
    most = 2 if event.free_memory else max_attempts
    if event.no_room or attempt >= most:
        return JobEnds(Transition.FAIL, event.error, attempt)
    return JobReturns(
        event.error, event.prompt_id, attempt, retried=True, free_memory=event.free_memory
    )


def expired(job: Job, ahead: float) -> Expired:
    """Return the error of a job that has not started before its deadline."""
    at = None if job.start_before is None else round(job.start_before + ahead, 3)
    return Expired("it could not start in time", start_before=at)


def _as_requested(entry: Entry, prompt_id: str, ahead: float) -> JobEnds | JobReturns | None:
    """Return the transition of a job whose attempt was stopped; None if nobody stopped it."""
    job = entry.job
    match entry.stop:
        case StopReason.CANCEL:
            return JobEnds(Transition.CANCEL, None, job.attempt)
        case StopReason.EXPIRE if job.state == "queued":
            return JobEnds(Transition.EXPIRE, expired(job, ahead), job.attempt)
        case StopReason.EXPIRE:
            # It began while it was being stopped: it goes back, to end as it was to.
            late = expired(job, ahead)
            withdrawn = Withdrawal(Transition.EXPIRE, late)
            return JobReturns(late, prompt_id, job.attempt, withdrawn=withdrawn)
        case StopReason.SEND_BACK:
            why = ComfyUIUnavailable(entry.sent_back or "")
            return JobReturns(why, prompt_id, job.attempt)
    return None


def _counted(job: Job, event: events.AttemptFailed | events.AttemptBroke) -> int:
    """Return the number of attempts: one that began is counted, others if the event says so."""
    return job.attempt + (event.counts and job.state == "queued")
