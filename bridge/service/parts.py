"""The composition root: makes all parts of a bridge, and connects them."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from bridge.adapters.mqtt.acl_probe import AclProbe
from bridge.adapters.mqtt.broker_address import probe_address
from bridge.adapters.mqtt.extension import Extension
from bridge.adapters.mqtt.retained import Retained
from bridge.adapters.mqtt.size_probe import SizeProbe
from bridge.adapters.mqtt.subscriber import BrokerSettings
from bridge.adapters.triggers.adapter import Triggers
from bridge.comfyui.health_policy import HealthPolicy
from bridge.comfyui.instance import Instance
from bridge.comfyui.settings import AttachConfig, SuperviseConfig
from bridge.config import Config
from bridge.hooks.calls import MqttCalls
from bridge.hooks.driver import Hooks
from bridge.jobs.listener import as_one
from bridge.mqtt import Address, Connection
from bridge.service.bridge_info import BridgeInfoPublisher
from bridge.service.clock_report import ClockReport
from bridge.service.comfyui_updates import updates_of
from bridge.service.commands import CommandParts
from bridge.service.connections import BrokerConnections
from bridge.service.descriptions import Descriptions
from bridge.service.gpu_watch import GpuWatch
from bridge.service.homeassistant import HomeAssistantParts
from bridge.service.jobs import JobParts
from bridge.service.media import MediaParts
from bridge.service.requests import RequestParts
from bridge.service.retention import Retention
from bridge.service.shared import SharedParts
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
        self.shared = shared = SharedParts(config)
        group = shared.group
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
        retained = Retained(
            shared.topics,
            shared.publisher,
            group.leads if config.journal else None,
            config.member_name,
        )
        self.clock_report = ClockReport(shared.topics, shared.publisher)
        self.media = media = MediaParts(shared)
        homeassistant = HomeAssistantParts(
            shared,
            comfyuis=list(comfyuis),
            updated=[] if self.updates is None else self.updates.names,
            library=self.library,
            transcoder=media.transcoder,
        )
        listener = as_one(shared.publisher, *homeassistant.listeners)

        # What runs jobs.
        size_probe = SizeProbe(shared.topics, shared.publisher, self._learn_size)
        self.jobs = jobs = JobParts(
            shared,
            instances=self.instances,
            library=self.library,
            listener=listener,
            media=media,
            size_probe=size_probe,
        )
        self.dispatcher = jobs.dispatcher
        self.descriptions = Descriptions(
            self.library,
            self.instances,
            topics=shared.topics,
            publisher=shared.publisher,
            retained=retained,
            changed=self._nodes_changed,
            audience=homeassistant.adapters,
        )
        group.form(
            journal=shared.journal,
            library=self.library,
            dispatcher=self.dispatcher,
            descriptions=self.descriptions,
            retained=retained,
            listener=listener,
            comfyuis=list(comfyuis),
            keyed=keyed,
            named=homeassistant.set_instances,
        )
        self.hooks = Hooks(
            config,
            instances=self.instances,
            dispatcher=self.dispatcher,
            mqtt=MqttCalls(shared.publisher),
            retained=retained,
            clock=shared.journal.clock,
            changed=lambda: self.info.publish_health(),  # noqa: PLW0108 - made below
        )
        self.info = BridgeInfoPublisher(
            config,
            permissions=shared.permissions,
            retained=retained,
            dispatcher=self.dispatcher,
            instances=self.instances,
            hooks=self.hooks.health,
            gpus=self.gpus.figures,
            store=lambda: shared.files.fault,
        )

        # What receives requests.
        requests = RequestParts(
            shared,
            jobs=jobs,
            library=self.library,
            media=media,
            nodes=nodes,
            retained=retained,
            size_probe=size_probe,
            refresh=self._refresh,
        )
        self.handler = requests.handler
        triggers = Triggers(
            config.trigger,
            topics=shared.topics,
            rights=shared.permissions,
            displays=media.displays,
            publisher=shared.publisher,
        )
        self.commands = commands = CommandParts(
            shared,
            updates=self.updates,
            descriptions=self.descriptions,
            dispatcher=self.dispatcher,
            hooks=self.hooks,
            info=self.info,
            instances=self.instances,
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
                shared.permissions.input_topics,
                config.max_publishes_per_s,
            ),
            shared,
            handler=self.handler,
            retained=retained,
            last_values=media.last_values,
            connected=self._introduce,
            leading=leading,
            everywhere=everywhere,
        )
        self.probe = AclProbe(
            address, probe_address(config), shared.topics, self.info.set_isolation
        )

        # What runs beside all that.
        self.browsers = _web_adapter(config)
        self.metrics = self._metrics_adapter()
        self.retention = Retention(
            config,
            permissions=shared.permissions,
            journal=shared.journal,
            files=shared.files,
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
        yield from (each.run for each in self.jobs.warmups)
        yield self.jobs.sinks.run
        yield self.info.run
        yield self.gpus.run
        yield self.retention.run
        yield self.probe.run
        yield from (each.run for each in self.extensions)
        optional = (
            self.shared.group.offers,
            self.commands.reports,
            self.metrics,
            self.browsers,
            self.updates,
        )
        yield from (each.run for each in optional if each is not None)

    def _metrics_adapter(self) -> MetricsAdapter | None:
        """Make the adapter for metrics, if there is to be one."""
        shared = self.shared
        if shared.config.metrics_listen is None:
            return None
        from bridge.service.metrics import metrics_adapter  # noqa: PLC0415

        return metrics_adapter(
            shared.config.metrics_listen,
            dispatcher=self.dispatcher,
            instances=self.instances,
            journal=shared.journal,
            publisher=shared.publisher,
            gpus=self.gpus,
            group=shared.group,
        )

    async def _refresh(self) -> bool:
        self.shared.group.ask_nodes()
        return await self.descriptions.refresh()

    def _nodes_changed(self) -> None:
        self.dispatcher.catalogue_changed()
        self.shared.group.nodes_changed()

    def _learn_size(self, size: int) -> None:
        """Take note of the largest payload that the broker passes on."""
        self.shared.publisher.learn_limit(size)
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
