"""Clears what is announced to Home Assistant no longer: `homeassistant` is off, or has moved.

The journal keeps below which discovery prefixes devices were announced, so that a bridge that never
did asks the broker for none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bridge.adapters.homeassistant import discovery
from bridge.adapters.mqtt.extension import Extension
from bridge.adapters.mqtt.publisher import Publisher
from bridge.contract.topics import HomeAssistantTopics, Topics, matches
from bridge.jobs.journal.kept import Kept
from bridge.mqtt import Incoming, Subscription
from bridge.requests.handler import RequestHandler

KIND = "homeassistant prefix"


class DiscoveryWithdrawal(Extension):
    """Clears retained announcements below prefixes of before, and their states if it is off."""

    def __init__(
        self,
        prefix: str | None,
        *,
        topics: Topics,
        kept: Kept,
        publisher: Publisher,
        leads: Callable[[], bool],
    ) -> None:
        """`prefix` is where devices are announced now; None: nowhere.

        `leads`: whether this bridge is the one that publishes.
        """
        self._prefix = prefix
        self._topics = topics
        self._kept = kept
        self._publisher = publisher
        self._leads = leads
        self._before: list[HomeAssistantTopics] = []

    async def start(self) -> None:
        """Read where devices were announced. Raises DatabaseError."""
        known = await self._kept.names(KIND)
        if self._prefix is not None and self._prefix not in known:
            await self._kept.keep(KIND, {self._prefix: b""})
        others = [each for each in known if each != self._prefix]
        self._before = [HomeAssistantTopics(self._topics, each) for each in others]

    @property
    def subscriptions(self) -> Sequence[Subscription]:
        """All that is announced below the prefixes of before."""
        return [Subscription(filter=each.discovered, no_local=True) for each in self._before]

    async def received(
        self, incoming: Incoming, _delivery: str | None, _handler: RequestHandler
    ) -> None:
        """Clear a retained announcement of ours."""
        tree = next(
            (each for each in self._before if matches(each.discovered, incoming.topic)), None
        )
        known = discovery.announced(incoming.payload) if incoming.retain else None
        if tree is None or known is None or not known.is_of(self._topics):
            return
        self._clear(incoming.topic)
        # What is announced below another prefix now has the same states.
        if self._prefix is None:
            for topic in known.topics(known.components):
                if topic.startswith(tree.tree):
                    self._clear(topic)

    def _clear(self, topic: str) -> None:
        if self._leads():
            self._publisher.publish(topic, None, retain=True)
