"""The door's side of MQTT: one connection, kept for ever, for all who are connected here.

A request carries Correlation Data of its own, which no client can choose: the answer, and the bytes
beside it, find the way back by that. They begin with a byte that no text begins with, so that the
bridge never takes them for a `transaction`.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final, Protocol

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from bridge.contract.errors import BadRequest, BridgeError, Busy, Forbidden, TooLarge
from bridge.contract.messages import Transaction
from bridge.contract.topics import Topics
from bridge.mqtt import (
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
_NO_TEXT: Final = b"\xff"


class Hearer(Protocol):
    """Who is told what comes."""

    def begin(self) -> None:
        """A connection begins: what is retained comes again."""

    def settle(self) -> None:
        """All that is retained has come."""

    def unreachable(self) -> None:
        """There is no broker."""

    def public(self, what: str, name: str | None, payload: bytes) -> None:
        """A topic of the bridge's own, or a definition."""

    def job(
        self,
        client: str,
        levels: Sequence[str],
        payload: bytes,
        content_type: str | None,
        properties: Sequence[tuple[str, str]],
    ) -> None:
        """A message about a job."""


class Reply(Struct, frozen=True):
    """An answer as the bridge gave it, or an error of our own."""

    status: str
    data: Raw | UnsetType = UNSET
    error: Raw | UnsetType = UNSET
    transaction: Transaction | UnsetType = UNSET

    @classmethod
    def refusal(cls, error: BridgeError) -> Reply:
        """Make the answer that carries an error."""
        return cls("error", error=Raw(msgspec.json.encode(error.wire())))


class PartOf(Struct, frozen=True):
    """Bytes of an output, as they came beside an answer."""

    job_id: str
    output: int
    offset: int
    content_type: str | None
    data: bytes


class _Pending(Struct):
    client: str
    answered: Callable[[Reply], None]
    part: Callable[[PartOf], None] | None
    timer: asyncio.TimerHandle | None = None


class _Interest(Struct, eq=False):
    """Somebody wants to hear of a client; `subscribing` is by `connection`."""

    count: int = 0
    connection: Connection | None = None
    subscribing: asyncio.Task[None] | None = None


_REPLY: Final = msgspec.json.Decoder(Reply)


