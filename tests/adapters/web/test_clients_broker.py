from __future__ import annotations

import pytest

from bridge.adapters.mqtt.broker_address import public_address
from bridge.adapters.web.settings import ClientsBroker, clients_broker, settings_of
from bridge.config import Config, ConfigError
from bridge.mqtt import Address


@pytest.mark.parametrize(
    ("ours", "seen"),
    [
        ("mqtt://127.0.0.1", ClientsBroker(port=1883)),
        ("mqtt://[::1]:1884", ClientsBroker(port=1884)),
        ("mqtt://localhost", ClientsBroker(port=1883)),
        # The name of a service in a compose file.
        ("mqtt://mosquitto", ClientsBroker(port=1883)),
        ("mqtt://192.168.1.7:1890", ClientsBroker(host="192.168.1.7", port=1890)),
        (
            "mqtts://me:secret@broker.example.org",
            ClientsBroker(host="broker.example.org", port=8883, tls=True, login=True),
        ),
        # The samples speak plain MQTT.
        ("ws://192.168.1.7:9001", ClientsBroker(host="192.168.1.7", port=1883)),
        ("wss://broker.example.org", ClientsBroker(host="broker.example.org", port=8883, tls=True)),
    ],
)
def test_clients_are_given_an_address_that_means_the_same_to_them(
    ours: str, seen: ClientsBroker
) -> None:
    assert clients_broker(Address.parse(ours)) == seen


def test_an_address_that_is_set_for_clients_counts() -> None:
    public = public_address(Config(public_mqtt_url="mqtts://broker.example.org:8884"))
    ours = Address.parse("mqtt://web:secret@mosquitto")
    assert clients_broker(ours, public) == ClientsBroker(
        host="broker.example.org", port=8884, tls=True, login=True
    )
    assert public_address(Config()) is None


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("mqtt://me:secret@h", "public_mqtt_url: .*without user and password"),
        ("http://h", "public_mqtt_url: "),
    ],
)
def test_an_address_for_clients_that_is_none_or_holds_a_secret_stops_the_start(
    url: str, why: str
) -> None:
    with pytest.raises(ConfigError, match=why) as caught:
        public_address(Config(public_mqtt_url=url))
    assert "secret" not in str(caught.value)


def test_pages_that_may_embed_the_page_are_a_setting() -> None:
    assert settings_of(Config()).frame_ancestors == ()
    home = ("http://homeassistant.local:8123",)
    assert settings_of(Config(frame_ancestors=home)).frame_ancestors == home
