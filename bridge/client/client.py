"""The client: everything that a program asks of a bridge."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from weakref import WeakValueDictionary

from msgspec import UNSET, Raw

from bridge.client import described
from bridge.client.inputs import (
    Media,
    each_for_wire,
    for_wire,
    grid_for_wire,
    inline_bytes,
    media_of,
    puts_of,
    upload,
)
from bridge.client.job import Job
from bridge.client.jobset import Set
from bridge.client.outbox import Posting, RequestOutbox
from bridge.client.session import Connect, Session, connect_to
from bridge.contract.errors import BadRequest, InvalidInput
from bridge.contract.expansion import of_job_id
from bridge.contract.messages import (
    Accepted,
    Ack,
    AckReport,
    Cancel,
    CancelReport,
    Collect,
    DryRun,
    Forget,
    ForgetReport,
    JobList,
    JobView,
    Keep,
    KeepReport,
    List,
    Output,
    Recipe,
    RecipeReport,
    State,
    Status,
    Submit,
    UploadReport,
    encode,
    or_unset,
)
from bridge.contract.retained import BridgeInfo, Definition
from bridge.contract.sets import SetAccepted
from bridge.contract.sinks import Put, Webhook
from bridge.contract.topics import ID_RULE, Topics, is_id
from bridge.mqtt import Address, Incoming

# A request that expires at the broker is not to limit how long its job waits: the most there is.
_LONGEST_WAIT_S = 31_536_000.0


class Client:
    """A conversation with a bridge under one client name; use as `async with`.

    Entering raises Unreachable or ConnectionRefused when the broker cannot be reached (with an
    outbox one that is away is tried again, too); afterwards a lost connection is made again for as
    long as the client is open. Requests wait for their answer as long as it takes, also for a
    bridge that is away: bound them with `asyncio.timeout`. Any number of programs may use one
    client name at the same time.

    With `outbox`, a file, what is submitted is on disk before it is sent. What the bridge had not
    accepted when the program ended is sent again when the next one opens the same file.
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
        outbox: Path | None = None,
        connect: Connect | None = None,
    ) -> None:
        """Talk to the bridge at `base` as `client`, by the broker at `url`.

        `url` is `mqtt://user:password@host:port`, `ws://host:port/path` for a WebSocket, or `mqtts://`
        and `wss://` with the PEM files `ca`, `cert` and `key` where needed. `connect` replaces the
        connection to it, for tests: see `bridge.client.testing`. Raises BadAddress, and BadRequest
        for a name that is no id.
        """
        if not is_id(client):
            raise BadRequest(f"a client's name is {ID_RULE}", field="client")
        self.name = client
        self.topics = Topics(base)
        address = url if isinstance(url, Address) else Address.parse(url, ca=ca, cert=cert, key=key)
        self._uploading = asyncio.Lock()
        self._jobs: WeakValueDictionary[str, Job] = WeakValueDictionary()
        self._sets: WeakValueDictionary[str, Set] = WeakValueDictionary()
        self._session = Session(
            connect or connect_to(address),
            self.topics,
            client,
            on_message=self._on_message,
            on_gap=self._on_gap,
            retries=outbox is not None,
        )
        self._posting: Posting | None = None
        if outbox is not None:
            kept = RequestOutbox(outbox, f"{base}/{client}")
            self._posting = Posting(kept, self._session, self.job)

    async def __aenter__(self) -> Self:
        try:
            if self._posting is not None:
                await self._posting.open()
            await self._session.__aenter__()
        except BaseException:
            await self._close_outbox()
            raise
        if self._posting is not None:
            self._posting.resume()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._posting is not None:
            await self._posting.stop()
        try:
            await self._session.__aexit__(kind, error, trace)
        finally:
            await self._close_outbox()

    async def _close_outbox(self) -> None:
        if self._posting is not None:
            await self._posting.close()

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
        replace: str | None = None,
        ordered: bool = False,
        show: str | None = None,
        put: Sequence[Put | str] = (),
        webhook: str | None = None,
        wait: bool = True,
        within_s: float | None = None,
        **more_inputs: Any,
    ) -> Job:
        """Submit a job, again and again until the bridge has it; return it once it is accepted.

        Inputs are keywords, or entries of `inputs` if their name is also an option here. A media
        input is bytes, a `Path`, `Media`, an open file, or an image of Pillow's; a large one is
        uploaded first. With `wait` false, which needs an outbox, it returns as soon as the request
        is on disk: a bridge that is offline, or busy, gets it later, and a refusal is raised
        where the job is awaited. With the `job_id` of an earlier call the same request
        is not run twice: its job is given back. `meta` is any JSON value, echoed with everything
        about the job. A call that is cancelled may have reached the bridge: who bounds it with
        `asyncio.timeout` gives a `job_id`, to cancel the job or to submit it again. `within_s`
        raises TimeoutError where the bridge has not answered by then, and has a broker with MQTT 5
        drop the request, so that a bridge that comes back later does not run it; a job that was
        accepted may wait for longer. Outputs are delivered to each of `put`, a URL or a `Put`, and
        the result is sent to `webhook`.

        Raises what the bridge refuses it for: UnknownWorkflow, InvalidInput, TooLarge, Busy,
        QuotaExceeded, Conflict, ...
        """
        if not (wait or self._posting):
            raise ValueError("wait=False needs an outbox")
        if self._posting and within_s is not None:
            raise ValueError("within_s is for a client without an outbox, which sends it anyway")
        if within_s is not None and start_within_s is None:
            start_within_s = _LONGEST_WAIT_S
        given = await for_wire({**(inputs or {}), **more_inputs}, self._upload, self._inline())
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
            replace=or_unset(replace),
            ordered=ordered,
            show=or_unset(show),
            put=puts_of(put) or UNSET,
            webhook=or_unset(None if webhook is None else Webhook(url=webhook)),
            output=output or Output(),
        )
        job = self.job(str(request.job_id))
        if self._posting is None:
            accepted = await self._session.ask("submit", request, Accepted, within_s=within_s)
            job.accepted(accepted)
            return job
        await self._posting.keep(request, job.id)
        if wait:
            job.accepted(await self._posting.settled(request, job.id))
        else:
            self._posting.post(request, job.id)
        return job

    async def dry_run(
        self, workflow: str, inputs: Mapping[str, Any] | None = None, /, **more_inputs: Any
    ) -> DryRun:
        """Return what `submit` would run, without running or keeping anything.

        Raises what it would be refused for: Forbidden, UnknownWorkflow, InvalidInput, ...
        """
        given = await for_wire({**(inputs or {}), **more_inputs}, self._upload, self._inline())
        request = Submit(workflow=workflow, inputs=given, dry_run=True)
        return await self._session.ask("submit", request, DryRun)

    async def submit_set(
        self,
        workflow: str,
        inputs: Mapping[str, Any] | None = None,
        /,
        *,
        each: Sequence[Mapping[str, Any]] | None = None,
        grid: Mapping[str, Any] | None = None,
        repeat: int | None = None,
        collect: Sequence[Collect] = (),
        set_id: str | None = None,
        workflow_version: str | None = None,
        output: Output | None = None,
        priority: int = 0,
        start_within_s: float | None = None,
        timeout_s: float | None = None,
        keep_s: float | None = None,
        meta: Any = None,
        preview: bool = False,
        ordered: bool = False,
        show: str | None = None,
        put: Sequence[Put | str] = (),
        webhook: str | None = None,
        **more_inputs: Any,
    ) -> Set:
        """Submit a set of jobs by one request; return it once it is accepted, as a whole.

        One of `each`, a list of inputs for one job each; `grid`, values by input, for a job of
        every combination; `repeat`, so many jobs that differ in their seed. A value of `grid` is a
        list, or a dictionary: `{"from", "to", "step"}`, `{"seeds": n}`, or `{"set": id}` for the
        outputs of another set. `collect` names what the set makes of its jobs' outputs: `sheet`,
        `animation`, `zip`; `Set.outputs` has it. The rest is as in `submit`; `set_id` is for a set
        what `job_id` is for a job. Raises what the bridge refuses it for: InvalidInput names the
        first input of any job that cannot be, TooLarge and QuotaExceeded the number of jobs that
        may be.
        """
        inline = self._inline()
        request = Submit(
            workflow=workflow,
            workflow_version=or_unset(workflow_version),
            inputs=await for_wire({**(inputs or {}), **more_inputs}, self._upload, inline),
            each=or_unset(
                None if each is None else await each_for_wire(each, self._upload, inline)
            ),
            grid=or_unset(
                None if grid is None else await grid_for_wire(grid, self._upload, inline)
            ),
            repeat=or_unset(repeat),
            collect=list(collect) or UNSET,
            set_id=set_id or uuid.uuid4().hex,
            meta=or_unset(None if meta is None else Raw(encode(meta))),
            priority=priority,
            start_within_s=or_unset(start_within_s),
            timeout_s=or_unset(timeout_s),
            keep_s=or_unset(keep_s),
            preview=preview,
            ordered=ordered,
            show=or_unset(show),
            put=puts_of(put) or UNSET,
            webhook=or_unset(None if webhook is None else Webhook(url=webhook)),
            output=output or Output(),
        )
        if not request.is_set:
            raise ValueError("a set takes one of each, grid and repeat")
        found = self.job_set(str(request.set_id))
        await self._session.listen(self.topics.sets(self.name))
        found.accepted(await self._session.ask("submit", request, SetAccepted))
        return found

    def job_set(self, set_id: str) -> Set:
        """Return a set of this client by its id, to follow it or to collect what it gave.

        Nothing is asked yet: awaiting it raises UnknownJob if there is none. It gets what
        happens once something of it was awaited, or submitted, by this client.
        """
        if not is_id(set_id):
            raise BadRequest(f"a set's id is {ID_RULE}", field="set_id")
        found = self._sets.get(set_id)
        if found is None:
            found = self._sets[set_id] = Set(
                self._session, set_id, self.topics.sets(self.name), self.job
            )
        return found

    async def upload(self, source: Any, name: str | None = None) -> dict[str, str]:
        """Upload bytes, once for many jobs; returns what to give as a media input.

        `source` is anything that an input may be given as. An upload that was cut short continues
        where it stopped, also in another program: by default its name is its SHA-256. Raises
        InvalidInput for what is no media, TooLarge, QuotaExceeded, OSError.
        """
        media = await media_of(source)
        if media is None:
            raise InvalidInput(f"{type(source).__name__} is nothing to upload")
        return await self._upload(media, name)

    def _inline(self) -> int:
        return inline_bytes(self._session.room("submit"))

    async def _upload(self, media: Media, name: str | None = None) -> dict[str, str]:
        async with self._uploading:
            report: UploadReport = await upload(self._session, media, name)
        return {"upload": report.upload}

    async def flush(self) -> None:
        """Wait until the bridge has said yes or no to all that lies in the outbox."""
        if self._posting is not None:
            await self._posting.flush()

    @property
    def posting(self) -> list[str]:
        """The ids of jobs that are on their way from the outbox to the bridge."""
        return [] if self._posting is None else self._posting.job_ids

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
        """Request the end of a job. Raises UnknownJob."""
        return await self._session.ask("cancel", Cancel(job_id=job_id), CancelReport)

    async def status(self, job_id: str) -> JobView:
        """Return where a job stands. Raises UnknownJob."""
        return await self._session.ask("status", Status(job_id=job_id), JobView)

    async def recipe(self, job_id: str) -> RecipeReport:
        """Return the prompt that a job ran, and its inputs as resolved. Raises UnknownJob."""
        return await self._session.ask("recipe", Recipe(job_id=job_id), RecipeReport)

    async def keep(self, job_id: str, keep_s: float) -> KeepReport:
        """Keep a job's outputs for so many seconds from now. Raises UnknownJob."""
        return await self._session.ask("keep", Keep(job_id=job_id, keep_s=keep_s), KeepReport)

    async def forget(self, job_id: str) -> ForgetReport:
        """Delete a job's result, outputs and recipe now. Raises UnknownJob."""
        return await self._session.ask("forget", Forget(job_id=job_id), ForgetReport)

    async def jobs(
        self,
        after: int = 0,
        *,
        states: list[State] | None = None,
        workflow: str | None = None,
        set_id: str | None = None,
        limit: int = 50,
        peek: bool = False,
    ) -> JobList:
        """Return a page of this client's jobs whose `n` is above `after`, in that order.

        Asking for what comes after n acks every result up to n, unless it only is to `peek`; that
        of the jobs of a set acks nothing. With `more`, ask again after the last one's `n`.
        """
        request = List(
            after=after,
            peek=peek,
            states=or_unset(states),
            workflow=or_unset(workflow),
            set_id=or_unset(set_id),
            limit=limit,
        )
        return await self._session.ask("list", request, JobList)

    async def ack(self, up_to: int) -> int:
        """Acknowledge every result up to `n`; return how many were newly acked.

        Until then the bridge keeps them to be listed again, and lets acked ones go first.
        """
        return (await self._session.ask("ack", Ack(up_to=up_to), AckReport)).acked

    # The bridge.

    @property
    def online(self) -> bool | None:
        """True if the bridge says that it is there; None: it has said nothing (yet)."""
        return self._session.online

    @property
    def contract(self) -> int | None:
        """The version of the contract that the bridge speaks; None: it has not said (yet).

        Another one than ours is logged as a warning.
        """
        return self._session.contract

    async def until_online(self) -> None:
        """Wait until the bridge says that it is there."""
        await self._session.until_online()

    async def workflows(self) -> dict[str, Definition]:
        """Return the definitions of all workflows by name."""
        return await described.workflows(self._session, self.topics)

    async def workflow(self, name: str) -> Definition:
        """Return the definition of one workflow. Raises UnknownWorkflow."""
        return await described.workflow(self._session, self.topics, name)

    async def state(self) -> str | None:
        """Return `online` or `offline` as the bridge, or its will, says; None: there was none."""
        return await described.state(self._session, self.topics)

    async def info(self) -> BridgeInfo | None:
        """Return the bridge's description, with its limits; None: there was none."""
        return await described.info(self._session, self.topics)

    def _on_message(self, message: Incoming) -> None:
        about = self.topics.job_of(message.topic)
        if about is not None:
            job_id, levels = about
            of_set = self._set_of(job_id)
            if of_set is not None:
                of_set.hold(job_id)
            job = self._jobs.get(job_id)
            if job is not None:
                job.on_message(levels, message)
            if of_set is not None and levels == ("result",):
                of_set.job_ended(job_id)
            return
        named = self.topics.set_of(message.topic)
        if named is not None and named[0] in self._sets:
            self._sets[named[0]].on_message(named[1], message)

    def _set_of(self, job_id: str) -> Set | None:
        named = of_job_id(job_id)
        return None if named is None else self._sets.get(named[0])

    def _on_gap(self) -> None:
        for job in list(self._jobs.values()):
            job.on_gap()
        for each in list(self._sets.values()):
            each.on_gap()
