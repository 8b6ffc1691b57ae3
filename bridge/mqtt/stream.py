"""Opens a connection's socket, and stands in for it towards paho.

Nothing here blocks the event loop.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import sys
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.typing import Subprotocol
from websockets.uri import WebSocketURI

from bridge.mqtt.errors import BadAddress, BadCertificate, Unreachable
from bridge.mqtt.packets import DISCONNECT, LARGEST_REMAINING, PINGREQ

if TYPE_CHECKING:
    from collections.abc import Callable

    from bridge.mqtt.address import Address

T = TypeVar("T")

# Payloads up to this size are joined with their packet's head: one system call, one segment.
_JOINED: Final = 16 * 1024
# The ends of a handshake at a port for plain MQTT.
_NO_TLS: Final = (ConnectionError, ssl.SSLEOFError)
# What a TLS socket raises where another one raises BlockingIOError.
_NOT_NOW: Final = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
_SUBPROTOCOL: Final = Subprotocol("mqtt")
_BINARY: Final = (Opcode.BINARY, Opcode.CONT)
_HANDSHAKE: Final = 4096


class Stream:
    """A socket with a queue before it, which paho takes for its socket.

    paho reads the packets that `give` was called with, and what it writes is queued among the
    PUBLISH packets of `put`. Everything is in the order of the calls.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._unread = bytearray()
        self._queue: deque[memoryview] = deque()
        self.queued = 0
        """Bytes ever queued; once `written` has come as far, the last of them is out."""
        self.written = 0
        """Bytes ever written to the network."""
        self.pinging = False
        """True if paho wrote a PINGREQ; who sees the answer sets it back."""
        self._ping_end = 0
        self._closing = False

    # What paho calls.

    def recv(self, size: int) -> bytes:
        """Return at most `size` of the bytes that `feed` appended. Raises BlockingIOError."""
        if not self._unread:
            raise BlockingIOError
        found = bytes(self._unread[:size])
        del self._unread[:size]
        return found

    def send(self, data: bytes | bytearray) -> int:
        """Queue a packet; returns its size. Raises BlockingIOError, OSError.

        A DISCONNECT is written at once, behind all the rest, and not before that is out: paho
        closes the socket when this returns.
        """
        if data[0] & 0xF0 == DISCONNECT:
            self._closing = True
        if self._closing:
            return self._send_last(data)
        self._put(memoryview(bytes(data)))
        if data[0] == PINGREQ:
            self.pinging, self._ping_end = True, self.queued
        return len(data)

    def setblocking(self, _blocking: bool) -> None:  # noqa: FBT001 - the socket's own signature
        """Do nothing: the socket never blocks."""

    def fileno(self) -> int:
        """Return the socket's file descriptor, -1 once it is closed."""
        return self._sock.fileno()

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()

    # What the link calls.

    @property
    def has_unread(self) -> bool:
        """True if there are bytes that paho has not read."""
        return bool(self._unread)

    @property
    def waiting(self) -> bool:
        """True if there are bytes to be written."""
        return bool(self._queue)

    @property
    def ping_waits(self) -> bool:
        """True if a PINGREQ was not written yet."""
        return self.written < self._ping_end

    def read(self, size: int) -> bytes | None:
        """Read from the network; None if there is nothing now, b"" at the end. Raises OSError."""
        try:
            return self._sock.recv(size)
        except _NOT_NOW:
            return None

    def feed(self, packet: bytes) -> None:
        """Append a received packet to what paho reads next from `recv`."""
        self._unread += packet

    def put(self, head: bytes, payload: bytes | memoryview = b"") -> None:
        """Queue a packet, its payload by reference if it is large."""
        if len(payload) <= _JOINED:
            self._put(memoryview(b"".join((head, payload))))
        else:
            self._put(memoryview(head))
            self._put(memoryview(payload))

    def write(self, most: int) -> None:
        """Write what the network takes now, at most `most` bytes. Raises OSError."""
        while self._queue and most > 0:
            piece = self._next()
            try:
                sent = self._sock.send(piece[:most])
            except _NOT_NOW:
                return
            most -= sent
            self.written += sent
            if sent < len(piece):
                # A slice of a view costs nothing.
                self._queue[0] = piece[sent:]
            else:
                self._queue.popleft()

    def _next(self) -> memoryview:
        """Return the first piece, with small ones behind it in it: each write is a system call."""
        small: list[memoryview] = []
        size = 0
        while self._queue and (size := size + len(self._queue[0])) <= _JOINED:
            small.append(self._queue.popleft())
        if small:
            self._queue.appendleft(small[0] if len(small) == 1 else memoryview(b"".join(small)))
        return self._queue[0]

    def _put(self, data: memoryview) -> None:
        self._queue.append(data)
        self.queued += len(data)

    def _send_last(self, data: bytes | bytearray) -> int:
        if self._queue:
            raise BlockingIOError
        try:
            sent = self._sock.send(data)
        except _NOT_NOW as error:
            raise BlockingIOError from error
        self.queued += sent
        self.written += sent
        return sent


