"""Requests for sets, and about them.

A set is accepted as a whole, or not at all: the inputs of all its jobs are bound to the workflow
and checked before it is written. Its jobs are made by `bridge.jobs.sets.driver`.
"""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from secrets import SystemRandom
from typing import Any, assert_never
from weakref import WeakValueDictionary

import msgspec
from msgspec import UNSET, UnsetType

from bridge.contract import expansion
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
from bridge.contract.messages import Transaction, or_none
from bridge.contract.sets import (
    AboutSet,
    CancelSet,
    ForgetSet,
    ForgetSetReport,
    KeepSet,
    KeepSetReport,
    PauseSet,
    ResumeSet,
    SetState,
    SetView,
    StatusSet,
)
from bridge.contract.sources import Inline
from bridge.contract.topics import RUN
from bridge.jobs.dependencies import put
from bridge.jobs.job import MediaInput, Plan
from bridge.jobs.journal import Journal
from bridge.jobs.journal.sets import NewSet, SetRecord
from bridge.jobs.queue import Key
from bridge.jobs.sets import messages
from bridge.jobs.sets.driver import SetDriver
from bridge.jobs.sets.plan import Patch, SetSpec, difference, shown_by
from bridge.media.files import Files, put_large
from bridge.requests import drafts, views
from bridge.requests.admission import Admission, check_runnable
from bridge.requests.context import Answer, RequestContext, Respond, Submission
from bridge.requests.input_media import InputMedia
from bridge.requests.permissions import Permissions, setting
from bridge.workflows import binding
from bridge.workflows.catalogue import NodeCatalogue
from bridge.workflows.workflow import Workflow

_randint = SystemRandom().randint  # both bounds included
# Seconds of the processor for each entry of an axis.
BOUND_S = 0.000_2
# Between so many of its entries others have their turn.
_AT_ONCE = 16
# Larger requests are hashed in a thread.
_HASHED_AT_ONCE = 64 * 1024


