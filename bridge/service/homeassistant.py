"""Makes the parts that show workflows and jobs in Home Assistant."""

from __future__ import annotations

from collections.abc import Sequence

from bridge import __version__
from bridge.adapters.homeassistant.adapter import HomeAssistant
from bridge.adapters.homeassistant.discovery import AnnouncedBridge
from bridge.adapters.homeassistant.inputs import Inputs
from bridge.adapters.homeassistant.job_updates import JobUpdatePublisher
from bridge.adapters.homeassistant.retained import DiscoveryWithdrawal
from bridge.adapters.mqtt.extension import Extension
from bridge.adapters.mqtt.retained_images import retained_images
from bridge.contract.topics import HomeAssistantTopics
from bridge.jobs.listener import Listener
from bridge.media.transcode import Transcoder
from bridge.service.shared import SharedParts
from bridge.workflows.library import Library


class HomeAssistantParts:
    """The adapter and its listener to jobs; both lists are empty if Home Assistant is off.

    `extensions` are the adapter, and the part that clears its earlier announcements.
    """

    def __init__(
        self,
        shared: SharedParts,
        *,
        comfyuis: Sequence[str],
        updated: Sequence[str],
        library: Library,
        transcoder: Transcoder,
    ) -> None:
        """`comfyuis` are ours, `updated` those whose releases are looked for."""
        config, topics, publisher = shared.config, shared.topics, shared.publisher
        journal, leads = shared.journal, shared.group.leads
        self.adapters: list[HomeAssistant] = []
        self.listeners: list[Listener] = []
        withdrawal = DiscoveryWithdrawal(
            config.homeassistant_prefix if config.homeassistant else None,
            topics=topics,
            store=journal.adapter_store,
            publisher=publisher,
            leads=leads,
        )
        self.extensions: list[Extension] = [withdrawal]
        if not config.homeassistant:
            return
        tree = HomeAssistantTopics(topics, config.homeassistant_prefix)
        adapter = HomeAssistant(
            AnnouncedBridge(
                config.name,
                __version__,
                tuple(comfyuis),
                config.operator_verbs,
                config.public_url,
                frozenset(updated),
            ),
            topics=topics,
            tree=tree,
            inputs=Inputs(journal.adapter_store, config.folder / "homeassistant" / "inputs.json"),
            images=retained_images(
                config.folder / "homeassistant",
                journal.adapter_store if config.journal else None,
                "homeassistant image",
                publisher,
                lambda name: tree.state(name, "image"),
            ),
            journal=journal,
            files=shared.files,
            publisher=publisher,
            transcoder=transcoder,
            choices=library.choices,
            leads=leads if config.journal else None,
        )
        self.adapters.append(adapter)
        self.extensions.append(adapter)
        # In a group another bridge's adapter may show a job: all get its updates by MQTT.
        in_group = JobUpdatePublisher(publisher, tree, adapter) if config.journal else adapter
        self.listeners.append(in_group)

    def set_instances(self, comfyuis: Sequence[str]) -> None:
        """Announce these ComfyUIs, those of all bridges of a group."""
        for each in self.adapters:
            each.set_instances(comfyuis)
