"""Reports that the wall clock was set, on `bridge/event`: now, or with the next connection."""

from __future__ import annotations

from bridge.adapters.mqtt.publisher import Publisher
from bridge.contract.retained import BridgeEvent
from bridge.contract.topics import Topics


class ClockReport:
    """Publishes jumps of the wall clock. For the event loop's thread."""

    def __init__(self, topics: Topics, publisher: Publisher) -> None:
        self._topics = topics
        self._publisher = publisher
        self._unpublished_s = 0.0

    def jumped(self, by_s: float) -> None:
        """Report a jump of the wall clock by `by_s` seconds."""
        self._unpublished_s += by_s
        if self._publisher.connected:
            self.publish()

    def publish(self) -> None:
        """Publish jumps that happened while there was no connection."""
        by_s, self._unpublished_s = self._unpublished_s, 0.0
        if by_s:
            message = (
                f"the wall clock jumped by {by_s:+.0f} s; ages of jobs and results do not change"
            )
            data = {"seconds": round(by_s, 3)}
            event = BridgeEvent(type="clock_jumped", message=message, data=data)
            self._publisher.publish(self._topics.event, event)
