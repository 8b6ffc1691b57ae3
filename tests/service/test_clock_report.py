from __future__ import annotations

from typing import Any, cast

from bridge.contract.topics import Topics
from bridge.service.clock_report import ClockReport


class Publisher:
    connected = False

    def __init__(self) -> None:
        self.events: list[Any] = []

    def publish(self, topic: str, event: Any) -> None:
        assert topic == "comfy2mqtt/bridge/event"
        self.events.append((event.type, event.data))


def test_a_jump_is_published_once_there_is_a_connection_and_once() -> None:
    publisher = Publisher()
    report = ClockReport(Topics(), cast("Any", publisher))
    report.publish()
    report.jumped(86_400.0)
    assert publisher.events == []
    publisher.connected = True
    report.publish()
    report.publish()
    assert publisher.events == [("clock_jumped", {"seconds": 86_400.0})]
    report.jumped(-60.5)
    assert publisher.events[1:] == [("clock_jumped", {"seconds": -60.5})]
