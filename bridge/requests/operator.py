"""The operator's commands: to the ComfyUIs, the queue and the bridge itself.

The broker decides who may send them: all who may publish below `bridge/request/`. A command is
answered when it is accepted, not when it is done: a running job that it waits for may take long.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from itertools import chain, islice
from typing import Protocol, assert_never

from msgspec import UNSET

from bridge.comfyui.errors import ComfyUIError
from bridge.comfyui.instance import Instance
from bridge.comfyui.state import InstanceState
from bridge.contract import operator, requests
from bridge.contract.errors import BadRequest, ComfyUIUnavailable, Forbidden
from bridge.contract.messages import or_none, or_unset
from bridge.contract.operator import (
    CheckHealth,
    ClearQueue,
    ClearReport,
    Command,
    Free,
    GpuReport,
    HealthReport,
    InstancesReport,
    LevelReport,
    LinkReport,
    ListQueue,
    Named,
    OpenPage,
    PauseQueue,
    PauseReport,
    QueueEntry,
    QueueReport,
    ReleaseGpu,
    ReleaseQuarantine,
    ReleaseReport,
    Reload,
    ReloadReport,
    Report,
    RequestGpu,
    Restart,
    Resume,
    ResumeQueue,
    SetLogLevel,
    Start,
    Stop,
    Update,
    Yield,
)
from bridge.contract.retained import ComfyUIState
from bridge.jobs.dispatcher import Dispatcher
from bridge.jobs.job import Job
from bridge.logs import NEVER_LEFT_OUT
from bridge.requests.context import Answer
from bridge.requests.errors import refusal
from bridge.text import without_folders

log = logging.getLogger(__name__)


def comfyui_state(state: InstanceState) -> ComfyUIState:
    """Return a ComfyUI's state as it is published."""
    return ComfyUIState(
        state=state.state,
        since=round(state.since, 3),
        restarts=state.restarts,
        last_error=UNSET if state.last_error is None else without_folders(state.last_error),
        reason=or_unset(state.reason),
        version=or_unset(state.version),
        unguarded=True if state.unguarded else UNSET,
        release=or_unset(state.release),
        yielding=True if state.yielding and state.state in ("ready", "busy") else UNSET,
    )


class GpuLocks(Protocol):
    """The locks of GPUs, which other programs ask for."""

    async def execute(self, command: RequestGpu | ReleaseGpu) -> GpuReport:
        """Request or release a GPU; it is on disk when this returns. Raises BadRequest and Busy."""
        ...


class Updating(Protocol):
    """The releases of the managed ComfyUI."""

    @property
    def instances(self) -> Sequence[Instance]:
        """The ComfyUIs that share the install."""
        ...

    def check(self) -> None:
        """Check for newer releases soon."""
        ...

    def install(self, version: str | None) -> None:
        """Begin to install a release, the newest by default. Raises Conflict."""
        ...


async def refuse(verb: str, payload: bytes, correlation: bytes | None) -> Answer:
    """Refuse a command, as a bridge of a group does that accepts none."""
    error = Forbidden(f"this bridge does not accept {verb}", setting="operator_verbs")
    return Answer(error=error, transaction=requests.transaction_of(payload, correlation))


