"""Authentication: where a request came from, which pages may open a socket, whose a key is."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from http import HTTPStatus

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
