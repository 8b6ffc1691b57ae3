"""Keeps the connection that takes requests, and passes on the messages that arrive.

Clients take turns when many requests wait. A request is acknowledged to the broker once it is
answered, in the order of arrival. The broker sends again what was not acknowledged when the
connection or the process ended. A request that changes nothing and takes long, such as making a
picture smaller, is acknowledged before its answer: others would wait for it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence

from msgspec import Struct
from msgspec.structs import replace

from bridge.adapters.mqtt.extension import Extension, RefusedFilters, dispatch
from bridge.adapters.mqtt.incoming import (
    delivery_of,
    flow_of,
    is_dropped,
    is_nameless,
    kind_of_other,
    needs_delivery,
    read_request,
)
from bridge.adapters.mqtt.last_values import LastValues
from bridge.adapters.mqtt.publisher import Publisher
from bridge.adapters.mqtt.reconnect import Reconnect
from bridge.adapters.mqtt.retained import OFFLINE, Retained
from bridge.contract.topics import ID_RULE, Topics
from bridge.jobs.group import Group
from bridge.jobs.journal import Journal
from bridge.mqtt import Address, Connection, ConnectionLost, Incoming, Pacer, Subscription, Will
from bridge.requests.context import Answer
from bridge.requests.handler import RequestHandler
from bridge.text import in_quotes

log = logging.getLogger(__name__)

# Results that ended this long before the connection was lost are published again: a broker that
# dies loses what it has acknowledged.
REPEAT_S = 60.0
# How many requests may be unacknowledged at a time (MQTT's Receive Maximum).
RECEIVE_WINDOW = 256
# How many requests are handled at a time. At QoS 1 the broker holds back sooner (RECEIVE_WINDOW).
MAX_HANDLED = 512
# ... and how many bytes they have together, unless it is a single one: they may have to wait.
MAX_HANDLED_BYTES = 64 * 1024 * 1024
# A lease runs out, the next heartbeat finds it, the next bridge connects.
WILL_DELAY_LEASES = 3
# A will without a delay, as in MQTT 3.1.1, would say `offline` at each handover.
GROUP = "a group of bridges"
# Messages of a flood that are passed over in one turn of the event loop.
_PASSED_OVER_AT_ONCE = 16
# A larger payload is hashed in a thread: 16 MB take 10 ms and more.
_HASHED_AT_ONCE = 256 * 1024
# Topics of requests without a valid name that are logged: anybody may think up more.
_NAMELESS_REPORTED = 20


class BrokerSettings(Struct, frozen=True):
    """Settings of the connection. The broker keeps the session `session_s` after a disconnect."""

    address: Address
    client_id: str
    session_s: float
    max_packet: int | None
    input_topics: tuple[str, ...]
    max_publishes_per_s: float | None = None


class Subscriber:
    """Use `run` as a task. `drain` and then `close` end it without the will."""

    def __init__(
        self,
        settings: BrokerSettings,
        *,
        topics: Topics,
        handler: RequestHandler,
        journal: Journal,
        publisher: Publisher,
        retained: Retained,
        last_values: LastValues,
        connected: Callable[[Connection], None],
        extensions: Sequence[Extension] = (),
        group: Group | None = None,
    ) -> None:
        """`connected` is called with each connection, before anything is published on it.

        In a cluster (`group`) this connection only takes requests, while this bridge is the one to
        do so; the bridge publishes by its `ClusterConnection`.
        """
        self._settings = settings
        self._topics = topics
        self._handler = handler
        self._journal = journal
        self._publisher = publisher
        self._retained = retained
        self._last_values = last_values
        self._connected = connected
        self._extensions = extensions
        self._session = ""
        self._lost_at = journal.clock.now()
        self._group = group
        self._draining = False
        self._nameless: set[str] = set()
        # What is being handled, by its delivery: also what came on a connection that is over.
        self._in_hand: dict[str, asyncio.Task[None]] = {}
        # Of each client with a large message that is being hashed: the last that waits for it.
        self._hashing: dict[str | None, asyncio.Task[None]] = {}
        self._pacer = Pacer(settings.max_publishes_per_s)
        self._refused_filters = RefusedFilters(topics, publisher)
        # A standby connects here when it takes over, which may be days after its start: what was
        # wrong then, its own connection has found.
        self._reconnect = Reconnect(self._use, self._lost, was_up=group is not None)

    def drain(self) -> None:
        """Accept no more requests: they stay at the broker until the next start."""
        self._draining = True
        self._retained.offline()

    def close(self) -> None:
        """End the connection after what was published, and with it `run`."""
        self._reconnect.close()

    async def run(self) -> None:
        """Stay connected until `close`; of several bridges, while this one takes the requests.

        Raises, in an exception group, ConnectionRefused at the first attempt of a bridge alone for
        a wrong name or password, and BadAddress for a file that cannot be used; later refusals are
        retried. A request for which the handler raises ends `run` as well, and stays
        unacknowledged.
        """
        # Requests go on when the connection ends: their tasks are those of `run`.
        async with asyncio.TaskGroup() as self._tasks:
            await self._reconnect.run()

    async def _use(self) -> None:
        if self._group is not None:
            await self._group.wait_for_intake()
        async with self._connection() as connection:
            self._reconnect.connected()
            # Whoever takes the requests by now would be cut off by us: they come back, we do not.
            if self._group is None or await self._group.confirm_intake():
                async with self._reconnect.closable(connection):
                    await self._begin(connection)
                    await self._take_messages(connection)

    def _lost(self, loss: ConnectionLost | None) -> None:
        self._lost_at = self._journal.clock.now()
        self._retained.lost()
        if self._group is None:
            self._publisher.detach(loss)
        else:
            self._group.refused.receives = False

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
            pacer=self._pacer,
            flow_of=lambda incoming: flow_of(self._topics, incoming, self._handler.knows),
            needs_5=None if self._group is None else GROUP,
        )

    async def _begin(self, connection: Connection) -> None:
        """Subscribe, publish retained messages and results that may be lost, then `online`."""
        present = connection.connack.session_present
        self._session = await self._journal.session(present=present)
        if self._group is None:
            self._publisher.attach(connection)
        self._connected(connection)
        # Retained requests are never sent to us (2), a live one is known by its flag.
        requests = Subscription(
            filter=self._topics.requests, retain_as_published=True, retain_handling=2
        )
        workflows = self._topics.workflow("+")
        await self._refused_filters.subscribe(
            connection,
            [requests],
            [
                *(
                    # Of workflows it only matters which there are: a broker that keeps sessions on
                    # disk would write down each of a thousand, twice at QoS 1.
                    Subscription(filter=each, no_local=True, qos=int(each != workflows))
                    for each in self._topics.retained
                ),
                *(Subscription(filter=each, qos=0) for each in self._settings.input_topics),
                *(each for extension in self._extensions for each in extension.subscriptions),
            ],
        )
        if self._group is not None:
            self._group.refused.receives = True
        self._retained.publish_all()
        for extension in self._extensions:
            await extension.connected(connection)
        if self._group is None:
            missing = await self._journal.unpublished(self._lost_at - REPEAT_S)
            self._publisher.catch_up(missing)
        else:
            since = self._journal.clock.now() - REPEAT_S
            for each in await self._journal.unpublished(since, orphans=True):
                self._publisher.orphaned_result(*each)
        if not self._draining:
            self._retained.online()
        log.info("connected to %s", self._settings.address)

    async def _take_messages(self, connection: Connection) -> None:
        """Handle messages until the connection ends, a bounded number at a time."""
        room = _MessageBudget()

        async def handle(
            incoming: Incoming, delivery: str | None, before: asyncio.Task[None] | None
        ) -> None:
            if before is not None:
                # What it makes, it has yet to make: only then can this one be known by it.
                await asyncio.wait((before,))
            passed = False

            def let_pass() -> None:
                nonlocal passed
                if not passed:
                    passed = True
                    self._acknowledge(connection, incoming)
                    room.release(len(incoming.payload))

            await self._handle(incoming, delivery, let_pass)
            let_pass()

        def begin(incoming: Incoming, delivery: str | None) -> None:
            before = self._in_hand.get(delivery or "") if incoming.dup else None
            task = self._tasks.create_task(handle(incoming, delivery, before))
            if delivery is not None:
                self._hold(delivery, task)

        async for incoming in self._without_dropped(connection):
            await room.acquire(len(incoming.payload))
            if self._group is not None:
                # It waits at the broker, rather than for an answer that we may not give.
                await self._group.wait_for_lease()
            await self._in_order(incoming, begin)
            if connection.messages.waiting:
                # One at a time: what arrives meanwhile is not to wait for all that is here.
                await asyncio.sleep(0)

    def _acknowledge(self, connection: Connection, incoming: Incoming) -> None:
        """Acknowledge a message; end the connection instead if its answer reached nobody.

        In a cluster answers leave by another connection, which may be away. Then the message comes
        again, to this bridge or another one, which can answer it.
        """
        if self._group is not None and not self._publisher.connected:
            connection.abort()
        else:
            connection.ack(incoming)

    async def _without_dropped(self, connection: Connection) -> AsyncIterator[Incoming]:
        """Yield the messages to handle; acknowledge those that would get no answer."""
        passed_over = 0
        async for incoming in connection.messages:
            if self._draining:
                continue
            if not is_dropped(self._topics, incoming, self._handler.would_drop):
                yield incoming
                continue
            connection.ack(incoming)
            passed_over += 1
            if passed_over % _PASSED_OVER_AT_ONCE == 0:
                await asyncio.sleep(0)

    async def _in_order(
        self, incoming: Incoming, begin: Callable[[Incoming, str | None], None]
    ) -> None:
        """Begin to handle a message, with the name of its delivery, in its client's order.

        A client's messages after a large one wait until that is hashed; those of other clients do
        not. All wait for a message of no client, such as the value of an input topic.
        """
        found = self._topics.client_of(incoming.topic)
        client = None if found is None else found[0]
        session, before = self._session, self._hashing.get(client)
        if client is None or (before is None and len(incoming.payload) <= _HASHED_AT_ONCE):
            begin(incoming, await self._delivery(session, incoming))
            return

        async def hashed() -> None:
            if before is not None:
                await asyncio.wait((before,))
            begin(incoming, await self._delivery(session, incoming))
            if self._hashing[client] is task:
                del self._hashing[client]

        task = self._hashing[client] = self._tasks.create_task(hashed())

    def _hold(self, delivery: str, task: asyncio.Task[None]) -> None:
        def let_go(done: asyncio.Task[None]) -> None:
            if self._in_hand.get(delivery) is done:
                del self._in_hand[delivery]

        self._in_hand[delivery] = task
        task.add_done_callback(let_go)

    async def _delivery(self, session: str, incoming: Incoming) -> str | None:
        if not needs_delivery(self._topics, incoming):
            return None
        if len(incoming.payload) <= _HASHED_AT_ONCE:
            return delivery_of(session, incoming)
        return await asyncio.to_thread(delivery_of, session, incoming)

    async def _handle(
        self, incoming: Incoming, delivery: str | None, let_pass: Callable[[], None]
    ) -> None:
        log.debug(
            "%s, %d bytes%s", incoming.topic, len(incoming.payload), ", redelivered" * incoming.dup
        )
        found = read_request(self._topics, incoming, delivery=delivery, room=self._publisher)
        if found is None:
            self._take_other(incoming)
            self._report_nameless(incoming)
            await dispatch(self._extensions, incoming, delivery, self._handler)
            return

        late: list[Answer] = []

        def respond(answer: Answer) -> None:
            if self._group is None or self._group.holds_lease():
                self._publisher.answer(found.context, answer)
            else:
                late.append(answer)

        if found.refusal is not None:
            self._handler.refuse(found.context, found.refusal, respond)
        else:
            await self._handler.handle(replace(found.context, let_pass=let_pass), respond)
        if late and self._group is not None:
            await self._group.wait_for_lease()
            for answer in late:
                self._publisher.answer(found.context, answer)

    def _report_nameless(self, incoming: Incoming) -> None:
        """Log a request that nobody can be answered, once for each topic, of the first few."""
        topic = incoming.topic
        if not is_nameless(self._topics, incoming) or topic in self._nameless:
            return
        if len(self._nameless) < _NAMELESS_REPORTED:
            self._nameless.add(topic)
            log.warning(
                "a request on %s gets no answer: the names of client and verb must be %s",
                in_quotes(topic),
                ID_RULE,
            )

    def _take_other(self, incoming: Incoming) -> None:
        clustered = self._group is not None
        inputs = self._settings.input_topics
        match kind_of_other(self._topics, incoming, inputs, clustered=clustered):
            case "leftover":
                self._retained.received(incoming.topic, incoming.payload)
            case "input":
                self._last_values.put(incoming.topic, incoming.payload, stored=incoming.retain)


class _MessageBudget:
    """Bounds the messages that are handled at a time, and their bytes."""

    def __init__(self) -> None:
        self._free = asyncio.Semaphore(MAX_HANDLED)
        self._bytes = 0
        self._less = asyncio.Event()

    async def acquire(self, size: int) -> None:
        """Wait until there is room for a message of `size` bytes, and take it."""
        await self._free.acquire()
        while self._bytes > MAX_HANDLED_BYTES:
            self._less.clear()
            await self._less.wait()
        self._bytes += size

    def release(self, size: int) -> None:
        """Release the room of a message of `size` bytes."""
        self._free.release()
        self._bytes -= size
        self._less.set()
