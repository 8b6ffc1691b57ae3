"""Makes the parts of sinks: their rules, the delivery, and the sender of webhooks."""

from __future__ import annotations

import functools
from collections.abc import Callable

from bridge.adapters.mqtt.publisher import Publisher
from bridge.adapters.mqtt.sinks import TopicSink
from bridge.config import Config, shared_key
from bridge.contract import targets
from bridge.contract.topics import Topics
from bridge.jobs.job import ResultWebhook
from bridge.jobs.journal import Journal
from bridge.jobs.journal.webhooks import PendingWebhook
from bridge.media.download import AllowedHosts
from bridge.requests.permissions import Permissions
from bridge.requests.sinks import Sinks, check_folder
from bridge.sinks import signature
from bridge.sinks.delivery import Deliveries, NamedFolder, Read
from bridge.sinks.webhooks import WebhookSender


class SinkParts:
    """The parts that deliver outputs and results. Run `run` as a task."""

    def __init__(
        self,
        config: Config,
        topics: Topics,
        *,
        journal: Journal,
        publisher: Publisher,
        permissions: Permissions,
        read: Read,
        leads: Callable[[], bool],
    ) -> None:
        """`read` yields the bytes of an output that is kept.

        `leads`: True while this bridge is the one to send webhooks. Raises ConfigError.
        """
        for each in config.sink_folder:
            check_folder(each)
        folders = {each.name: NamedFolder(each.path, each.file) for each in config.sink_folder}
        self.rules = Sinks(permissions, config.sink, folders)
        mqtt = TopicSink(publisher, topics)
        self.deliveries = Deliveries(
            check=self.rules.check,
            read=read,
            folders=folders,
            publish=mqtt.publish,
            within_s=config.sink_timeout_s,
        )
        self._webhooks = WebhookSender(
            journal,
            key=functools.cache(
                lambda: shared_key(config.webhook_key, signature.KEY_BYTES, "webhook_key_file")
            ),
            check=self._reach,
            gave_up=mqtt.gave_up,
            leads=leads,
        )

    def _reach(self, hook: PendingWebhook) -> AllowedHosts:
        target = targets.read_http(hook.url, "webhook")
        return self.rules.check(hook.client, ResultWebhook(hook.url, hook.own), target)

    async def run(self) -> None:
        """Send webhooks until cancelled, and then write no more files."""
        try:
            await self._webhooks.run()
        finally:
            self.deliveries.close()
