"""Sets of the bridge in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from msgspec import UNSET, Raw, Struct
from msgspec.structs import replace

from bridge.contract import expansion
from bridge.contract.errors import Conflict, InvalidInput, UnknownJob
from bridge.contract.messages import Outcome, State, Submit, encode, or_none
from bridge.contract.sets import (
    CancelSet,
    Counts,
    ForgetSet,
    ForgetSetReport,
    PauseSet,
    ResumeSet,
    SetAccepted,
    SetJob,
    SetRequest,
    SetResult,
    SetState,
    SetView,
)
from bridge.contract.topics import Topics

MAX_SET = 5_000


class SetJobs(Protocol):
    """The functions on jobs that sets need; a job is named by its client and its id."""

    def submit_job(self, client: str, submit: Submit) -> None:
        """Take a job of a set."""

    def run_job(self, client: str, job_id: str) -> None:
        """Run a job, unless its workflow is held."""

    def cancel_job(self, client: str, job_id: str) -> None:
        """Cancel a job that has not ended."""

    def state_of_job(self, client: str, job_id: str) -> State:
        """Return a job's state."""


class _Set(Struct):
    client: str
    submit: Submit
    jobs: dict[str, dict[str, object]]
    state: SetState = "running"
    result: SetResult | None = None
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
        axes = expansion.axes(submit, totals, lambda _, number: [*range(number)])
        jobs = {}
        for index in range(total):
            inputs: dict[str, object] = {}
            for axis, at in zip(axes, expansion.place(index, [*map(len, axes)]), strict=True):
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
        )
        topic = self._topics.job_set(client, found.id, "result")
        self._publish(topic, encode(found.result))

    def answer(self, client: str, request: SetRequest) -> SetView | ForgetSetReport:
        """Answer a request about a set. Raises BridgeError."""
        found = self._sets.get((client, request.set_id))
        if found is None:
            raise UnknownJob(f"no set {request.set_id!r}", set_id=request.set_id)
        if isinstance(request, ForgetSet):
            if found.result is None:
                raise Conflict("a set that has not ended cannot be forgotten", set_id=found.id)
            forgotten, found.forgotten = not found.forgotten, True
            return ForgetSetReport(set_id=found.id, forgotten=forgotten)
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
