"""The bridge as a whole: makes the parts, connects them, and runs their tasks in one group.

A task that fails stops the bridge: a bridge that works by half would be worse than one that is
started again.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec import UNSET

from bridge import __version__, tracing
from bridge.comfyui import install
from bridge.comfyui.errors import ComfyUIError
from bridge.comfyui.instance import Instance
from bridge.comfyui.settings import AttachConfig, Care, SuperviseConfig
from bridge.comfyui.state import InstanceState
from bridge.config import ComfyUI, Config
from bridge.contract.errors import DependencyFailed
from bridge.contract.messages import (
    CONTRACT_VERSION,
    BridgeEvent,
    BridgeHealth,
    BridgeInfo,
    Isolation,
    Limits,
    Usage,
    or_unset,
)
from bridge.contract.operator import BridgeLog, HealthReport, ReloadReport
from bridge.contract.requests import VERBS
from bridge.contract.sources import Url
from bridge.contract.topics import RUN, UPLOAD, HomeAssistantTopics, Topics
from bridge.doors.addresses import Addresses
from bridge.doors.desk import Desk
from bridge.doors.displays import Displays
from bridge.doors.homeassistant.door import HomeAssistant
from bridge.doors.homeassistant.drawing import Bridge as AnnouncedBridge
from bridge.doors.homeassistant.inputs import Inputs
from bridge.doors.intake import Intake, Rules
from bridge.doors.media import MediaDesk
from bridge.doors.mqtt import logtopic
from bridge.doors.mqtt.addresses import of_bridge, of_probe
from bridge.doors.mqtt.door import Door, Settings
from bridge.doors.mqtt.gallery import Gallery
from bridge.doors.mqtt.isolation import Probe
from bridge.doors.mqtt.latest import Latest
from bridge.doors.mqtt.member import Member
from bridge.doors.mqtt.orders import Orders, Part, part_of
from bridge.doors.mqtt.outgoing import Outgoing
from bridge.doors.mqtt.retained import Retained
from bridge.doors.mqtt.side import Side
from bridge.doors.operator import Operator, comfyui_state
from bridge.doors.rates import Rates
from bridge.doors.rights import EVERYBODY, Rights, setting
from bridge.doors.triggers.door import Triggers
from bridge.jobs.counters import Counters
from bridge.jobs.database import DatabaseError, Fenced
from bridge.jobs.dispatcher import Dispatcher
from bridge.jobs.dispatcher import Limits as JobLimits
from bridge.jobs.group import Group
from bridge.jobs.journal import Journal
from bridge.jobs.listener import Listeners
from bridge.jobs.outcome import Outcomes
from bridge.jobs.uploads import UploadRules, Uploads
from bridge.jobs.waiting import Suppliers, Waiting
from bridge.media.download import DownloadRules, download
from bridge.media.files import Files, Folder
from bridge.media.transcode import Transcoder
from bridge.mqtt import Address, Connection
from bridge.workflows.library import Broken, Changes, Library
from bridge.workflows.nodes import NodeRules
from bridge.workflows.objectinfo import ObjectInfoError

if TYPE_CHECKING:
    from bridge.doors.websocket.door import WebSocketDoor

if TYPE_CHECKING:
    from bridge.doors.metrics import MetricsDoor

log = logging.getLogger(__name__)

HEALTH_INTERVAL_S = 30.0
# Of how many clients health tells what they had.
CLIENTS_TOLD = 20
SWEEP_INTERVAL_S = 60.0
ANEW_S = 1.0
# A file is on disk before the row that needs it, but never by as much.
SWEEP_AGE_S = 3600.0
# Telling what it has costs ComfyUI up to seconds: not for every request that names a typo.
REFRESH_INTERVAL_S = 5.0
# A ComfyUI is busy and ready again with each job: as retained messages, two for each.
BUSY_INTERVAL_S = 0.5


async def serve(config: Config) -> None:
    """Run a bridge until SIGINT or SIGTERM.

    Raises BadAddress, DatabaseError, InstallFailed or ConnectionRefused where it cannot start.
    """
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        with suppress(NotImplementedError):  # Windows: Ctrl-C comes as KeyboardInterrupt
            asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    address = of_bridge(config)
    comfyuis: dict[str, AttachConfig | SuperviseConfig] = {}
    for table in config.comfyuis:
        comfyui = await _comfyui(table, stopping)
        if comfyui is None:
            return
        comfyuis[config.instance_name(table)] = comfyui
    while not await _served(Bridge(config, address, comfyuis), stopping):
        log.warning("the others took this bridge for dead: it begins anew")
        await asyncio.sleep(ANEW_S)


async def _served(bridge: Bridge, stopping: asyncio.Event) -> bool:
    """Run a bridge; whether that is the end of it."""
    ended = True
    try:
        await bridge.run(stopping)
    except* Fenced:
        # All that it had is others' now; what is in memory counts no more.
        ended = stopping.is_set()
    return ended


async def _comfyui(
    table: ComfyUI, stopping: asyncio.Event
) -> AttachConfig | SuperviseConfig | None:
    """Return how to get at a ComfyUI, installed first where it has to be; None if told to stop."""
    if table.url is not None:
        return AttachConfig(table.url, table.secret)
    if table.path is not None:
        python = table.python or _interpreter(table.path)
        return SuperviseConfig(table.path, python, table.args, table.environment)
    installing = asyncio.create_task(install.ensure(log.info))
    told = asyncio.create_task(stopping.wait())
    await asyncio.wait((installing, told), return_when=asyncio.FIRST_COMPLETED)
    if stopping.is_set():
        installing.cancel()
        await asyncio.wait((installing,))
        return None
    told.cancel()
    found = await installing
    return SuperviseConfig(found.path, found.python, table.args, table.environment)


def _browsers(config: Config) -> WebSocketDoor | None:
    """Make the browser's door, where there is to be one; where not, it costs no start."""
    if config.websocket_listen is None:
        return None
    from bridge.doors.websocket.door import WebSocketDoor  # noqa: PLC0415

    return WebSocketDoor.of(config)


