# ruff: noqa: S106 - no passwords of anybody
from __future__ import annotations

import pytest

from bridge.cli.options import BrokerFlags, broker_url
from bridge.mqtt import Address

SET = "mqtt://alice:secret@broker:1884"


@pytest.mark.parametrize(
    ("url", "flags", "found"),
    [
        (SET, BrokerFlags(), SET),
        (SET, BrokerFlags(port=1885), "mqtt://alice:secret@broker:1885"),
        (SET, BrokerFlags(password="a b"), "mqtt://alice:a%20b@broker:1884"),
        ("mqtt://h", BrokerFlags(username="a@b", password="x"), "mqtt://a%40b:x@h"),
        ("h:1884", BrokerFlags(username="me"), "mqtt://me@h:1884"),
        ("mqtt://h", BrokerFlags(port=8883), "mqtts://h:8883"),
        ("ws://h/a?b=c", BrokerFlags(username="me"), "ws://me@h/a?b=c"),
        ("ws://h/a?b=c", BrokerFlags(host="g"), "ws://g"),
        ("mqtt://h", BrokerFlags(host="::1", port=1884), "mqtt://[::1]:1884"),
    ],
)
def test_the_flags_replace_parts_of_the_url(url: str, flags: BrokerFlags, found: str) -> None:
    assert broker_url(url, flags) == found


def test_another_host_and_another_user_are_not_sent_the_password_of_the_settings() -> None:
    assert broker_url(SET, BrokerFlags(host="other")) == "mqtt://other"
    assert broker_url(SET, BrokerFlags(username="bob")) == "mqtt://bob@broker:1884"


def test_what_the_flags_give_is_an_address() -> None:
    flags = BrokerFlags(host="h", port=8883, username="ü", password="p:/@")
    address = Address.parse(broker_url(SET, flags))
    assert (address.host, address.port, address.tls) == ("h", 8883, True)
    assert (address.username, address.password) == ("ü", "p:/@")
