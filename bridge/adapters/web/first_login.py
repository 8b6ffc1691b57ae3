"""The first login: a link for one browser on this machine, where nobody has a key yet.

It holds a token in its fragment, which no proxy and no log of requests sees. The token is good
once, for ten minutes, from loopback, and only while there is no key: then the page gets one.
"""

from __future__ import annotations

import ipaddress
import secrets
import threading
import time
from collections.abc import Callable
from typing import Final

from bridge.adapters.web.keyring import Keyring

# The client of the first key: that of the examples.
CLIENT: Final = "me"
LASTS_S: Final = 600.0
FRAGMENT: Final = "login="


class FirstLogin:
    """Offers the link, and redeems its token. `clock` gives monotonic seconds."""

    def __init__(self, keyring: Keyring, clock: Callable[[], float] = time.monotonic) -> None:
        self._keyring = keyring
        self._clock = clock
        self._lock = threading.Lock()
        self._token: str | None = None
        self._until = 0.0

    def offer(self, page: str) -> str | None:
        """Return a link to the page at this address that logs in; None if there is a key."""
        if self._keyring.keys:
            return None
        self._token, self._until = secrets.token_urlsafe(24), self._clock() + LASTS_S
        return f"{page}#{FRAGMENT}{self._token}"

    def redeem(self, token: str, address: str) -> str | None:
        """Return a new key for a token from an address, None if it is not good (any more).

        Blocks on the disk. Raises KeyringError.
        """
        with self._lock:
            # A header's bytes that are not UTF-8 come as halves of surrogate pairs.
            given = token.encode(errors="surrogatepass")
            good = self._token is not None and secrets.compare_digest(given, self._token.encode())
            if not good or self._clock() > self._until or not _is_loopback(address):
                return None
            self._token = None
            self._keyring.refresh()
            if self._keyring.keys:
                return None
            _, text = self._keyring.add(CLIENT, "first login", time.time())
            return text


def _is_loopback(address: str) -> bool:
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return (mapped or found).is_loopback
