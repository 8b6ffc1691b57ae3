"""ComfyUI's WebSocket, one connection at a time.

Each connection has a client id of its own: with a used one the server, when the old handler ends,
drops the new socket from its table (ComfyUI #16010). So the events of prompts submitted under an
earlier id come no more, and those prompts are followed by queue and history.
"""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import AsyncIterator, Callable, Generator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, NoReturn, cast

from websockets.asyncio.client import ClientConnection, connect
from websockets.client import ClientProtocol
from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.frames import Frame as WebSocketFrame
from websockets.frames import Opcode
from websockets.http11 import Request, Response
from websockets.streams import StreamReader
from yarl import URL

from bridge.comfyui.errors import ComfyUIUnreachable
from bridge.comfyui.frames import FEATURE_FLAGS, Frame, decode

_MAX_FRAME = 2**30

_OPEN_TIMEOUT_S = 10.0
_CLOSE_TIMEOUT_S = 1.0
# A node that holds Python's lock keeps ComfyUI from answering a ping for as long.
_PING_INTERVAL_S = 20.0
_PING_TIMEOUT_S = 60.0
# Payloads from this size on are taken out of what was received, not copied.
_LARGE = 64 * 1024
_DATA = (Opcode.TEXT, Opcode.BINARY, Opcode.CONT)

Take = Callable[[Frame], None]


class ComfyUISocket(ClientConnection):
    """An open socket; `client_id` is what prompts are submitted under.

    Messages are handed on where they are read, as they were received: on their way through the
    library's queue large ones are copied twice.
    """

    def __init__(self, client_id: str, protocol: ClientProtocol, **options: Any) -> None:
        super().__init__(protocol, **options)
        self.client_id = client_id
        # Until there is a `_take`, what it would have been given.
        self._early: list[Frame] = []
        self._take: Take = self._early.append
        self._defect: Exception | None = None
        self._message = bytearray()
        self._is_text = False
        reader = protocol.reader
        reader.read_exact = partial(_read_exact, reader)  # type: ignore[method-assign]

    async def deliver_frames(self, take: Take) -> NoReturn:
        """Call `take` with each frame, those that came before first, until the connection is gone.

        Raises ComfyUIUnreachable then, or what `take` raised. Cancelling it leaves the connection
        open.
        """
        early, self._early = self._early, []
        for frame in early:
            take(frame)
        self._take = take
        try:
            await self.wait_closed()
            if self._defect is not None:
                raise self._defect
            await self.recv()
        except ConnectionClosed as error:
            raise ComfyUIUnreachable(f"the connection was cut: {error}", sent=True) from error
        finally:
            self._take = self._early.append
        raise AssertionError("no message goes into the library's own queue")

    def process_event(self, event: WebSocketFrame | Request | Response) -> None:
        """Hand on a message that is whole; the library does the rest, such as the handshake."""
        if not isinstance(event, WebSocketFrame) or event.opcode not in _DATA:
            super().process_event(event)
            return
        if event.opcode is Opcode.CONT:
            self._message += event.data
        else:
            self._is_text = event.opcode is Opcode.TEXT
            data = event.data
            self._message = data if isinstance(data, bytearray) else bytearray(data)
        if not event.fin or self._defect is not None:
            return
        message, self._message = self._message, bytearray()
        frame = decode(message.decode(errors="replace") if self._is_text else message)
        if frame is None:
            return
        try:
            self._take(frame)
        except Exception as error:  # noqa: BLE001 - `deliver_frames` raises it
            self._defect = error
            self.transport.abort()


def _read_exact(reader: StreamReader, size: int) -> Generator[None, None, bytearray]:
    """Read so many bytes, in place of websockets' own, which copies a large message twice.

    Raises EOFError.
    """
    while len(reader.buffer) < size:
        if reader.eof:
            raise EOFError(f"{len(reader.buffer)} bytes of {size}")
        yield
    taken = reader.buffer
    if size < _LARGE:
        found = taken[:size]
        del taken[:size]
        return found
    reader.buffer = taken[size:]
    del taken[size:]
    return taken


@asynccontextmanager
async def connected(
    base_url: URL, *, headers: Mapping[str, str] | None = None
) -> AsyncIterator[ComfyUISocket]:
    """Connect under a fresh client id, ready for previews; raises ComfyUIUnreachable.

    `headers` go with the request that opens it. A message above `_MAX_FRAME` ends the connection.
    """
    client_id = uuid.uuid4().hex
    socket = await _opened(base_url, client_id, headers or {})
    try:
        yield socket
    finally:
        try:
            await socket.close()
        finally:
            socket.transport.abort()  # one that does not answer keeps it open


async def _opened(base_url: URL, client_id: str, headers: Mapping[str, str]) -> ComfyUISocket:
    scheme = {"http": "ws", "https": "wss"}.get(base_url.scheme, base_url.scheme)
    url = URL(f"{base_url}/ws", encoded=True).with_scheme(scheme).with_query(clientId=client_id)
    try:
        async with asyncio.timeout(_OPEN_TIMEOUT_S):
            opened = await connect(
                str(url),
                additional_headers=headers,
                # Images do not compress, and ComfyUI's one thread would do the work.
                compression=None,
                max_size=_MAX_FRAME,
                create_connection=partial(ComfyUISocket, client_id),  # type: ignore[arg-type]
                open_timeout=None,
                close_timeout=_CLOSE_TIMEOUT_S,
                ping_interval=_PING_INTERVAL_S,
                ping_timeout=_PING_TIMEOUT_S,
                proxy=None,
            )
            socket = cast("ComfyUISocket", opened)
            try:
                await socket.send(FEATURE_FLAGS)
                # Old servers do not answer the flags; any server answers a ping after them.
                await (await socket.ping())
            except BaseException:
                socket.transport.abort()
                raise
            return socket
    except (OSError, TimeoutError, WebSocketException) as error:
        raise ComfyUIUnreachable(reason_of(error), sent=False) from error


def reason_of(error: BaseException) -> str:
    """Return why a request or a connection failed, in the system's words if it has any.

    aiohttp's own texts name host and port, never user or password.
    """
    cause = getattr(error, "os_error", error)
    number = cause.errno if isinstance(cause, OSError) else None
    if number is not None and number > 0:
        return os.strerror(number)
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror  # of name resolution, whose numbers are below zero
    return str(error) or type(error).__name__
