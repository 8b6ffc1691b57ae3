"""Writing to many connections: what comes in one turn of the loop leaves as one piece for each.

A frame costs a system call for each connection, more than all else together. So a burst of
messages is collected first; a single one leaves before the loop waits again.
"""

from __future__ import annotations

import asyncio
import logging

from websockets.asyncio.server import ServerConnection
from websockets.protocol import State

log = logging.getLogger(__name__)


class Wires:
    """Makes the wires, and flushes those that were written to."""

    def __init__(self) -> None:
        self._written: list[Wire] = []

    def to(self, connection: ServerConnection) -> Wire:
        """Return the wire to a connection."""
        return Wire(connection, self)

    def note(self, wire: Wire) -> None:
        """Take note that a wire has something to send."""
        if not self._written:
            asyncio.get_running_loop().call_soon(self._flush)
        self._written.append(wire)

    def _flush(self) -> None:
        written, self._written = self._written, []
        for wire in written:
            wire.flush()


class Wire:
    """A connection as the hub writes to it: whole frames, without waiting."""

    __slots__ = ("_connection", "_frames", "_size", "_wires")

    def __init__(self, connection: ServerConnection, wires: Wires) -> None:
        self._connection = connection
        self._wires = wires
        self._frames: list[bytes] = []
        self._size = 0

    @property
    def waiting(self) -> int:
        """Bytes that have not left for the network yet."""
        return self._size + self._connection.transport.get_write_buffer_size()

    def write(self, frame: bytes) -> None:
        """Send a frame after all earlier ones."""
        if not self._frames:
            self._wires.note(self)
        self._frames.append(frame)
        self._size += len(frame)

    def drop(self) -> None:
        """End it at once."""
        log.info("a client that does not read was dropped")
        self._frames.clear()
        self._connection.transport.abort()

    def flush(self) -> None:
        """Hand over what was written, but to one that is closing: it takes no more frames."""
        frames, self._frames, self._size = self._frames, [], 0
        if self._connection.state is not State.OPEN:
            return
        # As `websockets.broadcast` does, without making each frame anew for each connection.
        if len(frames) == 1:
            self._connection.transport.write(frames[0])
        else:
            self._connection.transport.writelines(frames)
