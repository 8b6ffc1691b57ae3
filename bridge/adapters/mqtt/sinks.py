"""Topics as sinks: an output published where the operator allows; and webhooks that failed."""

from __future__ import annotations

from bridge.adapters.mqtt.encoder import about, facts
from bridge.adapters.mqtt.publisher import Publisher
from bridge.contract import targets
from bridge.contract.errors import Forbidden, TooLarge
from bridge.contract.messages import OutputInfo
from bridge.contract.retained import BridgeEvent
from bridge.contract.topics import Topics
from bridge.jobs.job import Job
from bridge.jobs.journal.webhooks import PendingWebhook
from bridge.mqtt import MqttError, PacketTooLarge, PublishRefused


class TopicSink:
    """Publishes outputs to topics that are not the bridge's, and events of webhooks given up."""

    def __init__(self, publisher: Publisher, topics: Topics) -> None:
        self._publisher = publisher
        self._topics = topics

    async def publish(self, job: Job, info: OutputInfo, topic: str, data: bytes) -> None:
        """Publish an output at QoS 1; returns once the broker has it.

        Raises TooLarge, Forbidden if the broker refuses it, and ConnectionError if there is
        none for the moment.
        """
        properties = [*about(job), *facts(info)]
        try:
            sent = self._publisher.foreign(topic, data, info.content_type, properties)
            if sent is None:
                raise ConnectionError("there is no connection to the broker")
            await sent
        except PacketTooLarge as error:
            raise TooLarge(
                f"the broker takes no packet as large: {error}", size=error.size, limit=error.limit
            ) from None
        except PublishRefused as error:
            raise Forbidden(f"the broker refuses it: {error}", topic=topic) from None
        except MqttError as error:
            raise ConnectionError(str(error)) from None

    def gave_up(self, hook: PendingWebhook, problem: str) -> None:
        """Publish that a webhook was given up."""
        shown = targets.shown(hook.url)
        data = {"client": hook.client, "name": hook.name, "url": shown, "code": "delivery_failed"}
        message = f"webhook {shown} failed for the last time: {problem}"
        self._publisher.publish(
            self._topics.event, BridgeEvent(type="webhook_failed", message=message, data=data)
        )
