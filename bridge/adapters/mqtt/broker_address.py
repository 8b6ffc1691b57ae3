"""The brokers' addresses that the settings name."""

from __future__ import annotations

from pathlib import Path

from bridge.config import Config, ConfigError, check_file
from bridge.mqtt import Address, BadAddress
from bridge.text import in_quotes, without_password

# What to do about a broker's certificate that is not valid, as all commands say it.
CERTIFICATE = "mqtt_ca names the CA to trust, and mqtt_url a host of the certificate's"


def bridge_address(config: Config) -> Address:
    """Return the broker's address, with the bridge's credentials. Raises ConfigError."""
    address = read_address("mqtt_url", config.mqtt_url)
    # One after the other, so that an error names the one that is wrong.
    files: dict[str, Path] = {}
    for name in ("mqtt_ca", "mqtt_cert", "mqtt_key", "mqtt_password_file"):
        file: Path | None = getattr(config, name)
        if file is not None:
            check_file(config, name)
            files[name.removeprefix("mqtt_")] = file
            address = read_address(name, config.mqtt_url, **files)
    return address


def probe_address(config: Config) -> Address | None:
    """Return the address with a client's credentials, None without them. Raises ConfigError."""
    if config.isolation_probe_url is None:
        return None
    return read_address("isolation_probe_url", config.isolation_probe_url, ca=config.mqtt_ca)


def web_address(config: Config) -> Address:
    """Return the broker's address, with the web adapter's own account. Raises ConfigError."""
    if not config.websocket_mqtt_url:
        return bridge_address(config)
    return read_address(
        "websocket_mqtt_url",
        config.websocket_mqtt_url,
        ca=config.mqtt_ca,
        cert=config.mqtt_cert,
        key=config.mqtt_key,
    )


def public_address(config: Config) -> Address | None:
    """Return the broker's address as clients reach it, None if not set. Raises ConfigError."""
    if config.public_mqtt_url is None:
        return None
    address = read_address("public_mqtt_url", config.public_mqtt_url)
    if address.username is not None:
        raise ConfigError("without user and password: every client can read it", "public_mqtt_url")
    return address


def read_address(
    setting: str,
    url: str,
    *,
    ca: Path | None = None,
    cert: Path | None = None,
    key: Path | None = None,
    password_file: Path | None = None,
) -> Address:
    """Read the address in a setting. Raises ConfigError."""
    try:
        return Address.parse(url, ca=ca, cert=cert, key=key, password_file=password_file)
    except BadAddress as error:
        raise ConfigError(f"{in_quotes(without_password(url))}: {error}", setting) from None