def _interpreter(folder: Path) -> Path:
    """Return the interpreter of a ComfyUI's own environment, where its folder has one."""
    candidates = (
        folder / ".venv" / "bin" / "python",
        folder / "venv" / "bin" / "python",
        folder.parent / ".venv" / "bin" / "python",
    )
    return next((path for path in candidates if path.exists()), Path("python3"))


class Bridge:
    """One bridge: `run` it once."""

    def __init__(
        self,
        config: Config,
        address: Address,
        comfyuis: Mapping[str, AttachConfig | SuperviseConfig],
    ) -> None:
        folder = config.folder
        self._config = config
        self._topics = Topics(config.base_topic)
        self._journal = Journal(config.journal or folder / "journal.db")
        self._files = _files(config)
        self._rights = Rights(config.clients)
        nodes = NodeRules(config.allow_nodes, config.deny_nodes)
        self._library = Library(config.workflows, folder / "object_info", list(comfyuis), nodes)
        self._instances = [
            Instance(
                name,
                comfyui,
                folder=folder / "comfyui" / name,
                care=Care(config.silence_s, config.idle_unload_s),
            )
            for name, comfyui in comfyuis.items()
        ]
        self._outgoing = Outgoing(
            self._topics,
            delivered=self._journal.published,
            keep_results_s=config.keep_results_s,
            keep_outputs_s=config.keep_outputs_s,
        )
        self._retained = Retained(
            self._topics, self._outgoing, self._speaks_for_all if config.journal else None
        )
        latest = Latest()
        waiting = Waiting(self._journal, self._files, Suppliers(self._download, latest.get))
        self._uploads = Uploads(
            folder / "uploads",
            self._journal,
            self._files,
            UploadRules(
                config.max_upload,
                lambda client: self._rights.of(client).max_uploads,
                config.keep_uploads_s,
            ),
        )
        addresses = Addresses.of(config)
        transcoder = Transcoder()
        displays = Displays(
            config.display,
            gallery=Gallery(folder / "displays", self._outgoing, self._topics.display_image),
            outgoing=self._outgoing,
            topics=self._topics,
            rights=self._rights,
            transcoder=transcoder,
            **({} if addresses is None else {"link": addresses.display}),
        )
        listeners = Listeners(self._outgoing)
        self._dispatcher = Dispatcher(
            journal=self._journal,
            files=self._files,
            instances=self._instances,
            listener=listeners,
            waiting=waiting,
            can_run=self._library.can_run,
            limits=JobLimits(
                config.max_attempts,
                config.timeout_s,
                config.silence_s,
                config.reorder_s,
            ),
            outcomes=Outcomes(
                self._journal,
                self._files,
                listeners,
                config.keep_outputs_s,
                displays.show,
                link=None if addresses is None else addresses.output,
                trace=tracing.traces(),
            ),
        )
        self._intake = Intake(
            library=self._library,
            journal=self._journal,
            files=self._files,
            dispatcher=self._dispatcher,
            listener=listeners,
            media=MediaDesk(waiting, self._uploads, self._rights, config.max_inline_input),
            rules=Rules(config.max_queue, self._rights, nodes),
            refresh=self._refresh,
            check_display=displays.check,
        )
        desk = Desk(
            intake=self._intake,
            uploads=self._uploads,
            journal=self._journal,
            files=self._files,
            dispatcher=self._dispatcher,
            rates=Rates(lambda client: self._rights.of(client).requests_per_s, time.monotonic),
        )
        triggers = Triggers(
            config.trigger,
            topics=self._topics,
            rights=self._rights,
            displays=displays,
            desk=desk,
            outgoing=self._outgoing,
        )
        self._homeassistant = self._home(desk, transcoder) if config.homeassistant else None
        orders = self._orders()
        sides: list[Side] = [displays, triggers, *([] if config.journal else orders)]
        if self._homeassistant is not None:
            listeners.add(self._homeassistant)
            sides.append(self._homeassistant)
        self._group = self._grouped()
        settings = Settings(
            address,
            config.mqtt_client_id,
            config.remember_ids_s,
            config.max_packet,
            self._rights.input_topics,
        )
        self._door = Door(
            settings,
            topics=self._topics,
            desk=desk,
            journal=self._journal,
            outgoing=self._outgoing,
            retained=self._retained,
            latest=latest,
            connected=self._introduce,
            sides=sides,
            group=self._group,
        )
        self._browsers = _browsers(config)
        self._member: Member | None = None
        if self._group is not None:
            self._member = Member(
                settings,
                self._group,
                topics=self._topics,
                journal=self._journal,
                outgoing=self._outgoing,
                retained=self._retained,
                sides=orders,
            )
        self._metrics = self._metrics_door()
        self._refreshed_at = -REFRESH_INTERVAL_S
        self._info: BridgeInfo | None = None
        self._probe = Probe(address, of_probe(config), self._topics, self._tell_isolation)

    def _metrics_door(self) -> MetricsDoor | None:
        if self._config.metrics_listen is None:
            return None
        # Prometheus' library and an HTTP server: 3 MB, and a sixth of the start, for who asks.
        from bridge.doors.metrics import MetricsDoor, Sources  # noqa: PLC0415

        host, _, port = self._config.metrics_listen.rpartition(":")
        sources = Sources(
            version=__version__,
            counters=self._dispatcher.counters,
            instances=self._instances,
            queued=lambda: len(self._dispatcher.backlog),
            running=lambda: self._dispatcher.running,
            commits=lambda: self._journal.commits,
            connected=lambda: self._outgoing.connected,
        )
        return MetricsDoor(host.strip("[]"), int(port), sources)

    def _orders(self) -> list[Orders]:
        if not self._config.operator_verbs:
            return []
        operator = Operator(
            instances=self._instances,
            dispatcher=self._dispatcher,
            reload=self._reload,
            health=self._health,
        )
        return [Orders(self._topics, operator, self._outgoing, self._part_of)]

    def _grouped(self) -> Group | None:
        config = self._config
        if not config.journal:
            return None
        group = Group(
            config.journal,
            config.member_name,
            config.lease_s,
            journal=self._journal,
            dispatcher=self._dispatcher,
            listener=self._outgoing,
        )
        self._outgoing.may_speak = group.holds
        return group

    def _speaks_for_all(self) -> bool:
        return self._group is None or self._group.has_intake

    def _part_of(self, verb: str, payload: bytes) -> Part:
        """What an order is to this bridge."""
        if self._group is None:
            return Part.ANSWER
        return part_of(verb, payload, intake=self._group.has_intake, ours=self._has)

    def _has(self, comfyui: str) -> bool | None:
        if any(instance.name == comfyui for instance in self._instances):
            return True
        return False if self._retained.is_told(comfyui) else None

    def _home(self, desk: Desk, transcoder: Transcoder) -> HomeAssistant:
        """Make Home Assistant's door."""
        config = self._config
        folder = config.folder / "homeassistant"
        tree = HomeAssistantTopics(self._topics, config.homeassistant_prefix)
        names = tuple(instance.name for instance in self._instances)
        return HomeAssistant(
            AnnouncedBridge(
                config.name, __version__, names, config.operator_verbs, config.public_url
            ),
            topics=self._topics,
            tree=tree,
            inputs=Inputs(folder / "inputs.json"),
            gallery=Gallery(folder, self._outgoing, lambda name: tree.state(name, "image")),
            desk=desk,
            journal=self._journal,
            files=self._files,
            outgoing=self._outgoing,
            transcoder=transcoder,
        )

    async def run(self, stopping: asyncio.Event) -> None:
        """Serve until `stopping` is set, then end in good order."""
        with logtopic.told(self._tell_log, self._config.secrets):
            await self._run(stopping)

    def _tell_log(self, line: BridgeLog) -> None:
        self._outgoing.publish(self._topics.log, line)

    async def _run(self, stopping: asyncio.Event) -> None:
        await self._journal.open()
        try:
            if self._group is not None:
                await self._group.join()
            await asyncio.to_thread(self._files.open)
            if self._homeassistant is not None:
                await self._homeassistant.open(await self._journal.unfinished())
            self._tell(await self._library.open())
            await self._dispatcher.recover()
            async with asyncio.TaskGroup() as tasks:
                serving = [
                    *(tasks.create_task(each.run()) for each in self._instances),
                    *(tasks.create_task(self._follow_comfyui(each)) for each in self._instances),
                    tasks.create_task(self._dispatcher.run()),
                    tasks.create_task(self._follow_folder()),
                    tasks.create_task(self._tell_health()),
                    tasks.create_task(self._sweep()),
                    tasks.create_task(self._probe.run()),
                ]
                if self._metrics is not None:
                    serving.append(tasks.create_task(self._metrics.run()))
                if self._browsers is not None:
                    serving.append(tasks.create_task(self._browsers.run()))
                if self._homeassistant is not None:
                    serving.append(tasks.create_task(self._homeassistant.run()))
                door = tasks.create_task(self._door.run())
                members = [] if self._member is None else [self._member]
                publishing = [tasks.create_task(each.run()) for each in members]
                await stopping.wait()
                await self._stop(door)
                for each in members:
                    each.close()
                await asyncio.gather(*publishing)
                for task in serving:
                    task.cancel()
        finally:
            if self._group is not None:
                await self._group.leave()
            await self._journal.close()
            await asyncio.to_thread(self._files.close)

    async def _stop(self, door: asyncio.Task[None]) -> None:
        """Take no more, give what runs its time, and say goodbye; the rest is in the journal."""
        log.info("stopping")
        if self._member is None:
            self._door.drain()
        else:
            self._door.close()
            await asyncio.wait((door,))
            await self._member.hand_over()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._config.stop_s):
                await self._dispatcher.drain()
        self._door.close()
        await asyncio.wait((door,))

    # ComfyUI and the workflows.

    async def _follow_comfyui(self, instance: Instance) -> None:
        """Ask each new process what it has, and publish its state: ready means described too."""
        known: str | None = None
        while True:
            state = instance.state
            epoch = (state.epoch or "unnamed") if state.usable else None
            if epoch not in (None, known) and not await self._learn(instance):
                epoch = None
            known = epoch
            self._retained.comfyui(instance.name, comfyui_state(state))
            await _news(instance, state)

    async def _learn(self, instance: Instance) -> bool:
        """Ask a ComfyUI which nodes and choices it has; False if it did not say."""
        try:
            info = await instance.client.object_info()
            changes = await self._library.learn(instance.name, info)
        except (ComfyUIError, ObjectInfoError) as error:
            log.warning("%s did not tell what it has: %s", instance.name, error)
            return False
        if changes is not None:
            self._tell(changes)
            self._dispatcher.look()
        return True

    async def _refresh(self) -> bool:
        """Ask again, for a request that needs what was not there; not too often."""
        if time.monotonic() - self._refreshed_at < REFRESH_INTERVAL_S:
            return False
        self._refreshed_at = time.monotonic()
        usable = [each for each in self._instances if each.state.usable]
        return any(await asyncio.gather(*(self._learn(each) for each in usable)))

    async def _download(self, client: str, wanted: Url) -> bytes:
        """Fetch a URL, or its backup where that fails."""
        config = self._config
        rules = DownloadRules(
            config.max_upload,
            config.url_timeout_s,
            self._rights.of(client).url_hosts,
            setting(client, "url_hosts"),
        )
        try:
            return await download(wanted.url, rules)
        except DependencyFailed:
            if wanted.backup_url is UNSET:
                raise
        return await download(wanted.backup_url, rules)

    async def _follow_folder(self) -> None:
        async for changes in self._library.changes():
            self._tell(changes)

    async def _reload(self) -> ReloadReport:
        """Read the folder anew, for the operator."""
        self._tell(await self._library.reload())
        return ReloadReport(
            workflows=sorted(self._library.workflows),
            broken=[each.message for each in self._library.broken],
            waiting=self._library.waiting,
        )

    def _tell(self, changes: Changes) -> None:
        self._retained.choices(self._library.choices())
        for workflow in changes.drawn:
            definition = workflow.definition()
            self._retained.workflow(definition)
            if self._homeassistant is not None:
                self._homeassistant.workflow(definition)
        for name in changes.gone:
            self._retained.remove_workflow(name)
            if self._homeassistant is not None:
                self._homeassistant.remove_workflow(name)
        for broken in changes.broken:
            log.warning("workflow %s", broken.message)
        self._tell_faults(changes.broken, changes.waiting)

    def _tell_faults(self, faults: Iterable[Broken], waiting: Iterable[str]) -> None:
        for broken in faults:
            event = BridgeEvent(type="workflow_broken", message=broken.message, data=broken.details)
            self._outgoing.publish(self._topics.event, event)
        for file in waiting:
            message = f"{file}: waits until a ComfyUI has told what its nodes are"
            event = BridgeEvent(type="workflow_waiting", message=message, data={"file": file})
            self._outgoing.publish(self._topics.event, event)

    # The bridge itself.

    def _introduce(self, connection: Connection) -> None:
        """Say who we are, with the limits of the broker that we are connected to."""
        config = self._config
        limits = Limits(
            max_packet=or_unset(connection.packet_limit),
            max_inline_input=config.max_inline_input,
            max_upload=config.max_upload,
            max_queue=config.max_queue,
            max_queue_per_client=self._rights.of(EVERYBODY).max_queue,
            keep_results_s=config.keep_results_s,
            keep_outputs_s=config.keep_outputs_s,
            remember_ids_s=config.remember_ids_s,
        )
        self._info = BridgeInfo(
            name=config.name,
            version=__version__,
            contract=CONTRACT_VERSION,
            limits=limits,
            features=sorted([*VERBS, RUN, UPLOAD]),
            isolation="unknown",
        )
        self._retained.info(self._info)
        self._probe.connected()
        # Events are not retained: what was told before this connection, nobody has heard.
        self._tell_faults(self._library.broken, self._library.waiting)

    def _tell_isolation(self, isolation: Isolation) -> None:
        if self._info is not None:
            self._info = msgspec.structs.replace(self._info, isolation=isolation)
            self._retained.info(self._info)

    async def _tell_health(self) -> None:
        while True:
            counters = self._dispatcher.counters
            health = BridgeHealth(
                at=round(time.time(), 3),
                queued=len(self._dispatcher.backlog),
                running=self._dispatcher.running,
                accepted=counters.accepted,
                succeeded=counters.outcomes["succeeded"],
                failed=counters.outcomes["failed"],
                cancelled=counters.outcomes["cancelled"],
                expired=counters.outcomes["expired"],
                retried=counters.retried,
                clients=_usage(counters),
                paused=self._dispatcher.backlog.paused,
                memory=or_unset(_memory()),
            )
            self._retained.health(health)
            await asyncio.sleep(HEALTH_INTERVAL_S)

    def _health(self) -> HealthReport:
        """Tell how it all fares, for the operator."""
        dispatcher = self._dispatcher
        return HealthReport(
            healthy=any(instance.state.usable for instance in self._instances),
            version=__version__,
            paused=dispatcher.backlog.paused,
            queued=len(dispatcher.backlog),
            running=dispatcher.running,
            succeeded=dispatcher.counters.outcomes["succeeded"],
            failed=dispatcher.counters.outcomes["failed"],
            comfyui={each.name: comfyui_state(each.state) for each in self._instances},
            memory=or_unset(_memory()),
        )

    async def _sweep(self) -> None:
        """Let go of what is kept no longer."""
        while True:
            now = time.time()
            if self._speaks_for_all():
                try:
                    await self._sweep_journal(now)
                except DatabaseError as error:
                    log.warning("cannot sweep now: %s", error)
            await asyncio.to_thread(self._uploads.sweep, now)
            await asyncio.sleep(SWEEP_INTERVAL_S)

    async def _sweep_journal(self, now: float) -> None:
        config = self._config
        await self._journal.sweep(
            now=now,
            results_before=now - config.keep_results_s,
            forget_before=now - config.remember_ids_s,
            max_outputs=config.max_outputs,
            max_outputs_of=lambda client: self._rights.of(client).max_outputs,
        )
        kept = await self._journal.files()
        await asyncio.to_thread(self._files.sweep, kept, now - SWEEP_AGE_S)


