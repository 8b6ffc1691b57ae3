"""The web adapter's settings, and the address that clients have for the broker."""

from __future__ import annotations

import ipaddress

from msgspec import Struct

from bridge.adapters.web.certificate import Certificate
from bridge.adapters.web.http_headers import Network
from bridge.config import Config, ConfigError, host_and_port
from bridge.mqtt import Address
from bridge.text import in_quotes

DEFAULT_LISTEN = "127.0.0.1:8090"


class Settings(Struct, frozen=True, kw_only=True):
    """Limits of the server; sizes in bytes, times in seconds.

    `head_s`: for a request's head. `stall_s`: for a reader to take a piece of a response.
    `ping_s`: of silence until a ping, and until its answer.
    """

    host: str = "127.0.0.1"
    port: int = 0
    tls: Certificate | None = None
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
    tls: Certificate | None = None
    if config.websocket_cert is not None:
        try:
            tls = Certificate(config.websocket_cert, config.websocket_cert_key)
        except OSError as error:
            raise ConfigError(
                f"{in_quotes(str(config.websocket_cert))}: expected a certificate with its key, "
                f"PEM: {error.strerror or error}",
                "websocket_cert",
            ) from None
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


class ClientsBroker(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The broker's address for a client's program; without `host` it is the page's host.

    `login`: the broker asks for a user and a password.
    """

    port: int
    host: str | None = None
    tls: bool = False
    login: bool = False


def clients_broker(ours: Address, public: Address | None = None) -> ClientsBroker:
    """Return the broker for code samples: `public` if that is set, else what `ours` says.

    This machine's own address means another machine to a client there, and a name without a dot is
    one of a container network, as a rule: then the host of the page is the better guess. The
    samples speak plain MQTT: of a WebSocket's address they have the host.
    """
    login = ours.username is not None
    found = ours if public is None else public
    host = found.host if public is not None or _means_the_same_elsewhere(ours.host) else None
    port = found.port if found.path is None else 8883 if found.tls else 1883
    return ClientsBroker(host=host, port=port, tls=found.tls, login=login)


def _means_the_same_elsewhere(host: str) -> bool:
    try:
        found = ipaddress.ip_address(host)
    except ValueError:
        return "." in host.rstrip(".")
    return not (found.is_loopback or found.is_unspecified)