class WebSocketStream(Stream):
    """A stream whose bytes travel in WebSocket frames, in both directions (MQTT 5, 6)."""

    def __init__(self, sock: socket.socket, protocol: ClientProtocol) -> None:
        """`protocol` has finished its handshake."""
        super().__init__(sock)
        self._protocol = protocol
        self._has_last = False

    def read(self, size: int) -> bytes | None:
        """Read from the network; None if there is no whole frame now, b"" at the end."""
        data = super().read(size)
        if not data:
            return data
        self._protocol.receive_data(data)
        frames = [each for each in self._protocol.events_received() if isinstance(each, Frame)]
        self._put_frames()  # answers to a ping, or to the end
        if any(each.opcode is Opcode.TEXT for each in frames):
            return b""  # MQTT is binary: whatever this is, it is not MQTT
        found = b"".join(each.data for each in frames if each.opcode in _BINARY)
        return found or (None if self._protocol.state is State.OPEN else b"")

    def _put(self, data: memoryview) -> None:
        if self._protocol.state is State.OPEN:  # else its end is about to be read
            self._protocol.send_binary(data)
            self._put_frames()

    def _put_frames(self) -> None:
        for each in self._protocol.data_to_send():
            if each:  # an empty one asks for the socket to be closed, which is the link's to do
                super()._put(memoryview(each))

    def _send_last(self, data: bytes | bytearray) -> int:
        if not self._has_last and not self._queue:
            self._has_last = True
            self._put(memoryview(bytes(data)))
            self.write(sys.maxsize)
        if self._queue:
            raise BlockingIOError
        return len(data)


async def open_stream(address: Address, timeout_s: float) -> Stream:
    """Connect to the broker, with TLS and a WebSocket if the address has them.

    Raises Unreachable, BadCertificate, or BadAddress for certificate files that cannot be used.
    """
    try:
        async with asyncio.timeout(timeout_s):
            context = await asyncio.to_thread(address.ssl_context) if address.tls else None
            sock = await _open_tcp(address, timeout_s)
            if context is not None:
                sock = await _open_tls(sock, context, address.host)
            return Stream(sock) if address.path is None else await _open_websocket(sock, address)
    except TimeoutError as error:
        raise Unreachable(f"{address} did not answer within {timeout_s:g} s") from error
    except ssl.SSLCertVerificationError as error:
        why = error.verify_message.rstrip(".")
        raise BadCertificate(f"{address}: its certificate is not valid: {why}") from error
    except OSError as error:
        raise Unreachable(f"{address}: {_error_text(error)}") from error
    except UnicodeError as error:
        raise BadAddress(f"the host {address.host!r} is no name: {error}") from error


def _error_text(error: OSError) -> str:
    # asyncio puts words of its own in place of the system's "Connection refused".
    if isinstance(error, (ssl.SSLError, socket.gaierror)) or error.errno is None:
        return error.strerror or str(error)
    return os.strerror(error.errno)


async def _open_tcp(address: Address, timeout_s: float) -> socket.socket:
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    failure: OSError = OSError(f"{address.host} has no address")
    for family, kind, protocol, _, where in found:
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(0)
            # A small packet behind an unacknowledged one waits 40 ms without this.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            async with asyncio.timeout(timeout_s / len(found)):
                await loop.sock_connect(sock, where)
        except OSError as error:  # TimeoutError is one
            sock.close()
            failure = error
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise failure


async def _open_tls(plain: socket.socket, context: ssl.SSLContext, host: str) -> ssl.SSLSocket:
    sock = plain
    try:
        sock = secured = context.wrap_socket(
            plain, server_hostname=host, do_handshake_on_connect=False
        )
        await _when_ready(secured, secured.do_handshake)
    except _NO_TLS as error:
        sock.close()
        raise OSError(f"that port does not speak TLS ({_error_text(error)})") from error
    except BaseException:
        sock.close()
        raise
    return secured


async def _open_websocket(sock: socket.socket, address: Address) -> WebSocketStream:
    """Open MQTT over WebSocket. Raises OSError, with the server's answer."""
    path, _, query = (address.path or "").partition("?")
    protocol = ClientProtocol(
        WebSocketURI(address.tls, address.host, address.port, path, query, None, None),
        subprotocols=[_SUBPROTOCOL],
        max_size=LARGEST_REMAINING,
    )
    try:
        protocol.send_request(protocol.connect())
        request = memoryview(b"".join(protocol.data_to_send()))
        while request:
            request = request[await _when_ready(sock, partial(sock.send, request)) :]
        while protocol.state is State.CONNECTING and protocol.handshake_exc is None:
            if data := await _when_ready(sock, partial(sock.recv, _HANDSHAKE)):
                protocol.receive_data(data)
            else:
                protocol.receive_eof()
    except ConnectionError as error:
        sock.close()
        raise OSError(f"that port does not speak WebSocket ({_error_text(error)})") from error
    except BaseException:
        sock.close()
        raise
    if protocol.handshake_exc is not None:
        sock.close()
        raise OSError(f"no WebSocket at {path}: {protocol.handshake_exc}")
    protocol.events_received()  # the response; a broker says nothing before CONNECT
    return WebSocketStream(sock, protocol)


async def _when_ready(sock: socket.socket, call: Callable[[], T]) -> T:
    """Return what a call on a socket returns, once the socket is ready for it. Raises OSError."""
    loop = asyncio.get_running_loop()
    while True:
        ready = loop.create_future()
        try:
            return call()
        except ssl.SSLWantWriteError:
            loop.add_writer(sock, _resolve, ready)
        except _NOT_NOW:
            loop.add_reader(sock, _resolve, ready)
        try:
            await ready
        finally:
            loop.remove_reader(sock)
            loop.remove_writer(sock)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
