"""The web adapter's MQTT connection: one, kept for ever, for all browsers."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Final

from msgspec import Struct

from bridge.adapters.web.content import picture_type
from bridge.adapters.web.descriptions import MissingDescriptions
from bridge.adapters.web.hub import Hub
from bridge.adapters.web.requests import (
    PartOf,
    PendingRequest,
    Reply,
    Requests,
    Turns,
    UnreadableReply,
    named,
    place_of,
)
from bridge.contract.errors import BadRequest, BridgeError, Busy, Forbidden, TooLarge
from bridge.contract.topics import Topics
from bridge.mqtt import (
    NOT_AUTHORISED,
    UNSPECIFIED,
    Address,
    Connection,
    ConnectionLost,
    ConnectionRefused,
    Incoming,
    InvalidMessage,
    MqttError,
    PacketTooLarge,
    PubAck,
    PublishProperties,
    PublishRefused,
    SubscribeRefused,
    Subscription,
)
from bridge.retry import Backoff

log = logging.getLogger(__name__)

ANSWER_S: Final = 30.0
# How long the topics of a client are still listened to when nobody is: it may only be reloading.
LINGER_S: Final = 5.0
# With more than this on the way to the broker, nothing more is read from who sends.
_CROWDED: Final = 4 * 1024 * 1024
_GOOD_CONNECTION_S: Final = 10.0


class _Interest(Struct, eq=False):
    """The number that listen to a client; `subscribing` is done on `connection`."""

    count: int = 0
    connection: Connection | None = None
    subscribing: asyncio.Task[None] | None = None


class Broker:
    """Subscribes, publishes requests, and matches answers; use `run` as a task."""

    def __init__(
        self,
        address: Address,
        topics: Topics,
        hub: Hub,
        shown: Callable[[str, bytes, str | None], None],
    ) -> None:
        """`shown` takes a display's name, its picture, and the picture's Content Type."""
        self._address = address
        self._topics = topics
        self._hub = hub
        self._shown = shown
        self._connection: Connection | None = None
        self._was_connected = False
        self._interests: dict[str, _Interest] = {}
        # The connection that receives the topics of all clients by one filter, if there is one.
        self._has_all: Connection | None = None
        self._requests = Requests(secrets.token_bytes(8))
        # Over MQTT 3.1.1: parts of one output in two sizes have one topic.
        self._turns = Turns()
        self._descriptions = MissingDescriptions(self.request, hub.on_public)
        self._timer: asyncio.TimerHandle | None = None
        self.came_back = asyncio.Event()
        """Set whenever there is a new connection; whoever waits for that clears it."""

    async def run(self) -> None:
        """Stay connected.

        Raises ConnectionRefused at the first attempt for a wrong name or password.
        """
        backoff = Backoff()
        loop = asyncio.get_running_loop()
        while True:
            since = loop.time()
            try:
                await self._connect_once()
            except ConnectionRefused as error:
                if error.bad_credentials and not self._was_connected:
                    raise
                log.error("%s", error)  # noqa: TRY400 - the broker's words say it all
            except MqttError as error:
                log.warning("%s", error)
            finally:
                self._disconnected()
            if loop.time() - since > _GOOD_CONNECTION_S:
                backoff.reset()
            await asyncio.sleep(backoff.next())

    async def _connect_once(self) -> None:
        topics = self._topics
        async with Connection(
            self._address,
            client_id=f"{topics.base}-websocket-{secrets.token_hex(4)}",
            manual_ack=False,
        ) as connection:
            self._was_connected = True
            self._hub.on_connecting()
            self._descriptions.begin()
            public = (*topics.public, topics.display_images)
            await connection.subscribe([Subscription(filter=each) for each in public])
            # Brokers send what is retained before they look at our next packet.
            known = dict(self._interests)
            try:
                await self._subscribe_clients(connection, known)
            except SubscribeRefused as error:
                log.error("%s", error)  # noqa: TRY400 - one client's ACL is not to cost all others
            await connection.subscribe([Subscription(filter=topics.state)])
            for interest in known.values():
                interest.connection, interest.subscribing = connection, None
            self._connection = connection
            for client, interest in self._interests.items():
                if client not in known:
                    self._begin(client, interest, connection)
            while connection.messages.backlog:
                self._take(await anext(connection.messages))
            self._hub.on_connected()
            for client in list(known)[:1]:
                self._descriptions.ask_as(client)
            self.came_back.set()
            log.info("connected to %s", self._address)
            async for message in connection.messages:
                self._take(message)

    def _disconnected(self) -> None:
        if self._connection is None:
            return
        self._connection = None
        self._descriptions.end()
        self._hub.on_disconnected()
        busy = Busy("the connection to the broker was lost: ask again", retry=True)
        for request in self._requests.remove_all():
            request.answered(Reply.refusal(busy))

    # Subscriptions.

    @asynccontextmanager
    async def listening(self, client: str) -> AsyncIterator[None]:
        """Receive a client's messages while the block lasts.

        It begins when the broker has confirmed the subscription; without a broker it begins at
        once, and the subscription follows when there is one.
        """
        interest = self._interests.setdefault(client, _Interest())
        interest.count += 1
        try:
            await self._subscribe(client, interest)
            yield
        finally:
            interest.count -= 1
            if not interest.count:
                loop = asyncio.get_running_loop()
                loop.call_later(LINGER_S, self._let_go, client, interest)

    async def _subscribe(self, client: str, interest: _Interest) -> None:
        connection = self._connection
        if connection is None:
            return
        if interest.connection is not connection:
            self._begin(client, interest, connection)
        if interest.subscribing is not None:
            await asyncio.shield(interest.subscribing)

    def _begin(self, client: str, interest: _Interest, connection: Connection) -> None:
        interest.connection = connection
        interest.subscribing = asyncio.create_task(self._ask_broker(connection, client))

    async def _ask_broker(self, connection: Connection, client: str) -> None:
        try:
            await self._subscribe_clients(connection, [client])
        except SubscribeRefused as error:
            log.error("%s", error)  # noqa: TRY400 - the broker's words say it all
        except ConnectionLost:
            pass  # the next connection subscribes to all
        else:
            self._descriptions.ask_as(client)

    async def _subscribe_clients(self, connection: Connection, clients: Iterable[str]) -> None:
        """Subscribe to the topics of clients, or to those of all where no more filters are granted.

        Raises SubscribeRefused for what the ACL denies, ConnectionLost.
        """
        if self._has_all is connection:
            return
        filters = [each for client in clients for each in self._filters(client)]
        codes = await connection.subscribe(
            [Subscription(filter=each, optional=True) for each in filters]
        )
        refused = {
            filter_: code
            for filter_, code in zip(filters, codes, strict=True)
            if code >= UNSPECIFIED
        }
        if not refused:
            return
        if NOT_AUTHORISED in refused.values():
            raise SubscribeRefused(*next(iter(refused.items())))
        await self._subscribe_all(connection)

    async def _subscribe_all(self, connection: Connection) -> None:
        """Subscribe to the topics of all clients by one filter, in place of three for each."""
        everything = Subscription(filter=self._topics.clients)
        single = [each for client in self._interests for each in self._filters(client)]
        try:
            await connection.subscribe([everything])
        except SubscribeRefused:
            # There may be room for one only where the others are given up.
            connection.unsubscribe(single)
            try:
                await connection.subscribe([everything])
            except SubscribeRefused:
                await connection.subscribe(
                    [Subscription(filter=each, optional=True) for each in single]
                )
                raise
        else:
            connection.unsubscribe(single)
        log.info("the broker grants no more filters: using one for the topics of all clients")
        self._has_all = connection
        self.came_back.set()  # what was published in between was missed

    def _let_go(self, client: str, interest: _Interest) -> None:
        if interest.count or self._interests.get(client) is not interest:
            return
        del self._interests[client]
        connection = self._connection
        if connection is not None and self._has_all is not connection:
            with suppress(ConnectionLost):
                connection.unsubscribe(self._filters(client))

    def _filters(self, client: str) -> list[str]:
        topics = self._topics
        return [topics.responses(client), topics.jobs(client), topics.sets(client)]

    # Requests.

    def ask(
        self,
        client: str,
        levels: Sequence[str],
        payload: bytes,
        *,
        content_type: str,
        answered: Callable[[Reply], None],
        part: Callable[[PartOf], None] | None = None,
    ) -> None:
        """Publish a request of a client that is listened to; `answered` is called exactly once."""
        connection = self._connection
        if connection is None:
            answered(Reply.refusal(Busy("there is no broker at the moment", retry=True)))
            return
        correlation = self._requests.correlation()
        place, nameless = None, False
        if connection.version != "5":
            place = place_of(levels, payload)
            if place is not None:
                again = partial(
                    self.ask,
                    *(client, levels, payload),
                    content_type=content_type,
                    answered=answered,
                    part=part,
                )
                if not self._turns.take((client, place), again):
                    return
                answered = self._turns.until((client, place), answered)
            with_name = named(levels, payload, content_type, correlation)
            nameless = with_name is None
            payload = payload if with_name is None else with_name
        try:
            sent = connection.publish(
                self._topics.request(client, levels[0], *levels[1:]),
                payload,
                properties=PublishProperties(
                    content_type=content_type, correlation_data=correlation
                ),
            )
        except MqttError as error:
            answered(Reply.refusal(_refusal(error)))
            return
        deadline = asyncio.get_running_loop().time() + ANSWER_S
        pending = PendingRequest(client, deadline, answered, part, place=place, nameless=nameless)
        self._requests.add(correlation, pending)
        self._set_timer()
        sent.add_done_callback(lambda done: self._on_sent(correlation, done))

    async def request(
        self,
        client: str,
        verb: str,
        payload: bytes,
        part: Callable[[PartOf], None] | None = None,
    ) -> Reply:
        """Publish a request and wait for its answer."""
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

        def answered(reply: Reply) -> None:
            if not answer.done():
                answer.set_result(reply)

        self.ask(
            client, (verb,), payload, content_type="application/json", answered=answered, part=part
        )
        return await answer

    async def room(self) -> None:
        """Wait until the broker takes requests as fast as they come: a flood is slowed down."""
        connection = self._connection
        if connection is not None and connection.buffered > _CROWDED:
            try:
                await connection.drained(_CROWDED // 2)
            except ConnectionLost:
                return

    def _on_sent(self, correlation: bytes, sent: asyncio.Future[PubAck]) -> None:
        """Answer what the broker refused; `_disconnected` does that for a lost connection."""
        error = None if sent.cancelled() else sent.exception()
        if isinstance(error, PublishRefused):
            log.error("%s", error)
            request = self._requests.remove(correlation)
            if request is not None:
                request.answered(Reply.refusal(_refusal(error)))

    def _set_timer(self) -> None:
        deadline = self._requests.next_deadline
        if self._timer is None and deadline is not None:
            self._timer = asyncio.get_running_loop().call_at(deadline, self._expire)

    def _expire(self) -> None:
        self._timer = None
        busy = Busy(f"the bridge did not answer within {ANSWER_S:g} s: ask again", retry=True)
        for request in self._requests.remove_expired(asyncio.get_running_loop().time()):
            request.answered(Reply.refusal(busy))
        self._set_timer()

    # Messages.

    def _take(self, message: Incoming) -> None:
        public = self._topics.public_of(message.topic)
        if public is not None:
            if message.retain and public[1] is not None:
                self._descriptions.received()
            self._hub.on_public(*public, message.payload)
            return
        display = self._topics.display_of(message.topic)
        if display is not None:
            self._shown(display, message.payload, message.content_type)
            return
        found = self._topics.client_of(message.topic)
        if found is None:
            return
        client, levels = found
        match levels:
            case ("response", verb):
                self._take_reply(client, verb, message)
            case ("job" | "set" as whose, name, "part", output, offset):
                content = _type_of(message), message.payload
                match = self._requests.match_part(
                    client, message.correlation_data, (name, output, offset), content, whose
                )
                if match is not None:
                    _deliver(*match)
            case ("job", *rest):
                self._hub.on_job(
                    client, rest, message.payload, _type_of(message), message.user_properties
                )
            case ("set", set_id, "status" | "result" as what):
                self._hub.on_set(client, set_id, what, message.payload)

    def _take_reply(self, client: str, verb: str, message: Incoming) -> None:
        try:
            match = self._requests.match_reply(
                client, verb, message.correlation_data, message.payload
            )
        except UnreadableReply as error:
            log.warning("cannot read the response on %s: %s", message.topic, error)
            return
        if match is not None:
            request, reply = match
            request.answered(reply)


def _deliver(request: PendingRequest, part: PartOf) -> None:
    """Hand a request its part, and then the answer that came before it."""
    if request.part is not None:
        request.part(part)
    if request.reply is not None:
        request.answered(request.reply)


def _type_of(message: Incoming) -> str | None:
    """Return its Content Type; over MQTT 3.1.1, which has none, that of pictures by their bytes."""
    given = message.content_type
    return picture_type(message.payload) if given is None else given


def _refusal(error: MqttError) -> BridgeError:
    match error:
        case PacketTooLarge(size=size, limit=limit):
            return TooLarge(
                f"the request has {size} bytes, the broker takes {limit}", size=size, limit=limit
            )
        case InvalidMessage():
            return BadRequest(str(error))
        case PublishRefused():
            return Forbidden("the broker does not let the web adapter publish", reason=error.reason)
        case _:
            return Busy("the connection to the broker was lost: ask again", retry=True)
