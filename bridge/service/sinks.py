"""Makes the parts of sinks: their rules, the delivery, and the sender of webhooks."""

from __future__ import annotations

import functools

from bridge.adapters.mqtt.sinks import TopicSink
from bridge.config import shared_key
from bridge.contract import targets
from bridge.jobs.job import ResultWebhook
from bridge.jobs.journal.webhooks import PendingWebhook
from bridge.media.download import AllowedHosts
from bridge.requests.sinks import Sinks, check_folder
from bridge.service.shared import SharedParts
from bridge.sinks import signature
from bridge.sinks.delivery import Deliveries, NamedFolder, Read
from bridge.sinks.webhooks import WebhookSender


class SinkParts:
    """The parts that deliver outputs and results. Run `run` as a task."""

    def __init__(self, shared: SharedParts, *, read: Read) -> None:
        """`read` yields the bytes of an output that is kept. Raises ConfigError."""
        config = shared.config
        for each in config.sink_folder:
            check_folder(each)
        folders = {each.name: NamedFolder(each.path, each.file) for each in config.sink_folder}
        self.rules = Sinks(shared.permissions, config.sink, folders)
        mqtt = TopicSink(shared.publisher, shared.topics)
        self.deliveries = Deliveries(
            check=self.rules.check,
            read=read,
            folders=folders,
            publish=mqtt.publish,
            within_s=config.sink_timeout_s,
        )
        self._webhooks = WebhookSender(
            shared.journal,
            key=functools.cache(
                lambda: shared_key(config.webhook_key, signature.KEY_BYTES, "webhook_key_file")
            ),
            check=self._reach,
            gave_up=mqtt.gave_up,
            leads=shared.group.leads,
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
