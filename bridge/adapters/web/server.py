"""An aiohttp server with bounds on what connections may do before anybody has looked at them.

aiohttp bounds a request's lines and a socket's messages. What is added: who has no complete request
yet waits in a bounded number of places, and bytes are counted as they arrive.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Final, cast

from aiohttp import HttpVersion10, web

from bridge.adapters.web.http_headers import Network, is_in
from bridge.adapters.web.limits import ByteBudget, ConnectionPlaces, network_of

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

HEAD_S: Final = 10.0
# Connections without a complete request: of all, and of one network.
WAITING: Final = 512
WAITING_OF_ONE: Final = 128
# Connections that the system has made and that are yet to be accepted: whoever finds no room there
# tries again after a second.
_BACKLOG: Final = 4 * WAITING
# Bytes of a request: its line and its headers.
_HEAD: Final = 64 * 1024
_STOP_S: Final = 2.0


class SilentConnection(asyncio.Protocol):
    """One TCP connection that has said nothing yet: anybody can have hundreds of them a second.

    aiohttp's own takes a task, a parser and a dozen other objects; it takes over at the first byte.
    """

    __slots__ = ("_handler", "_head_s", "_network", "_places", "_timer", "_transport", "_trusted")

    def __init__(
        self,
        handler: Callable[[], TcpConnection],
        places: ConnectionPlaces[SilentConnection | TcpConnection],
        trusted: Sequence[Network],
        head_s: float,
    ) -> None:
        """`handler` makes what takes over; `head_s` is how many seconds it may say nothing."""
        self._handler = handler
        self._places = places
        self._trusted = trusted
        self._head_s = head_s
        self._network = ""
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a place; the oldest connection of the largest network may lose its own."""
        self._transport = cast("asyncio.Transport", transport)
        self._timer = asyncio.get_running_loop().call_later(self._head_s, self.force_close)
        self._network, shared = _network_of(transport, self._trusted)
        _enter(self._places, self, self._network, shared=shared)

    def data_received(self, data: bytes) -> None:
        """Pass the connection to a handler."""
        transport = self._transport
        if transport is None:
            return  # it was closed meanwhile
        self._leave()
        handler = self._handler()
        transport.set_protocol(handler)
        handler.connection_made(transport)
        handler.data_received(data)

    def connection_lost(self, _exc: BaseException | None) -> None:
        """Release the place."""
        self._leave()

    def force_close(self) -> None:
        """Close the connection."""
        transport = self._transport
        self._leave()
        if transport is not None:
            transport.abort()

    def _leave(self) -> None:
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()
        self._places.leave(self, self._network)


def _network_of(transport: asyncio.BaseTransport, trusted: Sequence[Network]) -> tuple[str, bool]:
    """Return whose connection it is, and whether that is a proxy, behind which there are many."""
    peer = transport.get_extra_info("peername")
    address = str(peer[0]) if isinstance(peer, tuple) else ""
    return network_of(address), is_in(address, trusted)


def _enter(
    places: ConnectionPlaces[SilentConnection | TcpConnection],
    who: SilentConnection | TcpConnection,
    network: str,
    *,
    shared: bool,
) -> None:
    victim = places.enter(who, network, shared=shared)
    if victim is not None:
        victim.force_close()