class SetRequests:
    """Admits sets, and answers requests about them."""

    def __init__(
        self,
        *,
        admission: Admission,
        driver: SetDriver,
        journal: Journal,
        files: Files,
        media: InputMedia,
        permissions: Permissions,
        catalogue: Callable[[], NodeCatalogue],
        spend: Callable[[str, float], None],
    ) -> None:
        """`catalogue` returns what the ComfyUIs have, as it is now.

        `spend` takes note of processor time, in seconds, that was spent for a client.
        """
        self._admission = admission
        self._driver = driver
        self._journal = journal
        self._files = files
        self._media = media
        self._permissions = permissions
        self._catalogue = catalogue
        self._spend = spend
        # Held by a client while a set of it is being admitted; one that nobody holds is gone.
        self._admitting: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def _alone(self, client: str) -> asyncio.Lock:
        return self._admitting.setdefault(client, asyncio.Lock())

    async def admit(self, submission: Submission, respond: Respond) -> None:
        """Accept a set and answer; a known set is answered as it is now. Raises BridgeError."""
        submit = submission.submit
        key = Key(submission.client, or_none(submit.set_id) or uuid.uuid4().hex[:16])
        async with self._alone(submission.client):
            await self._admit(submission, key, respond)

    async def _admit(self, submission: Submission, key: Key, respond: Respond) -> None:
        def answer(record: SetRecord, *, duplicate: bool) -> None:
            accepted = messages.accepted(record, duplicate=duplicate)
            respond(Answer(data=accepted, transaction=submission.transaction))

        try:
            found = await self._admission.with_fresh(lambda: self._bound(submission))
            await self._check_room(submission.client, found.spec.total)
        except (UnknownWorkflow, ComfyUIUnavailable, Forbidden, Busy, QuotaExceeded):
            # Not the request's fault: if it was accepted before, that still stands.
            known = None if submission.submit.set_id is UNSET else await self._find(key)
            if known is None:
                raise
            answer(known, duplicate=True)
            return
        spec, media = found.spec, found.media
        await put_large(self._files, media)
        new = await asyncio.to_thread(_new, submission, key, spec, media)
        record, is_new = await self._driver.accept(new, spec)
        if not is_new and record.fingerprint != spec.fingerprint:
            raise Conflict(
                f"set {key.job_id!r} exists, with another workflow, inputs or output",
                set_id=key.job_id,
                state=record.state,
            )
        answer(record, duplicate=not is_new)

    async def _find(self, key: Key) -> SetRecord | None:
        try:
            return await self._journal.sets.get(key)
        except UnknownJob:
            return None

    async def _check_room(self, client: str, total: int) -> None:
        self._admission.check_room(client)
        limit = self._permissions.of(client).max_set
        unmade = await self._journal.sets.yet_to_make(client)
        if unmade + total > limit:
            raise QuotaExceeded(
                f"{unmade} jobs of this client's sets are to come, and {total} more would be "
                f"above {limit}",
                size=unmade + total,
                limit=limit,
                setting=setting(client, "max_set"),
            )

    async def _bound(self, submission: Submission) -> _BoundSet:
        """Bind the inputs of all the set's jobs. Raises BridgeError for the first that fails."""
        client, submit = submission.client, submission.submit
        workflow = self._admission.workflow(submission)
        field = "each" if submit.grid is UNSET else "grid"
        named = expansion.sets_named(submit)
        totals = {name: await self._total(client, name, field) for name in named}
        limit = self._permissions.of(client).max_set
        total = expansion.count(submit, totals, limit, setting(client, "max_set"))
        expansion.check_collect(submit, total)

        def seeds(name: str, number: int) -> list[int]:
            return binding.seeds(workflow, name, number, _randint)

        axes = expansion.axes(submit, totals, seeds)
        self._spend(client, BOUND_S * sum(map(len, axes)))
        binder = _Binder(
            submission,
            workflow,
            admission=self._admission,
            media=self._media,
            catalogue=self._catalogue(),
            now=self._journal.clock.now(),
        )
        return await binder.bind(axes)

    async def _total(self, client: str, set_id: str, field: str) -> int:
        known = await self._find(Key(client, set_id))
        if known is None:
            raise InvalidInput(f"no set {set_id!r}", field=field, set_id=set_id)
        return known.total

    # Sets that exist.

    async def report(
        self, context: RequestContext, request: AboutSet, transaction: Transaction | UnsetType
    ) -> SetView | ForgetSetReport | KeepSetReport:
        """Carry out a request about a set; return what its answer reports. Raises BridgeError."""
        key = Key(context.client, request.set_id)
        match request:
            case CancelSet():
                record = await self._enter(key, "cancelling")
            case PauseSet():
                record = await self._enter(key, "paused")
            case ResumeSet():
                record = await self._enter(key, "running")
            case StatusSet():
                record = await self._journal.sets.get(key)
            case KeepSet(keep_s=keep_s):
                return await self._keep(key, keep_s)
            case ForgetSet():
                return await self._forget(key)
            case _:
                assert_never(request)
        counts, eta_s = await self._driver.counts_and_eta(record)
        accepted_at = self._journal.clock.shown(record.accepted_at)
        view = messages.view(record, counts, eta_s, accepted_at)
        return views.fitting_set(view, context, transaction)

    async def _enter(self, key: Key, state: SetState) -> SetRecord:
        # What follows a request at once means its set.
        async with self._alone(key.client):
            return await self._driver.enter(key, state)

    async def _keep(self, key: Key, keep_s: float) -> KeepSetReport:
        await self._check_ended(key, "outputs of a set that has not ended cannot be kept yet")
        clock = self._journal.clock
        keep_until = clock.now() + keep_s
        outputs = await self._journal.sets.keep(key, keep_until)
        shown = round(clock.shown(keep_until), 3)
        return KeepSetReport(set_id=key.job_id, outputs=outputs, keep_until=shown)

    async def _check_ended(self, key: Key, why: str) -> None:
        """Raise UnknownJob, or Conflict for a set that has not ended."""
        record = await self._journal.sets.get(key)
        if not record.ended:
            raise Conflict(why, set_id=key.job_id, state=record.state)

    async def _forget(self, key: Key) -> ForgetSetReport:
        await self._check_ended(key, "a set that has not ended cannot be forgotten: cancel it")
        forgotten = await self._journal.sets.forget(key)
        return ForgetSetReport(set_id=key.job_id, forgotten=forgotten)


class _BoundSet(msgspec.Struct, frozen=True):
    """A set, and the bytes that came with the request, by their SHA-256."""

    spec: SetSpec
    media: dict[str, bytes]


class _RepeatedDraws:
    """Random numbers that repeat: all jobs of a grid have the same seed unless the grid varies it.

    Numbers between the same bounds repeat in their order, whatever else is drawn.
    """

    def __init__(self) -> None:
        self._drawn: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
        self._had: Counter[tuple[int, int]] = Counter()

    def again(self) -> None:
        self._had.clear()

    def renew(self) -> None:
        self._drawn.clear()
        self._had.clear()

    def draw(self, lowest: int, highest: int) -> int:
        bounds = lowest, highest
        drawn = self._drawn[bounds]
        if self._had[bounds] == len(drawn):
            drawn.append(_randint(lowest, highest))
        self._had[bounds] += 1
        return drawn[self._had[bounds] - 1]


