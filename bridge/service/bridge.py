"""The composition root: makes the parts, connects them, and runs their tasks in one group.

A task that fails stops the bridge: a bridge that works by half would be worse than one that is
started again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from msgspec import UNSET

from bridge import tracing
from bridge.adapters.displays import Displays
from bridge.adapters.homeassistant.job_updates import CLIENT as HOME_ASSISTANT
from bridge.adapters.mqtt import logtopic
from bridge.adapters.mqtt.acl_probe import AclProbe
from bridge.adapters.mqtt.broker_address import probe_address
from bridge.adapters.mqtt.cluster_connection import ClusterConnection
from bridge.adapters.mqtt.extension import Extension
from bridge.adapters.mqtt.last_values import LastValues
from bridge.adapters.mqtt.publisher import Publisher
from bridge.adapters.mqtt.retained import Retained
from bridge.adapters.mqtt.size_probe import SizeProbe
from bridge.adapters.mqtt.subscriber import BrokerSettings, Subscriber
from bridge.adapters.triggers.adapter import Triggers
from bridge.comfyui.health_policy import HealthPolicy
from bridge.comfyui.instance import Instance
from bridge.comfyui.settings import AttachConfig, SuperviseConfig
from bridge.config import Config
from bridge.contract.errors import DependencyFailed
from bridge.contract.operator import BridgeLog
from bridge.contract.sources import Url
from bridge.contract.topics import Topics
from bridge.hooks.calls import MqttCalls
from bridge.hooks.driver import Hooks
from bridge.jobs.core import JobLimits
from bridge.jobs.dependencies import Dependencies, Sources
from bridge.jobs.dispatcher import Dispatcher
from bridge.jobs.finalizer import Finalizer
from bridge.jobs.input_files import InputFiles
from bridge.jobs.journal import Journal
from bridge.jobs.listener import Listeners
from bridge.jobs.sets.collect import OutputRoutes
from bridge.jobs.uploads import UploadRules, Uploads
from bridge.jobs.warmup import Warmup
from bridge.media.download import DownloadRules, download
from bridge.media.extents import MediaLimits
from bridge.media.transcode import Transcoder
from bridge.mqtt import Address, Connection
from bridge.requests.admission import Admission, AdmissionConfig
from bridge.requests.handler import RequestHandler
from bridge.requests.input_media import InputMedia
from bridge.requests.permissions import Permissions, setting
from bridge.requests.processor_time import ProcessorTime
from bridge.requests.rate_limit import RateLimiter
from bridge.requests.thumbnails import Thumbnails
from bridge.service.bridge_info import BridgeInfoPublisher
from bridge.service.clock_report import ClockReport
from bridge.service.comfyui_updates import updates_of
from bridge.service.commands import CommandParts
from bridge.service.descriptions import Descriptions
from bridge.service.gpu_watch import GpuWatch
from bridge.service.greeting import Parts, greet
from bridge.service.group import GroupParts
from bridge.service.homeassistant import HomeAssistantParts
from bridge.service.images import retained_images
from bridge.service.public_urls import Links, page_address
from bridge.service.retention import Retention
from bridge.service.sets import set_parts
from bridge.service.sinks import SinkParts
from bridge.service.starting import waited_out
from bridge.service.stores import files_of
from bridge.workflows.binding import FOLDER
from bridge.workflows.library import Library
from bridge.workflows.nodes import NodeRules

if TYPE_CHECKING:
    from bridge.adapters.metrics import MetricsAdapter
    from bridge.adapters.web.adapter import WebAdapter

log = logging.getLogger(__name__)

# What is left of the end, such as the last messages, gets so long each: then it is left undone.
_LAST_S = 5.0


def _browsers(config: Config) -> WebAdapter | None:
    """Make the web adapter, where there is to be one; where not, it costs no start."""
    if config.websocket_listen is None:
        return None
    from bridge.adapters.web.adapter import WebAdapter  # noqa: PLC0415

    return WebAdapter.of(config)


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
        self._address = address
        self._topics = Topics(config.base_topic)
        self._group = group = GroupParts(config)
        self._journal = Journal(config.journal or folder / "journal.db")
        self._files = files_of(config)
        self._permissions = Permissions(config.clients)
        nodes = NodeRules(config.allow_nodes, config.deny_nodes)
        keyed = [name for name, comfyui in comfyuis.items() if comfyui.api_key is not None]
        self._library = Library(
            config.workflows, folder / "object_info", list(comfyuis), nodes, keyed=keyed
        )
        self._instances = [
            Instance(
                name,
                comfyui,
                folder=folder / "comfyui" / name,
                health=HealthPolicy(config.silence_s, config.idle_unload_s),
            )
            for name, comfyui in comfyuis.items()
        ]
        self._updates = updates_of(config, self._instances, comfyuis)
        self._publisher = Publisher(
            self._topics,
            delivered=self._journal.published,
            passed_over=self._journal.passed_over,
            set_delivered=self._journal.sets.published,
            keep_results_s=config.keep_results_s,
            keep_outputs_s=config.keep_outputs_s,
            may_publish=group.holds_lease,
            cloudevents=config.cloudevents,
        )
        self._retained = Retained(
            self._topics,
            self._publisher,
            group.speaks_for_all if config.journal else None,
            config.member_name,
        )
        last_values = LastValues()
        self._transcoder = transcoder = Transcoder()
        dependencies = Dependencies(
            self._journal,
            self._files,
            Sources(self._download, last_values.get),
            transcoder,
            MediaLimits(
                config.max_input_pixels,
                config.max_input_frames,
                config.max_input_seconds,
                config.max_input_unpacked,
            ),
        )
        self._uploads = Uploads(
            folder / "uploads",
            self._journal,
            self._files,
            UploadRules(
                config.max_upload,
                lambda client: self._permissions.of(client).max_uploads,
                config.keep_uploads_s,
            ),
        )
        links = Links.of(config, self._files)
        displays = Displays(
            config.display,
            images=retained_images(
                config,
                self._journal,
                self._publisher,
                self._topics.display_image,
                folder="displays",
                kind="display",
            ),
            publisher=self._publisher,
            topics=self._topics,
            rights=self._permissions,
            transcoder=transcoder,
            **({} if links.addresses is None else {"url_of": links.addresses.display}),
        )
        homeassistant = HomeAssistantParts(
            config,
            self._topics,
            comfyuis=list(comfyuis),
            updated=[] if self._updates is None else self._updates.names,
            journal=self._journal,
            files=self._files,
            library=self._library,
            publisher=self._publisher,
            transcoder=transcoder,
            leads=group.speaks_for_all,
        )
        listeners = Listeners(self._publisher, *homeassistant.listeners)
        self._sinks = SinkParts(
            config,
            self._topics,
            journal=self._journal,
            publisher=self._publisher,
            permissions=self._permissions,
            read=self._read_kept,
            ours=group.speaks_for_all,
        )
        size_probe = SizeProbe(self._topics, self._publisher, self._learn_size)
        self._dispatcher = Dispatcher(
            journal=self._journal,
            files=self._files,
            instances=self._instances,
            listener=listeners,
            dependencies=dependencies,
            can_run=self._library.can_run,
            limits=JobLimits(
                config.max_attempts,
                config.timeout_s,
                config.silence_s,
                config.reorder_s,
                config.quarantine_s,
            ),
            input_files=InputFiles(self._instances, config.keep_uploads_s),
            finalizer=Finalizer(
                self._journal,
                self._files,
                listeners,
                config.keep_outputs_s,
                show=displays.show,
                transcoder=transcoder,
                link=links.output,
                trace=tracing.traces(),
                result_room=self._publisher.result_room,
                trial=size_probe,
            ),
            deliver=self._sinks.deliveries.deliver,
        )
        self._descriptions = Descriptions(
            self._library,
            self._instances,
            topics=self._topics,
            publisher=self._publisher,
            retained=self._retained,
            changed=self._nodes_changed,
            audience=homeassistant.adapters,
        )
        group.form(
            journal=self._journal,
            library=self._library,
            dispatcher=self._dispatcher,
            descriptions=self._descriptions,
            retained=self._retained,
            listener=listeners,
            comfyuis=list(comfyuis),
            keyed=keyed,
            named=homeassistant.set_instances,
        )
        self._gpus = GpuWatch(self._instances, comfyuis)
        self._hooks = Hooks(
            config,
            instances=self._instances,
            dispatcher=self._dispatcher,
            mqtt=MqttCalls(self._publisher),
            retained=self._retained,
            clock=self._journal.clock,
            changed=lambda: self._info.publish_health(),  # noqa: PLW0108 - made below
        )
        self._info = BridgeInfoPublisher(
            config,
            permissions=self._permissions,
            retained=self._retained,
            dispatcher=self._dispatcher,
            instances=self._instances,
            hooks=self._hooks.health,
            gpus=self._gpus.figures,
            store=lambda: self._files.fault,
        )
        media = InputMedia(dependencies, self._uploads, self._permissions, config.max_inline_input)
        admission = Admission(
            AdmissionConfig(config.max_queue, self._permissions, nodes),
            library=self._library,
            journal=self._journal,
            files=self._files,
            dispatcher=self._dispatcher,
            media=media,
            refresh=self._refresh,
            check_display=displays.check,
            sinks=self._sinks.rules,
            under_way=self._sinks.deliveries.under_way,
        )
        processor = ProcessorTime(
            lambda client: self._permissions.of(client).processor_share, time.monotonic
        )
        dependencies.bounds.spend = processor.spend
        sets = set_parts(
            config,
            admission=admission,
            dispatcher=self._dispatcher,
            journal=self._journal,
            files=self._files,
            library=self._library,
            media=media,
            permissions=self._permissions,
            publisher=self._publisher,
            transcoder=transcoder,
            trial=size_probe,
            places=OutputRoutes(
                deliver=self._sinks.deliveries.deliver,
                show=displays.show,
                link=links.set_output,
            ),
            spend=processor.spend,
            ours=group.speaks_for_all,
        )
        handler = self._handler = RequestHandler(
            admission=admission,
            sets=sets.requests,
            uploads=self._uploads,
            journal=self._journal,
            files=self._files,
            thumbnails=Thumbnails(self._files, transcoder, processor),
            dispatcher=self._dispatcher,
            rate_limiter=_rate_limiter(config, self._permissions),
            processor=processor,
            retained=self._retained.described,
        )
        triggers = Triggers(
            config.trigger,
            topics=self._topics,
            rights=self._permissions,
            displays=displays,
            publisher=self._publisher,
        )
        commands = CommandParts(
            config,
            self._topics,
            updates=self._updates,
            descriptions=self._descriptions,
            dispatcher=self._dispatcher,
            group=group,
            hooks=self._hooks,
            info=self._info,
            instances=self._instances,
            journal=self._journal,
            publisher=self._publisher,
            retained=self._retained,
        )
        # In a group every bridge receives these messages, by its own connection.
        everywhere = [*commands.everywhere, sets.extension, size_probe, self._hooks]
        leading = [displays, triggers, *commands.leading, *homeassistant.extensions]
        self._extensions: list[Extension] = [*leading, *everywhere]
        settings = BrokerSettings(
            address,
            config.mqtt_client_id,
            config.remember_ids_s,
            config.max_packet,
            self._permissions.input_topics,
            config.max_publishes_per_s,
        )
        self._subscriber = Subscriber(
            settings,
            topics=self._topics,
            handler=handler,
            journal=self._journal,
            publisher=self._publisher,
            retained=self._retained,
            last_values=last_values,
            connected=self._introduce,
            extensions=self._extensions if group.group is None else leading,
            group=group.group,
        )
        self._cluster_connection = (
            None
            if group.group is None
            else ClusterConnection(
                settings,
                group.group,
                topics=self._topics,
                handler=handler,
                journal=self._journal,
                publisher=self._publisher,
                retained=self._retained,
                extensions=everywhere,
                leading=leading,
            )
        )
        self._browsers = _browsers(config)
        self._metrics = self._metrics_adapter()
        self._clock_report = ClockReport(self._topics, self._publisher)
        self._retention = Retention(
            config,
            permissions=self._permissions,
            journal=self._journal,
            files=self._files,
            uploads=self._uploads,
            ours=group.speaks_for_all,
            jumped=self._clock_report.jumped,
            attempts=[
                each.output_folder / FOLDER
                for each in self._instances
                if each.output_folder is not None
            ],
            prompts=lambda: {
                entry.job.prompt_id for entry in self._dispatcher.book.entries.values()
            },
        )
        self._probe = AclProbe(
            address, probe_address(config), self._topics, self._info.set_isolation
        )

    def _metrics_adapter(self) -> MetricsAdapter | None:
        """Make the adapter for metrics, if there is to be one."""
        if self._config.metrics_listen is None:
            return None
        from bridge.service.metrics import metrics_adapter  # noqa: PLC0415

        return metrics_adapter(
            self._config.metrics_listen,
            dispatcher=self._dispatcher,
            instances=self._instances,
            journal=self._journal,
            publisher=self._publisher,
            gpus=self._gpus,
            group=self._group,
        )

    def _warming(self) -> list[Warmup]:
        config = self._config
        warm = {config.instance_name(each): each.warm for each in config.comfyuis if each.warm}
        return [
            Warmup(each, warm[each.name], library=self._library, dispatcher=self._dispatcher)
            for each in self._instances
            if each.name in warm
        ]

    async def _refresh(self) -> bool:
        self._group.ask_nodes()
        return await self._descriptions.refresh()

    def _nodes_changed(self) -> None:
        self._dispatcher.look()
        self._group.nodes_changed()

    def _read_kept(self, sha256: str, size: int) -> AsyncIterator[bytes]:
        return self._dispatcher.delivering.read(sha256, size)

    async def run(self, stopping: asyncio.Event) -> None:
        """Serve until `stopping` is set, then end in good order."""
        with logtopic.publishing(self._publish_log, self._config.secrets):
            await self._run(stopping)

    def _parts(self) -> Parts:
        """Return what the greeting speaks of."""
        library = self._library
        return Parts(
            broker=str(self._address),
            connected=self._publisher.connected,
            comfyuis={each.name: each.state for each in self._instances},
            workflows=list(library.workflows.values()),
            broken=len(library.broken),
            page=page_address(self._config),
            addresses={
                self._config.instance_name(each): each.url
                for each in self._config.comfyuis
                if each.url is not None
            },
        )

    def _publish_log(self, line: BridgeLog) -> None:
        self._publisher.publish(self._topics.log, line)

    async def _run(self, stopping: asyncio.Event) -> None:
        try:
            for step in self._start_steps():
                if not await waited_out(step, stopping):
                    return
            async with asyncio.TaskGroup() as tasks:
                serving = [
                    *(tasks.create_task(each.run()) for each in self._instances),
                    *(
                        tasks.create_task(self._descriptions.follow(each))
                        for each in self._instances
                    ),
                    tasks.create_task(self._dispatcher.run()),
                    *(tasks.create_task(each.run()) for each in self._warming()),
                    tasks.create_task(self._dispatcher.input_files.run()),
                    tasks.create_task(self._sinks.run()),
                    tasks.create_task(self._descriptions.follow_folder()),
                    tasks.create_task(self._info.run()),
                    tasks.create_task(self._gpus.run()),
                    tasks.create_task(self._retention.run()),
                    tasks.create_task(self._probe.run()),
                    tasks.create_task(greet(self._parts)),
                    *(tasks.create_task(each.run()) for each in self._extensions),
                ]
                others = (self._group.offers, self._metrics, self._browsers, self._updates)
                serving += [tasks.create_task(each.run()) for each in others if each is not None]
                subscribing = tasks.create_task(self._subscriber.run())
                publishing = None
                if self._cluster_connection is not None:
                    publishing = tasks.create_task(self._cluster_connection.run())
                    serving.append(publishing)
                serving.append(subscribing)
                await stopping.wait()
                await _bounded(self._stop(subscribing, publishing), self._config.stop_s + _LAST_S)
                for task in serving:
                    task.cancel()
        finally:
            await self._close()

    async def _close(self) -> None:
        """Give back what is held. Raises DatabaseError if the database does not answer."""
        await self._transcoder.close()
        if self._group.group is not None:
            await _bounded(self._group.group.leave(), _LAST_S)
        await _bounded(asyncio.to_thread(self._files.close), _LAST_S)
        await self._journal.close()

    def _start_steps(self) -> Iterator[Callable[[], Awaitable[object]]]:
        """Yield what is to be done before anything is served."""
        yield self._journal.open
        # It may be waited for, and longer than a lease lasts.
        yield partial(asyncio.to_thread, self._files.open)
        if self._group.group is not None:
            yield self._group.group.join
        yield from (each.start for each in self._extensions)
        yield self._descriptions.open
        if self._group.offers is not None:
            yield self._group.offers.open
        yield self._dispatcher.recover
        yield self._know_clients

    async def _know_clients(self) -> None:
        self._handler.know(await self._journal.clients())

    async def _stop(
        self, subscribing: asyncio.Task[None], publishing: asyncio.Task[None] | None
    ) -> None:
        """Accept no more requests, wait for running jobs, disconnect; the journal has the rest."""
        log.info("stopping")
        if self._cluster_connection is None:
            self._subscriber.drain()
        else:
            self._subscriber.close()
            await asyncio.wait((subscribing,))
            await self._cluster_connection.hand_over()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._config.stop_s):
                await self._dispatcher.drain()
        await self._hooks.stop()
        self._subscriber.close()
        await asyncio.wait((subscribing,))
        if self._cluster_connection is not None and publishing is not None:
            self._cluster_connection.close()
            await publishing

    def _learn_size(self, size: int) -> None:
        """Take note of the largest payload that the broker passes on."""
        self._publisher.learn_limit(size)
        self._info.set_largest(size)

    def _introduce(self, connection: Connection) -> None:
        """Publish our state on a new connection, and what was missed without one."""
        self._info.publish_info(connection)
        # What is on a dashboard is not unknown until the next interval.
        self._info.publish_health()
        self._probe.connected()
        self._descriptions.publish_faults()
        self._clock_report.publish()

    async def _download(self, client: str, wanted: Url) -> bytes:
        """Fetch a URL, or its backup where that fails."""
        config = self._config
        rules = DownloadRules(
            self._permissions.of(client).url_hosts,
            setting(client, "url_hosts"),
            max_bytes=config.max_upload,
            timeout_s=config.url_timeout_s,
        )
        try:
            return await download(wanted.url, rules)
        except DependencyFailed:
            if wanted.backup_url is UNSET:
                raise
        return await download(wanted.backup_url, rules)


async def _bounded(ending: Awaitable[object], most_s: float) -> None:
    """Wait for a part of the end, for so long at most: it may wait for somebody who is gone."""
    try:
        async with asyncio.timeout(most_s):
            await ending
    except TimeoutError:
        log.error(  # noqa: TRY400 - it says nothing of where
            "not all has ended in %g s: the next start continues with what is left", most_s
        )


def _rate_limiter(config: Config, permissions: Permissions) -> RateLimiter:
    """The limits of requests. The bridge's own clients are never new."""
    own = {each.client for each in config.trigger} | {HOME_ASSISTANT}
    return RateLimiter(
        lambda client: permissions.of(client).requests_per_s,
        time.monotonic,
        new_per_s=config.new_clients_per_s,
        listed=lambda client: client in own or permissions.lists(client),
    )
