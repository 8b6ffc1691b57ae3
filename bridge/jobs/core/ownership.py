"""Translates another bridge's work on a job into events for this one. Pure."""

from __future__ import annotations

from bridge.jobs.core import events
from bridge.jobs.job import Job
from bridge.jobs.state import is_outcome


def events_for(
    job: Job,
    *,
    owner: str | None,
    cancelling: bool,
    ended: bool,
    life: str,
    has_intake: bool,
    known: bool,
) -> list[events.Event]:
    """Return the core's event for a job as the journal has it.

    `owner` is the life of the bridge that claimed it, None if none did, and `life` is this
    bridge's. `cancelling`: its client asked for a cancel, by way of whichever bridge. What waits
    for its input is for the bridge that `has_intake`. `known`: the core has the job.
    """
    key = job.key
    if ended or is_outcome(job.state):
        return [events.EndedElsewhere(key)]
    if owner not in (None, life):
        return [events.TakenElsewhere(key)]
    found: list[events.Event] = []
    if owner is None and not known:
        if job.state != "queued" and not has_intake:
            return []
        found.append(events.JobAccepted(job))
        known = True
    if cancelling and known:
        found.append(events.CancelRequested(key))
    return found
