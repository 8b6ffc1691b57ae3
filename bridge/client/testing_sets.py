"""Sets of the bridge in memory.

It decodes no images: a contact sheet or an animation is the first image that the jobs gave.
"""

from __future__ import annotations

import base64
import hashlib
import io
import zipfile
from collections.abc import Callable, Mapping
from typing import Protocol

from msgspec import UNSET, Raw, Struct, UnsetType
from msgspec.structs import replace

from bridge.contract import expansion
from bridge.contract.errors import Conflict, ExecutionError, InvalidInput, UnknownJob
from bridge.contract.messages import (
    FetchBytes,
    MissingOutput,
    Outcome,
    OutputInfo,
    Part,
    State,
    Submit,
    encode,
    or_none,
)
from bridge.contract.sets import (
    CancelSet,
    Counts,
    FetchSet,
    ForgetSet,
    ForgetSetReport,
    KeepSet,
    KeepSetReport,
    PauseSet,
    ResumeSet,
    SetAccepted,
    SetJob,
    SetRequest,
    SetResult,
    SetState,
    SetView,
)
from bridge.contract.targets import extension_of
from bridge.contract.topics import Topics

MAX_SET = 5_000
PART_BYTES = 64 * 1024


class SetJobs(Protocol):
    """The functions on jobs that sets need; a job is named by its client and its id."""

    def submit_job(self, client: str, submit: Submit) -> None:
        """Take a job of a set."""

    def run_job(self, client: str, job_id: str) -> None:
        """Run a job, unless its workflow is held."""

    def cancel_job(self, client: str, job_id: str) -> None:
        """Cancel a job that has not ended."""

    def outputs_of_job(self, client: str, job_id: str) -> list[tuple[OutputInfo, bytes]]:
        """Return what a job gave."""

    def state_of_job(self, client: str, job_id: str) -> State:
        """Return a job's state."""


class _Set(Struct):
    client: str
    submit: Submit
    jobs: dict[str, dict[str, object]]
    state: SetState = "running"
    result: SetResult | None = None
    outputs: list[tuple[OutputInfo, bytes]] = []
    forgotten: bool = False

    @property
    def id(self) -> str:
        return str(self.submit.set_id)

    @property
    def workflow(self) -> str:
        return str(or_none(self.submit.workflow) or "inline")


