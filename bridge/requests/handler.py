"""The desk: where every door hands in its requests.

A request is read, bound to its workflow and written to the journal before it is answered. What is
refused is answered with an error and changes nothing.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import sys
import time

from msgspec import UNSET, Raw, Struct, UnsetType
from msgspec.structs import replace

from bridge.contract import requests
from bridge.contract.errors import (
    BridgeError,
    Busy,
    Conflict,
    InvalidInput,
    QuotaExceeded,
    UnknownJob,
)
from bridge.contract.fitting import fit_view
from bridge.contract.messages import (
    Ack,
    AckReport,
    Cancel,
    CancelReport,
    Fetch,
    Forget,
    ForgetReport,
    JobList,
    JobView,
    Keep,
    KeepReport,
    List,
    Part,
    Recipe,
    RecipeReport,
    Request,
    Status,
    Submit,
    Transaction,
    UploadReport,
    encode,
    ok,
    or_none,
    or_unset,
)
from bridge.contract.topics import RUN, UPLOAD
from bridge.jobs import job_messages
from bridge.jobs.database import DatabaseError
from bridge.jobs.dispatcher import Dispatcher
from bridge.jobs.journal import Journal
from bridge.jobs.queue import Key
from bridge.jobs.records import Record
from bridge.jobs.state import is_outcome
from bridge.jobs.uploads import Uploads
from bridge.media.files import Files
from bridge.requests.admission import Admission
from bridge.requests.context import Answer, PartBytes, RequestContext, Respond
from bridge.requests.rate_limit import Flood, RateLimiter
from bridge.requests.thumbnails import Thumbnails

log = logging.getLogger(__name__)

# A page of jobs, and a part of an output, have at most so many bytes, whatever the broker takes.
_PAGE_BYTES = 256 * 1024
_PART_BYTES = 256 * 1024


class _Read(Struct, frozen=True):
    """A request, once it is read."""

    request: Request
    main: requests.Text | requests.Media | None
    transaction: Transaction | UnsetType


class RequestHandler:
    """Takes requests from all doors."""

    def __init__(
        self,
        *,
        intake: Admission,
        uploads: Uploads,
        journal: Journal,
        files: Files,
        thumbnails: Thumbnails,
        dispatcher: Dispatcher,
        rates: RateLimiter,
    ) -> None:
        self._intake = intake
        self._uploads = uploads
        self._journal = journal
        self._files = files
        self._thumbnails = thumbnails
        self._dispatcher = dispatcher
        self._rates = rates

    async def handle(self, asked: RequestContext, respond: Respond) -> None:
        """Carry out a request, and answer it exactly once, whatever it is; a flood not at all."""
        transaction: Transaction | UnsetType = requests.correlated(asked.correlation)
        try:
            self._rates.count(asked.client)
            if asked.verb == UPLOAD:
                if asked.offset is None:
                    transaction = requests.transaction_of(asked.payload, asked.correlation)
                respond(Answer(data=await self._upload(asked), transaction=transaction))
                return
            read = _read(asked)
            transaction = read.transaction
            await self._carry_out(asked, read, respond)
        except Flood:
            pass
        except BridgeError as error:
            if transaction is UNSET:
                transaction = requests.transaction_of(asked.payload, asked.correlation)
            respond(Answer(error=error, transaction=transaction))
        except (DatabaseError, OSError):
            log.exception("a request could not be written")
            busy = Busy("the bridge's disk takes nothing more at the moment")
            respond(Answer(error=busy, transaction=transaction))
        except Exception as error:
            # A defect of ours must cost this request, not the bridge: it would come again.
            log.exception("%s of %s", asked.verb, asked.client)
            failure = BridgeError(f"internal error: {type(error).__name__}: {error}")
            respond(Answer(error=failure, transaction=transaction))

    def passes_over(self, client: str) -> bool:
        """Whether a request of this client, whatever it is, would get no answer: a flood."""
        return self._rates.floods(client)

    def refuse(self, asked: RequestContext, error: BridgeError, respond: Respond) -> None:
        """Answer what a door does not let in; it counts as a request."""
        try:
            self._rates.count(asked.client)
        except Flood:
            return
        except QuotaExceeded as above:
            error = above
        transaction = requests.transaction_of(asked.payload, asked.correlation)
        respond(Answer(error=error, transaction=transaction))

    async def _carry_out(self, asked: RequestContext, read: _Read, respond: Respond) -> None:
        client = asked.client
        match read.request:
            case Submit() as submit:
                await self._intake.take(asked, submit, read.main, read.transaction, respond)
            case Fetch() as fetch:
                respond(await self._fetch(asked, fetch, read.transaction))
            case Cancel(job_id=job_id):
                report = await self._cancel(Key(client, job_id))
                respond(Answer(data=report, transaction=read.transaction))
            case Status(job_id=job_id):
                view = self._view(await self._journal.get(Key(client, job_id)))
                around = len(encode(ok(UNSET, read.transaction))) + len(b'"data":,')
                room = _answer_room(asked, read.transaction, sys.maxsize)
                view = fit_view(view, room - around)
                respond(Answer(data=view, transaction=read.transaction))
            case Keep() as keep:
                kept = await self._keep(Key(client, keep.job_id), keep.keep_s)
                respond(Answer(data=kept, transaction=read.transaction))
            case Forget(job_id=job_id):
                forgotten = await self._forget(Key(client, job_id))
                respond(Answer(data=forgotten, transaction=read.transaction))
            case Recipe(job_id=job_id):
                recipe = await self._recipe(Key(client, job_id))
                respond(Answer(data=recipe, transaction=read.transaction))
            case List() as wanted:
                page = await self._list(asked, wanted, read.transaction)
                respond(Answer(data=page, transaction=read.transaction))
            case Ack(up_to=up_to):
                acked = AckReport(acked=await self._journal.ack(client, up_to))
                respond(Answer(data=acked, transaction=read.transaction))

    async def _upload(self, asked: RequestContext) -> UploadReport:
        """Take an upload: whole, or its beginning, a part, or its end."""
        client, upload = asked.client, asked.upload or ""
        if asked.fin:
            return await self._uploads.finish(client, upload)
        if asked.offset is not None:
            return await self._uploads.part(client, upload, asked.offset, asked.payload)
        begin = requests.decode_begin_upload(asked.payload, asked.content_type)
        if begin is not None:
            return await self._uploads.begin(client, upload, begin)
        return await self._uploads.whole(client, upload, asked.payload)

    # Jobs that exist.

    async def _cancel(self, key: Key) -> CancelReport:
        await self._intake.taken(key)
        state = await self._dispatcher.cancel(key)
        if state is None:
            state = (await self._journal.get(key)).job.state
        return CancelReport(job_id=key.job_id, state=state, cancelling=not is_outcome(state))

    async def _keep(self, key: Key, keep_s: float) -> KeepReport:
        await self._ended(key, "outputs of a job that has not ended cannot be kept yet: $keep_s")
        keep_until = time.time() + keep_s
        outputs = await self._journal.keep(key, keep_until)
        return KeepReport(job_id=key.job_id, outputs=outputs, keep_until=round(keep_until, 3))

    async def _forget(self, key: Key) -> ForgetReport:
        await self._ended(key, "a job that has not ended cannot be forgotten: cancel it")
        return ForgetReport(job_id=key.job_id, forgotten=await self._journal.forget(key))

    async def _ended(self, key: Key, why: str) -> None:
        """Raise UnknownJob, or Conflict for a job that has not ended."""
        record = await self._journal.get(key)
        if not is_outcome(record.job.state):
            raise Conflict(why, job_id=key.job_id, state=record.job.state)

    async def _recipe(self, key: Key) -> RecipeReport:
        record = await self._journal.get(key)
        plan = await self._journal.plan(key)
        return RecipeReport(
            job_id=key.job_id,
            workflow=record.job.workflow,
            workflow_version=record.job.workflow_version,
            prompt=plan.prompt,
            inputs=plan.inputs,
        )

    async def _list(
        self, asked: RequestContext, request: List, transaction: Transaction | UnsetType
    ) -> JobList:
        client = asked.client
        if request.after and not request.peek:
            # Whoever asks for what comes after n has all up to n.
            await self._journal.ack(client, request.after)
        records = await self._journal.page(
            client,
            after=request.after,
            limit=request.limit + 1,
            states=or_none(request.states),
            workflow=or_none(request.workflow),
        )
        empty = len(encode(ok(JobList(jobs=[], more=False), transaction)))
        most = _answer_room(asked, transaction, sys.maxsize) - empty
        room = min(_PAGE_BYTES, most)
        views: list[JobView] = []
        for record in records[: request.limit]:
            # A job that fills a packet ends no listing: it comes without what is large of it.
            view = fit_view(self._view(record), most)
            room -= len(encode(view)) + len(b",")
            if views and room < 0:
                break
            views.append(view)
        return JobList(jobs=views, more=len(views) < len(records))

    def _view(self, record: Record) -> JobView:
        job = self._dispatcher.job(record.job.key) or record.job
        position, eta_s = self._dispatcher.core.outlook(job)
        return JobView(
            job_id=job.key.job_id,
            workflow=job.workflow,
            transaction=job.envelope.transaction,
            meta=job.envelope.meta,
            n=record.n,
            state=record.job.state if record.finished_at is not None else job.state,
            attempt=job.attempt,
            accepted_at=job.accepted_at,
            acked=record.acked,
            position=UNSET if position is None else position,
            reason=or_unset(self._dispatcher.core.why_waiting(job)),
            eta_s=job_messages.seconds(eta_s),
            result=UNSET if record.result is None else Raw(record.result),
        )

    async def _fetch(
        self, asked: RequestContext, request: Fetch, transaction: Transaction | UnsetType
    ) -> Answer:
        key = Key(asked.client, request.job_id)
        record = await self._journal.get(key)
        stored = await self._journal.output(key, request.output)
        if stored is None:
            raise UnknownJob(
                f"no output {request.output} of job {request.job_id!r} is kept",
                job_id=request.job_id,
                output=request.output,
                state=record.job.state,
            )
        if request.width is not UNSET:
            stored = await self._thumbnails.get(stored, request.width)
        if request.offset > stored.size:
            raise InvalidInput(
                "offset is beyond the end", field="offset", allowed=f"0 to {stored.size}"
            )
        part = Part(
            job_id=request.job_id,
            output=request.output,
            offset=request.offset,
            count=_PART_BYTES,
            size=stored.size,
            sha256=stored.sha256,
            content_type=stored.content_type,
            next=stored.size,
            base64="" if request.inline else UNSET,
        )
        room = _part_room(asked, transaction, part, record.job.envelope.max_packet)
        count = room if request.count is UNSET else min(request.count, room)
        if stored.data is None:
            data = await asyncio.to_thread(self._files.read, stored.sha256, request.offset, count)
        else:
            data = stored.data[request.offset : request.offset + count]
        end = request.offset + len(data)
        part = replace(
            part,
            count=len(data),
            next=UNSET if end >= stored.size else end,
            base64=base64.b64encode(data).decode() if request.inline else UNSET,
        )
        beside = None if request.inline else PartBytes(part, data)
        return Answer(data=part, transaction=transaction, bytes=beside)


def _answer_room(
    asked: RequestContext,
    transaction: Transaction | UnsetType,
    most: int,
    max_packet: int | None = None,
) -> int:
    """Return how many bytes of JSON the answer may have, at most `most`."""
    if asked.room is None:
        return most
    room = asked.room.answer_room(asked, transaction, max_packet)
    return most if room is None else min(most, room)


def _part_room(
    asked: RequestContext, transaction: Transaction | UnsetType, part: Part, max_packet: int | None
) -> int:
    """Return how many bytes of an output fit into one packet: at least 1, at most _PART_BYTES."""
    if part.base64 is not UNSET:
        around = len(encode(ok(part, transaction)))
        # Base64 takes four bytes for three.
        room = (_answer_room(asked, transaction, sys.maxsize, max_packet) - around) // 4 * 3
    elif asked.room is None:
        return _PART_BYTES
    else:
        found = asked.room.part_room(asked, transaction, part, max_packet)
        room = _PART_BYTES if found is None else found
    return max(1, min(_PART_BYTES, room))


def _read(asked: RequestContext) -> _Read:
    """Read a request. Raises BadRequest."""
    if asked.submit is not None:
        return _Read(asked.submit, None, asked.submit.transaction)
    if asked.verb == RUN:
        run = requests.decode_run(
            asked.workflow or "",
            asked.job_id,
            asked.payload,
            asked.content_type,
            asked.user_properties,
        )
        request: Request = run.submit
        main = run.main
    else:
        request, main = requests.decode(asked.verb, asked.payload), None
    transaction = request.transaction
    if transaction is UNSET:
        transaction = requests.correlated(asked.correlation)
    return _Read(request, main, transaction)
