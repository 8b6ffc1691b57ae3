"""What else uses the door's connection: displays, triggers, Home Assistant."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Protocol

from bridge.jobs.database import Fenced
from bridge.mqtt import Connection, Incoming, Subscription

log = logging.getLogger(__name__)


class Side(Protocol):
    """Subscribes to topics of its own, and publishes through `Publisher`."""

    @property
    def subscriptions(self) -> Sequence[Subscription]:
        """What it wants to hear, at each connection."""

    async def connected(self, connection: Connection) -> None:
        """Publish what it holds retained: a broker may have lost it."""

    async def take(self, incoming: Incoming, delivery: str | None) -> None:
        """Take a message that is no client's request; most are meant for others.

        It is acknowledged to the broker afterwards. `delivery` names it, to know it again.
        """


async def give(side: Side, incoming: Incoming, delivery: str | None) -> None:
    """Have a side take a message; where it fails, that costs this one, not the bridge."""
    try:
        await side.take(incoming, delivery)
    except Fenced:
        raise
    except Exception:  # unacknowledged, it would come again and again
        log.exception("%s", incoming.topic)