class _Binder:
    """Binds the entries of a set's axes to its workflow, each once."""

    def __init__(
        self,
        submission: Submission,
        workflow: Workflow,
        *,
        admission: Admission,
        media: InputMedia,
        catalogue: NodeCatalogue,
        now: float,
    ) -> None:
        """`now` is the journal's time."""
        self._submission = submission
        self._workflow = workflow
        self._admission = admission
        self._now = now
        self._media = media
        self._catalogue = catalogue
        self._draws = _RepeatedDraws()
        # Media is read once, however many jobs have it: by input, and by the value's identity.
        self._taken: dict[tuple[str, int], MediaInput] = {}
        self._new: dict[str, bytes] = {}

    async def bind(self, axes: list[list[expansion.Entry]]) -> _BoundSet:
        """Bind all entries. Raises BridgeError, which names the job that cannot be."""
        submit = self._submission.submit
        same_seed = submit.grid is not UNSET
        entries = [[self._canonical(entry) for entry in axis] for axis in axes]
        firsts: dict[str, Any] = {}
        for axis in entries:
            firsts |= axis[0]
        common = self._canonical(submit.inputs)
        base = await self._plan({**common, **firsts})
        patches = []
        for axis in entries:
            # Of each plan only what is different is held, not thousands of prompts.
            found, resolved = [Patch()], [_resolved(base)]
            for at, entry in enumerate(axis[1:], start=1):
                if at % _AT_ONCE == 0:
                    await asyncio.sleep(0)
                (self._draws.again if same_seed else self._draws.renew)()
                others = {name: value for name, value in firsts.items() if name not in axis[0]}
                plan = await self._plan({**common, **others, **entry})
                found.append(difference(base, plan))
                resolved.append(_resolved(plan))
            patches.append(await asyncio.to_thread(_with_shown, found, axis, resolved))
        spec = SetSpec(
            fingerprint=await _fingerprint(self._submission),
            workflow=self._workflow.name,
            workflow_version=self._workflow.version,
            envelope=drafts.envelope(
                self._submission, self._admission.sinks(self._submission, self._workflow)
            ),
            base=base,
            axes=patches,
            priority=submit.priority,
            start_before=drafts.start_before(self._submission, self._now),
            timeout_s=or_none(submit.timeout_s),
            keep_s=or_none(submit.keep_s),
            ordered=submit.ordered,
            collect=or_none(submit.collect) or [],
        )
        return _BoundSet(spec, self._new)

    def _canonical(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return inputs by their own names, whichever a request gives them. Raises InvalidInput."""
        found: dict[str, Any] = {}
        for name, value in given.items():
            spec = binding.find(self._workflow, name)
            own = name if spec is None else spec.name
            if own in found:
                raise InvalidInput(f"input {own!r} is given twice", input=name)
            found[own] = value
        return found

    async def _plan(self, given: dict[str, Any]) -> Plan:
        media = {
            name: value for name, value in given.items() if binding.is_media(self._workflow, name)
        }
        bound = binding.bind(
            self._workflow,
            {**given, **dict.fromkeys(media, binding.STAND_IN)},
            main=self._submission.main,
            randint=self._draws.draw,
            simple=self._submission.context.verb == RUN,
        )
        self._admission.check_partner(self._submission.client, bound)
        check_runnable(self._workflow, bound, self._catalogue)
        inputs = dict(bound.inputs)
        items = []
        for each in bound.media:
            value = media.get(each.spec.name, self._submission.main)
            taken = self._taken.get((each.spec.name, id(value)))
            if taken is None:
                taken = await self._take(each.spec.name, value)
                self._taken[each.spec.name, id(value)] = taken
            items.append(taken)
            put(bound.prompt, inputs, taken)
        self._media.check_sum(items)
        client = self._submission.client
        return self._admission.plan(client, self._workflow, bound, inputs, items)

    async def _take(self, name: str, value: Any) -> MediaInput:
        each = binding.bound_media(self._workflow, name, value)
        return await self._media.take_one(self._submission.client, each, self._new)


def _resolved(plan: Plan) -> Plan:
    """Return only the inputs of a plan."""
    return Plan({}, plan.inputs, {}, [], plan.media)


def _with_shown(
    patches: list[Patch], axis: list[expansion.Entry], resolved: list[Plan]
) -> list[Patch]:
    return [
        msgspec.structs.replace(patch, shown=inputs)
        for patch, inputs in zip(patches, shown_by(axis, resolved), strict=True)
    ]


def _new(submission: Submission, key: Key, spec: SetSpec, media: Mapping[str, bytes]) -> NewSet:
    context = submission.context
    record = SetRecord(
        key=key,
        workflow=spec.workflow,
        fingerprint=spec.fingerprint,
        state="running",
        total=spec.total,
        made=0,
        waits=spec.waits,
        accepted_at=0.0,
        envelope=spec.envelope,
        n=0,
    )
    return NewSet(
        record,
        msgspec.json.encode(spec),
        spec.blobs,
        media,
        delivery=context.delivery,
        redelivered=context.redelivered,
    )


async def _fingerprint(submission: Submission) -> bytes:
    """Return a hash that is the same for equal requests: workflow, inputs as given, output."""
    submit, main = submission.submit, submission.main
    work = submit.prompt if submit.workflow is UNSET else submit.workflow
    ways = [None if each is UNSET else each for each in (submit.each, submit.grid, submit.repeat)]
    given = main.data if isinstance(main, Inline) else main
    shown = or_none(submit.show)
    same: list[Any] = [work, submit.inputs, ways, given, submit.output, shown]
    if submit.collect is not UNSET:
        same.append(submit.collect)

    def digest() -> bytes:
        return hashlib.sha256(msgspec.json.encode(same, order="deterministic")).digest()

    if len(submission.context.payload) <= _HASHED_AT_ONCE:
        return digest()
    return await asyncio.to_thread(digest)
