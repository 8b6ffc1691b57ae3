"""The request handler, which receives the requests of every adapter.

A request is decoded, bound to its workflow and written to the journal before it is answered. A
refused request is answered with an error and changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, TypeAlias, assert_never

from msgspec import UNSET, UnsetType

from bridge.contract import requests
from bridge.contract.errors import BridgeError, Conflict, QuotaExceeded, UnknownJob
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
    Workflows,
    or_none,
)
from bridge.contract.retained_pages import RetainedMessage
from bridge.contract.sets import AboutSet, FetchSet, SetRequest
from bridge.contract.sources import Inline
from bridge.contract.topics import RUN, UPLOAD
from bridge.jobs.dispatcher import Dispatcher
from bridge.jobs.journal import Journal, Record
from bridge.jobs.journal.sets import collected_key
from bridge.jobs.queue import Key
from bridge.jobs.state import is_outcome
from bridge.jobs.uploads import Uploads
from bridge.media.files import BlobDamaged, Files, read_kept
from bridge.requests import views
from bridge.requests.admission import Admission
from bridge.requests.context import Answer, PartBytes, RequestContext, Respond, Submission
from bridge.requests.errors import refusal
from bridge.requests.processor_time import LISTED, ProcessorTime
from bridge.requests.rate_limit import RateLimiter, RequestDropped
from bridge.requests.sets import SetRequests
from bridge.requests.thumbnails import Thumbnails

_Main: TypeAlias = requests.Text | Inline | None
_AboutJobs: TypeAlias = Cancel | Status | Keep | Forget | Recipe | List | Ack


class RequestHandler:
    """Handles the requests of all adapters."""

    def __init__(
        self,
        *,
        admission: Admission,
        sets: SetRequests,
        uploads: Uploads,
        journal: Journal,
        files: Files,
        thumbnails: Thumbnails,
        dispatcher: Dispatcher,
        rate_limiter: RateLimiter,
        processor: ProcessorTime,
        retained: Callable[[], Mapping[str, RetainedMessage]],
    ) -> None:
        """`retained` returns the bridge's retained messages, by topic below the base."""
        self._admission = admission
        self._sets = sets
        self._uploads = uploads
        self._journal = journal
        self._files = files
        self._thumbnails = thumbnails
        self._dispatcher = dispatcher
        self._rate_limiter = rate_limiter
        self._processor = processor
        self._retained = retained

    async def handle(self, context: RequestContext, respond: Respond) -> None:
        """Execute a request and answer it exactly once, but a flood not at all."""
        transaction: Transaction | UnsetType = requests.correlated(context.correlation)
        read = False
        try:
            self._rate_limiter.count(context.client)
            self._processor.request(context.client, context.verb, len(context.payload))
            if context.verb == UPLOAD:
                if context.topic.offset is None:
                    transaction = requests.transaction_of(context.payload, context.correlation)
                respond(Answer(data=await self._upload(context), transaction=transaction))
                return
            request, main = _decode(context)
            read = True
            if request.transaction is not UNSET:
                transaction = request.transaction
            await self._carry_out(context, request, main, transaction, respond)
        except RequestDropped:
            pass
        except Exception as error:  # noqa: BLE001 - answered, and logged where it is ours
            # A large payload takes milliseconds, in which nobody is served: it is read once.
            if transaction is UNSET and not read:
                transaction = requests.transaction_of(context.payload, context.correlation)
            respond(refusal(error, transaction, f"{context.verb} of {context.client}"))

    async def _carry_out(
        self,
        context: RequestContext,
        request: Request | SetRequest,
        main: _Main,
        transaction: Transaction | UnsetType,
        respond: Respond,
    ) -> None:
        """Carry out a request that was read, and answer it. Raises BridgeError."""
        if isinstance(request, Submit):
            submission = Submission(context, request, main, transaction)
            admit = self._sets.admit if request.is_set else self._admission.admit
            await admit(submission, respond)
        elif isinstance(request, Fetch | FetchSet):
            data, beside = await self._fetch(context, request, transaction)
            respond(Answer(data=data, transaction=transaction, bytes=beside))
        elif isinstance(request, AboutSet):
            about_set = await self._sets.report(context, request, transaction)
            respond(Answer(data=about_set, transaction=transaction))
        elif isinstance(request, Workflows):
            found = views.retained_report(self._retained(), request, context, transaction)
            respond(Answer(data=found, transaction=transaction))
        else:
            report = await self._report(context, request, transaction)
            respond(Answer(data=report, transaction=transaction))

    def would_drop(self, client: str) -> bool:
        """True if a request of this client, whatever it is, would get no answer."""
        return self._rate_limiter.would_drop(client)

    def know(self, clients: Iterable[str]) -> None:
        """Take note of clients that are not new, such as those that the journal has."""
        self._rate_limiter.know(clients)

    def knows(self, client: str) -> bool:
        """True if the bridge knows a client from earlier requests."""
        return self._rate_limiter.knows(client)

    def refuse(self, context: RequestContext, error: BridgeError, respond: Respond) -> None:
        """Answer a request that an adapter refuses with `error`; it counts for the rate."""
        try:
            self._rate_limiter.count(context.client)
        except RequestDropped:
            return
        except QuotaExceeded as above:
            error = above
        transaction = requests.transaction_of(context.payload, context.correlation)
        respond(Answer(error=error, transaction=transaction))

    async def _upload(self, context: RequestContext) -> UploadReport:
        """Handle an upload: whole, or its beginning, a part, or its end."""
        topic = context.topic
        client, upload = topic.client, topic.upload or ""
        if topic.fin:
            return await self._uploads.finish(client, upload)
        if topic.offset is not None:
            return await self._uploads.part(client, upload, topic.offset, context.payload)
        begin = requests.decode_begin_upload(context.payload, context.content_type)
        if begin is not None:
            return await self._uploads.begin(client, upload, begin)
        return await self._uploads.put(client, upload, context.payload)

    # Jobs that exist.

    async def _report(
        self, context: RequestContext, request: _AboutJobs, transaction: Transaction | UnsetType
    ) -> Any:
        """Carry out a request about jobs that exist; return what its answer reports."""
        client = context.client
        report: Any
        match request:
            case Cancel(job_id=job_id):
                report = await self._cancel(Key(client, job_id))
            case Status(job_id=job_id):
                record = await self._journal.get(Key(client, job_id))
                report = views.fitting(self._view(record), context, transaction)
            case Keep(job_id=job_id, keep_s=keep_s):
                report = await self._keep(Key(client, job_id), keep_s)
            case Forget(job_id=job_id):
                report = await self._forget(Key(client, job_id))
            case Recipe(job_id=job_id):
                report = await self._recipe(Key(client, job_id))
            case List():
                report = await self._list(context, request, transaction)
            case Ack(up_to=up_to):
                report = AckReport(acked=await self._journal.ack(client, up_to))
            case _:
                assert_never(request)
        return report

    async def _cancel(self, key: Key) -> CancelReport:
        await self._admission.settled(key)
        state = await self._dispatcher.cancel(key)
        if state is None:
            state = (await self._journal.get(key)).job.state
        return CancelReport(job_id=key.job_id, state=state, cancelling=not is_outcome(state))

    async def _keep(self, key: Key, keep_s: float) -> KeepReport:
        why = "outputs of a job that has not ended cannot be kept yet: $keep_s"
        await self._check_ended(key, why)
        clock = self._journal.clock
        keep_until = clock.now() + keep_s
        outputs = await self._journal.keep(key, keep_until)
        shown = round(clock.shown(keep_until), 3)
        return KeepReport(job_id=key.job_id, outputs=outputs, keep_until=shown)

    async def _forget(self, key: Key) -> ForgetReport:
        await self._check_ended(key, "a job that has not ended cannot be forgotten: cancel it")
        with suppress(UnknownJob):
            self._dispatcher.input_files.unneeded((await self._journal.plan(key)).uploads)
        return ForgetReport(job_id=key.job_id, forgotten=await self._journal.forget(key))

    async def _check_ended(self, key: Key, why: str) -> None:
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
        self, context: RequestContext, request: List, transaction: Transaction | UnsetType
    ) -> JobList:
        client = context.client
        if request.after and not request.peek and request.set_id is UNSET:
            # Whoever asks for what comes after n has all up to n.
            await self._journal.resume(client, request.after, request.limit + 1)
        records = await self._journal.page(
            client,
            after=request.after,
            limit=request.limit + 1,
            states=or_none(request.states),
            workflow=or_none(request.workflow),
            set_id=or_none(request.set_id),
        )
        self._processor.spend(client, LISTED * len(records))
        found = map(self._view, records)
        return views.page(found, request.limit, context, transaction)

    def _view(self, record: Record) -> JobView:
        job = self._dispatcher.book.job(record.job.key) or record.job
        position, eta_s = self._dispatcher.book.outlook(job)
        reason = self._dispatcher.book.why_waiting(job)
        return views.view(
            record,
            job,
            accepted_at=self._journal.clock.shown(job.accepted_at),
            position=position,
            eta_s=eta_s,
            reason=reason,
        )

    async def _fetch(
        self,
        context: RequestContext,
        request: Fetch | FetchSet,
        transaction: Transaction | UnsetType,
    ) -> tuple[Part, PartBytes | None]:
        key, limit, whose = await self._holder(context.client, request)
        stored = await self._journal.output(key, request.output)
        if stored is None:
            raise _not_kept(request.output, whose, "is kept")
        try:
            if request.width is not UNSET:
                stored = await self._thumbnails.get(
                    context.client, stored, request.width, context.let_pass
                )
            count = views.bytes_to_read(request, stored, context, transaction, limit)
            data = await read_kept(self._files, stored.sha256, stored.data, request.offset, count)
        except FileNotFoundError as gone:
            # Somebody deleted it, or the disk lost it. No other attempt will find it.
            why = "is whole any more" if isinstance(gone, BlobDamaged) else "has its bytes any more"
            raise _not_kept(request.output, whose, why) from None
        part = views.part(request, stored, data)
        return part, None if request.inline else PartBytes(part, data)

    async def _holder(
        self, client: str, request: Fetch | FetchSet
    ) -> tuple[Key, int | None, dict[str, str]]:
        """Return the key of an output, how large its messages may be, and whose it is."""
        if isinstance(request, FetchSet):
            about_set = await self._journal.sets.get(Key(client, request.set_id))
            whose = {"set_id": request.set_id, "state": about_set.state}
            return collected_key(about_set.key), about_set.envelope.max_packet, whose
        record = await self._journal.get(Key(client, request.job_id))
        whose = {"job_id": request.job_id, "state": record.job.state}
        return record.job.key, record.job.envelope.max_packet, whose


def _not_kept(output: int, whose: dict[str, str], why: str) -> UnknownJob:
    (kind, name), *_ = whose.items()
    return UnknownJob(
        f"no output {output} of {kind.removesuffix('_id')} {name!r} {why}", output=output, **whose
    )


def _decode(context: RequestContext) -> tuple[Request | SetRequest, _Main]:
    """Decode a request, on `run` with its main input. Raises BadRequest."""
    if context.submit is not None:
        return context.submit, None
    if context.verb != RUN:
        return requests.decode(context.verb, context.payload), None
    run = requests.decode_run(
        context.topic.workflow or "",
        context.topic.job_id,
        context.payload,
        context.content_type,
        context.user_properties,
    )
    return run.submit, run.main