class Broker:
    """Use `run` as a task."""

    def __init__(
        self,
        address: Address,
        topics: Topics,
        hearer: Hearer,
        shown: Callable[[str, bytes, str | None], None],
    ) -> None:
        """`shown` is told which picture is on which display, and its Content Type."""
        self._address = address
        self._topics = topics
        self._hearer = hearer
        self._shown = shown
        self._connection: Connection | None = None
        self._was_connected = False
        self._interests: dict[str, _Interest] = {}
        self._pending: dict[bytes, _Pending] = {}
        self._mark = _NO_TEXT + secrets.token_bytes(8)
        self._numbers = itertools.count()
        self.came_back = asyncio.Event()
        """Set whenever there is a new connection; whoever waits for that clears it."""

    @property
    def connected(self) -> bool:
        """Whether there is a broker."""
        return self._connection is not None

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
                self._lose()
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
            self._hearer.begin()
            public = (*topics.public, topics.display_images)
            await connection.subscribe([Subscription(filter=each) for each in public])
            # Brokers send what is retained before they look at our next packet.
            known = dict(self._interests)
            wanted = [each for client in known for each in self._filters(client)]
            await connection.subscribe(
                [Subscription(filter=each) for each in (*wanted, topics.state)]
            )
            for interest in known.values():
                interest.connection, interest.subscribing = connection, None
            self._connection = connection
            for client, interest in self._interests.items():
                if client not in known:
                    self._begin(client, interest, connection)
            while connection.messages.backlog:
                self._hear(await anext(connection.messages))
            self._hearer.settle()
            self.came_back.set()
            log.info("connected to %s", self._address)
            async for message in connection.messages:
                self._hear(message)

    def _lose(self) -> None:
        if self._connection is None:
            return
        self._connection = None
        self._hearer.unreachable()
        busy = Busy("the connection to the broker was lost: ask again", retry=True)
        for correlation in list(self._pending):
            self._answer(correlation, Reply.refusal(busy))

    # Who listens.

    @asynccontextmanager
    async def listening(self, client: str) -> AsyncIterator[None]:
        """Hear what concerns a client, for as long as the block lasts.

        Begins when the broker has said yes; without a broker at once: it is asked when it comes.
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
            await connection.subscribe(
                [Subscription(filter=each) for each in self._filters(client)]
            )
        except SubscribeRefused as error:
            log.error("%s", error)  # noqa: TRY400 - the broker's words say it all
        except ConnectionLost:
            pass  # the next connection subscribes to all

    def _let_go(self, client: str, interest: _Interest) -> None:
        if interest.count or self._interests.get(client) is not interest:
            return
        del self._interests[client]
        connection = self._connection
        if connection is not None:
            with suppress(ConnectionLost):
                connection.unsubscribe(self._filters(client))

    def _filters(self, client: str) -> list[str]:
        return [self._topics.responses(client), self._topics.jobs(client)]

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
        """Publish a request of a client that is listened to; `answered` is told, exactly once."""
        connection = self._connection
        if connection is None:
            answered(Reply.refusal(Busy("there is no broker at the moment", retry=True)))
            return
        correlation = self._mark + next(self._numbers).to_bytes(8, "big")
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
        timer = asyncio.get_running_loop().call_later(ANSWER_S, self._give_up, correlation)
        self._pending[correlation] = _Pending(client, answered, part, timer)
        sent.add_done_callback(lambda done: self._note(correlation, done))

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
        """Wait until what was published is on its way: who floods is slowed down."""
        connection = self._connection
        if connection is not None and connection.buffered > _CROWDED:
            try:
                await connection.drained(_CROWDED // 2)
            except ConnectionLost:
                return

    def _give_up(self, correlation: bytes) -> None:
        busy = Busy(f"the bridge did not answer within {ANSWER_S:g} s: ask again", retry=True)
        self._answer(correlation, Reply.refusal(busy))

    def _note(self, correlation: bytes, sent: asyncio.Future[PubAck]) -> None:
        """Answer what the broker refused; a lost connection is told of elsewhere."""
        error = None if sent.cancelled() else sent.exception()
        if isinstance(error, PublishRefused):
            log.error("%s", error)
            self._answer(correlation, Reply.refusal(_refusal(error)))

    def _answer(self, correlation: bytes, reply: Reply) -> None:
        pending = self._pending.pop(correlation, None)
        if pending is None:
            return
        if pending.timer is not None:
            pending.timer.cancel()
        pending.answered(reply)

    # What comes.

    def _hear(self, message: Incoming) -> None:
        public = self._topics.public_of(message.topic)
        if public is not None:
            self._hearer.public(*public, message.payload)
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
            case ("response", _):
                self._hear_reply(client, message)
            case ("job", job_id, "part", output, offset):
                self._hear_part(client, message, (job_id, output, offset))
            case ("job", *rest):
                self._hearer.job(
                    client, rest, message.payload, message.content_type, message.user_properties
                )

    def _hear_reply(self, client: str, message: Incoming) -> None:
        correlation = message.correlation_data or b""
        pending = self._pending.get(correlation)
        if pending is None or pending.client != client:
            return  # somebody else asked
        try:
            reply = _REPLY.decode(message.payload.decode())
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            log.warning("%s: an answer that cannot be read", message.topic)
            return
        self._answer(correlation, reply)

    def _hear_part(self, client: str, message: Incoming, place: tuple[str, str, str]) -> None:
        pending = self._pending.get(message.correlation_data or b"")
        if pending is None or pending.client != client or pending.part is None:
            return
        job_id, output, offset = place
        try:
            found = PartOf(job_id, int(output), int(offset), message.content_type, message.payload)
        except ValueError:
            return  # not the bridge's
        pending.part(found)


def _refusal(error: MqttError) -> BridgeError:
    match error:
        case PacketTooLarge(size=size, limit=limit):
            return TooLarge(
                f"the request has {size} bytes, the broker takes {limit}", size=size, limit=limit
            )
        case InvalidMessage():
            return BadRequest(str(error))
        case PublishRefused():
            return Forbidden("the broker does not let this door publish", reason=error.reason)
        case _:
            return Busy("the connection to the broker was lost: ask again", retry=True)
