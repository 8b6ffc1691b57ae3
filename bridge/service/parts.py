"""The composition root: makes all parts of a bridge, and connects them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from bridge import tracing
from bridge.adapters.mqtt.acl_probe import AclProbe
from bridge.adapters.mqtt.broker_address import probe_address
from bridge.adapters.mqtt.extension import Extension
from bridge.adapters.mqtt.publisher import Publisher
from bridge.adapters.mqtt.retained import Retained
from bridge.adapters.mqtt.size_probe import SizeProbe
from bridge.adapters.mqtt.subscriber import BrokerSettings
from bridge.adapters.triggers.adapter import Triggers
from bridge.comfyui.health_policy import HealthPolicy
from bridge.comfyui.instance import Instance
from bridge.comfyui.settings import AttachConfig, SuperviseConfig
from bridge.config import Config
from bridge.contract.topics import Topics
from bridge.hooks.calls import MqttCalls
from bridge.hooks.driver import Hooks
from bridge.jobs.core import JobLimits
from bridge.jobs.dispatcher import Dispatcher
from bridge.jobs.finalizer import Finalizer
from bridge.jobs.input_files import InputFiles
from bridge.jobs.journal import Journal
from bridge.jobs.listener import as_one
from bridge.jobs.warmup import Warmup
from bridge.mqtt import Address, Connection
from bridge.requests.permissions import Permissions
from bridge.service.bridge_info import BridgeInfoPublisher
from bridge.service.clock_report import ClockReport
from bridge.service.comfyui_updates import updates_of
from bridge.service.commands import CommandParts
from bridge.service.connections import BrokerConnections
from bridge.service.descriptions import Descriptions
from bridge.service.gpu_watch import GpuWatch
from bridge.service.group import GroupParts
from bridge.service.homeassistant import HomeAssistantParts
from bridge.service.media import MediaParts
from bridge.service.requests import RequestParts
from bridge.service.retention import Retention
from bridge.service.sinks import SinkParts
from bridge.service.stores import files_of
from bridge.workflows.binding import FOLDER
from bridge.workflows.catalogue import NodeRules
from bridge.workflows.library import OBJECT_INFO, Library

if TYPE_CHECKING:
    from bridge.adapters.metrics import MetricsAdapter
    from bridge.adapters.web.adapter import WebAdapter


class BridgeParts:
    """All parts of one bridge. Making them starts nothing and opens nothing: see `Bridge`."""

    def __init__(
        self,
        config: Config,
        address: Address,
        comfyuis: Mapping[str, AttachConfig | SuperviseConfig],
    ) -> None:
        """`address` is the broker's; `comfyuis` by name. Raises ConfigError."""
        folder = config.folder
        self._config = config
        self.topics = Topics(config.base_topic)
        self.group = group = GroupParts(config)

        # What is stored.
        self.journal = Journal(config.journal or folder / "journal.db")
        self.files = files_of(config)
        self._permissions = Permissions(config.clients)
        nodes = NodeRules(config.allow_nodes, config.deny_nodes)
        keyed = [name for name, comfyui in comfyuis.items() if comfyui.api_key is not None]
        self.library = Library(
            config.workflows, folder / OBJECT_INFO, list(comfyuis), nodes, keyed=keyed
        )

        # The ComfyUIs.
        health = HealthPolicy(config.silence_s, config.idle_unload_s)
        self.instances = [
            Instance(name, comfyui, folder=folder / "comfyui" / name, health=health)
            for name, comfyui in comfyuis.items()
        ]
        self.updates = updates_of(config, self.instances, comfyuis)
        self.gpus = GpuWatch(self.instances, comfyuis)

        # What is published, and who listens to jobs.
        self.publisher = Publisher(
            self.topics,
            delivered=self.journal.published,
            passed_over=self.journal.passed_over,
            set_delivered=self.journal.sets.published,
            keep_results_s=config.keep_results_s,
            keep_outputs_s=config.keep_outputs_s,
            may_publish=group.holds_lease,
            cloudevents=config.cloudevents,
        )
        retained = Retained(
            self.topics,
            self.publisher,
            group.leads if config.journal else None,
            config.member_name,
        )
        self.clock_report = ClockReport(self.topics, self.publisher)
        self.media = media = MediaParts(
            config,
            self.topics,
            journal=self.journal,
            files=self.files,
            permissions=self._permissions,
            publisher=self.publisher,
        )
        homeassistant = HomeAssistantParts(
            config,
            self.topics,
            comfyuis=list(comfyuis),
            updated=[] if self.updates is None else self.updates.names,
            journal=self.journal,
            files=self.files,
            library=self.library,
            publisher=self.publisher,
            transcoder=media.transcoder,
            leads=group.leads,
        )
        listeners = as_one(self.publisher, *homeassistant.listeners)

        # What runs jobs.
        self.sinks = SinkParts(
            config,
            self.topics,
            journal=self.journal,
            publisher=self.publisher,
            permissions=self._permissions,
            read=self._read_kept,
            leads=group.leads,
        )
        size_probe = SizeProbe(self.topics, self.publisher, self._learn_size)
        self.dispatcher = Dispatcher(
            journal=self.journal,
            files=self.files,
            instances=self.instances,
            listener=listeners,
            dependencies=media.dependencies,
            can_run=self.library.can_run,
            limits=JobLimits(
                config.max_attempts,
                config.timeout_s,
                config.silence_s,
                config.reorder_s,
                config.quarantine_s,
            ),
            input_files=InputFiles(self.instances, config.keep_uploads_s),
            finalizer=Finalizer(
                self.journal,
                self.files,
                listeners,
                config.keep_outputs_s,
                show=media.displays.show,
                transcoder=media.transcoder,
                link=media.links.output,
                trace=tracing.traces(),
                result_room=self.publisher.result_room,
                trial=size_probe,
            ),
            deliver=self.sinks.deliveries.deliver,
        )
        self.descriptions = Descriptions(
            self.library,
            self.instances,
            topics=self.topics,
            publisher=self.publisher,
            retained=retained,
            changed=self._nodes_changed,
            audience=homeassistant.adapters,
        )
        group.form(
            journal=self.journal,
            library=self.library,
            dispatcher=self.dispatcher,
            descriptions=self.descriptions,
            retained=retained,
            listener=listeners,
            comfyuis=list(comfyuis),
            keyed=keyed,
            named=homeassistant.set_instances,
        )
        self.hooks = Hooks(
            config,
            instances=self.instances,
            dispatcher=self.dispatcher,
            mqtt=MqttCalls(self.publisher),
            retained=retained,
            clock=self.journal.clock,
            changed=lambda: self.info.publish_health(),  # noqa: PLW0108 - made below
        )
        self.info = BridgeInfoPublisher(
            config,
            permissions=self._permissions,
            retained=retained,
            dispatcher=self.dispatcher,
            instances=self.instances,
            hooks=self.hooks.health,
            gpus=self.gpus.figures,
            store=lambda: self.files.fault,
        )

        # What receives requests.
        requests = RequestParts(
            config,
            dispatcher=self.dispatcher,
            files=self.files,
            journal=self.journal,
            library=self.library,
            media=media,
            nodes=nodes,
            permissions=self._permissions,
            publisher=self.publisher,
            retained=retained,
            sinks=self.sinks,
            size_probe=size_probe,
            refresh=self._refresh,
            leads=group.leads,
        )
        self.handler = requests.handler
        triggers = Triggers(
            config.trigger,
            topics=self.topics,
            rights=self._permissions,
            displays=media.displays,
            publisher=self.publisher,
        )
        self.commands = commands = CommandParts(
            config,
            self.topics,
            updates=self.updates,
            descriptions=self.descriptions,
            dispatcher=self.dispatcher,
            group=group,
            hooks=self.hooks,
            info=self.info,
            instances=self.instances,
            journal=self.journal,
            publisher=self.publisher,
            retained=retained,
        )
        # In a group every bridge receives these messages, by its own connection.
        everywhere = [requests.sets.extension, size_probe, self.hooks]
        leading = [media.displays, triggers, *commands.extensions, *homeassistant.extensions]
        self.extensions: list[Extension] = [*leading, *everywhere]
        self.connections = BrokerConnections(
            BrokerSettings(
                address,
                config.mqtt_client_id,
                config.remember_ids_s,
                config.max_packet,
                self._permissions.input_topics,
                config.max_publishes_per_s,
            ),
            topics=self.topics,
            handler=self.handler,
            journal=self.journal,
            publisher=self.publisher,
            retained=retained,
            last_values=media.last_values,
            connected=self._introduce,
            leading=leading,
            everywhere=everywhere,
            group=group.group,
        )
        self.probe = AclProbe(address, probe_address(config), self.topics, self.info.set_isolation)

        # What runs beside all that.
        self.browsers = _web_adapter(config)
        self.metrics = self._metrics_adapter()
        self.retention = Retention(
            config,
            permissions=self._permissions,
            journal=self.journal,
            files=self.files,
            uploads=media.uploads,
            leads=group.leads,
            jumped=self.clock_report.jumped,
            attempts=[
                each.output_folder / FOLDER
                for each in self.instances
                if each.output_folder is not None
            ],
            prompts=lambda: {
                entry.job.prompt_id for entry in self.dispatcher.book.entries.values()
            },
        )

    def services(self) -> Iterator[Callable[[], Coroutine[Any, Any, object]]]:
        """Yield each coroutine function that runs as a task, but for `connections`."""
        yield from (each.run for each in self.instances)
        yield from (partial(self.descriptions.follow, each) for each in self.instances)
        yield self.descriptions.follow_folder
        yield self.dispatcher.run
        yield self.dispatcher.input_files.run
        yield from (each.run for each in self._warmups())
        yield self.sinks.run
        yield self.info.run
        yield self.gpus.run
        yield self.retention.run
        yield self.probe.run
        yield from (each.run for each in self.extensions)
        optional = (
            self.group.offers,
            self.commands.reports,
            self.metrics,
            self.browsers,
            self.updates,
        )
        yield from (each.run for each in optional if each is not None)

    def _metrics_adapter(self) -> MetricsAdapter | None:
        """Make the adapter for metrics, if there is to be one."""
        if self._config.metrics_listen is None:
            return None
        from bridge.service.metrics import metrics_adapter  # noqa: PLC0415

        return metrics_adapter(
            self._config.metrics_listen,
            dispatcher=self.dispatcher,
            instances=self.instances,
            journal=self.journal,
            publisher=self.publisher,
            gpus=self.gpus,
            group=self.group,
        )

    def _warmups(self) -> list[Warmup]:
        config = self._config
        warm = {config.instance_name(each): each.warm for each in config.comfyuis if each.warm}
        return [
            Warmup(each, warm[each.name], library=self.library, dispatcher=self.dispatcher)
            for each in self.instances
            if each.name in warm
        ]

    async def _refresh(self) -> bool:
        self.group.ask_nodes()
        return await self.descriptions.refresh()

    def _nodes_changed(self) -> None:
        self.dispatcher.catalogue_changed()
        self.group.nodes_changed()

    def _read_kept(self, sha256: str, size: int) -> AsyncIterator[bytes]:
        return self.dispatcher.delivery.read(sha256, size)

    def _learn_size(self, size: int) -> None:
        """Take note of the largest payload that the broker passes on."""
        self.publisher.learn_limit(size)
        self.info.set_largest(size)

    def _introduce(self, connection: Connection) -> None:
        """Publish our state on a new connection, and what was missed without one."""
        self.info.publish_info(connection)
        # What is on a dashboard is not unknown until the next interval.
        self.info.publish_health()
        self.probe.connected()
        self.descriptions.publish_faults()
        self.clock_report.publish()


def _web_adapter(config: Config) -> WebAdapter | None:
    """Make the web adapter, if there is to be one; if not, its modules are not loaded."""
    if config.websocket_listen is None:
        return None
    from bridge.adapters.web.adapter import WebAdapter  # noqa: PLC0415

    return WebAdapter.of(config)
