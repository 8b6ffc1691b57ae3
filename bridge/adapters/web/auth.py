"""Authentication: where a request came from, which pages may open a socket, whose a key is.

The first login is a link for one browser on this machine, where nobody has a key yet. It holds a
token in its fragment, which no proxy and no log of requests sees. The token is good once, for ten
minutes, from loopback, and only while there is no key: then the page gets one.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import secrets
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from typing import Final

from aiohttp import web

from bridge.adapters.web import responses
from bridge.adapters.web.http_headers import ClientAddress, client_address, origin_allowed
from bridge.adapters.web.keyring import AccessKey, Keyring, KeyringError
from bridge.adapters.web.limits import Failures
from bridge.adapters.web.settings import Settings

log = logging.getLogger(__name__)


class Auth:
    """Checks origins and keys; makes addresses wait that tried wrong ones."""

    def __init__(self, settings: Settings, keyring: Keyring) -> None:
        self._settings = settings
        self._keyring = keyring
        self._failures = Failures()

    def client(self, request: web.BaseRequest) -> ClientAddress:
        """Return a request's client address."""
        headers = request.headers
        return client_address(
            peer=request.remote or "",
            scheme="https" if self._settings.tls is not None else "http",
            host=headers.get("Host", ""),
            # Some proxies add a line of their own below the client's: together they are one list.
            forwarded=[
                ",".join(headers.getall(f"X-Forwarded-{name}", []))
                for name in ("For", "Proto", "Host")
            ],
            trusted=self._settings.proxies,
        )

    def refuse_origin(self, request: web.BaseRequest, client: ClientAddress) -> web.Response | None:
        """Return the response to a page that may not open a socket: each origin named must be."""
        given = request.headers.getall("Origin", [])
        if all(origin_allowed(each, client, self._settings.origins) for each in given):
            return None
        return responses.text(HTTPStatus.FORBIDDEN, "this page may not: see websocket_origins")

    def refuse_guesser(self, client: ClientAddress) -> web.Response | None:
        """Return the response to an address that tried too many wrong keys."""
        wait_s = self._failures.wait_s(client.address, time.monotonic())
        if not wait_s:
            return None
        again = {"Retry-After": str(int(wait_s) + 1)}
        return responses.text(HTTPStatus.TOO_MANY_REQUESTS, "too many wrong keys", again)

    def note_failure(self, client: ClientAddress) -> None:
        """Count a wrong try of an address."""
        self._failures.note(client.address, time.monotonic())

    async def find(self, text: str, address: str) -> AccessKey | None:
        """Authenticate a key. None if it is wrong, or if `address` is backing off; counts failures.

        Only for a key that is not known yet the file is read again, in a thread.
        """
        if self._failures.wait_s(address, time.monotonic()):
            return None
        key = self._keyring.find(text)
        if key is None:
            with suppress(KeyringError):  # logged by the task that reads the file every second
                await asyncio.to_thread(self._keyring.refresh)  # it may have been made just now
            key = self._keyring.find(text)
        if key is None:
            self._failures.note(address, time.monotonic())
            log.warning("refused a wrong key from %s", address)
        return key

    def holds(self, key_id: str) -> bool:
        """Return whether a key is still valid."""
        return self._keyring.holds(key_id)


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
