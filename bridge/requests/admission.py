"""Admission: from a request for work to an accepted job.

The order is: bind, check, write to the journal, answer, queue. A job answered with ok is on disk.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable
from secrets import SystemRandom
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from msgspec import UNSET, Raw, Struct

from bridge.contract.errors import (
    Busy,
    ComfyUIUnavailable,
    Conflict,
    Forbidden,
    InvalidInput,
    Quarantined,
    QuotaExceeded,
    UnknownJob,
    UnknownWorkflow,
)
from bridge.contract.messages import Accepted, DryRun, or_none, or_unset
from bridge.contract.topics import RUN
from bridge.jobs import job_messages
from bridge.jobs.dependencies import put
from bridge.jobs.dispatcher import Dispatcher
from bridge.jobs.job import Draft, JobSinks, MediaInput, Plan
from bridge.jobs.journal import Journal, Record
from bridge.jobs.queue import Key
from bridge.media.files import Files, put_large
from bridge.requests import drafts
from bridge.requests.context import Answer, Respond, Submission
from bridge.requests.drafts import QueueRoom
from bridge.requests.input_media import InputMedia
from bridge.requests.permissions import Permissions
from bridge.requests.sinks import Sinks
from bridge.workflows import binding, models
from bridge.workflows.binding import BoundPrompt
from bridge.workflows.catalogue import Needs, NodeCatalogue, NodeRules, nodes_of
from bridge.workflows.library import Library
from bridge.workflows.workflow import Workflow

T = TypeVar("T")
_randint = SystemRandom().randint  # both bounds included
# The media in larger payloads take milliseconds to decode.
_LARGE = 256 * 1024
# Refusals that depend on the moment, not on the request: the same one may be accepted later.
_NOT_ITS_FAULT = (
    UnknownWorkflow,
    ComfyUIUnavailable,
    Forbidden,
    Busy,
    QuotaExceeded,
    Quarantined,
)


class AdmissionConfig(Struct, frozen=True):
    """The limit of the queue in jobs of all clients, the permissions, and the nodes allowed."""

    max_queue: int
    permissions: Permissions
    nodes: NodeRules


class Admission:
    """Admits the jobs of all adapters."""

    def __init__(
        self,
        config: AdmissionConfig,
        *,
        library: Library,
        journal: Journal,
        files: Files,
        dispatcher: Dispatcher,
        media: InputMedia,
        refresh: Callable[[], Awaitable[bool]],
        check_display: Callable[[str, str], None],
        sinks: Sinks | None = None,
        under_way: Callable[[str], int] = lambda _: 0,
    ) -> None:
        """`refresh` asks the ComfyUIs again for their nodes; it returns False if nothing is new.

        `check_display` raises BadRequest or Forbidden unless a client may show on a display.
        `sinks` reads where outputs are to be delivered; `under_way` counts a client's jobs whose
        outputs are being delivered.
        """
        self._config = config
        self._library = library
        self._journal = journal
        self._files = files
        self._dispatcher = dispatcher
        self._media = media
        self._refresh = refresh
        self._check_display = check_display
        self._sinks = sinks or Sinks(config.permissions)
        self._under_way = under_way
        # Held while a job is being admitted; one that nobody holds is gone.
        self._admitting: WeakValueDictionary[Key, asyncio.Lock] = WeakValueDictionary()

    async def settled(self, key: Key) -> None:
        """Wait while a job is being admitted: a cancel may follow its request at once."""
        async with self._alone(key):
            pass

    def _alone(self, key: Key) -> asyncio.Lock:
        return self._admitting.setdefault(key, asyncio.Lock())

    async def admit(self, submission: Submission, respond: Respond) -> None:
        """Accept a job and answer; a known job is answered as it is now. Raises BridgeError."""
        submit = submission.submit
        if submit.dry_run:
            report = await self._dry_run(submission)
            respond(Answer(data=report, transaction=submission.transaction))
            return
        key = Key(submission.client, or_none(submit.job_id) or uuid.uuid4().hex[:16])
        # Entered at once where nobody else is at it: whatever comes after finds it held.
        async with self._alone(key):
            await self._admit(submission, key, respond)

    async def _admit(self, submission: Submission, key: Key, respond: Respond) -> None:
        def answer(record: Record, *, duplicate: bool) -> None:
            accepted = self._accepted(record, duplicate=duplicate)
            respond(Answer(data=accepted, transaction=submission.transaction))

        try:
            draft = await self.with_fresh(lambda: self._draft(submission, key))
            self.check_room(submission.client)
        except _NOT_ITS_FAULT:
            # If it was accepted before, that still stands.
            known = None if submission.submit.job_id is UNSET else await self._find(key)
            if known is None:
                raise
            answer(known, duplicate=True)
            return
        await put_large(self._files, draft.media)
        acceptance = await self._journal.accept(draft, self._journal.clock.now())
        # From here to the last line nothing is awaited: numbers leave in their order.
        record = acceptance.record
        if acceptance.new:
            self._dispatcher.accept(record.job, draft.plan)
            answer(record, duplicate=False)
            self._dispatcher.announce(record.job, record.n)
        elif record.fingerprint == draft.fingerprint:
            answer(record, duplicate=True)
        else:
            raise Conflict(
                f"job {key.job_id!r} exists, with another workflow, inputs or output",
                job_id=key.job_id,
                state=record.job.state,
            )

    async def _find(self, key: Key) -> Record | None:
        try:
            return await self._journal.get(key)
        except UnknownJob:
            return None

    async def _draft(self, submission: Submission, key: Key) -> Draft:
        """Return the job that a client wants. Raises BridgeError if it cannot have it."""
        workflow, bound = self._bind(submission)
        needs = check_runnable(workflow, bound, self._library.catalogue)
        plan, media, sinks = await self._planned(submission, workflow, bound)
        return drafts.draft(
            submission,
            key=key,
            prompt_id=str(uuid.uuid4()),
            workflow=workflow,
            bound=bound,
            plan=plan,
            needs=needs,
            media=media,
            now=self._journal.clock.now(),
            sinks=sinks,
        )

    async def with_fresh(self, bind: Callable[[], Awaitable[T]]) -> T:
        """Bind; if ComfyUI seems to lack something, read its nodes again, and bind once more."""
        try:
            return await bind()
        except (ComfyUIUnavailable, InvalidInput) as error:
            if not (drafts.may_be_stale(error) and await self._refresh()):
                raise
            return await bind()

    def _bind(self, submission: Submission) -> tuple[Workflow, BoundPrompt]:
        workflow = self.workflow(submission)
        if len(submission.context.payload) > _LARGE:
            # Before its media are decoded, while which nobody else is served.
            self._media.check_room(submission.client)
        bound = binding.bind(
            workflow,
            submission.submit.inputs,
            main=submission.main,
            randint=_randint,
            simple=submission.context.verb == RUN,
        )
        self.check_partner(submission.client, bound)
        return workflow, bound

    def check_partner(self, client: str, bound: BoundPrompt) -> None:
        """Raise Forbidden if a prompt has nodes that cost money, which the client may not use."""
        self._config.permissions.check_partner(client, self._partner_nodes(bound))

    def _partner_nodes(self, bound: BoundPrompt) -> list[str]:
        classes = (node["class_type"] for node in bound.prompt.values())
        return self._library.catalogue.partner_nodes(classes)

    async def _planned(
        self, submission: Submission, workflow: Workflow, bound: BoundPrompt
    ) -> tuple[Plan, dict[str, bytes], JobSinks]:
        """Return a job's plan, the bytes that came with its request, and its sinks."""
        media, new = await self._media.take(submission.client, bound)
        inputs = dict(bound.inputs)
        for each in media:
            put(bound.prompt, inputs, each)
        refused = self._dispatcher.quarantine.refusal(bound.prompt, time.monotonic())
        if refused is not None:
            raise refused
        plan = self.plan(submission.client, workflow, bound, inputs, media)
        return plan, new, self.sinks(submission, workflow)

    def sinks(self, submission: Submission, workflow: Workflow) -> JobSinks:
        """Return where outputs are to be delivered. Raises BadRequest, Forbidden."""
        return self._sinks.of(submission.client, workflow.name, workflow.sinks, submission.submit)

    def plan(
        self,
        client: str,
        workflow: Workflow,
        bound: BoundPrompt,
        inputs: dict[str, Any],
        media: list[MediaInput],
    ) -> Plan:
        """Return the plan of a job; `inputs` are those of `bound`, with its media among them."""
        # While no ComfyUI has reported, nobody knows which nodes need the key: who may, may.
        unknown = self._library.catalogue.merged is None
        paid = self._config.permissions.of(client).partner_nodes
        return Plan(
            bound.prompt,
            inputs,
            bound.names,
            list(workflow.outputs),
            media,
            UNSET if workflow.drawing is None else Raw(workflow.drawing),
            partner=paid and (unknown or bool(self._partner_nodes(bound))),
        )

    def workflow(self, submission: Submission) -> Workflow:
        """Return the workflow that a client wants to run, if it may."""
        client, submit = submission.client, submission.submit
        permissions = self._config.permissions
        permissions.check_priority(client, submit.priority)
        if submit.show is not UNSET:
            self._check_display(client, submit.show)
        if submit.workflow is not UNSET:
            permissions.check_workflow(client, submit.workflow)
            workflow = self._library.get(submit.workflow, or_none(submit.workflow_version))
        else:
            permissions.check_inline(client)
            workflow = self._library.inline(or_none(submit.prompt) or {})
        if workflow.forbidden:
            nodes = workflow.forbidden
            raise Forbidden(
                f"{workflow.name!r} has nodes that are not allowed: {', '.join(nodes)}",
                setting=self._config.nodes.setting(nodes[0]),
                nodes=list(nodes),
            )
        return workflow

    async def _dry_run(self, submission: Submission) -> DryRun:
        """Answer with what a request would run, without running or keeping anything."""
        workflow, bound = self._bind(submission)
        plan, _, _ = await self._planned(submission, workflow, bound)
        prompt = bound.prompt
        lacking = self._library.catalogue.lacking(nodes_of(prompt).values())
        runnable = None if lacking is None else lacking.is_enough
        book = self._dispatcher.book
        position = book.position_of_next(submission.client, submission.submit.priority)
        return DryRun(
            workflow=workflow.name,
            workflow_version=workflow.version,
            prompt=plan.prompt,
            inputs=plan.inputs,
            runnable=or_unset(runnable),
            missing=UNSET if lacking is None or runnable else lacking,
            instances=self._library.catalogue.capable(self._library.catalogue.needs(prompt)),
            position=position,
            eta_s=job_messages.seconds(book.eta_of_next(workflow.name, position)),
        )

    def check_room(self, client: str) -> None:
        """Raise Busy or QuotaExceeded if the queue takes no more jobs of a client."""
        book, config = self._dispatcher.book, self._config
        share = config.permissions.of(client).max_queue
        # Jobs whose sinks take nothing pile up like those that wait for a ComfyUI.
        mine = book.count(client) + self._under_way(client)
        room = QueueRoom(book.queued, config.max_queue, mine, share)
        drafts.check_room(client, room)

    def _accepted(self, record: Record, *, duplicate: bool) -> Accepted:
        job = record.job
        position, eta_s = self._dispatcher.book.outlook(job)
        return Accepted(
            job_id=job.key.job_id,
            workflow=job.workflow,
            set_id=or_unset(job.envelope.set_id),
            transaction=job.envelope.transaction,
            meta=job.envelope.meta,
            state=job.state,
            duplicate=duplicate,
            position=or_unset(position),
            eta_s=job_messages.seconds(eta_s),
            result=UNSET if record.result is None else Raw(record.result),
        )


def check_runnable(workflow: Workflow, bound: BoundPrompt, catalogue: NodeCatalogue) -> Needs:
    """Return a prompt's needs. Raises InvalidInput or ComfyUIUnavailable if nobody has them."""
    needs = catalogue.needs(bound.prompt)
    if not catalogue.is_met(workflow.version, needs):
        nodes = nodes_of(bound.prompt)
        lacking = catalogue.lacking(nodes.values())
        if lacking is not None:
            lacking = models.described(lacking, workflow.models, nodes)
        drafts.check_runnable(workflow.name, bound, lacking)
        catalogue.note_met(workflow.version, needs)
    return needs
