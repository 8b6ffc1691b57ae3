"""The messages about a set, made of its row and of where its jobs stand. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from msgspec import UNSET, Raw, UnsetType

from bridge.contract import expansion
from bridge.contract.fitting import fit_set_result
from bridge.contract.messages import MissingOutput, OutputInfo, Shown, State, or_unset
from bridge.contract.numbering import MAX_N
from bridge.contract.sets import Counts, SetAccepted, SetJob, SetResult, SetStatus, SetView
from bridge.contract.sinks import Delivered
from bridge.jobs.job_messages import seconds
from bridge.jobs.journal.sets import JobRow, SetRecord
from bridge.jobs.sets import progress
from bridge.jobs.sets.plan import SetSpec


def status(record: SetRecord, counts: Counts, eta_s: float | None) -> SetStatus:
    """Return the message about a set's progress."""
    return SetStatus(
        set_id=record.key.job_id,
        workflow=record.workflow,
        transaction=record.envelope.transaction,
        meta=record.envelope.meta,
        state=record.state,
        total=record.total,
        counts=counts,
        eta_s=seconds(eta_s),
    )


def accepted(record: SetRecord, *, duplicate: bool) -> SetAccepted:
    """The answer to a request for a set."""
    return SetAccepted(
        set_id=record.key.job_id,
        workflow=record.workflow,
        transaction=record.envelope.transaction,
        meta=record.envelope.meta,
        state=record.state,
        total=record.total,
        duplicate=duplicate,
        result=UNSET if record.result is None else Raw(record.result),
    )


def view(record: SetRecord, counts: Counts, eta_s: float | None, accepted_at: float) -> SetView:
    """A set as it is shown to who asks for it; `accepted_at` is the wall clock's time."""
    return SetView(
        set_id=record.key.job_id,
        workflow=record.workflow,
        transaction=record.envelope.transaction,
        meta=record.envelope.meta,
        state=record.state,
        total=record.total,
        counts=counts,
        accepted_at=accepted_at,
        eta_s=seconds(eta_s),
        result=UNSET if record.result is None else Raw(record.result),
    )


def result(
    record: SetRecord,
    rows: Sequence[JobRow],
    *,
    spec: SetSpec,
    room: int | None,
    outputs: Sequence[OutputInfo],
    missing: Sequence[MissingOutput],
    shown: Shown | UnsetType,
    delivered: Sequence[Delivered] | None,
) -> SetResult:
    """A set's result, but for its number: any fits in. `rows` are the jobs that were made.

    `room` is how many bytes it may have; None: any number. `outputs` were collected, and what is
    `missing` was not; where they went besides, `shown` and `delivered` say.
    """
    cancelled = record.state == "cancelling"
    states: Counter[State] = Counter(row.state for row in rows)
    counts = progress.tally(states, record.total, cancelled=cancelled)
    made = {row.index: row for row in rows}
    never: State = "cancelled"
    jobs = []
    for index in range(record.total):
        row = made.get(index)
        name = expansion.job_id(record.key.job_id, index) if row is None else row.job_id
        state = never if row is None else row.state
        jobs.append(SetJob(job_id=name, state=state, inputs=spec.shown(index)))
    found = SetResult(
        set_id=record.key.job_id,
        workflow=record.workflow,
        transaction=record.envelope.transaction,
        meta=record.envelope.meta,
        n=MAX_N,
        state=progress.outcome(counts, record.total, cancelled=cancelled),
        total=record.total,
        counts=counts,
        jobs=jobs,
        outputs=or_unset(list(outputs) or None),
        missing=or_unset(list(missing) or None),
        shown=shown,
        delivered=or_unset(None if delivered is None else list(delivered)),
    )
    return found if room is None else fit_set_result(found, room)
