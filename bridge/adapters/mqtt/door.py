"""The door's connection: kept for ever, and what comes in by it.

A request is acknowledged to the broker once it is answered, in the order of arrival. What was not
acknowledged when the connection or the process ended comes again.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable, Sequence

from msgspec import Struct

from bridge.adapters.mqtt.keeper import Keeper
from bridge.adapters.mqtt.latest import Latest
from bridge.adapters.mqtt.publisher import Publisher
from bridge.adapters.mqtt.retained import OFFLINE, Retained
from bridge.adapters.mqtt.side import Side, give
from bridge.aio import first
from bridge.contract.errors import BadRequest, BridgeError, Forbidden
from bridge.contract.topics import BadTopic, Request, Topics, matches
from bridge.jobs.group import Group
from bridge.jobs.journal import Journal
from bridge.jobs.records import RECEIVE_WINDOW
from bridge.mqtt import (
    Address,
    Connection,
    ConnectionLost,
    Incoming,
    Subscription,
    Will,
)
from bridge.requests.context import RequestContext
from bridge.requests.handler import RequestHandler

log = logging.getLogger(__name__)

# Results that ended this long before the connection was lost are published again: a broker that
# dies loses what it has acknowledged.
REPEAT_S = 60.0
# So many requests are handled at a time. At QoS 1 the broker holds back sooner (RECEIVE_WINDOW).
MAX_HANDLED = 512
# A lease runs out, the next heartbeat finds it, the next bridge connects.
WILL_DELAY_LEASES = 3


class Settings(Struct, frozen=True):
    """How to reach the broker; the session lasts `session_s` without us."""

    address: Address
    client_id: str
    session_s: float
    max_packet: int | None
    input_topics: tuple[str, ...]


class Door:
    """Use `run` as a task; `drain` and then `close` end it without the will."""

    def __init__(
        self,
        settings: Settings,
        *,
        topics: Topics,
        desk: RequestHandler,
        journal: Journal,
        publisher: Publisher,
        retained: Retained,
        latest: Latest,
        connected: Callable[[Connection], None],
        sides: Sequence[Side] = (),
        group: Group | None = None,
    ) -> None:
        """`connected` is told of each connection, before anything is published by it.

        `sides` are what else subscribes and publishes by it. In a group this connection only takes
        requests, while this bridge is the one to do so; the member's own publishes.
        """
        self._settings = settings
        self._topics = topics
        self._desk = desk
        self._journal = journal
        self._publisher = publisher
        self._retained = retained
        self._latest = latest
        self._connected = connected
        self._sides = sides
        self._session = ""
        self._lost_at = time.time()
        self._group = group
        self._draining = False
        self._handlers: asyncio.TaskGroup | None = None
        self._keeper = Keeper(self._use, self._lost)

    def drain(self) -> None:
        """Take no more requests: they stay with the broker, and come at the next start."""
        self._draining = True
        self._retained.offline()

    def close(self) -> None:
        """End the connection after what was published, and with it `run`."""
        self._keeper.close()

    async def run(self) -> None:
        """Stay connected until `close`; of several bridges, while this one takes the requests.

        Raises ConnectionRefused at the first attempt for a wrong name or password; later on that
        may be the broker's trouble, and passes.
        """
        async with asyncio.TaskGroup() as handlers:
            self._handlers = handlers
            await self._keeper.run()

    async def _use(self) -> None:
        if not await self._granted():
            return
        async with self._connection() as connection:
            self._keeper.connected()
            # Whoever has the intake by now would be cut off by us: they come back, and we do not.
            if self._group is None or await self._group.confirm():
                await self._begin(connection)
                await self._take_requests(connection)

    async def _granted(self) -> bool:
        """Wait until we are to take requests; False if we are to close before that."""
        if self._group is None:
            return True
        await first(self._keeper.closing(), self._group.granted())
        return not self._keeper.is_closing

    def _lost(self, loss: ConnectionLost | None) -> None:
        self._lost_at = time.time()
        self._retained.lost()
        if self._group is None:
            self._publisher.detach(loss)

    def _connection(self) -> Connection:
        # In a group another bridge connects under this name before the delay is over, and the will
        # is not published: somebody takes requests all the time.
        delay_s = 0 if self._group is None else int(WILL_DELAY_LEASES * self._group.lease_s)
        will = Will(topic=self._topics.state, payload=OFFLINE, qos=1, retain=True, delay_s=delay_s)
        return Connection(
            self._settings.address,
            client_id=self._settings.client_id,
            clean_start=False,
            session_expiry=int(self._settings.session_s),
            will=will,
            packet_limit=self._settings.max_packet,
            receive_maximum=RECEIVE_WINDOW,
        )

    async def _begin(self, connection: Connection) -> None:
        """Subscribe, publish what is retained and what may have been lost, then say online."""
        present = connection.connack.session_present
        self._session = await self._journal.session(present=present)
        if self._group is None:
            self._publisher.attach(connection)
        self._connected(connection)
        await connection.subscribe(
            [
                # Retained requests are never sent to us (2), and a live one is told by its flag.
                Subscription(
                    filter=self._topics.requests, retain_as_published=True, retain_handling=2
                ),
                *(Subscription(filter=each, no_local=True) for each in self._topics.retained),
                *(Subscription(filter=each, qos=0) for each in self._settings.input_topics),
                *(each for side in self._sides for each in side.subscriptions),
            ]
        )
        self._retained.publish_all()
        if self._group is None:
            # What this bridge holds of displays may be older than what another one has shown.
            for side in self._sides:
                await side.connected(connection)
            await self.repeat(self._lost_at - REPEAT_S)
        else:
            await self.repeat(time.time() - REPEAT_S, orphans=True)
        if not self._draining:
            self._retained.online()
        log.info("connected to %s", self._settings.address)

    async def repeat(self, since: float, *, orphans: bool = False) -> None:
        """Publish results again that may be lost; with `orphans` those of bridges that died."""
        for each in await self._journal.unpublished(since, orphans=orphans):
            self._publisher.result(each.key, each.envelope, each.result)

    async def _take_requests(self, connection: Connection) -> None:
        """Handle what comes until the connection ends or `close`; acknowledge it in its order."""
        handlers = self._handlers
        if handlers is None:
            raise RuntimeError("the door does not run")
        handled: asyncio.Queue[tuple[Incoming, asyncio.Task[None]]] = asyncio.Queue(MAX_HANDLED)
        acknowledging = asyncio.create_task(_acknowledge(connection, handled))
        closing = asyncio.create_task(self._close(connection))
        try:
            async for incoming in connection.messages:
                if not self._draining and not self._passes_over(incoming):
                    task = handlers.create_task(self._handle(incoming))
                    await handled.put((incoming, task))
        finally:
            acknowledging.cancel()
            closing.cancel()

    def _passes_over(self, incoming: Incoming) -> bool:
        """Whether it is of a flood: not worth a look. At QoS 1 the broker holds such a one back."""
        if incoming.qos:
            return False
        found = self._topics.client_of(incoming.topic)
        return found is not None and self._desk.is_flood(found[0])

    async def _close(self, connection: Connection) -> None:
        await self._keeper.closing()
        await connection.disconnect()

    async def _handle(self, incoming: Incoming) -> None:
        log.debug("%s, %d bytes%s", incoming.topic, len(incoming.payload), ", again" * incoming.dup)
        try:
            request = self._topics.parse_request(incoming.topic)
        except BadTopic as bad:
            self._refuse(self._asked(incoming, Request(bad.client, bad.verb)), bad)
            return
        if request is None:
            self._take_other(incoming)
            for side in self._sides:
                await give(side, incoming, self._delivery(incoming))
            return
        asked = self._asked(incoming, request)
        if incoming.retain:
            self._refuse(asked, BadRequest("a retained request would run again and again"))
        elif incoming.response_topic != asked.response_topic:
            self._refuse(asked, self._bad_response_topic(asked, incoming.response_topic))
        else:
            await self._desk.handle(asked, lambda answer: self._publisher.answer(asked, answer))

    def _take_other(self, incoming: Incoming) -> None:
        """Take what is no request: what we may have left retained, or an input's topic."""
        if any(matches(each, incoming.topic) for each in self._topics.retained):
            if incoming.payload and (incoming.retain or self._group is not None):
                self._retained.seen(incoming.topic)
        elif any(matches(each, incoming.topic) for each in self._settings.input_topics):
            self._latest.note(incoming.topic, incoming.payload, stored=incoming.retain)

    def _refuse(self, asked: RequestContext, error: BridgeError) -> None:
        self._desk.refuse(asked, error, lambda answer: self._publisher.answer(asked, answer))

    def _asked(self, incoming: Incoming, request: Request) -> RequestContext:
        topic = incoming.response_topic
        allowed = topic is not None and self._topics.is_reply(request.client, topic)
        return RequestContext(
            client=request.client,
            verb=request.verb,
            workflow=request.workflow,
            job_id=request.job_id,
            upload=request.upload,
            offset=request.offset,
            fin=request.fin,
            payload=incoming.payload,
            content_type=incoming.content_type,
            user_properties=incoming.user_properties,
            response_topic=topic if allowed else None,
            correlation=incoming.correlation_data,
            expiry_s=incoming.message_expiry,
            delivery=self._delivery(incoming),
            redelivered=incoming.dup,
            room=self._publisher,
        )

    def _delivery(self, incoming: Incoming) -> str | None:
        """Name a delivery so that the same one is known when it comes again; QoS 0 never does."""
        if not incoming.qos:
            return None
        content = hashlib.sha256(incoming.topic.encode() + b"\0" + incoming.payload)
        return f"{self._session}:{incoming.mid}:{content.hexdigest()}"

    def _bad_response_topic(self, asked: RequestContext, topic: str | None) -> Forbidden:
        return Forbidden(
            f"the Response Topic {topic!r} is not allowed",
            field="response_topic",
            allowed=self._topics.reply(asked.client),
        )


async def _acknowledge(
    connection: Connection, handled: asyncio.Queue[tuple[Incoming, asyncio.Task[None]]]
) -> None:
    while True:
        incoming, task = await handled.get()
        await asyncio.wait((task,))
        connection.ack(incoming)
