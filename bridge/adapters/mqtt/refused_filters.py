"""Subscriptions that the broker may refuse: then only the feature that needs them is off."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from bridge.adapters.mqtt.publisher import Publisher
from bridge.contract.retained import BridgeEvent
from bridge.contract.topics import Topics
from bridge.mqtt import UNSPECIFIED, Connection, Subscription, reason_of

log = logging.getLogger(__name__)


class RefusedFilters:
    """Subscribes, and reports each filter that the broker refuses once only."""

    def __init__(self, topics: Topics, publisher: Publisher) -> None:
        self._topics = topics
        self._publisher = publisher
        self._known: set[str] = set()

    async def subscribe(
        self,
        connection: Connection,
        required: Sequence[Subscription],
        optional: Iterable[Subscription],
    ) -> None:
        """Subscribe to all. Raises SubscribeRefused for a required filter, and ConnectionLost."""
        wanted = [*required, *(replace(each, optional=True) for each in optional)]
        if not wanted:
            return
        codes = await connection.subscribe(wanted)
        refused = {
            each.filter: code
            for each, code in zip(wanted, codes, strict=True)
            if code >= UNSPECIFIED
        }
        for filter_, code in refused.items():
            if filter_ not in self._known:
                self._report(filter_, reason_of(code))
        self._known = set(refused)

    def _report(self, filter_: str, reason: str) -> None:
        message = (
            f"the broker refuses to subscribe {filter_!r} ({reason}): what comes there is missed"
        )
        log.warning("%s", message)
        event = BridgeEvent(
            type="subscription_refused", message=message, data={"filter": filter_, "reason": reason}
        )
        self._publisher.publish(self._topics.event, event)