class Operator:
    """Executes commands. `reload` reads the workflows again, `health` returns the state of all.

    `pause_changed` is called after the queue was paused or resumed. `elsewhere` returns the jobs
    that other bridges of a group have, which `queue/list` shows as well. Without `updates` none are
    looked for. `is_away` is asked of a ComfyUI that is not one of `instances`: whether it is that
    of another bridge, which is gone.
    """

    def __init__(
        self,
        *,
        instances: Sequence[Instance],
        dispatcher: Dispatcher,
        reload: Callable[[], Awaitable[ReloadReport]],
        health: Callable[[], HealthReport],
        gpus: GpuLocks,
        pause_changed: Callable[[], None] = lambda: None,
        elsewhere: Callable[[], Awaitable[list[Job]]] | None = None,
        updates: Updating | None = None,
        is_away: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self._instances = {instance.name: instance for instance in instances}
        self._dispatcher = dispatcher
        self._reload = reload
        self._health = health
        self._gpus = gpus
        self._pause_changed = pause_changed
        self._elsewhere = elsewhere
        self._updates = updates
        self._is_away = is_away

    async def handle(self, verb: str, payload: bytes, correlation: bytes | None) -> Answer:
        """Execute a command; returns its one answer, whatever it is."""
        transaction = requests.transaction_of(payload, correlation)
        try:
            command = operator.decode(verb, payload)
            if not isinstance(command, ListQueue | CheckHealth):
                shown = payload.decode(errors="replace")
                log.info("operator command: %s %s", verb, shown, extra=NEVER_LEFT_OUT)
            return Answer(data=await self._carry_out(command), transaction=transaction)
        except Exception as error:  # noqa: BLE001 - answered, and logged where it is ours
            return refusal(error, transaction, f"the operator's {verb}")

    async def _carry_out(self, command: Command) -> Report:
        match command:
            case Start() | Stop() | Restart() | Free() | Yield() | Resume():
                return await self._execute_at_comfyui(command)
            case OpenPage() | Update():
                return await self._execute_at_one(command)
            case ListQueue() | PauseQueue() | ResumeQueue() | ClearQueue() | ReleaseQuarantine():
                return await self._execute_at_queue(command)
            case Reload():
                return await self._reload()
            case RequestGpu() | ReleaseGpu():
                return await self._gpus.execute(command)
            case CheckHealth() | SetLogLevel():
                return self._execute_at_bridge(command)
            case _:
                assert_never(command)

    def _execute_at_bridge(self, command: CheckHealth | SetLogLevel) -> HealthReport | LevelReport:
        if isinstance(command, CheckHealth):
            return self._health()
        logging.getLogger("bridge").setLevel(command.level.upper())
        return LevelReport(level=command.level)

    # ComfyUI.

    async def _execute_at_comfyui(
        self, command: Start | Stop | Restart | Free | Yield | Resume
    ) -> InstancesReport:
        chosen = self._chosen(command)
        for instance in chosen:
            match command:
                case Start():
                    instance.start()
                case Stop():
                    instance.stop()
                    self._dispatcher.send_back(instance.name)
                case Restart():
                    instance.restart()
                    self._dispatcher.send_back(instance.name)
                case Free():
                    await _free(instance, alone=len(chosen) == 1)
                case Yield(yielded=False):
                    instance.resume()
                case Yield(finish=finish):
                    instance.yield_()
                    if not finish:
                        self._dispatcher.send_back(instance.name)
                case Resume():
                    instance.resume()
                case _:
                    assert_never(command)
        return InstancesReport(instances={each.name: comfyui_state(each.state) for each in chosen})

    async def _execute_at_one(self, command: OpenPage | Update) -> LinkReport | InstancesReport:
        return (
            self._update(command) if isinstance(command, Update) else await self._open_page(command)
        )

    async def _open_page(self, command: OpenPage) -> LinkReport:
        chosen = self._chosen(command)
        if len(chosen) > 1:
            raise BadRequest(
                "there are several ComfyUIs: say which one",
                field="instance",
                allowed=sorted(each.name for each in chosen),
            )
        instance = chosen[0]
        try:
            link = await instance.page_link()
        except ComfyUIError as error:
            raise ComfyUIUnavailable(str(error), instance=instance.name) from None
        return LinkReport(instance=instance.name, url=link.path, lasts_s=or_unset(link.lasts_s))

    def _update(self, command: Update) -> InstancesReport:
        chosen = self._chosen(command)
        there = () if self._updates is None else self._updates.instances
        if self._updates is None or not set(chosen) & set(there):
            raise Forbidden(
                "no updates are looked for: that takes the setting comfyui_updates, and a ComfyUI"
                " that `comfy2mqtt comfyui install` installed",
                instance=or_none(command.instance),
            )
        if command.install:
            self._updates.install(or_none(command.version))
        else:
            self._updates.check()
        return InstancesReport(instances={each.name: comfyui_state(each.state) for each in there})

    def _chosen(self, command: Named) -> list[Instance]:
        """Return the command's ComfyUIs. An attached one is not ours to start, stop or free."""
        if command.instance is UNSET:
            found = list(self._instances.values())
        elif command.instance in self._instances:
            found = [self._instances[command.instance]]
        elif self._is_away(command.instance):
            raise ComfyUIUnavailable(
                f"the bridge of ComfyUI {command.instance!r} is away", instance=command.instance
            )
        else:
            raise BadRequest(
                f"there is no ComfyUI {command.instance!r}",
                field="instance",
                allowed=sorted(self._instances),
            )
        if isinstance(command, Yield | Resume):
            return found
        ours = [instance for instance in found if instance.supervised]
        if ours:
            return ours
        of_one = isinstance(command, OpenPage | Update) or command.instance is not UNSET
        if self._elsewhere is not None and not of_one:
            return []  # all bridges of the group execute it, each at its own
        names = ", ".join(instance.name for instance in found)
        raise Forbidden(
            f"{names} is attached: it runs and holds models for others too",
            instance=or_none(command.instance),
        )

    # The queue.

    async def _execute_at_queue(
        self, command: ListQueue | PauseQueue | ResumeQueue | ClearQueue | ReleaseQuarantine
    ) -> QueueReport | PauseReport | ClearReport | ReleaseReport:
        dispatcher = self._dispatcher
        match command:
            case ListQueue():
                return await self._queue(command)
            case PauseQueue(paused=True):
                await dispatcher.pause()
                self._pause_changed()
                return PauseReport(paused=True)
            case PauseQueue() | ResumeQueue():
                await dispatcher.resume()
                self._pause_changed()
                return PauseReport(paused=False)
            case ClearQueue(client=client):
                return ClearReport(cancelled=await dispatcher.clear(or_none(client)))
            case ReleaseQuarantine():
                return ReleaseReport(released=dispatcher.quarantine.release())

    async def _queue(self, command: ListQueue) -> QueueReport:
        dispatcher = self._dispatcher
        client = or_none(command.client)
        others = [] if self._elsewhere is None else await self._elsewhere()
        # A job that another bridge has just taken may still be in our view: it is listed once.
        taken = {job.key for job in others}
        ours = (job for job in dispatcher.book.unended() if job.key not in taken)
        wanted = (job for job in chain(others, ours) if client in (None, job.key.client))
        jobs = list(islice(wanted, command.limit + 1))
        return QueueReport(
            paused=dispatcher.book.paused,
            queued=dispatcher.book.queued,
            running=dispatcher.book.running + sum(job.state == "running" for job in others),
            jobs=[self._entry(job) for job in jobs[: command.limit]],
            more=len(jobs) > command.limit,
            held=or_unset(dispatcher.book.held),
        )

    def _entry(self, job: Job) -> QueueEntry:
        return QueueEntry(
            client=job.key.client,
            job_id=job.key.job_id,
            workflow=job.workflow,
            state=job.state,
            priority=job.priority,
            attempt=job.attempt,
            accepted_at=round(self._dispatcher.shown(job.accepted_at), 3),
            position=or_unset(self._dispatcher.book.position(job.key)),
            instance=or_unset(job.instance if job.state == "running" else None),
        )


async def _free(instance: Instance, *, alone: bool) -> None:
    try:
        await instance.free()
    except ComfyUIError as error:
        if alone:
            raise ComfyUIUnavailable(str(error), instance=instance.name) from None
        log.warning("ComfyUI %s did not free its memory: %s", instance.name, error)
