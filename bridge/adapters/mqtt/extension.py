"""Other users of the bridge's connections: displays, triggers, Home Assistant, admin commands.

A broker may refuse what they subscribe to: then only the feature that needs it is off.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from bridge.adapters.mqtt.publisher import Publisher
from bridge.contract.retained import BridgeEvent
from bridge.contract.topics import Topics
from bridge.jobs.database import LeaseLost
from bridge.mqtt import UNSPECIFIED, Connection, Incoming, Subscription, reason_of
from bridge.requests.handler import RequestHandler

log = logging.getLogger(__name__)


class Extension:
    """A feature in a class of its own: it subscribes to topics, and publishes by the `Publisher`.

    Lives from `start` until `run` is cancelled. Methods that are not overridden do nothing.
    """

    @property
    def subscriptions(self) -> Sequence[Subscription]:
        """The topics that it subscribes to at each connection."""
        return ()

    async def start(self) -> None:
        """Read stored state; called before the first connection, and before `run`."""

    async def run(self) -> None:
        """Do the work that takes time, until cancelled."""

    async def connected(self, connection: Connection) -> None:
        """Publish the retained messages: a broker may have lost them."""

    async def received(
        self, incoming: Incoming, delivery: str | None, handler: RequestHandler
    ) -> None:
        """Receive a message that is no client's request; most are meant for other extensions.

        It is acknowledged to the broker when this returns. `delivery` names the MQTT delivery, by
        which a redelivery is recognised; jobs are submitted to `handler`.
        """


async def dispatch(
    extensions: Iterable[Extension],
    incoming: Incoming,
    delivery: str | None,
    handler: RequestHandler,
) -> None:
    """Pass a message to each extension. One that fails costs this message, not the bridge."""
    for extension in extensions:
        try:
            await extension.received(incoming, delivery, handler)
        except LeaseLost:
            raise
        except Exception:  # unacknowledged, the message would come again and again
            log.exception("message on %s was not handled: defect in the bridge", incoming.topic)


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
