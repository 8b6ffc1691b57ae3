"""The server: sockets and requests by HTTP, each from its first byte to its end."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any, Final

import msgspec
from msgspec import UNSET, Raw, UnsetType
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode
from websockets.http11 import Request, Response

from bridge import __version__
from bridge.adapters.web import answers, frames
from bridge.adapters.web.answers import Answer
from bridge.adapters.web.auth import STRANGERS, Auth, header
from bridge.adapters.web.broker import Broker, PartOf, Reply
from bridge.adapters.web.frames import Ask, AskLink, Malformed, Ping, Refused, Register
from bridge.adapters.web.handlers import Visits
from bridge.adapters.web.hub import Hub, Session
from bridge.adapters.web.keyring import Key
from bridge.adapters.web.limits import BURST_S
from bridge.adapters.web.replay import Replay
from bridge.adapters.web.settings import Settings
from bridge.adapters.web.signed_urls import Links
from bridge.adapters.web.web import Came
from bridge.adapters.web.writer import Wires
from bridge.contract.errors import Busy
from bridge.contract.messages import CONTRACT_VERSION, Transaction, encode, ok
from bridge.tokenbucket import TokenBucket

log = logging.getLogger(__name__)

# Close codes of our own; docs/websocket.md has them.
BAD_FRAME: Final = 4400
BAD_KEY: Final = 4401
TOO_LATE: Final = 4408
IDLE: Final = 4410
TOO_MANY: Final = 4429

PENDING: Final = 64
PART: Final = 256 * 1024
_FIRST_MESSAGE: Final = 4096
_UNREAD: Final = 4  # messages of a connection, each as large as one may be
_CLOSE_S: Final = 2.0
_SOCKET: Final = "/ws"
_REASON: Final = 120  # bytes that a close frame has for it, and a few to spare


class _Connection(ServerConnection):
    """A connection that gets as long for its request as `head_s`, and for an answer what it takes.

    The library bounds both together, which would cut off whoever loads a picture on a slow line.
    """

    head_s = 10.0
    most = 1000
    """Connections that there may be of all kinds."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if len(self.server.handler_tasks) > self.most:
            self.transport.abort()

    async def handshake(self, *args: Any, **options: Any) -> None:
        async with asyncio.timeout(self.head_s):
            await asyncio.wait(
                (self.request_rcvd, self.connection_lost_waiter),
                return_when=asyncio.FIRST_COMPLETED,
            )
        await super().handshake(*args, **options)


