"""WebSockets: each from its handshake to its end, and what ends one."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from contextlib import suppress
from http import HTTPStatus
from typing import Any, Final

import msgspec
from aiohttp import WSCloseCode, WSMsgType, web
from msgspec import UNSET, Raw, Struct, UnsetType

from bridge import __version__
from bridge.adapters.web import frames, responses
from bridge.adapters.web.auth import Auth
from bridge.adapters.web.broker import Broker
from bridge.adapters.web.frames import (
    BridgeRequest,
    LinkRequest,
    MalformedFrame,
    PingRequest,
    RefusedRequest,
    Register,
)
from bridge.adapters.web.hub import BrowserSession, Hub
from bridge.adapters.web.keyring import AccessKey
from bridge.adapters.web.limits import (
    BUFFERS_OF_A_KEY,
    BURST_S,
    ByteBudget,
    ConnectionPlaces,
    UnfinishedBudgets,
    heaviest_above,
    network_of,
)
from bridge.adapters.web.replay import Replay
from bridge.adapters.web.requests import PartOf, Reply
from bridge.adapters.web.server import TcpConnection
from bridge.adapters.web.settings import ClientsBroker, Settings
from bridge.adapters.web.signed_urls import SignedUrls
from bridge.contract.errors import Busy
from bridge.contract.messages import CONTRACT_VERSION, Transaction, encode, ok
from bridge.tokenbucket import TokenBucket


class Writers:
    """Makes writers, and flushes those that were written to."""

    def __init__(self) -> None:
        self._written: list[Writer] = []

    def to(self, socket: web.WebSocketResponse, transport: asyncio.Transport) -> Writer:
        """Return the writer to a socket."""
        return Writer(socket, transport, self)

    def note(self, writer: Writer) -> None:
        """Flush a writer at the end of this turn."""
        if not self._written:
            asyncio.get_running_loop().call_soon(self._flush)
        self._written.append(writer)

    def _flush(self) -> None:
        written, self._written = self._written, []
        for writer in written:
            writer.flush()


class Writer:
    """Writes whole frames to one socket, without waiting."""

    __slots__ = ("_frames", "_size", "_socket", "_transport", "_writers")

    def __init__(
        self, socket: web.WebSocketResponse, transport: asyncio.Transport, writers: Writers
    ) -> None:
        self._socket = socket
        self._transport = transport
        self._writers = writers
        self._frames: list[bytes] = []
        self._size = 0

    @property
    def waiting(self) -> int:
        """Bytes that have not left for the network yet."""
        return self._size + self._transport.get_write_buffer_size()

    def write(self, frame: bytes) -> None:
        """Write a frame after all earlier ones."""
        if not self._frames:
            self._writers.note(self)
        self._frames.append(frame)
        self._size += len(frame)

    def drop(self) -> None:
        """Cut the connection at once."""
        log.info("disconnected a client that does not read")
        self._frames, self._size = [], 0
        self._transport.abort()

    def flush(self) -> None:
        """Write what was collected; a socket that is closing takes no more frames."""
        frames, self._frames, self._size = self._frames, [], 0
        if not frames or self._socket.closed or self._transport.is_closing():
            return
        # Past aiohttp's own writer, which makes each frame again for each connection.
        if len(frames) == 1:
            self._transport.write(frames[0])
        else:
            self._transport.writelines(frames)


log = logging.getLogger(__name__)

# Close codes of our own; docs/websocket.md has them.
BAD_FRAME: Final = 4400
BAD_KEY: Final = 4401
TOO_LATE: Final = 4408
IDLE: Final = 4410
TOO_MANY: Final = 4429

PENDING: Final = 64
PART: Final = 256 * 1024
# Sockets that have not registered: of all, and of one network.
UNREGISTERED: Final = 256
UNREGISTERED_OF_ONE: Final = 64
_FIRST_MESSAGE: Final = 4096
_CLOSE_S: Final = 2.0
_REASON: Final = 120  # bytes that a close frame has for it, and a few to spare
_PING: Final = b"\x89\x00"


class _Peer(Struct, eq=False):
    """One open socket, and what it is made of."""

    socket: web.WebSocketResponse
    connection: TcpConnection
    transport: asyncio.Transport
    writer: Writer
    pace: TokenBucket
    pinged: bool = False
    closing: asyncio.Task[None] | None = None

    def close(self, code: int, reason: str) -> None:
        """Close the socket, without waiting for it; only the first code counts."""
        if self.closing is None:
            self.closing = asyncio.create_task(self.closed(code, reason))

    async def closed(self, code: int, reason: str) -> None:
        """Close the socket after what was written to it in this turn."""
        await asyncio.sleep(0)
        message = reason.encode()[:_REASON].decode("utf-8", "ignore").encode()
        try:
            async with asyncio.timeout(_CLOSE_S):
                await self.socket.close(code=code, message=message)
        except TimeoutError:
            self.transport.abort()

    async def receive(self) -> str | bytes | None:
        """Return the next message, None at the end. Cancelling this loses no message.

        Who sends faster than the rate, pings and pongs included, is read more slowly.
        """
        while True:
            wait_s = self.pace.wait_s(time.monotonic())
            if wait_s:
                await asyncio.sleep(wait_s)
            message = await self.socket.receive()
            self.pace.take(time.monotonic())
            match message.type:
                case WSMsgType.TEXT:
                    text: str = message.data
                    self.connection.take(_size(len(text) if text.isascii() else len(text.encode())))
                    return text
                case WSMsgType.BINARY:
                    data: bytes = message.data
                    self.connection.take(_size(len(data)))
                    return data
                case WSMsgType.PING:
                    self.connection.take(_size(len(message.data)))
                    with suppress(ConnectionError):
                        await self.socket.pong(message.data)
                case WSMsgType.PONG:
                    self.connection.take(_size(len(message.data)))
                case _:
                    return None


class Sockets:
    """Serves all sockets; `watch` is a task beside the server."""

    def __init__(
        self,
        settings: Settings,
        *,
        base: str,
        mqtt_port: int | None,
        clients_broker: ClientsBroker,
        broker: Broker,
        hub: Hub,
        auth: Auth,
        replay: Replay,
        signed_urls: SignedUrls,
    ) -> None:
        """`base` is the base topic, which clients get to know."""
        self._settings = settings
        self._base = base
        self._mqtt_port = mqtt_port
        self._clients_broker = clients_broker
        self._broker = broker
        self._hub = hub
        self._auth = auth
        self._signed_urls = signed_urls
        self._replay = replay
        self._writers = Writers()
        self._unregistered: ConnectionPlaces[_Peer] = ConnectionPlaces(
            UNREGISTERED, UNREGISTERED_OF_ONE
        )
        self._peers: dict[BrowserSession, _Peer] = {}
        self._unfinished = UnfinishedBudgets(settings.max_message)

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Handle a request for a socket; returns when the socket has ended."""
        client = self._auth.client(request)
        network = network_of(client.address)
        if self._unregistered.full(network):
            return responses.text(HTTPStatus.SERVICE_UNAVAILABLE, "too many that do not register")
        if len(self._peers) >= self._settings.max_connections:
            again = {"Retry-After": "30"}
            return responses.text(HTTPStatus.SERVICE_UNAVAILABLE, headers=again)
        refusal = self._auth.refuse_origin(request, client) or self._auth.refuse_guesser(client)
        if refusal is not None:
            return refusal
        socket = web.WebSocketResponse(
            compress=False,  # it triples what an idle connection takes
            max_msg_size=self._settings.max_message + 1,  # a message must be smaller
            timeout=_CLOSE_S,
            autoping=False,
        )
        if request.body_exists or not _can_prepare(socket, request):
            upgrade = {"Upgrade": "websocket", "Connection": "Upgrade"}
            return responses.text(HTTPStatus.UPGRADE_REQUIRED, headers=upgrade)
        connection, transport = TcpConnection.of(request), request.transport
        if transport is None:
            raise ConnectionResetError("the connection was lost")
        await socket.prepare(request)
        pace = TokenBucket.full(self._settings.rate, BURST_S, time.monotonic())
        peer = _Peer(socket, connection, transport, self._writers.to(socket, transport), pace)
        try:
            register = await self._registers(peer, client.address, network)
            if register is not None:
                await self._serve(peer, *register, network)
        finally:
            if peer.closing is not None:
                await asyncio.wait((peer.closing,))
            # Nobody has to take what was written last; nothing of it is kept for ever.
            asyncio.get_running_loop().call_later(_CLOSE_S, transport.abort)
        return socket

    async def _registers(
        self, peer: _Peer, address: str, network: str
    ) -> tuple[AccessKey, Register] | None:
        """Return a socket's key and first message; None if it is closed instead."""
        peer.connection.spend(
            lambda: peer.close(WSCloseCode.MESSAGE_TOO_BIG, "the first message is too large"),
            ByteBudget(_size(_FIRST_MESSAGE)),
        )
        victim = self._unregistered.enter(peer, network)
        if victim is not None:
            victim.transport.abort()
        try:
            register = await self._first(peer)
            key = None if register is None else await self._auth.find(register.key, address)
        finally:
            self._unregistered.leave(peer, network)
        if register is None:
            return None
        if key is None:
            await peer.closed(BAD_KEY, "the key is wrong")
        elif sum(each.key == key.id for each in self._peers) >= self._settings.max_per_key:
            await peer.closed(TOO_MANY, "too many connections with this key")
        elif len(self._peers) >= self._settings.max_connections:
            await peer.closed(WSCloseCode.TRY_AGAIN_LATER, "too many connections")
        else:
            return key, register
        return None

    async def _first(self, peer: _Peer) -> Register | None:
        """Return a socket's first message; None if there is none, or not a `register`."""
        try:
            async with asyncio.timeout(self._settings.register_s):
                message = await peer.receive()
            return None if message is None else frames.read_register(message)
        except TimeoutError:
            await peer.closed(TOO_LATE, "no register in time")
        except MalformedFrame as error:
            await peer.closed(BAD_FRAME, str(error))
        return None

    async def _serve(self, peer: _Peer, key: AccessKey, register: Register, network: str) -> None:
        peer.connection.spend(
            lambda: peer.close(
                WSCloseCode.TRY_AGAIN_LATER,
                "too many unfinished messages with this key or from this network",
            ),
            *self._unfinished.enter(key.id, network),
        )
        session = BrowserSession(
            peer.writer,
            name=secrets.token_urlsafe(9),
            client=key.client,
            key=key.id,
            buffer=self._settings.buffer,
        )
        session.last_message_at = time.monotonic()
        self._peers[session] = peer
        resuming: asyncio.Task[None] | None = None
        try:
            async with self._broker.listening(key.client):
                session.send(self._registered(session))
                if register.after is not UNSET:
                    session.n = register.after
                    session.hold_back()
                self._hub.add(session)
                self._hub.send_progress(session)
                if register.after is not UNSET:
                    resuming = asyncio.create_task(self._replay.resume(session, register.after))
                await self._read(peer, session)
        finally:
            self._hub.remove(session)
            del self._peers[session]
            self._unfinished.leave(key.id, network)
            if resuming is not None:
                resuming.cancel()
                await asyncio.wait((resuming,))

    def _registered(self, session: BrowserSession) -> bytes:
        settings = self._settings
        return frames.text(
            "registered",
            {
                "connection": session.name,
                "client": session.client,
                "base": self._base,
                **({} if self._mqtt_port is None else {"mqtt_port": self._mqtt_port}),
                "mqtt": self._clients_broker,
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

    async def _read(self, peer: _Peer, session: BrowserSession) -> None:
        while (message := await peer.receive()) is not None:
            session.last_message_at = time.monotonic()
            try:
                said = frames.read(message)
            except MalformedFrame as error:
                await peer.closed(BAD_FRAME, str(error))
                return
            match said:
                case BridgeRequest():
                    self._ask(session, said)
                    await self._broker.room()
                case LinkRequest():
                    of_set = said.set_id is not UNSET
                    name = str(said.set_id if of_set else said.job_id)
                    link = self._signed_urls.make(session.client, name, said.output, of_set=of_set)
                    _respond(session, frames.LINK, ok(link), said.transaction)
                case PingRequest():
                    _respond(session, frames.PING, ok({}), said.transaction)
                case RefusedRequest():
                    reply = Reply("error", error=Raw(encode(said.error)))
                    _respond(session, said.verb, reply, said.transaction)

    def _ask(self, session: BrowserSession, asked: BridgeRequest) -> None:
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
                f"{part.whose}_id": part.owner,
                "output": part.output,
                "offset": part.offset,
                "content_type": part.content_type,
            }
            if asked.transaction is not UNSET:
                header["transaction"] = asked.transaction
            session.send(frames.binary(header, part.data))

        self._broker.ask(
            session.client,
            asked.levels,
            asked.payload,
            content_type=asked.content_type,
            answered=answered,
            part=part if asked.verb == "fetch" else None,
        )

    async def watch(self) -> None:
        """Ping silent sockets; close those without a pong, idle, or with a revoked key.

        A task beside the server; never returns.
        """
        settings = self._settings
        loop = asyncio.get_running_loop()
        while True:
            now = loop.time()
            for session, peer in self._peers.items():
                why = self._why_closed(session, peer, now)
                if why is not None:
                    peer.close(*why)
            waiting = [(peer, each.key, peer.writer.waiting) for each, peer in self._peers.items()]
            for peer in heaviest_above(waiting, BUFFERS_OF_A_KEY * settings.buffer):
                peer.writer.drop()
            await asyncio.sleep(min(1.0, settings.ping_s / 4, settings.idle_s / 4))

    def _why_closed(
        self, session: BrowserSession, peer: _Peer, now: float
    ) -> tuple[int, str] | None:
        settings = self._settings
        if not self._auth.holds(session.key):
            return BAD_KEY, "the key was revoked"
        silent_s = now - peer.connection.heard_at
        if silent_s > 2 * settings.ping_s:
            return WSCloseCode.INTERNAL_ERROR, "no answer to a ping"
        if silent_s > settings.ping_s and not peer.pinged:
            peer.writer.write(_PING)
        peer.pinged = silent_s > settings.ping_s
        idle = session.last_message_at < time.monotonic() - settings.idle_s
        if idle and not self._hub.is_waiting(session):
            return IDLE, "idle"
        return None

    async def close_all(self, _app: web.Application) -> None:
        """Close all sockets: the server stops. A signal of the application."""
        peers = [*self._peers.values(), *self._unregistered]
        for peer in peers:
            peer.close(WSCloseCode.GOING_AWAY, "the server stops")
        await asyncio.gather(*(each.closing for each in peers if each.closing is not None))


def _can_prepare(socket: web.WebSocketResponse, request: web.Request) -> bool:
    """Return whether a request is one for a socket."""
    try:
        return bool(socket.can_prepare(request))
    except ValueError:  # its key is no ASCII
        return False


def _respond(
    session: BrowserSession, verb: str, answer: Any, transaction: Transaction | UnsetType
) -> None:
    """Answer a request, with the transaction that its sender gave it."""
    fields = {**msgspec.structs.asdict(answer), "transaction": transaction}
    said = {name: value for name, value in fields.items() if value not in (UNSET, None)}
    session.send(frames.text("response", {"verb": verb, **said}))


def _size(payload: int) -> int:
    """Return the bytes of a client's frame: the payload, its head, and the mask."""
    length = 0 if payload < 126 else 2 if payload < 1 << 16 else 8  # noqa: PLR2004 - RFC 6455, 5.2
    return payload + 2 + length + 4
