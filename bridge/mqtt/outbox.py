"""The queue of messages to be sent on one connection: their order, and the broker's window."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from bridge.mqtt.errors import (
    QUOTA_EXCEEDED,
    UNSPECIFIED,
    ConnectionLost,
    PublishRefused,
    reason_of,
)
from bridge.mqtt.pacing import Pacer
from bridge.mqtt.packets import Puback, Publish

if TYPE_CHECKING:
    from collections.abc import Iterator

# Bytes given to the wire ahead of the socket. What is beyond waits here, its payload uncopied.
_AHEAD: Final = 256 * 1024
# Unacknowledged messages, whatever the broker would take: when a quota is reached, all that is on
# its way is refused at once. With an answer after 50 ms that is still 640 messages a second.
_IN_FLIGHT: Final = 32


class PubAck(msgspec.Struct, frozen=True):
    """The broker has a message (QoS 1), or its last byte has gone out (QoS 0)."""

    code: int = 0
    reason: str = "success"


class Wire(Protocol):
    """The way out for packets; `queued` and `written` count bytes since the connection began."""

    @property
    def queued(self) -> int: ...  # noqa: D102 - the class says it

    @property
    def written(self) -> int: ...  # noqa: D102 - the class says it

    def next_mid(self) -> int:
        """Return the next packet id, which may still be in use."""

    def send(self, publish: Publish, mid: int) -> None:
        """Queue a message."""


class _Sending(msgspec.Struct, eq=False):
    """A message that is being sent, and the future of its caller."""

    publish: Publish
    done: asyncio.Future[PubAck]


class Outbox:
    """Messages of one connection in the order of the calls, whatever their QoS.

    paho would send a message at QoS 0 past those at QoS 1 that wait for the window, and knows no
    window but its own.
    """

    def __init__(
        self,
        wire: Wire,
        receive_maximum: int,
        *,
        pacer: Pacer | None = None,
    ) -> None:
        """Send on `wire`, with at most `receive_maximum` messages unacknowledged (4.9).

        At most `_IN_FLIGHT` in any case. A message that the broker refuses for its quota is sent
        again before all others, at the rate of `pacer`.
        """
        self._wire = wire
        self._window = min(receive_maximum, _IN_FLIGHT)
        self._pacer = pacer or Pacer()
        self._resumes: asyncio.TimerHandle | None = None
        self._waiting: deque[_Sending] = deque()
        self._again: deque[_Sending] = deque()  # refused for the quota, in their order
        self._waiting_size = 0
        self._unacked: dict[int, _Sending] = {}
        self._leaving: deque[tuple[int, _Sending]] = deque()
        self._room: list[tuple[int, asyncio.Future[None]]] = []
        self.closed = False
        """True if nothing more is sent."""

    @property
    def buffered(self) -> int:
        """Bytes that have not left for the network yet."""
        return self._waiting_size + self._wire.queued - self._wire.written

    def add(self, publish: Publish) -> asyncio.Future[PubAck]:
        """Send a message after all earlier ones."""
        sending = _Sending(publish, asyncio.get_running_loop().create_future())
        self._waiting.append(sending)
        self._waiting_size += publish.size
        self._send_next()
        return sending.done

    async def drained(self, below: int) -> None:
        """Wait until at most `below` bytes are buffered."""
        if self.buffered > below:
            room = asyncio.get_running_loop().create_future()
            self._room.append((below, room))
            await room

    def acknowledged(self, puback: Puback) -> None:
        """Resolve the future of a message at QoS 1, and send the next ones."""
        sending = self._unacked.pop(puback.mid, None)
        if sending is None:
            return
        if puback.code == QUOTA_EXCEEDED and not self.closed:
            self._pacer.refused(time.monotonic())
            self._again.append(sending)
            self._waiting_size += sending.publish.size
        elif not sending.done.done():
            if puback.code >= UNSPECIFIED:
                topic = sending.publish.topic
                sending.done.set_exception(PublishRefused(topic, puback.code, puback.reason))
            else:
                self._pacer.accepted()
                reason = puback.reason or reason_of(puback.code)
                sending.done.set_result(PubAck(puback.code, reason))
        self._send_next()

    def wrote(self) -> None:
        """Note that bytes were written: resolve futures that wait for it, and send more."""
        while self._leaving and self._leaving[0][0] <= self._wire.written:
            _, sending = self._leaving.popleft()
            if not sending.done.done():
                sending.done.set_result(PubAck())
        self._send_next()
        still: list[tuple[int, asyncio.Future[None]]] = []
        for below, room in self._room:
            if self.buffered > below:
                still.append((below, room))
            elif not room.done():
                room.set_result(None)
        self._room = still

    def close(self) -> None:
        """Send no more of the messages that wait: a DISCONNECT follows."""
        self.closed = True
        if self._resumes is not None:
            self._resumes.cancel()

    def fail(self, reason: str, code: int | None) -> None:
        """Fail everything that waits with ConnectionLost."""
        self.close()
        for future in self._futures():
            if not future.done():
                future.set_exception(ConnectionLost(reason, code))
                # Whoever sends without waiting learns it from the connection itself, and should
                # not find one log entry for each message besides.
                future.exception()
        self._waiting.clear()
        self._again.clear()
        self._waiting_size = 0
        self._unacked.clear()
        self._leaving.clear()
        self._room.clear()

    def _futures(self) -> Iterator[asyncio.Future[PubAck] | asyncio.Future[None]]:
        yield from (sending.done for sending in self._unacked.values())
        yield from (sending.done for _, sending in self._leaving)
        yield from (sending.done for sending in self._again)
        yield from (sending.done for sending in self._waiting)
        yield from (room for _, room in self._room)

    def _send_next(self) -> None:
        """Write what the socket and the broker have room for."""
        while (queue := self._again or self._waiting) and not self.closed:
            qos = queue[0].publish.qos
            if self._wire.queued - self._wire.written >= _AHEAD:
                return
            if qos and len(self._unacked) >= self._window:
                return
            if not self._paced():
                return
            sending = queue.popleft()
            self._waiting_size -= sending.publish.size
            mid = self._free_mid() if qos else 0
            self._wire.send(sending.publish, mid)
            if qos:
                self._unacked[mid] = sending
            else:
                self._leaving.append((self._wire.queued, sending))

    def _paced(self) -> bool:
        """True if a message may leave now; else sending continues by itself when one may."""
        if self._resumes is not None:
            return False
        wait_s = self._pacer.wait_s(time.monotonic())
        if wait_s > 0:
            self._resumes = asyncio.get_running_loop().call_later(wait_s, self._resume)
        return wait_s <= 0

    def _resume(self) -> None:
        self._resumes = None
        self._send_next()

    def _free_mid(self) -> int:
        mid = self._wire.next_mid()
        while mid in self._unacked:
            mid = self._wire.next_mid()
        return mid
