"""ComfyUI's WebSocket, one connection at a time.

Each connection has a client id of its own: with a used one the server, when the old handler ends,
drops the new socket from its table (ComfyUI #16010). So the events of prompts submitted under an
earlier id come no more, and those prompts are followed by queue and history.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException
from yarl import URL

from bridge.comfyui.errors import ComfyUIUnreachable
from bridge.comfyui.frames import FEATURE_FLAGS, Frame, decode
from bridge.comfyui.reasons import reason_of

DEFAULT_MAX_FRAME = 2**30

_OPEN_TIMEOUT_S = 10.0
_CLOSE_TIMEOUT_S = 1.0
# A node that holds Python's lock keeps ComfyUI from answering a ping for as long.
_PING_INTERVAL_S = 20.0
_PING_TIMEOUT_S = 60.0


class ComfyUISocket:
    """An open socket; `client_id` is what prompts are submitted under."""

    def __init__(self, socket: ClientConnection, client_id: str) -> None:
        self.client_id = client_id
        self._socket = socket

    async def frames(self) -> AsyncGenerator[Frame, None]:
        """Yield frames until the connection is gone; then raises ComfyUIUnreachable.

        Cancelling or closing it leaves the connection open.
        """
        try:
            while True:
                frame = decode(await self._socket.recv())
                if frame is not None:
                    yield frame
        except ConnectionClosed as error:
            raise ComfyUIUnreachable(f"the connection was cut: {error}", sent=True) from error


@asynccontextmanager
async def connected(
    base_url: URL,
    *,
    headers: Mapping[str, str] | None = None,
    max_frame: int = DEFAULT_MAX_FRAME,
) -> AsyncIterator[ComfyUISocket]:
    """Connect under a fresh client id, ready for previews; raises ComfyUIUnreachable.

    `headers` go with the request that opens it; `max_frame` is the largest message taken, in
    bytes; a larger one ends the connection.
    """
    client_id = uuid.uuid4().hex
    socket = await _opened(base_url, client_id, headers or {}, max_frame)
    try:
        yield ComfyUISocket(socket, client_id)
    finally:
        try:
            await socket.close()
        finally:
            socket.transport.abort()  # one that does not answer keeps it open


async def _opened(
    base_url: URL, client_id: str, headers: Mapping[str, str], max_frame: int
) -> ClientConnection:
    scheme = {"http": "ws", "https": "wss"}.get(base_url.scheme, base_url.scheme)
    url = URL(f"{base_url}/ws", encoded=True).with_scheme(scheme).with_query(clientId=client_id)
    try:
        async with asyncio.timeout(_OPEN_TIMEOUT_S):
            socket = await connect(
                str(url),
                additional_headers=headers,
                # Images do not compress, and ComfyUI's one thread would do the work.
                compression=None,
                max_size=max_frame,
                # Unlimited, so that unread messages do not hold up the answer to our first ping:
                # those about others' prompts may come at once. Later `frames` reads all.
                max_queue=None,
                open_timeout=None,
                close_timeout=_CLOSE_TIMEOUT_S,
                ping_interval=_PING_INTERVAL_S,
                ping_timeout=_PING_TIMEOUT_S,
                proxy=None,
            )
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
