"""Recognising a broker's product."""

from __future__ import annotations

import pytest

from bridge.cli.broker_trial import name_of


@pytest.mark.parametrize(
    ("host", "system", "name"),
    [
        ("h", {"$SYS/broker/version": b"mosquitto version 2.0.11"}, "mosquitto 2.0.11"),
        ("h", {"$SYS/brokers/emqx@127.0.0.1/version": b"5.8.3"}, "EMQX 5.8.3"),
        ("h", {"$SYS/VerneMQ@127.0.0.1/uptime": b"1"}, "VerneMQ"),
        ("a1b2-ats.iot.eu-central-1.amazonaws.com", {}, "AWS IoT Core"),
        ("x.westeurope-1.ts.eventgrid.azure.net", {}, "Azure Event Grid"),
        ("e1.ala.eu-central-1.emqxsl.com", {}, "EMQX Serverless"),
        ("h", {}, None),
        ("h", {"$SYS/broker/version": b""}, None),
    ],
)
def test_a_broker_is_known_by_what_it_says_or_by_where_it_is(
    host: str, system: dict[str, bytes], name: str | None
) -> None:
    assert name_of(host, system) == name
