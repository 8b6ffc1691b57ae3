"""A bridge in memory, for the tests of programs that use `bridge.client`.

    async def test_my_program():
        bridge = InMemoryBridge()
        bridge.outputs["txt2img"] = [("image/png", png)]
        async with bridge.client("alice") as client:
            job = await client.submit("txt2img", prompt="a lighthouse at dusk")
            assert (await job.outputs())[0].data == png
        assert bridge.submitted[0].inputs == {"prompt": "a lighthouse at dusk"}

It needs no broker, no ComfyUI and no network, and speaks the contract as the real one does, but for
what a program's test does not need: inputs are not checked against a workflow, nothing is kept on
disk, and time does not pass. Use it within one event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

from msgspec import UNSET, Raw, Struct, UnsetType
from msgspec.structs import replace

from bridge import __version__
from bridge.client.client import Client
from bridge.client.testing_sets import InMemorySets, described, part_of
from bridge.contract import requests
from bridge.contract.errors import (
    BridgeError,
    Conflict,
    Forbidden,
    InvalidInput,
    UnknownJob,
    UnknownWorkflow,
)
from bridge.contract.messages import (
    CONTRACT_VERSION,
    Accepted,
    Ack,
    AckReport,
    Cancel,
    CancelReport,
    DryRun,
    Fetch,
    Forget,
    ForgetReport,
    JobList,
    JobStatus,
    JobView,
    Keep,
    KeepReport,
    List,
    Outcome,
    OutputInfo,
    Part,
    Recipe,
    RecipeReport,
    Result,
    State,
    Status,
    Submit,
    Timings,
    Transaction,
    UploadReport,
    Workflows,
    encode,
    ok,
    or_unset,
    refused,
)
from bridge.contract.retained import BridgeInfo, Definition, Limits
from bridge.contract.retained_pages import RetainedMessage, page
from bridge.contract.sets import SetAccepted, SetRequest
from bridge.contract.topics import RUN, UPLOAD, RequestTopic, Topics, matches
from bridge.mqtt import Address, Incoming, Messages, PublishProperties, Subscription, Version
from bridge.mqtt.outbox import PubAck

PAGE_BYTES = 256 * 1024

_LIMITS = Limits(
    max_inline_input=16 * 1024 * 1024,
    max_upload=256 * 1024 * 1024,
    max_queue=10_000,
    max_queue_per_client=1_000,
    keep_results_s=7 * 86_400.0,
    keep_outputs_s=86_400.0,
    remember_ids_s=30 * 86_400.0,
)

_AboutOne: TypeAlias = Fetch | Cancel | Status | Keep | Forget | Recipe


class _Job(Struct):
    client: str
    submit: Submit
    n: int = 0
    state: State = "queued"
    acked: bool = False
    forgotten: bool = False
    outputs: list[tuple[OutputInfo, bytes]] = []
    result: Result | None = None

    @property
    def id(self) -> str:
        return str(self.submit.job_id)

    @property
    def workflow(self) -> str:
        return str(or_unset(self.submit.workflow) or "inline")


class InMemoryBridge:
    """Answers the clients that it makes, and carries out what they submit.

    `outputs` are a workflow's outputs, as pairs of content type and bytes; `failures` how its jobs
    fail. The jobs of a workflow in `held` wait until `finish`. With `workflows`, definitions by
    name, others are unknown; nobody may run those in `forbidden`. `refusals` are what the next
    submissions are refused with, in turn. Without `retains` it is as on a broker that retains
    nothing. `submitted` is every job that was accepted. After
    `go_offline` what is asked waits until `go_online`, but for what expires.
    """

    def __init__(self, *, base: str = "comfy2mqtt") -> None:
        self.topics = Topics(base)
        self.outputs: dict[str, Sequence[tuple[str, bytes]]] = {}
        self.failures: dict[str, BridgeError] = {}
        self.held: set[str] = set()
        self.forbidden: set[str] = set()
        self.workflows: dict[str, Definition] = {}
        self.refusals: list[BridgeError] = []
        self.retains = True
        self.submitted: list[Submit] = []
        self.uploads: dict[tuple[str, str], bytes] = {}
        self._begun: dict[tuple[str, str], tuple[int, bytearray]] = {}
        self._jobs: dict[tuple[str, str], _Job] = {}
        self._numbers: dict[str, int] = {}
        self._connections: list[_MemoryConnection] = []
        self.info = BridgeInfo(
            name="in memory",
            version=__version__,
            contract=CONTRACT_VERSION,
            limits=_LIMITS,
            features=sorted([*requests.VERBS, RUN, UPLOAD]),
            isolation="unknown",
        )
        self._online = True
        self._waiting: list[tuple[str, bytes, PublishProperties]] = []
        self._sets = InMemorySets(self.topics, self, number=self._number, publish=self._publish)

    def client(self, name: str, **options: Any) -> Client:
        """Return a client of this bridge, to be opened; options are those of `Client`."""
        address = Address.parse("mqtt://in-memory")
        return Client(address, name, base=self.topics.base, connect=self.connect, **options)

    @asynccontextmanager
    async def connect(self, _client_id: str) -> AsyncIterator[_MemoryConnection]:
        """Open a connection, as `Client` does by itself."""
        connection = _MemoryConnection(self)
        self._connections.append(connection)
        try:
            yield connection
        finally:
            self._connections.remove(connection)

    def finish(self, client: str, job_id: str) -> None:
        """Run a held job now."""
        self._run(self._job(client, job_id))

    def go_offline(self) -> None:
        """Answer nothing, and say so, as a bridge that has stopped, by its will."""
        self._online = False
        self._publish(self.topics.state, b"offline")

    def go_online(self) -> None:
        """Answer again, first what was asked meanwhile and has not expired."""
        self._online = True
        self._publish(self.topics.state, b"online")
        waiting, self._waiting = self._waiting, []
        for topic, payload, properties in waiting:
            self.receive(topic, payload, properties)

    # What connections call.

    def retained(self, pattern: str) -> list[tuple[str, bytes]]:
        """Return the retained messages at topics that match a filter."""
        if not self.retains:
            return []
        found = {self.topics.workflow(name): encode(each) for name, each in self.workflows.items()}
        found[self.topics.info] = encode(self.info)
        found[self.topics.state] = b"online" if self._online else b"offline"
        return [(topic, data) for topic, data in found.items() if matches(pattern, topic)]

    def _described(self) -> dict[str, RetainedMessage]:
        found: dict[str, RetainedMessage] = {"bridge/info": self.info}
        for name, definition in self.workflows.items():
            found[f"workflow/{name}"] = definition
        return found

    def receive(self, topic: str, payload: bytes, properties: PublishProperties) -> None:
        """Carry out a request and answer it."""
        request = self.topics.parse_request(topic)
        if request is None:
            return
        if not self._online:
            if properties.message_expiry is None:
                self._waiting.append((topic, payload, properties))
            return
        correlation = properties.correlation_data
        transaction: Transaction | UnsetType = requests.correlated(correlation)
        try:
            if request.verb != UPLOAD or request.offset is None:
                transaction = requests.transaction_of(payload, correlation)
            answer = ok(self._answer(request, payload), transaction)
        except BridgeError as error:
            answer = refused(error.wire(), transaction)
        self._publish(self.topics.response(request.client, request.verb), encode(answer))
        if isinstance(answer.data, Accepted):
            self.run_job(request.client, answer.data.job_id)
        elif isinstance(answer.data, SetAccepted):
            self._sets.run(request.client, answer.data.set_id)

    def _answer(self, request: RequestTopic, payload: bytes) -> Any:
        if request.verb == UPLOAD:
            return self._upload(request, payload)
        client = request.client
        body = requests.decode(request.verb, payload)
        match body:
            case Submit():
                return self._asked_for(client, body)
            case List() | Ack() | Workflows():
                return self._report(client, body)
        if isinstance(body, SetRequest):
            return self._sets.answer(client, body)
        return self._about(self._job(client, body.job_id), body)

    def _report(self, client: str, body: List | Ack | Workflows) -> Any:
        """Answer a request about no job in particular."""
        match body:
            case List():
                return self._list(client, body)
            case Ack(up_to=up_to):
                return AckReport(acked=self._ack(client, up_to))
            case Workflows():
                return page(self._described(), body, PAGE_BYTES)

    def _about(self, job: _Job, body: _AboutOne) -> Any:
        """Answer a request about one job."""
        report: Any
        match body:
            case Fetch():
                report = self._fetch(job, body)
            case Cancel():
                report = self._cancel(job)
            case Status():
                report = _view(job)
            case Keep(keep_s=keep_s):
                kept = len(_ended(job).outputs)
                report = KeepReport(job_id=job.id, outputs=kept, keep_until=keep_s)
            case Forget():
                report = ForgetReport(job_id=job.id, forgotten=not _ended(job).forgotten)
                job.forgotten, job.outputs = True, []
            case Recipe():
                report = RecipeReport(
                    job_id=job.id,
                    workflow=job.workflow,
                    workflow_version="1",
                    prompt={},
                    inputs=job.submit.inputs,
                )
        return report

    # What sets call.

    def submit_job(self, client: str, submit: Submit) -> None:
        """Take a job of a set."""
        job = _Job(client, submit, n=self._number(client))
        self._jobs[client, job.id] = job
        self.submitted.append(submit)

    def run_job(self, client: str, job_id: str) -> None:
        """Run a job that has not ended, unless its workflow is held."""
        job = self._jobs.get((client, job_id))
        if job is not None and job.result is None and job.workflow not in self.held:
            self._run(job)

    def cancel_job(self, client: str, job_id: str) -> None:
        """Cancel a job that has not ended."""
        self._cancel(self._job(client, job_id))

    def outputs_of_job(self, client: str, job_id: str) -> list[tuple[OutputInfo, bytes]]:
        """Return what a job gave."""
        return self._job(client, job_id).outputs

    def state_of_job(self, client: str, job_id: str) -> State:
        """Return a job's state."""
        return self._job(client, job_id).state

    # Jobs.

    def _asked_for(self, client: str, submit: Submit) -> Accepted | SetAccepted | DryRun:
        if submit.is_set:
            return self._submit_set(client, submit)
        if not submit.dry_run:
            return self._submit(client, submit)
        self._check(submit)
        return DryRun(
            workflow=str(submit.workflow),
            workflow_version="1",
            prompt={},
            inputs=submit.inputs,
            instances=[],
            position=0,
        )

    def _submit_set(self, client: str, submit: Submit) -> SetAccepted:
        self._check(submit)
        return self._sets.submit(client, submit)

    def _submit(self, client: str, submit: Submit) -> Accepted:
        known = self._jobs.get((client, str(submit.job_id)))
        if known is not None:
            if known.submit.inputs != submit.inputs or known.submit.workflow != submit.workflow:
                raise Conflict(f"job {known.id!r} exists", job_id=known.id, state=known.state)
            return _accepted(known, duplicate=True)
        self._check(submit)
        self.submit_job(client, submit)
        return _accepted(self._jobs[client, str(submit.job_id)], duplicate=False)

    def _check(self, submit: Submit) -> None:
        if self.refusals:
            raise self.refusals.pop(0)
        if submit.workflow in self.forbidden:
            raise Forbidden(f"this client may not run {submit.workflow!r}")
        if self.workflows and submit.workflow not in self.workflows:
            name = str(submit.workflow)
            raise UnknownWorkflow(f"there is no workflow {name!r}", workflow=name)

    def _run(self, job: _Job) -> None:
        self._status(job, "running")
        failure = self.failures.get(job.workflow)
        if failure is not None:
            self._end(job, "failed", failure)
            return
        for index, (content_type, data) in enumerate(self.outputs.get(job.workflow, ())):
            info = described(index, f"output{index}", content_type, data)
            job.outputs.append((info, data))
            if job.submit.output.deliver in ("push", "push_qos1"):
                facts = [(name, str(getattr(info, name))) for name in ("name", "size", "sha256")]
                topic = self.topics.job(job.client, job.id, "output", str(index))
                self._publish(topic, data, content_type=content_type, user_properties=facts)
        self._end(job, "succeeded")

    def _status(self, job: _Job, state: State) -> None:
        job.state, job.n = state, self._number(job.client)
        status = JobStatus(
            job_id=job.id,
            workflow=job.workflow,
            set_id=job.submit.set_id,
            n=job.n,
            state=state,
            attempt=1,
        )
        self._publish(self.topics.job(job.client, job.id, "status"), encode(status))

    def _end(self, job: _Job, state: Outcome, error: BridgeError | None = None) -> None:
        job.state, job.n = state, self._number(job.client)
        job.result = Result(
            job_id=job.id,
            workflow=job.workflow,
            set_id=job.submit.set_id,
            meta=job.submit.meta,
            n=job.n,
            state=state,
            outputs=[info for info, _ in job.outputs],
            error=UNSET if error is None else error.wire(),
            inputs=job.submit.inputs,
            workflow_version="1",
            timings=Timings(queued_s=0.0, load_s=0.0, run_s=0.0, deliver_s=0.0),
            attempts=1,
        )
        self._publish(self.topics.job(job.client, job.id, "result"), encode(job.result))
        self._sets.job_ended(job.client, job.id)

    def _cancel(self, job: _Job) -> CancelReport:
        if job.result is None:
            self._end(job, "cancelled")
        return CancelReport(job_id=job.id, state=job.state, cancelling=False)

    def _list(self, client: str, wanted: List) -> JobList:
        if wanted.after and not wanted.peek:
            self._ack(client, wanted.after)
        found = sorted(
            (
                job
                for job in self._jobs.values()
                if job.client == client
                and job.n > wanted.after
                and (wanted.states is UNSET or job.state in wanted.states)
                and wanted.workflow in (UNSET, job.workflow)
            ),
            key=lambda job: job.n,
        )
        views = [_view(job) for job in found[: wanted.limit]]
        return JobList(jobs=views, more=len(found) > wanted.limit)

    def _ack(self, client: str, up_to: int) -> int:
        new = [
            job
            for job in self._jobs.values()
            if job.client == client and job.result and job.n <= up_to and not job.acked
        ]
        for job in new:
            job.acked = True
        return len(new)

    def _fetch(self, job: _Job, fetch: Fetch) -> Part:
        if fetch.output >= len(job.outputs):
            raise UnknownJob(f"no output {fetch.output} of job {job.id!r} is kept", job_id=job.id)
        part, piece = part_of(fetch, *job.outputs[fetch.output])
        if not fetch.inline:
            where = ("part", str(fetch.output), str(fetch.offset))
            self._publish(self.topics.job(job.client, job.id, *where), piece)
        return replace(part, job_id=job.id)

    def _upload(self, request: RequestTopic, payload: bytes) -> UploadReport:
        upload = request.upload or ""
        key = (request.client, upload)
        if not request.fin and request.offset is None:
            begin = requests.decode_begin_upload(payload)
            if begin is None:
                self.uploads[key] = payload
            elif key not in self.uploads:
                self._begun.setdefault(key, (begin.size, bytearray()))
        elif key not in self.uploads:
            if key not in self._begun:
                raise InvalidInput(f"the upload {upload!r} was not begun", field="upload")
            size, data = self._begun[key]
            if request.offset == len(data):
                data += payload
            if request.fin:
                self.uploads[key] = bytes(data)
        if key in self.uploads:
            size = len(self.uploads[key])
            return UploadReport(upload=upload, held=size, size=size, complete=True)
        size, data = self._begun[key]
        return UploadReport(upload=upload, held=len(data), size=size)

    def _job(self, client: str, job_id: str) -> _Job:
        job = self._jobs.get((client, job_id))
        if job is None:
            raise UnknownJob(f"there is no job {job_id!r}", job_id=job_id)
        return job

    def _number(self, client: str) -> int:
        self._numbers[client] = self._numbers.get(client, 0) + 1
        return self._numbers[client]

    def _publish(self, topic: str, payload: bytes, **properties: Any) -> None:
        for connection in self._connections:
            connection.deliver(topic, payload, retain=False, **properties)


