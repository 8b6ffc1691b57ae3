"""Features that a CONNACK takes away, and the text about each."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.adapters.mqtt.restrictions import restrictions
from bridge.mqtt import Connack, Version


def found(packet_limit: int | None = None, version: Version = "5", **said: Any) -> dict[str, str]:
    connack = Connack(session_present=False, **said)
    return dict(restrictions(connack, version, session_s=86_400.0, packet_limit=packet_limit))


def test_a_broker_that_offers_all_is_not_restricted() -> None:
    assert found(packet_limit=2**20, receive_maximum=20, session_expiry=86_400) == {}


@pytest.mark.parametrize(
    ("said", "word", "text"),
    [
        ({"version": "3.1.1"}, "mqtt", "3.1.1"),
        ({"retain_available": False}, "retain", "by the verb `workflows`"),
        ({"maximum_qos": 0}, "qos", "may get lost"),
        ({"wildcards_available": False}, "wildcards", "cannot work"),
        ({"packet_limit": 1000}, "packet", "1000 bytes"),
        ({"receive_maximum": 1}, "window", "1 messages"),
        ({"session_expiry": 60}, "session", "60 s, not 86400 s"),
    ],
)
def test_what_a_broker_does_not_offer_is_named(said: dict[str, Any], word: str, text: str) -> None:
    ((name, sentence),) = found(**said).items()
    assert name == word
    assert text in sentence
