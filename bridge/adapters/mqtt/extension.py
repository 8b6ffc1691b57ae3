"""Other users of the bridge's connections: displays, triggers, Home Assistant, admin commands."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

from bridge.jobs.database import LeaseLost
from bridge.mqtt import Connection, Incoming, Subscription
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


async def give_to(
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
