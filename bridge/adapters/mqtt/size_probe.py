"""Measures the size of message that a broker delivers, whatever limit the broker announces.

Some brokers silently drop a message at QoS 0 that is too large for them, as mosquitto up to 2.0
with `message_size_limit`; others announce a larger packet than they accept, as AWS IoT, and end the
connection. So before the bridge publishes an output larger than all that were delivered before, it
sends itself a message of that size. If that does not return, the output is too large: the result
then has no topic, and clients fetch the output in parts.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from bridge.adapters.mqtt.encoder import Packet
from bridge.adapters.mqtt.extension import Extension
from bridge.adapters.mqtt.publisher import Publisher
from bridge.aio import wait_set
from bridge.contract.channels import LARGE_BYTES
from bridge.contract.topics import Topics
from bridge.mqtt import (
    PACKET_TOO_LARGE,
    ConnectionLost,
    Incoming,
    Publish,
    PublishRefused,
    Subscription,
    lower_limit,
)
from bridge.requests.handler import RequestHandler

log = logging.getLogger(__name__)

# What is sent behind a message comes back within this time, or nothing does.
_ANSWER_S: Final = 10.0
# A broker that does not keep the order may send it after what was sent behind it.
_LATE_S: Final = 0.5


def sizes(wanted: int, proven: int, room: int | None) -> Iterator[int]:
    """Yield the sizes to try for a message of `wanted` bytes, until one passes.

    The first is a power of two, so that those a little larger need no trial, or `room`, the bytes
    that the broker says it takes, if that is less. Below `wanted` they are halved, down to what is
    known to pass.
    """
    above = 1 << (wanted - 1).bit_length()
    if room is not None:
        above = min(above, room)
    if above > wanted:
        yield above
    size = wanted
    while size > proven:
        yield size
        size //= 2


class SizeProbe(Extension):
    """Sends messages to itself, one at a time, on demand."""

    def __init__(self, topics: Topics, publisher: Publisher, learnt: Callable[[int], None]) -> None:
        """`learnt` is called with what payload passes, in bytes, when a larger one did not."""
        name = secrets.token_hex(4)
        self._message, self._end = topics.probe(name, "size"), topics.probe(name, "end")
        self._filter = topics.probe(name, "+")
        self._publisher = publisher
        self._learnt = learnt
        self._trying = asyncio.Lock()
        self._connections = -1
        self._proven = LARGE_BYTES
        # False if nothing comes back: an ACL that is stricter than ours.
        self._receives_own = True
        # The largest message that was under way when a connection ended.
        self._cut = 0
        self._arrived_sizes: set[int] = set()
        self._ended = asyncio.Event()
        self._arrived = asyncio.Event()

    @property
    def subscriptions(self) -> Sequence[Subscription]:
        """Its own messages."""
        return [Subscription(filter=self._filter, qos=0)]

    async def received(
        self, incoming: Incoming, _delivery: str | None, _handler: RequestHandler
    ) -> None:
        """Note a message that returned."""
        if incoming.topic == self._message:
            self._arrived_sizes.add(len(incoming.payload))
            self._arrived.set()
        elif incoming.topic == self._end:
            self._ended.set()

    def is_known(self, size: int) -> bool:
        """True if an output of `size` bytes may be published, or refused, without a trial."""
        publisher = self._publisher
        if publisher.connections != self._connections:
            self._connections, self._proven, self._receives_own = (
                publisher.connections,
                LARGE_BYTES,
                True,
            )
        if size <= self._proven or not publisher.connected or not self._receives_own:
            return True
        room = self._room()
        return room is not None and size > room

    def _room(self) -> int | None:
        """Return how many bytes of payload the broker says it takes; None: it does not say."""
        limit = self._publisher.packet_limit
        return None if limit is None else self._publish(self._message, 0).room(limit)

    @staticmethod
    def _publish(topic: str, size: int, qos: int = 0) -> Publish:
        return Publish.of(topic, bytes(size), qos=qos, retain=False)

    async def find_out(self, size: int) -> None:
        """Try whether an output of `size` bytes passes, if that is not known; never raises."""
        async with self._trying:
            if self.is_known(size):
                return
            largest_lost = None
            for each in sizes(size, self._proven, self._room()):
                try:
                    passes = await self._passes(each)
                except ConnectionLost as loss:
                    self._note_cut(each, announced=loss.code == PACKET_TOO_LARGE)
                    return
                if passes is None:
                    log.info(
                        "cannot measure the broker's largest message: our own does not come back"
                    )
                    self._receives_own = False
                    return
                if passes:
                    self._proven = each
                    break
                largest_lost = each
            if largest_lost is not None:
                self._learnt(largest_lost - 1 if self._proven >= size else self._proven)

    async def _passes(self, size: int) -> bool | None:
        """Return whether a message of `size` bytes returns; None if no message does.

        Raises ConnectionLost.
        """
        self._arrived_sizes.clear()
        self._ended.clear()
        self._arrived.clear()
        # The end at QoS 1: it fails at once if the connection ends.
        message, end = self._publish(self._message, size), self._publish(self._end, 0, qos=1)
        sent = self._publisher.send(
            [Packet(topic=each.topic, publish=each) for each in (message, end)]
        )
        try:
            for each in sent:
                if each is not None:
                    await each
            async with asyncio.timeout(_ANSWER_S):
                await self._ended.wait()
        except (PublishRefused, TimeoutError):
            return None
        await wait_set(self._arrived, _LATE_S)
        return size in self._arrived_sizes

    def _note_cut(self, size: int, *, announced: bool) -> None:
        """Learn from a connection that ended during a message; a single end may be chance."""
        again, self._cut = self._cut > 0, max(self._cut, size)
        self._receives_own = False  # until there is another connection
        if announced or again:
            self._learnt(lower_limit(self._cut) or LARGE_BYTES)
