"""The web adapter's settings, and the broker that it uses."""

from __future__ import annotations

import ipaddress
import ssl

from msgspec import Struct

from bridge.adapters.web.http_headers import Network
from bridge.config import Config, ConfigError, host_and_port
from bridge.mqtt import Address, BadAddress

DEFAULT_LISTEN = "127.0.0.1:8090"


class Settings(Struct, frozen=True, kw_only=True):
    """Limits of the server; sizes in bytes, times in seconds.

    `head_s`: for a request's head. `stall_s`: for a reader to take a piece of a response.
    `ping_s`: of silence until a ping, and until its answer.
    """

    host: str = "127.0.0.1"
    port: int = 0
    tls: ssl.SSLContext | None = None
    origins: tuple[str, ...] = ()
    frame_ancestors: tuple[str, ...] = ()
    proxies: tuple[Network, ...] = ()
    max_message: int = 16 * 1024 * 1024
    max_connections: int = 2000
    max_per_key: int = 100
    rate: float = 50.0
    buffer: int = 32 * 1024 * 1024
    idle_s: float = 3600.0
    register_s: float = 10.0
    head_s: float = 10.0
    stall_s: float = 30.0
    ping_s: float = 20.0


def settings_of(config: Config) -> Settings:
    """Return the server's settings. Raises ConfigError for certificates that are none."""
    host, port = host_and_port(config.websocket_listen or DEFAULT_LISTEN)
    tls: ssl.SSLContext | None = None
    if config.websocket_cert is not None:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        try:
            tls.load_cert_chain(config.websocket_cert, config.websocket_cert_key)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"websocket_cert: {config.websocket_cert}: {error}") from None
    origins = config.websocket_origins
    if config.public_url is not None:
        origins = (*origins, config.public_url)
    return Settings(
        host=host,
        port=port,
        tls=tls,
        origins=origins,
        frame_ancestors=config.frame_ancestors,
        proxies=tuple(ipaddress.ip_network(each) for each in config.trusted_proxies),
        max_message=config.websocket_max_message,
        max_connections=config.websocket_max_connections,
        max_per_key=config.websocket_max_per_key,
        rate=config.websocket_rate,
        buffer=config.websocket_buffer,
        idle_s=config.websocket_idle_s,
    )


def broker_of(config: Config) -> Address:
    """Return the broker's address, with the adapter's own account. Raises BadAddress."""
    return Address.parse(
        config.websocket_mqtt_url or config.mqtt_url,
        ca=config.mqtt_ca,
        cert=config.mqtt_cert,
        key=config.mqtt_key,
        password_file=None if config.websocket_mqtt_url else config.mqtt_password_file,
    )


def public_broker_of(config: Config) -> Address | None:
    """Return the broker's address as clients reach it, None if not set. Raises ConfigError."""
    if config.public_mqtt_url is None:
        return None
    try:
        address = Address.parse(config.public_mqtt_url)
    except BadAddress as error:
        raise ConfigError(f"public_mqtt_url: {error}") from None
    if address.username is not None:
        raise ConfigError("public_mqtt_url: without user and password: every client can read it")
    return address
