"""HTTP requests: the page, probes, outputs by signed URL, displays; and how all are answered."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from contextlib import aclosing, contextmanager
from http import HTTPStatus
from typing import Final

from aiohttp import web

from bridge.adapters.web import responses
from bridge.adapters.web.auth import Auth
from bridge.adapters.web.content import VERSIONED, DisplayPictures, Page
from bridge.adapters.web.first_login import FirstLogin
from bridge.adapters.web.hub import Hub
from bridge.adapters.web.limits import ConnectionPlaces, network_of
from bridge.adapters.web.responses import Streamed
from bridge.adapters.web.server import Handler
from bridge.adapters.web.signed_urls import SignedUrls

log = logging.getLogger(__name__)

SOCKET: Final = "/ws"
# Requests that are being answered: of all, and of one network.
REQUESTS: Final = 256
REQUESTS_OF_ONE: Final = 64
_PROBES: Final = ("/healthz", "/readyz")
# Nothing from elsewhere, nothing inline; images that were received, or are about to be sent.
_PAGE_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "media-src 'self' blob:; connect-src 'self'; manifest-src 'self'; form-action 'none'; "
    "base-uri 'none'; frame-ancestors "
)
# A file whose address changes with it; a year is the most that is usual.
_FOR_EVER: Final = "public, max-age=31536000, immutable"


class Handlers:
    """Answers everything but sockets. `stall_s`: how long a piece may take to be read.

    `frame_ancestors`: origins whose pages may embed the page; `self` for those of its own.
    """

    def __init__(
        self,
        *,
        hub: Hub,
        auth: Auth,
        signed_urls: SignedUrls,
        displays: DisplayPictures,
        page: Page,
        frame_ancestors: Sequence[str],
        first_login: FirstLogin,
        stall_s: float,
    ) -> None:
        self._hub = hub
        self._auth = auth
        self._signed_urls = signed_urls
        self._displays = displays
        self._page = page
        others = (each for each in frame_ancestors if each != "self")
        ancestors = " ".join(("'self'", *others)) if frame_ancestors else "'none'"
        self._policy = f"{_PAGE_POLICY}{ancestors}"
        self._first_login = first_login
        self._stall_s = stall_s
        self._requests: ConnectionPlaces[asyncio.Transport] = ConnectionPlaces(
            REQUESTS, REQUESTS_OF_ONE
        )

    def add_to(self, app: web.Application) -> None:
        """Add the routes."""
        app.router.add_get(_PROBES[0], self._healthz)
        app.router.add_get(_PROBES[1], self._readyz)
        app.router.add_get("/o/{token:.*}", self._output)
        app.router.add_get("/d/{name}", self._display)
        app.router.add_post("/first-login", self._log_in_first)
        app.router.add_get(f"/{VERSIONED}/{{version}}/{{name}}", self._file)
        app.router.add_get("/{name:[^/]*}", self._file)

    async def _log_in_first(self, request: web.Request) -> web.Response:
        """Answer the token of the first login's link with a key. A header: no form sends one."""
        client = self._auth.client(request)
        if (refused := self._auth.refuse_guesser(client)) is not None:
            return refused
        _, _, token = request.headers.get("Authorization", "").partition(" ")
        key = await asyncio.to_thread(self._first_login.redeem, token, client.address)
        if key is None:
            self._auth.note_failure(client)
            return responses.text(
                HTTPStatus.FORBIDDEN, "this link is used, too old or not for here"
            )
        return responses.text(HTTPStatus.OK, key)

    @web.middleware
    async def answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Handle a request and send its response, within the limits; around all handlers."""
        if request.path == SOCKET and request.method == "GET":
            # It has limits of its own, and each frame on its stack is memory of an idle socket.
            response = await handler(request)
            if not response.prepared:
                await self._send(request, response)
            return response
        with self._counted(request) as admitted:
            # Whoever watches the process is answered, however many readers its network has.
            if admitted or request.path in _PROBES:
                response = await self._handle(request, handler)
            else:
                response = responses.text(HTTPStatus.SERVICE_UNAVAILABLE, "busy")
            await self._send(request, response)
        return response

    @contextmanager
    def _counted(self, request: web.Request) -> Iterator[bool]:
        """Count a request while the block lasts; gives False if its network has too many already.

        If all networks have, the one that takes longest in the network with most is cut off.
        """
        network = network_of(self._auth.client(request).address)
        if self._requests.full(network):
            yield False
            return
        transport = request.transport
        if transport is None:
            raise ConnectionResetError("the connection was lost")
        victim = self._requests.enter(transport, network)
        if victim is not None:
            victim.abort()
        try:
            yield True
        finally:
            self._requests.leave(transport, network)

    async def _handle(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.body_exists and request.method in ("GET", "HEAD"):
            return responses.text(HTTPStatus.BAD_REQUEST, "no request has a body here")
        try:
            return await handler(request)
        except web.HTTPException as error:  # of the router: no such path, or another method
            allow = error.headers.get("Allow")
            headers = {} if allow is None else {"Allow": ", ".join(allow.split(","))}
            return responses.text(HTTPStatus(error.status), headers=headers)

    async def _send(self, request: web.Request, response: web.StreamResponse) -> None:
        """Send a response until all of it has left; one that stalls is cut off."""
        transport = request.transport
        if transport is None:
            return
        transport.set_write_buffer_limits(0)
        try:
            async with asyncio.timeout(self._stall_s):
                await response.prepare(request)
            if isinstance(response, Streamed):
                async with aclosing(response.pieces) as pieces:
                    async for piece in pieces:
                        async with asyncio.timeout(self._stall_s):
                            await response.write(piece)
            async with asyncio.timeout(self._stall_s):
                await response.write_eof()
        except Exception as error:  # noqa: BLE001 - the status is out: what is left is to stop
            log.info("connection closed while sending a response: %r", error)
            transport.abort()

    # What is at which path.

    async def _healthz(self, _request: web.Request) -> web.Response:
        return responses.text(HTTPStatus.OK, "serving")

    async def _readyz(self, _request: web.Request) -> web.Response:
        bridge = self._hub.bridge
        ready = bridge != "unreachable"
        status = HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE
        return responses.text(status, f"the bridge is {bridge}")

    async def _output(self, request: web.Request) -> web.StreamResponse:
        return await self._signed_urls.get(request.match_info["token"], request)

    async def _display(self, request: web.Request) -> web.Response:
        client = self._auth.client(request)
        refusal = self._auth.refuse_guesser(client)
        if refusal is not None:
            return refusal
        if await self._auth.find(request.query.get("key", ""), client.address) is None:
            return responses.text(HTTPStatus.UNAUTHORIZED, "the key is wrong")
        picture = self._displays.get(request.match_info["name"].partition(".")[0])
        if picture is None:
            return responses.text(HTTPStatus.NOT_FOUND, "nothing was shown there")
        return responses.conditional(request, picture, {"Cache-Control": "private, no-cache"})

    async def _file(self, request: web.Request) -> web.Response:
        found = self._page.files.get(request.match_info["name"])
        if found is None:
            return responses.text(HTTPStatus.NOT_FOUND)
        # Another version was named by a page that another server gave, or this one before.
        is_fixed = request.match_info.get("version") == self._page.version
        headers = {
            "Cache-Control": _FOR_EVER if is_fixed else "no-cache",
            "Content-Security-Policy": self._policy,
        }
        return responses.conditional(request, found, headers)