def _usage(counters: Counters) -> dict[str, Usage]:
    most = sorted(counters.clients.items(), key=lambda each: -each[1].run_s)[:CLIENTS_TOLD]
    return {name: Usage(jobs=share.jobs, run_s=round(share.run_s, 1)) for name, share in most}


async def _news(instance: Instance, told: InstanceState) -> None:
    """Wait until there is more to tell of a ComfyUI than was just told.

    That it is busy, or ready, is told at once if nothing was for a while, and else a little later,
    if it still is.
    """
    with suppress(TimeoutError):
        async with asyncio.timeout(BUSY_INTERVAL_S):
            state = told
            while state.usable and told.usable and state.epoch == told.epoch:
                state = await instance.changed(state)
    await instance.changed(told)


def _files(config: Config) -> Files:
    """Where large outputs and media are kept: where the journal is."""
    if not config.journal:
        return Folder(config.folder / "blobs")
    # An extra: who has no PostgreSQL needs no psycopg.
    from bridge.jobs.database.blobs import Blobs  # noqa: PLC0415

    return Blobs(config.journal)


def _memory() -> int | None:
    """Return this process's resident bytes, where /proc tells."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    found = (line for line in status.splitlines() if line.startswith("VmRSS:"))
    return next((int(line.split()[1]) * 1024 for line in found), None)
