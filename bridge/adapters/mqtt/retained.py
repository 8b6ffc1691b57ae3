"""What the broker holds for those who come later: the bridge, its ComfyUIs, the workflows.

The present set is kept here, published whole at each connection, and then as it changes. What an
earlier run left there and nothing stands for any more is cleared when the broker shows it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from bridge.adapters.mqtt.publisher import Publisher
from bridge.contract.retained import BridgeHealth, BridgeInfo, Choices, ComfyUIState, Definition
from bridge.contract.topics import Topics

ONLINE = b"online"
OFFLINE = b"offline"
# Health is published more often than this; when it stops, nobody reads an old figure.
HEALTH_EXPIRY_S = 120.0
# A bridge that joins a group may be heard before the journal tells that it is there.
_UNKNOWN_BEATS = 2


class Retained:
    """The bridge's retained messages."""

    def __init__(
        self, topics: Topics, publisher: Publisher, common: Callable[[], bool] | None = None
    ) -> None:
        """`common` tells of a bridge in a group whether it says what holds for the whole group."""
        self._topics = topics
        self._publisher = publisher
        self._present: dict[str, Any] = {}
        self._choices: set[str] = set()
        self._grouped = common is not None
        self._common = common or (lambda: True)
        self._taking = False
        # What others told, and at how many heartbeats nobody was known who stands for it.
        self._seen: dict[str, int] = {}

    def info(self, info: BridgeInfo) -> None:
        """Say who the bridge is."""
        self._set(self._topics.info, info)

    def comfyui(self, name: str, state: ComfyUIState) -> None:
        """Say how a ComfyUI is."""
        self._set(self._topics.comfyui(name), state)

    def workflow(self, definition: Definition) -> None:
        """Describe a workflow."""
        self._set(self._topics.workflow(definition.name), definition)

    def remove_workflow(self, name: str) -> None:
        """Clear a workflow's description."""
        self._clear(self._topics.workflow(name))

    def choices(self, lists: Mapping[str, Sequence[Any]]) -> None:
        """Publish the lists that definitions name, and clear those that none names any more."""
        topics = {self._topics.choices(name) for name in lists}
        for name, choices in lists.items():
            message = Choices(name=name, choices=list(choices))
            self._set(self._topics.choices(name), message)
        for topic in self._choices - topics:
            self._clear(topic)
        self._choices = topics

    def health(self, health: BridgeHealth) -> None:
        """Say how the bridge fares."""
        if self._common():
            self._publisher.publish(
                self._topics.health, health, retain=True, expiry_s=HEALTH_EXPIRY_S
            )

    def online(self) -> None:
        """Say that the bridge takes requests."""
        self._taking = True
        self._publisher.publish(self._topics.state, ONLINE, retain=True)

    def offline(self) -> None:
        """Say that it does not."""
        self._taking = False
        self._publisher.publish(self._topics.state, OFFLINE, retain=True)

    def publish_all(self) -> None:
        """Publish the present set: at each connection, since a broker may have lost it."""
        for topic, message in self._present.items():
            self._say(topic, message)
        if self._taking:
            self.online()

    def lost(self) -> None:
        """Note that no requests come any more; the broker tells it by the last will."""
        self._taking = False

    def seen(self, topic: str) -> None:
        """Clear what the broker holds on one of our topics though nothing stands for it.

        In a group another bridge may stand for it, one that is not even known yet.
        """
        if topic in self._present:
            return
        if self._grouped:
            self._seen[topic] = 0
        else:
            self._say(topic, None)

    def know(self, others: Iterable[str]) -> None:
        """Note which other bridges there are; what those told that are gone holds no longer."""
        own = tuple(self._topics.comfyui(f"{name}-") for name in others)
        for topic, times in list(self._seen.items()):
            unknown = topic not in self._present and not topic.startswith(own)
            self._seen[topic] = times + 1 if unknown else 0
            if self._seen[topic] > _UNKNOWN_BEATS and self._common():
                del self._seen[topic]
                self._say(topic, None)

    def is_told(self, instance: str) -> bool:
        """Whether another bridge told of a ComfyUI of that name."""
        return self._topics.comfyui(instance) in self._seen

    def _say(self, topic: str, message: Any) -> None:
        if self._common() or topic.startswith(self._topics.comfyui("")):
            self._publisher.publish(topic, message, retain=True)

    def _set(self, topic: str, message: Any) -> None:
        if self._present.get(topic) != message:
            self._present[topic] = message
            self._say(topic, message)

    def _clear(self, topic: str) -> None:
        self._present.pop(topic, None)
        self._say(topic, None)
