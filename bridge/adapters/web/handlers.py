"""Visits: requests by HTTP, each answered on a connection of its own.

The library means `process_request` for short refusals. What is larger is written here, piece by
piece, as fast as the other side takes it.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing
from http import HTTPStatus
from typing import Final

from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request

from bridge.adapters.web import answers
from bridge.adapters.web.answers import Answer
from bridge.adapters.web.auth import Auth, header, parameter
from bridge.adapters.web.displays import Displays
from bridge.adapters.web.hub import Hub
from bridge.adapters.web.signed_urls import Links, Query
from bridge.adapters.web.static_files import Site
from bridge.adapters.web.web import Came

log = logging.getLogger(__name__)

_OUTPUTS: Final = "/o/"
_DISPLAYS: Final = "/d/"


class Visits:
    """Answers everything but the socket. `stall_s`: how long a piece may take to be read."""

    def __init__(
        self,
        *,
        hub: Hub,
        auth: Auth,
        links: Links,
        displays: Displays,
        site: Site,
        stall_s: float,
    ) -> None:
        self._hub = hub
        self._auth = auth
        self._links = links
        self._displays = displays
        self._site = site
        self._stall_s = stall_s

    async def answer(self, came: Came, request: Request) -> Answer:
        """Return what to answer."""
        path, _, query = request.path.partition("?")
        if request.method not in ("GET", "HEAD"):
            allowed = (("Allow", "GET, HEAD"),)
            return answers.said(HTTPStatus.METHOD_NOT_ALLOWED, headers=allowed)
        if path.startswith(_OUTPUTS):
            asked = Query(
                width=parameter(query, "width"),
                span=header(request, "Range"),
                if_none_match=header(request, "If-None-Match"),
                if_range=header(request, "If-Range"),
                head=request.method == "HEAD",
            )
            return await self._links.get(path.removeprefix(_OUTPUTS), asked)
        if path.startswith(_DISPLAYS):
            refusal = self._auth.waiting(came.address)
            return refusal or await self._display(request, path, query, came.address)
        return self._probe(path) or self._page(request, path)

    def _probe(self, path: str) -> Answer | None:
        if path == "/healthz":
            return answers.said(HTTPStatus.OK, "serving")
        if path != "/readyz":
            return None
        bridge = self._hub.bridge
        ready = bridge != "unreachable"
        status = HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE
        return answers.said(status, f"the bridge is {bridge}")

    async def _display(self, request: Request, path: str, query: str, address: str) -> Answer:
        if await self._auth.find(parameter(query, "key") or "", address) is None:
            return answers.said(HTTPStatus.UNAUTHORIZED, "the key is wrong")
        return self._displays.get(
            path.removeprefix(_DISPLAYS).partition(".")[0],
            header(request, "If-None-Match"),
            header(request, "If-Modified-Since"),
        )

    def _page(self, request: Request, path: str) -> Answer:
        found = self._site.get(path, header(request, "If-None-Match"))
        return found or answers.said(HTTPStatus.NOT_FOUND)

    async def send(self, connection: ServerConnection, answer: Answer, *, head: bool) -> None:
        """Write an answer, and close the connection."""
        transport = connection.transport
        try:
            transport.write(answer.head())
            if answer.body is not None and not head:
                async with aclosing(answer.body) as body:
                    async for piece in body:
                        transport.write(piece)
                        async with asyncio.timeout(self._stall_s):
                            await connection.drain()
                        if transport.is_closing():
                            return
            transport.close()
            async with asyncio.timeout(self._stall_s):
                await connection.wait_closed()
        except Exception as error:  # noqa: BLE001 - the status is out: what is left is to stop
            log.info("an answer was cut off: %r", error)
        finally:
            transport.abort()
