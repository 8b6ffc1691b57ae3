"""A client's connection, kept for as long as it is open, and requests matched to their answers."""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from types import TracebackType
from typing import Final, Protocol, Self, TypeAlias, TypeVar

import msgspec
from msgspec import UNSET, Raw, UnsetType

from bridge.contract.errors import BadRequest, BridgeError, Error, TooLarge, from_wire
from bridge.contract.messages import CONTRACT_VERSION, Ask, encode
from bridge.contract.reading import UNREADABLE
from bridge.contract.topics import Topics, matches
from bridge.mqtt import (
    PACKET_TOO_LARGE,
    Address,
    Connection,
    ConnectionLost,
    Incoming,
    Messages,
    MqttError,
    PacketTooLarge,
    PubAck,
    Publish,
    PublishProperties,
    SubscribeRefused,
    Subscription,
    Unreachable,
    Version,
    lower_limit,
)
from bridge.retry import Backoff

_log = logging.getLogger(__name__)

# A request that the broker took and the bridge did not answer is sent again after this long, and
# then ever more rarely: a broker says success and drops what does not fit its queue.
_FIRST_AGAIN_S: Final = 5.0
_LAST_AGAIN_S: Final = 60.0
# Where a broker does not keep the order of answers and retained messages.
_LAST_RETAINED_S: Final = 0.5

T = TypeVar("T")


class ReceivedAnswer(msgspec.Struct):
    """A `Response` whose data waits for its type to be known."""

    status: str
    data: Raw = Raw(b"null")
    error: Error | None = None
    transaction: str | int | UnsetType = UNSET


class _Info(msgspec.Struct):
    """The part of `bridge/info` that decides whether we understand each other."""

    contract: int


_ANSWERS: Final = msgspec.json.Decoder(ReceivedAnswer)


class SessionConnection(Protocol):
    """The part of an open `bridge.mqtt.Connection` that a session uses."""

    @property
    def messages(self) -> Messages:
        """The messages that arrive, in order."""

    @property
    def version(self) -> Version:
        """MQTT's version."""

    @property
    def packet_limit(self) -> int | None:
        """The largest packet that the broker takes, in bytes; None: it named none."""

    @property
    def retains(self) -> bool:
        """False if the broker says that it retains nothing."""

    async def subscribe(self, subscriptions: Sequence[Subscription], /) -> object:
        """Subscribe, and wait for the broker's answer."""

    def publish(
        self, topic: str, payload: bytes, *, properties: PublishProperties
    ) -> asyncio.Future[PubAck]:
        """Publish at QoS 1."""


# Opens a connection under a client identifier; with an empty one the broker chooses it.
Connect: TypeAlias = Callable[[str], AbstractAsyncContextManager[SessionConnection]]


def connect_to(address: Address) -> Connect:
    """Return a function that opens connections to a broker."""
    # What is received is kept at once; what is not received is asked for: no manual PUBACKs.
    return lambda client_id: Connection(address, client_id=client_id, manual_ack=False)


