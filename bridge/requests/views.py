"""Views of a job and its outputs, within what a packet holds. Pure."""

from __future__ import annotations

import base64
import sys
from collections.abc import Iterable, Mapping

from msgspec import UNSET, Raw, UnsetType
from msgspec.structs import replace

from bridge.contract.errors import InvalidInput
from bridge.contract.fitting import fit_view
from bridge.contract.messages import (
    Fetch,
    JobList,
    JobView,
    Part,
    Transaction,
    Workflows,
    encode,
    ok,
    or_unset,
)
from bridge.contract.retained_pages import RetainedMessage, WorkflowsReport
from bridge.contract.retained_pages import page as retained_page
from bridge.contract.sets import FetchSet, SetView
from bridge.jobs import job_messages
from bridge.jobs.job import Job
from bridge.jobs.journal import Record, Stored
from bridge.requests.context import RequestContext

# The most bytes of a page of jobs and of a part of an output, whatever the broker takes.
PAGE_BYTES = 256 * 1024
PART_BYTES = 256 * 1024
# Of a `fetch` that asks for no number of bytes: AWS IoT delivers no more, and announces more.
USUAL_PART_BYTES = 128 * 1024


def view(
    record: Record,
    job: Job,
    *,
    accepted_at: float,
    position: int | None,
    eta_s: float | None,
    reason: str | None,
) -> JobView:
    """Return a job as clients see it; `job` is the live one if it has not ended.

    `accepted_at` is the wall clock's time.
    """
    return JobView(
        job_id=job.key.job_id,
        workflow=job.workflow,
        set_id=or_unset(job.envelope.set_id),
        transaction=job.envelope.transaction,
        meta=job.envelope.meta,
        n=record.n,
        state=record.job.state if record.finished_at is not None else job.state,
        attempt=job.attempt,
        accepted_at=accepted_at,
        acked=record.acked,
        position=or_unset(position),
        reason=or_unset(reason),
        eta_s=job_messages.seconds(eta_s),
        result=UNSET if record.result is None else Raw(record.result),
    )


def fitting(
    found: JobView, context: RequestContext, transaction: Transaction | UnsetType
) -> JobView:
    """Return a job without what does not fit the packet of its answer."""
    around = len(encode(ok(UNSET, transaction))) + len(b'"data":,')
    return fit_view(found, _answer_room(context, transaction) - around)


def fitting_set(
    found: SetView, context: RequestContext, transaction: Transaction | UnsetType
) -> SetView:
    """Return a set without what does not fit the packet of its answer: its result, then `meta`."""
    around = len(encode(ok(UNSET, transaction))) + len(b'"data":,')
    room = _answer_room(context, transaction) - around
    for less in ({}, {"result": UNSET}, {"meta": UNSET}):
        found = replace(found, **less)
        if len(encode(found)) <= room:
            break
    return found


def page(
    found: Iterable[JobView],
    limit: int,
    context: RequestContext,
    transaction: Transaction | UnsetType,
) -> JobList:
    """Return up to `limit` jobs that fit the packet of the answer, the first one in any case.

    `found` may have more than that: what is left over is `more`.
    """
    empty = len(encode(ok(JobList(jobs=[], more=False), transaction)))
    most = _answer_room(context, transaction) - empty
    left = min(PAGE_BYTES, most)
    jobs: list[JobView] = []
    for each in found:
        # A job that fills a packet ends no listing: it comes without what is large of it.
        fitted = fit_view(each, most)
        left -= len(encode(fitted)) + len(b",")
        if len(jobs) == limit or (jobs and left < 0):
            return JobList(jobs=jobs, more=True)
        jobs.append(fitted)
    return JobList(jobs=jobs, more=False)


def retained_report(
    retained: Mapping[str, RetainedMessage],
    asked: Workflows,
    context: RequestContext,
    transaction: Transaction | UnsetType,
) -> WorkflowsReport:
    """Return the page of retained messages that a `workflows` request asks for.

    It fits into one answer. Raises UnknownWorkflow.
    """
    around = len(encode(ok(UNSET, transaction))) + len(b'"data":,')
    room = min(PAGE_BYTES, _answer_room(context, transaction) - around)
    return retained_page(retained, asked, room)


def bytes_to_read(
    fetch: Fetch | FetchSet,
    stored: Stored,
    context: RequestContext,
    transaction: Transaction | UnsetType,
    max_packet: int | None,
) -> int:
    """Return how many bytes of an output a `fetch` is given at most. Raises InvalidInput."""
    if fetch.offset > stored.size:
        raise InvalidInput(
            "offset is beyond the end", field="offset", allowed=f"0 to {stored.size}"
        )
    # As long as any part of it can be, but for its bytes.
    longest = _part(fetch, stored, count=PART_BYTES, next_offset=stored.size)
    room: int | None
    if fetch.inline:
        around = len(encode(ok(longest, transaction)))
        # Base64 takes four bytes for three.
        room = (_answer_room(context, transaction, max_packet) - around) // 4 * 3
    elif context.room is None:
        room = None
    else:
        room = context.room.part_room(context, transaction, longest, max_packet)
    most = PART_BYTES if room is None else max(1, min(PART_BYTES, room))
    return min(USUAL_PART_BYTES if fetch.count is UNSET else fetch.count, most)


def part(fetch: Fetch | FetchSet, stored: Stored, data: bytes) -> Part:
    """Return the answer to a `fetch` of `data`, which begins at its offset."""
    end = fetch.offset + len(data)
    return _part(fetch, stored, len(data), None if end >= stored.size else end, data)


def _part(
    fetch: Fetch | FetchSet,
    stored: Stored,
    count: int,
    next_offset: int | None,
    data: bytes = b"",
) -> Part:
    return Part(
        job_id=fetch.job_id if isinstance(fetch, Fetch) else UNSET,
        set_id=fetch.set_id if isinstance(fetch, FetchSet) else UNSET,
        output=fetch.output,
        offset=fetch.offset,
        count=count,
        size=stored.size,
        sha256=stored.sha256,
        content_type=stored.content_type,
        next=or_unset(next_offset),
        base64=base64.b64encode(data).decode() if fetch.inline else UNSET,
    )


def _answer_room(
    context: RequestContext, transaction: Transaction | UnsetType, max_packet: int | None = None
) -> int:
    """Return how many bytes of JSON the answer may have."""
    room = None
    if context.room is not None:
        room = context.room.answer_room(context, transaction, max_packet)
    return sys.maxsize if room is None else room
