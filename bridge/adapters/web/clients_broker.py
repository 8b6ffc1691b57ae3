"""The broker's address as clients reach it, which is not always how we reach it. Pure."""

from __future__ import annotations

import ipaddress

from msgspec import Struct

from bridge.mqtt import Address


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