class InMemorySets:
    """Takes sets, has their jobs run, and ends them; pausing one changes nothing but its state."""

    def __init__(
        self,
        topics: Topics,
        jobs: SetJobs,
        *,
        number: Callable[[str], int],
        publish: Callable[[str, bytes], None],
    ) -> None:
        """`number` draws a client's next number; `publish` publishes at a topic."""
        self._topics = topics
        self._jobs = jobs
        self._number = number
        self._publish = publish
        self._sets: dict[tuple[str, str], _Set] = {}

    def submit(self, client: str, submit: Submit) -> SetAccepted:
        """Take a set. Raises BridgeError."""
        submit = replace(submit, set_id=or_none(submit.set_id) or f"set{len(self._sets)}")
        known = self._sets.get((client, str(submit.set_id)))
        if known is not None:
            if encode(replace(known.submit, transaction=UNSET)) != encode(
                replace(submit, transaction=UNSET)
            ):
                raise Conflict(f"set {known.id!r} exists", set_id=known.id)
            return _accepted(known, duplicate=True)
        found = _Set(client, submit, self._expanded(client, submit))
        self._sets[client, found.id] = found
        for job_id, inputs in found.jobs.items():
            job = replace(
                submit,
                job_id=job_id,
                inputs={**submit.inputs, **inputs},
                collect=UNSET,
                each=UNSET,
                grid=UNSET,
                repeat=UNSET,
            )
            self._jobs.submit_job(client, job)
        return _accepted(found, duplicate=False)

    def _expanded(self, client: str, submit: Submit) -> dict[str, dict[str, object]]:
        totals: dict[str, int] = {}
        for set_id in expansion.sets_named(submit):
            if (client, set_id) not in self._sets:
                raise InvalidInput(f"no set {set_id!r}", set_id=set_id)
            totals[set_id] = len(self._sets[client, set_id].jobs)
        total = expansion.count(submit, totals, MAX_SET, f"clients.{client}.max_set")
        expansion.check_collect(submit, total)
        axes = expansion.axes(submit, totals, lambda _, number: [*range(number)])
        jobs = {}
        for index in range(total):
            inputs: dict[str, object] = {}
            for axis, at in zip(axes, expansion.coordinates(index, [*map(len, axes)]), strict=True):
                inputs |= axis[at]
            jobs[expansion.job_id(str(submit.set_id), index)] = inputs
        return jobs

    def run(self, client: str, set_id: str) -> None:
        """Run the jobs of a set that was taken."""
        found = self._sets.get((client, set_id))
        if found is not None and found.result is None:
            for job_id in found.jobs:
                self._jobs.run_job(client, job_id)

    def job_ended(self, client: str, job_id: str) -> None:
        """End the set of a job, if that was the last one."""
        named = expansion.of_job_id(job_id)
        found = None if named is None else self._sets.get((client, named[0]))
        if found is None or found.result is not None or job_id not in found.jobs:
            return
        states = self._states(found)
        counts = _counts(states)
        if counts.queued or counts.running or counts.waiting:
            return
        found.state = outcome = _outcome(counts, len(states))
        if outcome != "cancelled":
            self._collect(found)
        found.result = SetResult(
            set_id=found.id,
            workflow=found.workflow,
            meta=found.submit.meta,
            n=self._number(client),
            state=outcome,
            total=len(states),
            counts=counts,
            jobs=[
                SetJob(job_id=name, state=states[name], inputs=dict(inputs))
                for name, inputs in found.jobs.items()
            ],
            outputs=[info for info, _ in found.outputs] or UNSET,
            missing=self._missing(found, outcome),
        )
        topic = self._topics.job_set(client, found.id, "result")
        self._publish(topic, encode(found.result))

    def _collect(self, found: _Set) -> None:
        gave = {job_id: self._jobs.outputs_of_job(found.client, job_id) for job_id in found.jobs}
        images = [each for outputs in gave.values() for each in outputs if each[0].kind == "image"]
        for what in or_none(found.submit.collect) or []:
            index = len(found.outputs)
            if what == "zip" and any(gave.values()):
                data = _zipped(gave)
                found.outputs.append((described(index, what, "application/zip", data), data))
            elif what != "zip" and images:
                info, data = images[0]
                found.outputs.append((described(index, what, info.content_type, data), data))

    @staticmethod
    def _missing(found: _Set, outcome: Outcome) -> list[MissingOutput] | UnsetType:
        there = {info.name for info, _ in found.outputs}
        wanted = [] if outcome == "cancelled" else or_none(found.submit.collect) or []
        error = ExecutionError("no job gave what it is made of").wire()
        return [MissingOutput(name=each, error=error) for each in wanted if each not in there] or (
            UNSET
        )

    def _fetch(self, found: _Set, fetch: FetchSet) -> Part:
        if fetch.output >= len(found.outputs):
            raise UnknownJob(f"no output {fetch.output} of set {found.id!r} is kept")
        part, piece = part_of(fetch, *found.outputs[fetch.output])
        if not fetch.inline:
            where = ("part", str(fetch.output), str(fetch.offset))
            self._publish(self._topics.job_set(found.client, found.id, *where), piece)
        return replace(part, set_id=found.id)

    def answer(
        self, client: str, request: SetRequest
    ) -> SetView | ForgetSetReport | KeepSetReport | Part:
        """Answer a request about a set. Raises BridgeError."""
        found = self._sets.get((client, request.set_id))
        if found is None:
            raise UnknownJob(f"no set {request.set_id!r}", set_id=request.set_id)
        if isinstance(request, FetchSet):
            return self._fetch(found, request)
        if isinstance(request, KeepSet | ForgetSet):
            return self._of_ended(found, request)
        if found.result is None:
            match request:
                case CancelSet():
                    found.state = "cancelling"
                    for job_id in found.jobs:
                        self._jobs.cancel_job(client, job_id)
                case PauseSet():
                    found.state = "paused"
                case ResumeSet():
                    found.state = "running"
        return self._view(found)

    def _of_ended(
        self, found: _Set, request: KeepSet | ForgetSet
    ) -> KeepSetReport | ForgetSetReport:
        if found.result is None:
            raise Conflict("the set has not ended", set_id=found.id)
        if isinstance(request, KeepSet):
            gave = (self._jobs.outputs_of_job(found.client, job_id) for job_id in found.jobs)
            kept = len(found.outputs) + sum(map(len, gave))
            return KeepSetReport(set_id=found.id, outputs=kept, keep_until=request.keep_s)
        forgotten, found.forgotten, found.outputs = not found.forgotten, True, []
        return ForgetSetReport(set_id=found.id, forgotten=forgotten)

    def _view(self, found: _Set) -> SetView:
        return SetView(
            set_id=found.id,
            workflow=found.workflow,
            meta=found.submit.meta,
            state=found.state,
            total=len(found.jobs),
            counts=_counts(self._states(found)),
            accepted_at=0.0,
            result=UNSET if found.result is None or found.forgotten else Raw(encode(found.result)),
        )

    def _states(self, found: _Set) -> dict[str, State]:
        return {job_id: self._jobs.state_of_job(found.client, job_id) for job_id in found.jobs}


def described(index: int, name: str, content_type: str, data: bytes) -> OutputInfo:
    """Return what describes an output."""
    return OutputInfo(
        index=index,
        name=name,
        kind=content_type.partition("/")[0],
        content_type=content_type,
        size=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
    )


def part_of(fetch: FetchBytes, info: OutputInfo, data: bytes) -> tuple[Part, bytes]:
    """Return the answer to a `fetch`, which does not say yet whose output it is, and the bytes."""
    count = PART_BYTES if fetch.count is UNSET else min(fetch.count, PART_BYTES)
    piece = data[fetch.offset : fetch.offset + count]
    end = fetch.offset + len(piece)
    part = Part(
        output=fetch.output,
        offset=fetch.offset,
        count=len(piece),
        size=info.size,
        sha256=info.sha256,
        content_type=info.content_type,
        next=UNSET if end >= info.size else end,
        base64=base64.b64encode(piece).decode() if fetch.inline else UNSET,
    )
    return part, piece


def _zipped(gave: Mapping[str, list[tuple[OutputInfo, bytes]]]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for job_id, outputs in gave.items():
            for info, data in outputs:
                archive.writestr(f"{job_id}-{info.name}.{extension_of(info)}", data)
    return file.getvalue()


def _counts(states: Mapping[str, State]) -> Counts:
    found = [*states.values()]
    return Counts(**{name: found.count(name) for name in set(found)})


def _outcome(counts: Counts, total: int) -> Outcome:
    if counts.succeeded == total:
        return "succeeded"
    return "failed" if counts.failed else "cancelled"


def _accepted(found: _Set, *, duplicate: bool) -> SetAccepted:
    return SetAccepted(
        set_id=found.id,
        workflow=found.workflow,
        meta=found.submit.meta,
        state=found.state,
        total=len(found.jobs),
        duplicate=duplicate,
        result=UNSET if found.result is None else Raw(encode(found.result)),
    )
