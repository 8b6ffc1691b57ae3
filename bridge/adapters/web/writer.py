"""Writing to many sockets: frames of one turn of the loop leave in one system call for each.

A frame costs a system call for each connection, more than all else together. So a burst of
messages is collected first; a single one leaves before the loop waits again.
"""

from __future__ import annotations

import asyncio
import logging

from aiohttp import web

log = logging.getLogger(__name__)


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