class Session:
    """One client's conversation with the bridge, over as many connections as it takes.

    Use as `async with`: the first connection must succeed, later ones are tried for ever.
    """

    def __init__(
        self,
        connect: Connect,
        topics: Topics,
        client: str,
        *,
        on_message: Callable[[Incoming], None],
        on_gap: Callable[[], None],
        retries: bool = False,
    ) -> None:
        """`on_message` is called with each message about a job, `on_gap` when some may be lost.

        Both run on the event loop's thread and must not block. `retries`: a broker that cannot be
        reached at the start is tried again, too.
        """
        self._connect = connect
        self._topics = topics
        self._client = client
        self._on_message = on_message
        self._on_gap = on_gap
        self._backoff = Backoff()
        self._retries = retries
        self._contract: int | None = None
        self._connection: SessionConnection | None = None
        # Further subscriptions, made once somebody asks: a broker may not allow them to everybody.
        self._more: dict[str, None] = {}
        self._pending: dict[str, asyncio.Future[ReceivedAnswer]] = {}
        # The transactions of requests that are no JSON, which only Correlation Data can carry.
        self._unnamed: list[str] = []
        self._task: asyncio.Task[None] | None = None
        # Done once the first connection stands, or has failed.
        self._opened: asyncio.Future[None] | None = None
        self._online: bool | None = None
        self._is_online = asyncio.Event()
        # Done, and replaced, whenever it is worth sending again what was not answered.
        self._again: asyncio.Future[None] | None = None
        self._closed: BaseException | None = None
        # The largest payload on this connection, and what a broker that ended it for one takes.
        self._largest = 0
        self._learnt: int | None = None

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._again, opened = loop.create_future(), loop.create_future()
        self._opened = opened
        self._task = asyncio.create_task(
            self._keep(opened), name=f"comfy2mqtt client {self._client}"
        )
        self._task.add_done_callback(self._stopped)
        try:
            await opened
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stop()
        if kind is None and self._task is not None and not self._task.cancelled():
            await self._task  # it failed: nobody may miss that

    @property
    def online(self) -> bool | None:
        """True if the bridge is online, as it or its will says; None: neither has been received."""
        return self._online

    @property
    def retains(self) -> bool:
        """False if the broker says that it retains nothing."""
        return self._connection is None or self._connection.retains

    @property
    def may_be_online(self) -> bool:
        """False if the bridge is offline, or would have said by now that it is online."""
        return not self.retains if self._online is None else self._online

    @property
    def contract(self) -> int | None:
        """The version of the contract that the bridge speaks; None: it has not said."""
        return self._contract

    async def until_online(self) -> None:
        """Wait until the bridge says that it is online."""
        await self._is_online.wait()

    def room(self, verb: str, *names: str) -> int | None:
        """Return how many bytes a request may have; None: the broker named no limit, or is away."""
        announced = None if self._connection is None else self._connection.packet_limit
        limits = [each for each in (announced, self._learnt) if each is not None]
        if not limits:
            return None
        topic = self._topics.request(self._client, verb, *names)
        properties = PublishProperties(correlation_data=_transaction().encode())
        return Publish.of(topic, b"", qos=1, retain=False, properties=properties).room(min(limits))

    async def ask(
        self, verb: str, request: Ask, kind: type[T], *names: str, within_s: float | None = None
    ) -> T:
        """Send a request until it is answered; return the answer's data as `kind`.

        `names` are levels of the topic after the verb. Waits for as long as it takes: bound it with
        `asyncio.timeout`, or with `within_s`, after which a broker with MQTT 5 drops the request as
        well. Raises the bridge's error, TooLarge for what the broker does not take, PublishRefused
        for what it forbids, TimeoutError.
        """
        transaction = _transaction()
        payload = encoded(msgspec.structs.replace(request, transaction=transaction))
        async with asyncio.timeout(within_s) as bound:
            answer = await self._ask(verb, names, payload, transaction, bound.when())
        return read_answer(verb, answer, kind)

    async def listen(self, topic_filter: str) -> None:
        """Receive messages of a filter too, for as long as the session is open.

        Raises SubscribeRefused where the broker does not allow that.
        """
        if topic_filter in self._more:
            return
        self._more[topic_filter] = None
        if self._connection is not None:
            try:
                await self._connection.subscribe([Subscription(filter=topic_filter)])
            except ConnectionLost:
                pass  # the next connection subscribes to it
            except MqttError:
                del self._more[topic_filter]
                raise

    async def ask_bytes(self, verb: str, payload: bytes, kind: type[T], *names: str) -> T:
        """Send a request that is no JSON; as `ask` otherwise.

        Over MQTT 3.1.1 its answer names no request: it is the answer to the earliest one.
        """
        transaction = _transaction()
        self._unnamed.append(transaction)
        try:
            return read_answer(verb, await self._ask(verb, names, payload, transaction), kind)
        finally:
            self._unnamed.remove(transaction)

    async def _ask(
        self,
        verb: str,
        names: Sequence[str],
        payload: bytes,
        transaction: str,
        until: float | None = None,
    ) -> ReceivedAnswer:
        answer: asyncio.Future[ReceivedAnswer] = asyncio.get_running_loop().create_future()
        self._pending[transaction] = answer
        topic = self._topics.request(self._client, verb, *names)
        try:
            await self._send_until(answer, topic, payload, transaction, until)
        finally:
            del self._pending[transaction]
        return answer.result()

    async def retained(self, topics: Sequence[str]) -> list[Incoming]:
        """Return the retained messages at these filters, by a connection of its own.

        Brokers send retained messages before they look at our next packet: once that is answered,
        all are here. With some of MQTT 3.1.1 they may come later: there a pause is the end.
        """
        wanted = [Subscription(filter=each, qos=0) for each in topics]
        found: list[Incoming] = []
        async with self._connect("") as connection:
            await connection.subscribe(wanted)
            await connection.subscribe(
                [Subscription(filter=self._topics.response(self._client, "-"))]
            )
            pause_s = 0.0 if connection.version == "5" else _LAST_RETAINED_S
            with suppress(TimeoutError):
                while pause_s or connection.messages.backlog:
                    async with asyncio.timeout(pause_s or None):
                        found.append(await anext(connection.messages))
        # Some brokers send more than they are asked for.
        return [each for each in found if any(matches(topic, each.topic) for topic in topics)]

    async def _send_until(
        self,
        answer: asyncio.Future[ReceivedAnswer],
        topic: str,
        payload: bytes,
        transaction: str,
        until: float | None,
    ) -> None:
        """Send until there is an answer; the request expires at `until`, a time of the loop."""
        pause = Backoff(_FIRST_AGAIN_S, _LAST_AGAIN_S)
        while not answer.done():
            if self._closed is not None or self._again is None:
                raise RuntimeError("the client is closed") from self._closed
            again = self._again
            properties = PublishProperties(
                correlation_data=transaction.encode(), message_expiry=_expiry(until)
            )
            sent = self._send(topic, payload, properties)
            waiting: set[
                asyncio.Future[ReceivedAnswer] | asyncio.Future[None] | asyncio.Future[PubAck]
            ]
            waiting = {answer, again}
            if sent is not None:
                await asyncio.wait({*waiting, sent}, return_when=asyncio.FIRST_COMPLETED)
                if sent.done() and not isinstance(sent.exception(), ConnectionLost):
                    sent.result()
            await asyncio.wait(
                waiting,
                timeout=None if sent is None else pause.next(),
                return_when=asyncio.FIRST_COMPLETED,
            )

    def _send(
        self, topic: str, payload: bytes, properties: PublishProperties
    ) -> asyncio.Future[PubAck] | None:
        if self._connection is None:
            return None
        if self._learnt is not None and len(payload) > self._learnt:
            raise TooLarge(
                f"the request has {len(payload)} bytes, the broker takes {self._learnt}",
                size=len(payload),
                limit=self._learnt,
            )
        try:
            self._largest = max(self._largest, len(payload))
            return self._connection.publish(topic, payload, properties=properties)
        except ConnectionLost:
            return None
        except PacketTooLarge as error:
            raise TooLarge(
                f"the request has {error.size} bytes, the broker takes {error.limit}",
                size=error.size,
                limit=error.limit,
            ) from error

    async def _keep(self, opened: asyncio.Future[None]) -> None:
        """Connect, listen, and connect again. Raises only what the first attempt meets."""
        while True:
            try:
                await self._connect_once(opened)
            except MqttError as error:
                if not opened.done():
                    if not (self._retries and isinstance(error, Unreachable | ConnectionLost)):
                        raise
                    opened.set_result(None)
                if isinstance(error, ConnectionLost) and error.code == PACKET_TOO_LARGE:
                    self._learnt = lower_limit(self._largest)
                _log.info("%s", error)
            finally:
                self._connection = None
            await asyncio.sleep(self._backoff.next())

    async def _connect_once(self, opened: asyncio.Future[None]) -> None:
        async with self._connect(f"{self._client}-{secrets.token_hex(4)}") as connection:
            topics = self._topics
            filters = (topics.responses(self._client), topics.jobs(self._client), topics.state)
            await connection.subscribe(
                [Subscription(filter=each) for each in (*filters, *self._more)]
            )
            self._connection = connection
            self._largest = 0
            self._backoff.reset()
            if opened.done():
                self._on_gap()
            else:
                opened.set_result(None)
            self._wake()
            with suppress(SubscribeRefused):  # a broker whose ACL is stricter than ours
                await connection.subscribe([Subscription(filter=topics.info)])
            async for message in connection.messages:
                self._receive(message)

    def _receive(self, message: Incoming) -> None:
        if message.topic == self._topics.state:
            self._receive_state(online=message.payload == b"online")
        elif message.topic == self._topics.info:
            self._receive_info(message.payload)
        elif self._topics.job_of(message.topic) or self._topics.set_of(message.topic):
            self._on_message(message)
        elif matches(self._topics.responses(self._client), message.topic):
            self._receive_answer(message)

    def _receive_state(self, *, online: bool) -> None:
        returned = online and self._online is False
        self._online = online
        if online:
            self._is_online.set()
        else:
            self._is_online.clear()
        if returned:
            self._on_gap()
            self._wake()

    def _receive_info(self, payload: bytes) -> None:
        try:
            contract = msgspec.json.decode(payload, type=_Info).contract
        except UNREADABLE:
            return  # there was none, or it is withdrawn
        if contract not in (self._contract, CONTRACT_VERSION):
            _log.warning("%s", unfit(contract))
        self._contract = contract

    def _receive_answer(self, message: Incoming) -> None:
        try:
            answer = _ANSWERS.decode(message.payload)
        except UNREADABLE:
            _log.warning("cannot read the response on %s", message.topic)
            return
        transaction = str(answer.transaction)
        if answer.transaction is UNSET and self._unnamed:
            transaction = self._unnamed[0]
        pending = self._pending.get(transaction)
        if pending is not None and not pending.done():
            pending.set_result(answer)

    def _wake(self) -> None:
        if self._again is not None and not self._again.done():
            self._again.set_result(None)
            self._again = asyncio.get_running_loop().create_future()

    def _stopped(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        self._closed = error or RuntimeError("the client is closed")
        if self._opened is not None and not self._opened.done():
            self._opened.set_exception(self._closed)
        for pending in self._pending.values():
            if not pending.done():
                pending.set_exception(self._closed)
        self._on_gap()

    async def _stop(self) -> None:
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.wait((self._task,))


def unfit(contract: int) -> str:
    """Return what is wrong where the bridge speaks another version of the contract."""
    older = "the bridge" if contract < CONTRACT_VERSION else "this client"
    return (
        f"the bridge speaks version {contract} of the contract, this client version "
        f"{CONTRACT_VERSION}: update {older} (pip install --upgrade comfy2mqtt)"
    )


def encoded(request: Ask) -> bytes:
    """Return a request's JSON. Raises BadRequest for a text with half a surrogate pair.

    Python has one for a byte that is not UTF-8, in an argument or the name of a file.
    """
    try:
        return encode(request)
    except UnicodeEncodeError:
        raise BadRequest(
            "a text has half a surrogate pair, as of bytes that are no UTF-8"
        ) from None


def read_answer(verb: str, answer: ReceivedAnswer, kind: type[T]) -> T:
    """Return an answer's data. Raises the bridge's error, and BridgeError for other data."""
    if answer.status != "ok":
        raise from_wire(answer.error or Error("bridge_error", "the bridge gives no reason"))
    try:
        return msgspec.json.decode(answer.data, type=kind)
    except UNREADABLE as error:
        raise BridgeError(f"the bridge's answer to {verb} cannot be read: {error}") from error


def _expiry(until: float | None) -> int | None:
    """Return in how many seconds a message expires: one at least, as 0 would be at once."""
    if until is None:
        return None
    return max(1, math.ceil(until - asyncio.get_running_loop().time()))


def _transaction() -> str:
    return secrets.token_hex(8)