class Sockets:
    """The server; `serving` is its life."""

    def __init__(
        self,
        settings: Settings,
        *,
        base: str,
        broker: Broker,
        hub: Hub,
        auth: Auth,
        links: Links,
        visits: Visits,
    ) -> None:
        """`base` is the base topic, which clients are told."""
        self._settings = settings
        self._base = base
        self._broker = broker
        self._hub = hub
        self._auth = auth
        self._links = links
        self._visits = visits
        self._replay = Replay(broker, hub)
        self._wires = Wires()
        self._connections: dict[Session, ServerConnection] = {}

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Server]:
        """Listen for as long as the block lasts; at its end everybody is told. Raises OSError."""
        settings = self._settings
        bounds = {"head_s": settings.head_s, "most": settings.max_connections + STRANGERS}
        tls: dict[str, Any] = {}
        if settings.tls is not None:
            tls = {"ssl": settings.tls, "ssl_handshake_timeout": settings.head_s}
        async with serve(
            self._attend,
            settings.host or None,
            settings.port,
            process_request=self._request,
            create_connection=type("_Bounded", (_Connection,), bounds),
            compression=None,  # it triples what an idle connection takes
            open_timeout=None,
            close_timeout=_CLOSE_S,
            ping_interval=settings.ping_s,
            ping_timeout=settings.ping_s,
            max_size=_FIRST_MESSAGE,
            max_queue=_UNREAD,
            server_header=None,
            **tls,
        ) as server:
            yield server

    async def _request(self, connection: ServerConnection, request: Request) -> Response | None:
        """Answer a request; None lets the socket be opened."""
        answer: Answer | None
        came = self._auth.came(connection, request)
        with self._auth.stranger(came.address) as admitted:
            if not admitted:
                return connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, "busy\n")
            if request.path.partition("?")[0] == _SOCKET:
                answer = self._admit(came, request)
            else:
                answer = await self._visits.answer(came, request)
            if answer is None:
                return None
            await self._visits.send(connection, answer, head=request.method == "HEAD")
        # The answer is out, and the connection closed: this one goes nowhere.
        return connection.respond(HTTPStatus.OK, "")

    def _admit(self, came: Came, request: Request) -> Answer | None:
        """Return what to answer somebody for whom the socket is not opened."""
        if len(self._connections) >= self._settings.max_connections:
            return answers.said(HTTPStatus.SERVICE_UNAVAILABLE, headers=(("Retry-After", "30"),))
        return self._auth.refusal(came, header(request, "Origin"))

    async def _attend(self, connection: ServerConnection) -> None:
        """Serve one socket."""
        if connection.request is None:
            return  # a socket has one
        address = self._auth.came(connection, connection.request).address
        with self._auth.stranger(address) as admitted:
            if not admitted:
                await _close(connection, CloseCode.TRY_AGAIN_LATER, "too many that do not register")
                return
            register = await self._first(connection)
        if register is None:
            return
        key = await self._auth.find(register.key, address)
        if key is None:
            await _close(connection, BAD_KEY, "the key is wrong")
        elif sum(each.key == key.id for each in self._connections) >= self._settings.max_per_key:
            await _close(connection, TOO_MANY, "too many connections with this key")
        elif len(self._connections) >= self._settings.max_connections:
            await _close(connection, CloseCode.TRY_AGAIN_LATER, "too many connections")
        else:
            await self._serve(connection, key, register)

    async def _first(self, connection: ServerConnection) -> Register | None:
        """Return a connection's first message, None if it has none that is fit."""
        try:
            async with asyncio.timeout(self._settings.register_s):
                return frames.read_register(await connection.recv())
        except TimeoutError:
            await _close(connection, TOO_LATE, "no register in time")
        except Malformed as error:
            await _close(connection, BAD_FRAME, str(error))
        except ConnectionClosed:
            pass
        return None

    async def _serve(self, connection: ServerConnection, key: Key, register: Register) -> None:
        settings = self._settings
        session = Session(
            self._wires.to(connection),
            name=secrets.token_urlsafe(9),
            client=key.client,
            key=key.id,
            buffer=settings.buffer,
        )
        session.heard_at = time.monotonic()
        self._connections[session] = connection
        connection.protocol.max_message_size = settings.max_message
        resuming: asyncio.Task[None] | None = None
        try:
            async with self._broker.listening(key.client):
                session.tell(self._registered(session))
                if register.after is not UNSET:
                    session.n = register.after
                    session.hold()
                self._hub.join(session)
                self._hub.newest(session)
                if register.after is not UNSET:
                    resuming = asyncio.create_task(self._replay.resume(session, register.after))
                await self._read(connection, session)
        except ConnectionClosed:
            pass
        finally:
            self._hub.leave(session)
            del self._connections[session]
            if resuming is not None:
                resuming.cancel()
                await asyncio.wait((resuming,))

    def _registered(self, session: Session) -> bytes:
        settings = self._settings
        return frames.text(
            "registered",
            {
                "connection": session.name,
                "client": session.client,
                "base": self._base,
                "contract": CONTRACT_VERSION,
                "version": __version__,
                "bridge": self._hub.bridge,
                "limits": {
                    "message": settings.max_message,
                    "part": min(PART, settings.max_message // 2),
                    "rate": settings.rate,
                    "pending": PENDING,
                    "idle_s": settings.idle_s,
                    "buffer": settings.buffer,
                },
            },
        )

    async def _read(self, connection: ServerConnection, session: Session) -> None:
        pace = TokenBucket.full(self._settings.rate, BURST_S, time.monotonic())
        async for message in connection:
            session.heard_at = time.monotonic()
            wait_s = pace.take(session.heard_at)
            if wait_s:
                await asyncio.sleep(wait_s)
            try:
                said = frames.read(message)
            except Malformed as error:
                await _close(connection, BAD_FRAME, str(error))
                return
            match said:
                case Ask():
                    self._ask(session, said)
                    await self._broker.room()
                case AskLink():
                    link = self._links.make(session.client, said.job_id, said.output)
                    _respond(session, frames.LINK, ok(link), said.transaction)
                case Ping():
                    _respond(session, frames.PING, ok({}), said.transaction)
                case Refused():
                    reply = Reply("error", error=Raw(encode(said.error)))
                    _respond(session, said.verb, reply, said.transaction)

    def _ask(self, session: Session, asked: Ask) -> None:
        if session.pending >= PENDING:
            busy = Busy(f"{PENDING} requests are not answered yet", retry=True)
            _respond(session, asked.verb, Reply.refusal(busy), asked.transaction)
            return
        session.pending += 1

        def answered(reply: Reply) -> None:
            session.pending -= 1
            _respond(session, asked.verb, reply, asked.transaction)

        def part(part: PartOf) -> None:
            header = {
                "type": "part",
                "job_id": part.job_id,
                "output": part.output,
                "offset": part.offset,
                "content_type": part.content_type,
            }
            if asked.transaction is not UNSET:
                header["transaction"] = asked.transaction
            session.tell(frames.binary(header, part.data))

        self._broker.ask(
            session.client,
            asked.levels,
            asked.payload,
            content_type=asked.content_type,
            answered=answered,
            part=part,
        )

    async def follow_broker(self) -> None:
        """After each time without a broker, tell everybody what came meanwhile."""
        await self._replay.follow()

    # What ends a connection.

    async def watch(self) -> None:
        """Close what is idle, and what has a key that was revoked."""
        while True:
            now = time.monotonic()
            idle = now - self._settings.idle_s
            closing = [
                _close(connection, *why)
                for session, connection in self._connections.items()
                if (why := self._over(session, idle)) is not None
            ]
            await asyncio.gather(*closing)
            await asyncio.sleep(min(1.0, self._settings.idle_s / 4))

    def _over(self, session: Session, idle: float) -> tuple[int, str] | None:
        if not self._auth.holds(session.key):
            return BAD_KEY, "the key was revoked"
        if session.heard_at < idle and not self._hub.waits(session):
            return IDLE, "idle"
        return None


def _respond(
    session: Session, verb: str, answer: Any, transaction: Transaction | UnsetType
) -> None:
    """Answer a request, with the transaction that its sender gave it."""
    fields = {**msgspec.structs.asdict(answer), "transaction": transaction}
    said = {name: value for name, value in fields.items() if value not in (UNSET, None)}
    session.tell(frames.text("response", {"verb": verb, **said}))


async def _close(connection: ServerConnection, code: int, reason: str) -> None:
    """Close a connection, after what was written to it in this turn."""
    await asyncio.sleep(0)
    await connection.close(code, reason.encode()[:_REASON].decode("utf-8", "ignore"))