class TcpConnection(web.RequestHandler):
    """One TCP connection; it counts the bytes that have arrived and that nobody has taken."""

    __slots__ = (
        "_budgets",
        "_exceeded",
        "_network",
        "_over",
        "_places",
        "_shared",
        "_trusted",
        "_unread",
        "heard_at",
    )

    def __init__(
        self,
        manager: web.Server,
        places: ConnectionPlaces[SilentConnection | TcpConnection],
        trusted: Sequence[Network],
        head_s: float,
    ) -> None:
        # Also the time for the first request, and within a request's head.
        super().__init__(
            manager,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=head_s,
            lingering_time=0.0,
            access_log=None,  # type: ignore[arg-type] # as its AppRunner does
        )
        self._places = places
        self._trusted = trusted
        self._network = ""
        self._shared = False
        self._unread = 0
        self._over = False
        self._budgets: Sequence[ByteBudget] = (ByteBudget(_HEAD),)
        self._exceeded: Callable[[], None] = self.force_close
        self.heard_at = 0.0
        """The time at which bytes last arrived, by the loop's clock."""

    @classmethod
    def of(cls, request: web.BaseRequest) -> TcpConnection:
        """Return the connection that a request came by."""
        connection = request.protocol
        if not isinstance(connection, cls):
            raise TypeError("only `serving` makes connections that are bounded")
        return connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a place; the oldest connection of the largest network may lose its own."""
        super().connection_made(transport)
        self._network, self._shared = _network_of(transport, self._trusted)
        self.wait_for_request()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Release the place and all bytes."""
        self._places.leave(self, self._network)
        self.take(self._unread)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count what arrives; nothing is kept of what is above a budget, or comes after it."""
        if self._over:
            return
        self.heard_at = self._loop.time()
        self._unread += len(data)
        for budget in self._budgets:
            budget.used += len(data)
        if any(budget.used > budget.limit for budget in self._budgets):
            self._over = True
            self.take(self._unread)  # others with these budgets need not suffer for it
            self._exceeded()
        else:
            super().data_received(data)

    def take(self, size: int) -> None:
        """Release the bytes of what was read."""
        size = min(size, self._unread)
        self._unread -= size
        for budget in self._budgets:
            budget.used -= size

    def spend(self, exceeded: Callable[[], None], *budgets: ByteBudget) -> None:
        """Count against other budgets from now on; `exceeded` is called once, to end this."""
        for budget in self._budgets:
            budget.used -= self._unread
        for budget in budgets:
            budget.used += self._unread
        self._budgets, self._exceeded = budgets, exceeded

    def wait_for_request(self) -> None:
        """Take a place among those who have no complete request."""
        if self.transport is None:
            return  # it was lost meanwhile
        _enter(self._places, self, self._network, shared=self._shared)

    def request_received(self) -> None:
        """Leave the place: a request has come, and its bytes were read."""
        self._places.leave(self, self._network)
        self.take(self._unread)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what is no HTTP, or has a header that is no UTF-8.

        Nothing is logged of that, nor of a client that is gone: anybody can send it.
        """
        if isinstance(exc, ConnectionError):
            raise exc  # aiohttp ends a connection for it
        no_text = isinstance(exc, UnicodeError) and not request.writer.output_size
        if status != HTTPStatus.BAD_REQUEST and not no_text:
            return super().handle_error(request, status, exc, message)
        response = web.Response(status=HTTPStatus.BAD_REQUEST, text="Bad Request\n")
        response.force_close()
        return response


@web.middleware
async def _bounded(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Free a connection's place while its request is handled."""
    connection = TcpConnection.of(request)
    connection.request_received()
    try:
        if request.version < HttpVersion10:  # aiohttp also reads what calls itself HTTP/0.9
            raise web.HTTPBadRequest
        return await handler(request)
    finally:
        connection.wait_for_request()


@asynccontextmanager
async def serving(
    app: web.Application,
    host: str,
    port: int,
    *,
    tls: ssl.SSLContext | None = None,
    trusted: Sequence[Network] = (),
    head_s: float = HEAD_S,
) -> AsyncIterator[int]:
    """Serve an application while the block lasts; gives the port. Raises OSError.

    `host` "" is all interfaces, `port` 0 any free one. `head_s`: seconds for a TLS handshake, for a
    connection's first byte, and for a request's head. `trusted`: proxies, which may have more
    connections than others.
    """
    app.middlewares.insert(0, _bounded)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=_STOP_S)
    await runner.setup()
    manager = runner.server
    if manager is None:
        raise RuntimeError("a runner that was set up has a server")
    places: ConnectionPlaces[SilentConnection | TcpConnection] = ConnectionPlaces(
        WAITING, WAITING_OF_ONE
    )

    def handler() -> TcpConnection:
        return TcpConnection(manager, places, trusted, head_s)

    try:
        server = await asyncio.get_running_loop().create_server(
            lambda: SilentConnection(handler, places, trusted, head_s),
            host or None,
            port,
            backlog=_BACKLOG,
            ssl=tls,
            ssl_handshake_timeout=None if tls is None else head_s,
        )
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            for each in list(places):
                each.force_close()
    finally:
        await runner.cleanup()
