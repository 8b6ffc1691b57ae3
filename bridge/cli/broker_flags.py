"""The flags of `mosquitto_pub` that name a broker: -H, -p, -u and -P, in place of a URL.

Pure.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, urlsplit

from msgspec import Struct

from bridge.cli.values import PORT

_TLS_PORT = 8883

# Name of the parameter, its flags, and its attributes.
BROKER_FLAGS: tuple[tuple[str, tuple[str, ...], dict[str, Any]], ...] = (
    ("host", ("-H", "--host"), {"help": "The broker's host, in place of --mqtt-url."}),
    (
        "port",
        ("-p", "--port"),
        {
            "help": "The broker's port; 8883 is TLS.",
            "type": PORT,
            "metavar": "NUMBER",
        },
    ),
    ("username", ("-u", "--username"), {"help": "The user at the broker."}),
    (
        "password",
        ("-P", "--pw"),
        {"help": "The password there; other users of this machine can see it."},
    ),
)

FLAG_NAMES = tuple(name for name, _, _ in BROKER_FLAGS)


class BrokerFlags(Struct, frozen=True):
    """The values of the broker's flags; None is a flag that was not given."""

    host: str | None = None
    port: int | None = None
    username: str | None = None
    password: str | None = None

    @property
    def given(self) -> bool:
        """True if any of them is given."""
        return self != BrokerFlags()


def broker_url(url: str, flags: BrokerFlags) -> str:
    """Return the URL of the broker that the flags name, the rest being as in `url`.

    Another host gets neither the user nor the password nor the port of `url`. Raises ValueError
    where `url` is none.
    """
    if not flags.given:
        return url
    parts = urlsplit(url if "://" in url else f"mqtt://{url}")
    if flags.host is None:
        host, port, user, secret = parts.hostname or "", parts.port, parts.username, parts.password
    else:
        host, port, user, secret = flags.host.strip("[]"), None, None, None
    if flags.username is not None:
        user, secret = quote(flags.username, safe=""), None
    if flags.password is not None:
        secret = quote(flags.password, safe="")
    scheme = "mqtts" if flags.port == _TLS_PORT and parts.scheme == "mqtt" else parts.scheme
    port = flags.port or port
    account = (user or "") + ("" if secret is None else f":{secret}")
    where = (f"[{host}]" if ":" in host else host) + ("" if port is None else f":{port}")
    if flags.host is None:  # a WebSocket's path is that host's
        where += parts.path + (f"?{parts.query}" if parts.query else "")
    return f"{scheme}://{account}@{where}" if account else f"{scheme}://{where}"
