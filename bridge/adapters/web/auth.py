"""Authentication: where a request came from, whether a page may open the socket, whose a key is."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from typing import Final
from urllib.parse import parse_qs

from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request

from bridge.adapters.web import answers, web
from bridge.adapters.web.answers import Answer
from bridge.adapters.web.errors import KeyringError
from bridge.adapters.web.keyring import Key, Keyring
from bridge.adapters.web.limits import Failures
from bridge.adapters.web.settings import Settings

log = logging.getLogger(__name__)


# Sockets that have not registered, and requests by HTTP: of all, and of one address.
STRANGERS: Final = 256
STRANGERS_OF_ONE: Final = 64


class Auth:
    """Knows who tried wrong keys, and makes them wait."""

    def __init__(self, settings: Settings, keyring: Keyring) -> None:
        self._settings = settings
        self._keyring = keyring
        self._failures = Failures()
        self._strangers: Counter[str] = Counter()

    def came(self, connection: ServerConnection, request: Request) -> web.Came:
        """Tell where a request came from."""
        peer = connection.remote_address
        return web.came(
            peer=str(peer[0]) if peer else "",
            scheme="https" if self._settings.tls is not None else "http",
            host=header(request, "Host") or "",
            forwarded=[header(request, f"X-Forwarded-{name}") for name in ("For", "Proto", "Host")],
            trusted=self._settings.proxies,
        )

    @contextmanager
    def stranger(self, address: str) -> Iterator[bool]:
        """Count one who has not said who he is, for as long as the block lasts.

        False: there are too many already, here or from that address.
        """
        found = self._strangers
        admitted = found.total() < STRANGERS and found[address] < STRANGERS_OF_ONE
        found[address] += 1
        try:
            yield admitted
        finally:
            found[address] -= 1
            if not found[address]:
                del found[address]

    def refusal(self, came: web.Came, origin: str | None) -> Answer | None:
        """Return what to answer somebody who may not open the socket."""
        if not web.may_open(origin, came, self._settings.origins):
            return answers.said(HTTPStatus.FORBIDDEN, "this page may not: see websocket_origins")
        return self.waiting(came.address)

    def waiting(self, address: str) -> Answer | None:
        """Return what to answer an address that tried too many wrong keys."""
        wait_s = self._failures.wait_s(address, time.monotonic())
        if not wait_s:
            return None
        again = (("Retry-After", str(int(wait_s) + 1)),)
        return answers.said(HTTPStatus.TOO_MANY_REQUESTS, "too many wrong keys", again)

    async def find(self, text: str, address: str) -> Key | None:
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
            log.warning("a wrong key from %s", address)
        return key

    def holds(self, key_id: str) -> bool:
        """Whether a key is still valid."""
        return self._keyring.holds(key_id)


def header(request: Request, name: str) -> str | None:
    """Return a header; of one that is given twice the first."""
    return next(iter(request.headers.get_all(name)), None)


def parameter(query: str, name: str) -> str | None:
    """Return a parameter of a query; of one that is given twice the first."""
    try:
        return next(iter(parse_qs(query, max_num_fields=16).get(name, ())), None)
    except ValueError:
        return None