class _MemoryConnection:
    """A connection as a session needs one; see `bridge.client.session.SessionConnection`."""

    packet_limit: int | None = None
    version: Version = "5"

    def __init__(self, bridge: InMemoryBridge) -> None:
        self.messages = Messages()
        self._bridge = bridge
        self.retains = bridge.retains
        self._filters: list[str] = []

    async def subscribe(self, subscriptions: Sequence[Subscription], /) -> None:
        for each in subscriptions:
            self._filters.append(each.filter)
            for topic, payload in self._bridge.retained(each.filter):
                self.deliver(topic, payload, retain=True)

    def publish(
        self, topic: str, payload: bytes, *, properties: PublishProperties
    ) -> asyncio.Future[PubAck]:
        loop = asyncio.get_running_loop()
        sent: asyncio.Future[PubAck] = loop.create_future()
        sent.set_result(PubAck())
        # Not before the caller is at rest: as the network has it.
        loop.call_soon(self._bridge.receive, topic, payload, properties)
        return sent

    def deliver(self, topic: str, payload: bytes, *, retain: bool, **properties: Any) -> None:
        if any(matches(each, topic) for each in self._filters):
            message = Incoming(
                topic=topic, payload=payload, qos=1, retain=retain, dup=False, mid=1, **properties
            )
            self.messages.put(message, len(payload))


def _ended(job: _Job) -> _Job:
    if job.result is None:
        raise Conflict("the job has not ended", job_id=job.id, state=job.state)
    return job


def _accepted(job: _Job, *, duplicate: bool) -> Accepted:
    return Accepted(
        job_id=job.id,
        workflow=job.workflow,
        set_id=job.submit.set_id,
        meta=job.submit.meta,
        state=job.state,
        duplicate=duplicate,
        result=_raw(job),
    )


def _view(job: _Job) -> JobView:
    return JobView(
        job_id=job.id,
        workflow=job.workflow,
        set_id=job.submit.set_id,
        meta=job.submit.meta,
        n=job.n,
        state=job.state,
        attempt=1,
        accepted_at=0.0,
        acked=job.acked,
        result=_raw(job),
    )


def _raw(job: _Job) -> Raw | UnsetType:
    return UNSET if job.result is None or job.forgotten else Raw(encode(job.result))
