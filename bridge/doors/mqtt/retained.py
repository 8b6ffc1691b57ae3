"""What the broker holds for those who come later: the bridge, its ComfyUIs, the workflows.

The present set is kept here, published whole at each connection, and then as it changes. What an
earlier run left there and nothing stands for any more is cleared when the broker shows it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bridge.contract.messages import BridgeHealth, BridgeInfo, Choices, ComfyUIState, Definition
from bridge.contract.topics import Topics
from bridge.doors.mqtt.outgoing import Outgoing

ONLINE = b"online"
OFFLINE = b"offline"
# Health is published more often than this; when it stops, nobody reads an old figure.
HEALTH_EXPIRY_S = 120.0


class Retained:
    """The bridge's retained messages."""

    def __init__(self, topics: Topics, outgoing: Outgoing) -> None:
        self._topics = topics
        self._outgoing = outgoing
        self._present: dict[str, Any] = {}
        self._choices: set[str] = set()

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
        self._outgoing.publish(self._topics.health, health, retain=True, expiry_s=HEALTH_EXPIRY_S)

    def online(self) -> None:
        """Say that the bridge takes requests."""
        self._outgoing.publish(self._topics.state, ONLINE, retain=True)

    def offline(self) -> None:
        """Say that it does not."""
        self._outgoing.publish(self._topics.state, OFFLINE, retain=True)

    def publish_all(self) -> None:
        """Publish the present set: at each connection, since a broker may have lost it."""
        for topic, message in self._present.items():
            self._outgoing.publish(topic, message, retain=True)

    def seen(self, topic: str) -> None:
        """Clear what the broker holds on one of our topics though nothing stands for it."""
        if topic not in self._present:
            self._outgoing.publish(topic, None, retain=True)

    def _set(self, topic: str, message: Any) -> None:
        if self._present.get(topic) != message:
            self._present[topic] = message
            self._outgoing.publish(topic, message, retain=True)

    def _clear(self, topic: str) -> None:
        self._present.pop(topic, None)
        self._outgoing.publish(topic, None, retain=True)
