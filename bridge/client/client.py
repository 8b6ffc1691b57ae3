"""The client: everything that a program asks of a bridge."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from weakref import WeakValueDictionary

import msgspec
from msgspec import Raw

from bridge.client.inputs import for_wire
from bridge.client.job import Job
from bridge.client.session import Session
from bridge.contract.errors import BadRequest, UnknownWorkflow
from bridge.contract.messages import (
    Accepted,
    Ack,
    AckReport,
    BridgeInfo,
    Cancel,
    CancelReport,
    Definition,
    JobList,
    JobView,
    List,
    Output,
    State,
    Status,
    Submit,
    encode,
    or_unset,
)
from bridge.contract.topics import ID_RULE, Topics, is_id
from bridge.mqtt import Address, Incoming


class Client:
    """A conversation with a bridge under one client name; use as `async with`.

    Entering raises Unreachable or ConnectionRefused when the broker cannot be reached; afterwards
    a lost connection is made again for as long as the client is open. Requests wait for their
    answer as long as it takes, also for a bridge that is away: bound them with `asyncio.timeout`.
    Any number of programs may use one client name at the same time.
    """

    def __init__(
        self,
        url: str | Address,
        client: str,
        *,
        base: str = "comfy2mqtt",
        ca: Path | None = None,
        cert: Path | None = None,
        key: Path | None = None,
    ) -> None:
        """Talk to the bridge at `base` as `client`, by the broker at `url`.

        `url` is `mqtt://user:password@host:port`, or `mqtts://` with the PEM files `ca`, `cert`
        and `key` where needed. Raises BadAddress, and BadRequest for a name that is no id.
        """
        if not is_id(client):
            raise BadRequest(f"a client's name is {ID_RULE}", field="client")
        self.name = client
        self.topics = Topics(base)
        address = url if isinstance(url, Address) else Address.parse(url, ca=ca, cert=cert, key=key)
        self._jobs: WeakValueDictionary[str, Job] = WeakValueDictionary()
        self._session = Session(
            address, self.topics, client, heard=self._heard, missed=self._missed
        )

    async def __aenter__(self) -> Self:
        await self._session.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._session.__aexit__(kind, error, trace)

    # Jobs.

    async def submit(
        self,
        workflow: str,
        inputs: Mapping[str, Any] | None = None,
        /,
        *,
        job_id: str | None = None,
        workflow_version: str | None = None,
        output: Output | None = None,
        priority: int = 0,
        start_within_s: float | None = None,
        timeout_s: float | None = None,
        keep_s: float | None = None,
        meta: Any = None,
        preview: bool = False,
        **more_inputs: Any,
    ) -> Job:
        """Submit a job, again and again until the bridge has it; return it once it is accepted.

        Inputs go by keyword, or, where a name is also an option here, in `inputs`. Bytes, a `Path`
        or `Media` stand for a media input. With the `job_id` of an earlier call the same request
        is not run twice: its job is given back. `meta` is any JSON value, echoed with everything
        about the job. A call that is cancelled may have been heard all the same: who bounds it with
        `asyncio.timeout` gives a `job_id`, to cancel the job or to submit it again.

        Raises what the bridge refuses it for: UnknownWorkflow, InvalidInput, TooLarge, Busy,
        QuotaExceeded, Conflict, ...
        """
        given = await for_wire({**(inputs or {}), **more_inputs})
        request = Submit(
            workflow=workflow,
            workflow_version=or_unset(workflow_version),
            inputs=given,
            job_id=job_id or uuid.uuid4().hex,
            meta=or_unset(None if meta is None else Raw(encode(meta))),
            priority=priority,
            start_within_s=or_unset(start_within_s),
            timeout_s=or_unset(timeout_s),
            keep_s=or_unset(keep_s),
            preview=preview,
            output=output or Output(),
        )
        job = self.job(str(request.job_id))
        job.accepted(await self._session.ask("submit", request, Accepted))
        return job

    def job(self, job_id: str) -> Job:
        """Return a job of this client by its id, to follow it or to collect what it gave.

        Nothing is asked yet: awaiting it raises UnknownJob if there is none.
        """
        if not is_id(job_id):
            raise BadRequest(f"a job's id is {ID_RULE}", field="job_id")
        job = self._jobs.get(job_id)
        if job is None:
            job = self._jobs[job_id] = Job(self._session, job_id)
        return job

    async def cancel(self, job_id: str) -> CancelReport:
        """Ask to end a job. Raises UnknownJob."""
        return await self._session.ask("cancel", Cancel(job_id=job_id), CancelReport)

    async def status(self, job_id: str) -> JobView:
        """Ask where a job stands. Raises UnknownJob."""
        return await self._session.ask("status", Status(job_id=job_id), JobView)

    async def jobs(
        self,
        after: int = 0,
        *,
        states: list[State] | None = None,
        workflow: str | None = None,
        limit: int = 50,
    ) -> JobList:
        """Return a page of this client's jobs whose `n` is above `after`, in that order.

        Asking for what comes after n acks every result up to n. With `more`, ask again after the
        last one's `n`.
        """
        request = List(
            after=after, states=or_unset(states), workflow=or_unset(workflow), limit=limit
        )
        return await self._session.ask("list", request, JobList)

    async def ack(self, up_to: int) -> int:
        """Say that every result up to `n` has arrived; return how many were newly acked.

        Until then the bridge keeps them to be listed again, and lets acked ones go first.
        """
        return (await self._session.ask("ack", Ack(up_to=up_to), AckReport)).acked

    # The bridge.

    @property
    def online(self) -> bool | None:
        """Whether the bridge says that it is there; None: it has said nothing (yet)."""
        return self._session.online

    async def workflows(self) -> dict[str, Definition]:
        """Return the definitions of all workflows by name."""
        found = await self._session.retained([self.topics.workflow("+")])
        definitions = [_definition(message) for message in found if message.payload]
        return {each.name: each for each in sorted(definitions, key=lambda each: each.name)}

    async def workflow(self, name: str) -> Definition:
        """Return the definition of one workflow. Raises UnknownWorkflow."""
        if not is_id(name):
            raise UnknownWorkflow(f"a workflow's name is {ID_RULE}", workflow=name)
        found = await self._session.retained([self.topics.workflow(name)])
        if not found or not found[-1].payload:
            raise UnknownWorkflow(f"there is no workflow {name!r}", workflow=name)
        return _definition(found[-1])

    async def state(self) -> str | None:
        """Return `online` or `offline` as the bridge, or its will, says; None: there was none."""
        found = await self._session.retained([self.topics.state])
        return found[-1].payload.decode() if found else None

    async def info(self) -> BridgeInfo | None:
        """Return who the bridge is, with its limits; None: there was none."""
        found = await self._session.retained([self.topics.info])
        return msgspec.json.decode(found[-1].payload, type=BridgeInfo) if found else None

    def _heard(self, message: Incoming) -> None:
        about = self.topics.job_of(message.topic)
        if about is not None:
            job_id, levels = about
            job = self._jobs.get(job_id)
            if job is not None:
                job.heard(levels, message)

    def _missed(self) -> None:
        for job in list(self._jobs.values()):
            job.missed()


def _definition(message: Incoming) -> Definition:
    return msgspec.json.decode(message.payload, type=Definition)
