"""The intake: from a request for work to an accepted job.

The order is: read, bind, check, write to the journal, answer, queue. What is answered with ok is
on disk.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import secrets
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any
from weakref import WeakValueDictionary

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from bridge.contract.errors import (
    Busy,
    ComfyUIUnavailable,
    Conflict,
    Forbidden,
    InvalidInput,
    QuotaExceeded,
    UnknownJob,
    UnknownWorkflow,
)
from bridge.contract.messages import Accepted, DryRun, Submit, Transaction, or_none, or_unset
from bridge.contract.requests import Media, Text
from bridge.contract.retained import Missing
from bridge.contract.topics import RUN
from bridge.jobs import job_messages
from bridge.jobs.dependencies import put
from bridge.jobs.dispatcher import Dispatcher
from bridge.jobs.job import Draft, Envelope, MediaInput, Plan
from bridge.jobs.journal import Journal
from bridge.jobs.listener import Listener
from bridge.jobs.queue import Key
from bridge.jobs.records import Record
from bridge.media import profile
from bridge.media.files import INLINE_LIMIT, Files
from bridge.requests.context import Answer, RequestContext, Respond
from bridge.requests.input_media import InputMedia
from bridge.requests.permissions import Permissions, setting
from bridge.workflows import binding
from bridge.workflows.binding import Bound
from bridge.workflows.catalogue import nodes_of
from bridge.workflows.library import Library
from bridge.workflows.nodes import NodeRules
from bridge.workflows.workflow import Workflow

# W3C Trace Context: version, trace, span and flags.
_TRACEPARENT = re.compile("[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


class AdmissionConfig(Struct, frozen=True):
    """The bound of the queue, in jobs of all clients; and what may be done by whom, and be run."""

    max_queue: int
    rights: Permissions
    nodes: NodeRules


class Admission:
    """Takes jobs from all doors."""

    def __init__(
        self,
        *,
        library: Library,
        journal: Journal,
        files: Files,
        dispatcher: Dispatcher,
        listener: Listener,
        media: InputMedia,
        rules: AdmissionConfig,
        refresh: Callable[[], Awaitable[bool]],
        check_display: Callable[[str, str], None],
    ) -> None:
        """`refresh` has ComfyUI asked anew what it has; False if there is nothing new.

        `check_display` raises BadRequest or Forbidden unless a client may show on a display.
        """
        self._library = library
        self._journal = journal
        self._files = files
        self._dispatcher = dispatcher
        self._listener = listener
        self._media = media
        self._rules = rules
        self._refresh = refresh
        self._check_display = check_display
        # Held while a job is taken; one that nobody holds is gone.
        self._taking: WeakValueDictionary[Key, asyncio.Lock] = WeakValueDictionary()

    async def taken(self, key: Key) -> None:
        """Wait until a job that is just being taken is: who cancels it right away means it too."""
        async with self._alone(key):
            pass

    def _alone(self, key: Key) -> asyncio.Lock:
        return self._taking.setdefault(key, asyncio.Lock())

    async def take(
        self,
        asked: RequestContext,
        submit: Submit,
        main: Text | Media | None,
        transaction: Transaction | UnsetType,
        respond: Respond,
    ) -> None:
        """Accept a job and answer, or answer with what became of it before. Raises BridgeError."""
        if submit.dry_run:
            respond(Answer(data=await self._dry_run(asked, submit, main), transaction=transaction))
            return
        key = Key(asked.client, or_none(submit.job_id) or uuid.uuid4().hex[:16])
        # Entered at once where nobody else is at it: whatever comes after finds it held.
        async with self._alone(key):
            await self._take(asked, submit, main, transaction, respond, key=key)

    async def _take(
        self,
        asked: RequestContext,
        submit: Submit,
        main: Text | Media | None,
        transaction: Transaction | UnsetType,
        respond: Respond,
        *,
        key: Key,
    ) -> None:
        given_id = None if submit.job_id is UNSET else submit.job_id
        try:
            draft = await self._runnable_draft(asked, submit, main, transaction, key)
            self._check_room(asked.client)
        except (UnknownWorkflow, ComfyUIUnavailable, Forbidden, Busy, QuotaExceeded):
            # Not the request's fault: if it was accepted before, that still stands.
            if given_id is None:
                raise
            try:
                known = await self._journal.get(key)
            except UnknownJob:
                known = None
            if known is None:
                raise
            respond(Answer(data=self._duplicate(known), transaction=transaction))
            return
        for sha256, data in draft.media.items():
            if len(data) > INLINE_LIMIT:
                await asyncio.to_thread(self._files.put, sha256, data)
        acceptance = await self._journal.accept(draft, time.time())
        # From here to the last line nothing is awaited: numbers leave in their order.
        record = acceptance.record
        if not acceptance.new:
            if record.fingerprint != draft.fingerprint:
                raise Conflict(
                    f"job {key.job_id!r} exists, with another workflow, inputs or output",
                    job_id=key.job_id,
                    state=record.job.state,
                )
            respond(Answer(data=self._duplicate(record), transaction=transaction))
            return
        job = record.job
        self._dispatcher.accept(job, draft.plan)
        respond(Answer(data=self._accepted(record, duplicate=False), transaction=transaction))
        self._dispatcher.announce(job, record.n)

    async def _runnable_draft(
        self,
        asked: RequestContext,
        submit: Submit,
        main: Text | Media | None,
        transaction: Transaction | UnsetType,
        key: Key,
    ) -> Draft:
        """Make the job; if ComfyUI seems to lack something, ask it once more whether it does."""
        try:
            return await self._draft(asked, submit, main, transaction, key)
        except (ComfyUIUnavailable, InvalidInput) as error:
            stale = isinstance(error, ComfyUIUnavailable) or "allowed" in error.details
            if not (stale and await self._refresh()):
                raise
        return await self._draft(asked, submit, main, transaction, key)

    async def _draft(
        self,
        asked: RequestContext,
        submit: Submit,
        main: Text | Media | None,
        transaction: Transaction | UnsetType,
        key: Key,
    ) -> Draft:
        workflow = self._workflow(asked.client, submit)
        bound = binding.bind(
            workflow, submit.inputs, main=main, randint=_draw, simple=asked.verb == RUN
        )
        self._check_runnable(bound)
        media, new = await self._media.take(asked.client, bound)
        now = time.time()
        waits = [
            seconds
            for seconds in (submit.start_within_s, asked.expiry_s)
            if isinstance(seconds, int | float)
        ]
        return Draft(
            key=key,
            workflow=workflow.name,
            workflow_version=workflow.version,
            fingerprint=_fingerprint(submit, bound, media),
            priority=submit.priority,
            prompt_id=str(uuid.uuid4()),
            start_before=now + min(waits) if waits else None,
            timeout_s=or_none(submit.timeout_s),
            keep_s=or_none(submit.keep_s),
            ordered=submit.ordered,
            replace=or_none(submit.replace),
            needs=self._library.catalogue.needs(bound.prompt),
            envelope=_envelope(asked, submit, transaction),
            plan=_plan(workflow, bound, media),
            media=new,
            delivery=asked.delivery,
            redelivered=asked.redelivered,
        )

    def _workflow(self, client: str, submit: Submit) -> Workflow:
        """Return what a client wants to run, if it may."""
        rights = self._rules.rights
        rights.check_priority(client, submit.priority)
        if submit.show is not UNSET:
            self._check_display(client, submit.show)
        if submit.workflow is not UNSET:
            rights.check_workflow(client, submit.workflow)
            workflow = self._library.get(submit.workflow, or_none(submit.workflow_version))
        else:
            rights.check_inline(client)
            workflow = self._library.inline(or_none(submit.prompt) or {})
        if workflow.forbidden:
            nodes = workflow.forbidden
            raise Forbidden(
                f"{workflow.name!r} has nodes that are not allowed: {', '.join(nodes)}",
                setting=self._rules.nodes.setting(nodes[0]),
                nodes=list(nodes),
            )
        return workflow

    async def _dry_run(
        self, asked: RequestContext, submit: Submit, main: Text | Media | None
    ) -> DryRun:
        """Tell what a request would run, without running or keeping anything."""
        workflow = self._workflow(asked.client, submit)
        bound = binding.bind(
            workflow, submit.inputs, main=main, randint=_draw, simple=asked.verb == RUN
        )
        media, _ = await self._media.take(asked.client, bound)
        plan = _plan(workflow, bound, media)
        lacking = self._lacking(bound)
        runnable = None if lacking is None else not (lacking.nodes or lacking.choices)
        position = self._dispatcher.core.position_of_next(asked.client, submit.priority)
        return DryRun(
            workflow=workflow.name,
            workflow_version=workflow.version,
            prompt=plan.prompt,
            inputs=plan.inputs,
            runnable=or_unset(runnable),
            missing=UNSET if lacking is None or runnable else lacking,
            instances=self._dispatcher.core.pool.able(self._library.catalogue.needs(bound.prompt)),
            position=position,
            eta_s=job_messages.seconds(self._dispatcher.core.eta_of_next(workflow.name, position)),
        )

    def _lacking(self, bound: Bound) -> Missing | None:
        """What no ComfyUI at hand has of a prompt; None while none has told what it has."""
        return self._library.catalogue.lacking(nodes_of(bound.prompt).values())

    def _check_runnable(self, bound: Bound) -> None:
        """Refuse at once what no ComfyUI at hand can run; if none has told yet, let it wait."""
        lacking = self._lacking(bound)
        if lacking is None:
            return
        for choice in lacking.choices:
            place = f"{choice.node}.{choice.input}"
            if place in bound.names:
                name = bound.names[place]
                raise InvalidInput(
                    f"input {name!r}: {choice.value!r} is not there",
                    input=name,
                    allowed=choice.allowed,
                )
        if lacking.nodes or lacking.choices:
            wanted = [*lacking.nodes, *(choice.value for choice in lacking.choices)]
            raise ComfyUIUnavailable(
                f"no ComfyUI at hand has {', '.join(wanted)}: install it there",
                missing=msgspec.to_builtins(lacking),
            )

    def _check_room(self, client: str) -> None:
        rules = self._rules
        if self._dispatcher.core.queued >= rules.max_queue:
            raise Busy(
                f"{rules.max_queue} jobs wait; no more are taken",
                limit=rules.max_queue,
                setting="max_queue",
            )
        share = rules.rights.of(client).max_queue
        if self._dispatcher.core.count(client) >= share:
            raise QuotaExceeded(
                f"{share} jobs of this client wait; no more are taken",
                limit=share,
                setting=setting(client, "max_queue"),
            )

    def _duplicate(self, record: Record) -> Accepted:
        return self._accepted(record, duplicate=True)

    def _accepted(self, record: Record, *, duplicate: bool) -> Accepted:
        job = record.job
        position, eta_s = self._dispatcher.core.outlook(job)
        return Accepted(
            job_id=job.key.job_id,
            workflow=job.workflow,
            transaction=job.envelope.transaction,
            meta=job.envelope.meta,
            state=job.state,
            duplicate=duplicate,
            position=or_unset(position),
            eta_s=job_messages.seconds(eta_s),
            result=UNSET if record.result is None else Raw(record.result),
        )


def _draw(lowest: int, highest: int) -> int:
    return lowest + secrets.randbelow(highest - lowest + 1)


def _fingerprint(submit: Submit, bound: Bound, media: list[MediaInput]) -> bytes:
    """What makes two requests under one id the same: workflow, inputs as given, output."""
    given = [(each.name, each.items) for each in media]
    work = submit.prompt if submit.workflow is UNSET else submit.workflow
    same: list[Any] = [work, bound.given, given, submit.output]
    if submit.show is not UNSET:
        same.append(submit.show)
    return hashlib.sha256(msgspec.json.encode(same, order="deterministic")).digest()


def _envelope(
    asked: RequestContext, submit: Submit, transaction: Transaction | UnsetType
) -> Envelope:
    return Envelope(
        transaction=transaction,
        meta=submit.meta,
        traceparent=_traceparent(asked),
        response_topic=asked.response_topic,
        correlation=asked.correlation,
        reply_output=("reply", "output") in asked.user_properties,
        deliver=submit.output.deliver,
        max_packet=or_none(submit.output.max_packet),
        preview=submit.preview,
        profile=profile.read(submit.output),
        show=or_none(submit.show),
    )


def _traceparent(asked: RequestContext) -> str | None:
    found = dict(asked.user_properties).get("traceparent", "")
    return found if _TRACEPARENT.fullmatch(found) else None


def _plan(workflow: Workflow, bound: Bound, media: list[MediaInput]) -> Plan:
    inputs = dict(bound.inputs)
    for each in media:
        put(bound.prompt, inputs, each)
    return Plan(bound.prompt, inputs, bound.names, list(workflow.outputs), media)
