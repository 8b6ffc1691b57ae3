"""The messages that the broker retains for Home Assistant: devices, and their states.

Of several bridges each knows all of it, and the one that takes requests publishes it.

What is announced no longer, as `homeassistant` is off or has moved, is cleared. The journal keeps
below which discovery prefixes devices were announced, so that a bridge that never did asks the
broker for none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from bridge.adapters.homeassistant import discovery
from bridge.adapters.mqtt.extension import Extension
from bridge.adapters.mqtt.publisher import Publisher
from bridge.contract.messages import encode
from bridge.contract.topics import HomeAssistantTopics, Topics, matches
from bridge.jobs.journal.adapter_store import AdapterStore
from bridge.mqtt import Incoming, Subscription
from bridge.requests.handler import RequestHandler


class RetainedMessages:
    """The retained messages, by topic."""

    def __init__(
        self,
        publisher: Publisher,
        topics: Topics,
        tree: HomeAssistantTopics,
        leads: Callable[[], bool],
    ) -> None:
        """`leads`: whether this bridge is the one that publishes."""
        self._publisher = publisher
        self._topics = topics
        self._tree = tree
        self._leads = leads
        self._announced: dict[str, discovery.Device] = {}
        self._states: dict[str, Any] = {}

    def announce(self, device_id: str, device: discovery.Device) -> None:
        """Announce a device, or the difference to its last announcement."""
        topic = self._tree.discovery(device_id)
        before = self._announced.get(topic)
        self._announced[topic] = device
        if before is None:
            self._publish(topic, device)
        elif before != device:
            self._replace(topic, encode(before))

    def withdraw(self, device_id: str) -> None:
        """Clear a device and all its states."""
        topic = self._tree.discovery(device_id)
        before = self._announced.pop(topic, None)
        if before is not None:
            self._publish(topic, None)
            self._clear_device(encode(before))

    def announcement_received(self, topic: str, payload: bytes) -> None:
        """Take a retained announcement: workflows and inputs of ours in it may be gone."""
        known = discovery.announced(payload)
        if known is None or not known.is_of(self._topics):
            return
        device = self._announced.get(topic)
        if device is None:
            self._publish(topic, None)
            self._clear_device(payload)
        elif known.gone(device["components"]):
            self._replace(topic, payload)

    def set(self, topic: str, state: Any, *, again: bool = False) -> None:
        """Publish a state; `again`: even if it is the one published last."""
        if again or self._states.get(topic) != state:
            self._states[topic] = state
            self._publish(topic, state)

    def clear(self, topic: str) -> None:
        """Clear a state."""
        self._states.pop(topic, None)
        self._publish(topic, None)

    def publish_all(self) -> None:
        """Publish all of it."""
        for topic, device in self._announced.items():
            self._publish(topic, device)
        for topic, state in self._states.items():
            self._publish(topic, state)

    def _replace(self, topic: str, before: bytes) -> None:
        """Publish an announcement again, without the components that only the last one had."""
        device, known = self._announced[topic], discovery.announced(before)
        gone = {} if known is None else known.gone(device["components"])
        if known is not None:
            for each in known.topics(gone):
                self._clear_own(each)
        self._publish(topic, discovery.without(device, gone))

    def _clear_device(self, announcement: bytes) -> None:
        """Clear all states of a device."""
        known = discovery.announced(announcement)
        for topic in known.topics(known.components) if known is not None else ():
            self._clear_own(topic)

    def _clear_own(self, topic: str) -> None:
        if topic.startswith(self._tree.tree):
            self.clear(topic)

    def _publish(self, topic: str, message: Any) -> None:
        if self._leads():
            self._publisher.publish(topic, message, retain=True)


KIND = "homeassistant prefix"


class DiscoveryWithdrawal(Extension):
    """Clears retained announcements below prefixes of before, and their states if it is off."""

    def __init__(
        self,
        prefix: str | None,
        *,
        topics: Topics,
        store: AdapterStore,
        publisher: Publisher,
        leads: Callable[[], bool],
    ) -> None:
        """`prefix` is where devices are announced now; None: nowhere.

        `leads`: whether this bridge is the one that publishes.
        """
        self._prefix = prefix
        self._topics = topics
        self._store = store
        self._publisher = publisher
        self._leads = leads
        self._before: list[HomeAssistantTopics] = []

    async def start(self) -> None:
        """Read where devices were announced. Raises DatabaseError."""
        known = await self._store.names(KIND)
        if self._prefix is not None and self._prefix not in known:
            await self._store.keep(KIND, {self._prefix: b""})
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
