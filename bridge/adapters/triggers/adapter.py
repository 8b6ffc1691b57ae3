"""Triggers: messages of other devices that start jobs.

Their jobs are submitted as a client's are, with that client's permissions. Nobody waits for an
answer, so an error is published as an event.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from bridge.adapters.displays import Displays
from bridge.adapters.mqtt.extension import Extension
from bridge.adapters.mqtt.publisher import Publisher
from bridge.adapters.triggers.rules import Debounce, Message, Rule
from bridge.config import ConfigError, Trigger
from bridge.contract.errors import BridgeError, Forbidden
from bridge.contract.messages import Accepted
from bridge.contract.retained import BridgeEvent
from bridge.contract.topics import SUBMIT, RequestTopic, Topics
from bridge.mqtt import Connection, Incoming, Subscription
from bridge.requests.context import Answer, RequestContext
from bridge.requests.handler import RequestHandler
from bridge.requests.permissions import Permissions

log = logging.getLogger(__name__)

# Retained messages: never sent, or only if the subscription is new (MQTT 5, 3.8.3.1).
_NEVER, _IF_NEW = 2, 1


class Triggers(Extension):
    """All triggers."""

    def __init__(
        self,
        tables: Sequence[Trigger],
        *,
        topics: Topics,
        rights: Permissions,
        displays: Displays,
        publisher: Publisher,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raise ConfigError for a trigger that could never work."""
        self._rules = [Rule(table, topics) for table in tables]
        for table in tables:
            check_rights(table, rights, displays.check)
        self._topics = topics
        self._publisher = publisher
        self._clock = clock
        # A message that matches several filters may come once for each (MQTT 5, 3.3.4): which one
        # a copy is for, its subscription's identifier says.
        filters = dict.fromkeys(table.topic for table in tables)
        self._identifiers = {each: number for number, each in enumerate(filters, 1)}
        self._identified = True
        self._debounced = {table.name: Debounce(table.debounce_s) for table in tables}

    @property
    def subscriptions(self) -> Sequence[Subscription]:
        """The triggers' topics; none that the bridge itself publishes on."""
        wanted = {rule.table.topic for rule in self._rules if rule.table.retained}
        return [
            Subscription(
                filter=each,
                no_local=True,
                retain_handling=_IF_NEW if each in wanted else _NEVER,
                identifier=identifier,
            )
            for each, identifier in self._identifiers.items()
        ]

    async def connected(self, connection: Connection) -> None:
        """Note whether this broker sends the identifiers of subscriptions."""
        self._identified = connection.connack.subscription_ids_available

    async def received(
        self, incoming: Incoming, delivery: str | None, handler: RequestHandler
    ) -> None:
        """Submit the jobs that a message starts; they are in the journal when this returns."""
        message = Message(incoming.topic, incoming.payload, incoming.content_type)
        for rule in self._rules:
            if (
                self._is_for(rule.table, incoming)
                and rule.fires(message)
                and self._is_due(rule, message)
            ):
                await self._fire(rule, message, incoming, delivery=delivery, handler=handler)

    def _is_for(self, table: Trigger, incoming: Incoming) -> bool:
        if incoming.retain and not table.retained:
            return False
        return not self._identified or self._identifiers[table.topic] in incoming.subscription_ids

    def _is_due(self, rule: Rule, message: Message) -> bool:
        """True if the trigger's `debounce_s` on this topic is over; if so it begins again."""
        if self._debounced[rule.table.name].is_due(message.topic, self._clock()):
            return True
        log.debug("trigger %s: ignored, too soon after the last message", rule.table.name)
        return False

    async def _fire(
        self,
        rule: Rule,
        message: Message,
        incoming: Incoming,
        *,
        delivery: str | None,
        handler: RequestHandler,
    ) -> None:
        table = rule.table
        try:
            submit = rule.submit(message)
        except BridgeError as error:
            self._publish_failure(table, message, error)
            return
        asked = RequestContext(
            topic=RequestTopic(table.client, SUBMIT),
            submit=submit,
            expiry_s=incoming.message_expiry,
            # One message may fire several triggers.
            delivery=None if delivery is None else f"{delivery}:{table.name}",
            redelivered=incoming.dup,
        )
        answers: list[Answer] = []
        await handler.handle(asked, answers.append)
        for answer in answers:
            if answer.error is not None:
                self._publish_failure(table, message, answer.error)
            elif isinstance(answer.data, Accepted):
                log.info("trigger %s: accepted job %s", table.name, answer.data.job_id)

    def _publish_failure(self, table: Trigger, message: Message, error: BridgeError) -> None:
        log.warning("trigger %s: request refused: %s", table.name, error.message)
        data = {
            "trigger": table.name,
            "topic": message.topic,
            "code": error.code,
            "details": error.details,
        }
        event = BridgeEvent(type="trigger_failed", message=error.message, data=data)
        self._publisher.publish(self._topics.event, event)


def check_rights(
    table: Trigger, rights: Permissions, check_show: Callable[[str, str], None]
) -> None:
    """Raise ConfigError for what the trigger's client may not do, whatever the message.

    `check_show` checks that a client may use a display.
    """
    field = "workflow"
    try:
        rights.check_workflow(table.client, table.workflow)
        field = "priority"
        rights.check_priority(table.client, table.priority)
        field = "inputs"
        for name, value in table.inputs.items():
            if isinstance(topic := _topic_of(value), str):
                rights.check_topic(table.client, name, topic)
        field = "show"
        if table.show is not None:
            check_show(table.client, table.show)
    except BridgeError as error:
        setting = (
            f"; the setting {error.details['setting']} allows it"
            if isinstance(error, Forbidden)
            else ""
        )
        raise ConfigError(f"{error.message}{setting}", "trigger", table.name, field) from None


def _topic_of(value: Any) -> Any:
    return value.get("topic") if isinstance(value, dict) else None
