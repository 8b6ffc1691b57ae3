"""The brokers' addresses that the settings name."""

from __future__ import annotations

from bridge.config import Config
from bridge.mqtt import Address


def bridge_address(config: Config) -> Address:
    """Return the broker's address, with the bridge's credentials. Raises BadAddress."""
    return Address.parse(
        config.mqtt_url,
        ca=config.mqtt_ca,
        cert=config.mqtt_cert,
        key=config.mqtt_key,
        password_file=config.mqtt_password_file,
    )


def probe_address(config: Config) -> Address | None:
    """Return the address with a client's credentials, None without them. Raises BadAddress."""
    if config.isolation_probe_url is None:
        return None
    return Address.parse(config.isolation_probe_url, ca=config.mqtt_ca)
