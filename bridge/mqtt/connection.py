"""A connection to a broker, as the rest of this project sees it."""

from __future__ import annotations

import asyncio
import itertools
import secrets
from typing import TYPE_CHECKING, Self

import msgspec
from paho.mqtt.subscribeoptions import SubscribeOptions

from bridge.mqtt.errors import (
    CLIENT_ID_NOT_VALID,
    QOS_NOT_SUPPORTED,
    RETAIN_NOT_SUPPORTED,
    UNSPECIFIED,
    UNSUPPORTED_PROTOCOL_VERSION,
    WILDCARDS_NOT_SUPPORTED,
    ConnectionLost,
    ConnectionRefused,
    InvalidMessage,
    MqttError,
    PacketTooLarge,
    SubscribeRefused,
    Unreachable,
)
from bridge.mqtt.inbox import AckOrder, FairQueue, FlowOf
from bridge.mqtt.link import BrokerLink, Connack, Events, Version, Will
from bridge.mqtt.outbox import Outbox, PubAck
from bridge.mqtt.pacing import Pacer
from bridge.mqtt.packets import NO_PROPERTIES, Incoming, Puback, Publish, PublishProperties
from bridge.mqtt.stream import open_stream

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from bridge.mqtt.address import Address


class Subscription(msgspec.Struct, frozen=True, kw_only=True):
    """A topic filter with MQTT 5's options (3.8.3.1)."""

    filter: str
    qos: int = 1
    no_local: bool = False
    retain_as_published: bool = False
    retain_handling: int = 0
    """Retained messages: 0 send them now, 1 only if the subscription is new, 2 never."""
    identifier: int | None = None
    """Comes with each message of this subscription, from brokers that offer it."""
    optional: bool = False
    """A refusal raises nothing: it is in what `subscribe` returns."""


# With so much taken in and not taken by anybody nothing more is read, until half of it is gone.
# TCP's window then stops the broker, which keeps or drops messages as it is set to.
MAX_BACKLOG = 16 * 1024 * 1024
# Filters in one SUBSCRIBE: AWS IoT takes no more, and ends the connection for a ninth.
_FILTERS_PER_PACKET = 8
# What a small message costs besides its bytes.
_OVERHEAD = 1024


class Messages:
    """Messages that arrive on a connection; take them with `async for`.

    They come in order of arrival, or by the turns of their flows. Ends when we disconnect; raises
    ConnectionLost when the connection is lost, after all that came before that. Nothing is
    discarded: while nobody takes messages, no more is read from the network.
    """

    def __init__(
        self, read: Callable[[bool], None] = lambda _: None, flow_of: FlowOf | None = None
    ) -> None:
        """`read(True)` continues reading from the network, `read(False)` stops it."""
        self._read = read
        self._paused = False
        self._turns = FairQueue() if flow_of is None else FairQueue(flow_of)
        self._wake = asyncio.Event()
        self._over = False
        self._failure: ConnectionLost | None = None
        self.backlog = 0
        """Bytes that have arrived and were not taken yet, and what it costs to keep them."""

    @property
    def waiting(self) -> int:
        """The number of messages that have arrived and were not taken yet."""
        return len(self._turns)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Incoming:
        while (taken := self._turns.take()) is None:
            if self._over:
                if self._failure is None:
                    raise StopAsyncIteration
                raise ConnectionLost(self._failure.reason, self._failure.code)
            self._wake.clear()
            await self._wake.wait()
        message, size = taken
        self.backlog -= size
        if self._paused and self.backlog <= MAX_BACKLOG // 2:
            self._paused = False
            self._read(True)  # noqa: FBT003 - it is the question itself
        return message

    def put(self, message: Incoming, size: int) -> None:
        """Append a message that took `size` bytes."""
        size += _OVERHEAD
        self.backlog += size
        self._turns.put(message, size)
        self._wake.set()
        if not self._paused and self.backlog > MAX_BACKLOG:
            self._paused = True
            self._read(False)  # noqa: FBT003

    def end(self, failure: ConnectionLost | None) -> None:
        """Append the end; None: nothing was lost."""
        self._failure = failure
        self._over = True
        self._wake.set()


class Connection:
    """One MQTT connection, from `async with` to its end; for the next one make a new object.

    It speaks MQTT 5, or 3.1.1 with a broker that has no 5: properties are then lost, and refusals
    have no reason. What the CONNACK rules out is not used: messages go at a lower QoS, or are not
    retained, and filters with wildcards are refused here.

    Messages leave in the order of the calls to `publish`, whatever their QoS. Leaving the block
    by an exception lets the broker publish the will; leaving it otherwise does not.

    `async with` raises Unreachable, ConnectionRefused, BadAddress, InvalidMessage (the will).
    """

    def __init__(
        self,
        address: Address,
        *,
        client_id: str = "",
        clean_start: bool = True,
        session_expiry: int = 0,
        will: Will | None = None,
        manual_ack: bool = True,
        keepalive: int = 60,
        packet_limit: int | None = None,
        receive_maximum: int | None = None,
        pacer: Pacer | None = None,
        needs_5: str | None = None,
        flow_of: FlowOf | None = None,
        timeout_s: float = 10.0,
    ) -> None:
        """Describe the connection.

        `session_expiry` and `keepalive` are seconds; `packet_limit` bounds what we send, in bytes,
        below what the broker announces; `receive_maximum` bounds how many messages the broker may
        have unacknowledged at us; `pacer` bounds how fast messages leave, and is kept by its owner
        from one connection to the next; `needs_5` names the feature that needs MQTT 5, so that a
        broker of 3.1.1 is refused; `flow_of` lets those who send take turns in `messages`, and is
        called as each arrives; `timeout_s` bounds connecting, subscribing and disconnecting. An
        empty `client_id` lets the broker choose one. Without `manual_ack` a message is acknowledged
        as it arrives.
        """
        self.address = address
        self.client_id = client_id
        """Ours, or the broker's choice once connected."""
        self.version: Version = "5"
        """MQTT's version, final once connected."""
        self._needs_5 = needs_5
        self._clean_start = clean_start
        self._session_expiry = session_expiry
        self._will = will
        self._manual_ack = manual_ack
        self._keepalive = keepalive
        self._own_limit = packet_limit
        self._receive_maximum = receive_maximum
        self._pacer = pacer
        self._flow_of = flow_of
        self._timeout_s = timeout_s

        self._entered = False
        self._reset()

    def _reset(self) -> None:
        self.messages = Messages(self._read, self._flow_of)
        """The messages that arrive."""
        self._link: BrokerLink | None = None
        self._outbox: Outbox | None = None
        self._connack: Connack | None = None
        self.packet_limit = self._own_limit
        """The largest packet that may be published, in bytes; None: no limit is known."""
        self._refusal: ConnectionRefused | None = None
        self._greeted = asyncio.Event()
        self._ended = asyncio.Event()
        self._end: ConnectionLost | None = None
        # Messages not yet acknowledged, by packet id: only these may be, and only here.
        self._owed: dict[int, Incoming] = {}
        self._acks = AckOrder(self._acknowledge)

    async def __aenter__(self) -> Self:
        if self._entered:
            raise RuntimeError("a Connection is good for one connection: make a new one")
        self._entered = True
        refusal: MqttError | None = None
        versions: list[Version] = ["5", "3.1.1"]
        while versions:
            version = versions.pop(0)
            self._reset()
            try:
                await self._open(version)
            except MqttError as error:
                if self._asks_for_less():
                    versions.insert(0, version)
                elif not self._may_speak_another():
                    raise
                else:
                    # One that speaks neither says most of it at the first attempt.
                    refusal = refusal or error
            else:
                self._check_version()
                return self
        raise refusal or AssertionError("no version to try")

    def _check_version(self) -> None:
        if self._needs_5 is not None and self.version != "5":
            self.abort()
            raise ConnectionRefused(
                UNSUPPORTED_PROTOCOL_VERSION,
                f"it speaks MQTT 3.1.1 only, and {self._needs_5} needs MQTT 5",
            )

    def _asks_for_less(self) -> bool:
        """True if the broker refused an option of CONNECT that can be left out; it now is."""
        code, will = None if self._refusal is None else self._refusal.code, self._will
        if code == RETAIN_NOT_SUPPORTED and will is not None and will.retain:
            self._will = msgspec.structs.replace(will, retain=False)
        elif code == QOS_NOT_SUPPORTED and will is not None and will.qos:
            self._will = msgspec.structs.replace(will, qos=0)
        elif code == CLIENT_ID_NOT_VALID and not self.client_id:
            self.client_id = f"comfy2mqtt{secrets.token_hex(6)}"
        else:
            return False
        return True

    def _may_speak_another(self) -> bool:
        """True if the broker may have refused CONNECT for its MQTT version."""
        if self._refusal is not None:
            return self._refusal.code == UNSUPPORTED_PROTOCOL_VERSION
        return self._connack is None and self._end is not None

    async def _open(self, version: Version) -> None:
        """Connect. Raises as `async with` does, and then leaves nothing open."""
        self.version = version
        password = await asyncio.to_thread(self.address.password_now)
        stream = await open_stream(self.address, self._timeout_s)
        try:
            self._link = BrokerLink(
                self._events(),
                stream,
                self.address,
                password=password,
                version=version,
                client_id=self.client_id,
                clean_start=self._clean_start,
                session_expiry=self._session_expiry,
                receive_maximum=self._receive_maximum,
                keepalive=self._keepalive,
                will=self._will,
            )
            self._link.start()
            await self._handshake()
        except BaseException:
            self.abort()
            stream.close()
            raise

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.disconnect(with_will=kind is not None)

    @property
    def connack(self) -> Connack:
        """The broker's CONNACK."""
        if self._connack is None:
            raise RuntimeError("not connected yet")
        return self._connack

    @property
    def alive(self) -> bool:
        """True if the connection has not ended, as far as is known."""
        return self._connack is not None and self._end is None

    @property
    def moved_at(self) -> float:
        """The time when bytes last came or went, also of a part of a packet: `time.monotonic`."""
        return self._live()[0].moved_at

    @property
    def retains(self) -> bool:
        """False if the broker says that it retains nothing."""
        return self.connack.retain_available

    def publish(
        self,
        topic: str,
        payload: bytes | memoryview = b"",
        *,
        qos: int = 1,
        retain: bool = False,
        properties: PublishProperties = NO_PROPERTIES,
    ) -> asyncio.Future[PubAck]:
        """Send a message after all earlier ones; does not wait. The payload must not change.

        The future is done when the broker has the message (QoS 1) or its last byte has gone out
        (QoS 0); it fails with PublishRefused or ConnectionLost. A message that is refused for a
        quota (0x97) is sent again, later and more slowly. Raises at once, before anything is
        sent: InvalidMessage, PacketTooLarge, ConnectionLost.
        """
        return self.send(Publish.of(topic, payload, qos=qos, retain=retain, properties=properties))

    def send(self, publish: Publish) -> asyncio.Future[PubAck]:
        """Send a message that is encoded already. Otherwise as `publish`."""
        _, outbox = self._live()
        connack, limit = self.connack, self.packet_limit
        # A broker ends the connection of a client that uses what it does not offer (3.2.2.3).
        publish = publish.within(connack.maximum_qos, retain=connack.retain_available)
        if limit is not None and publish.size > limit:
            raise PacketTooLarge(publish.size, limit)
        return outbox.add(publish if self.version == "5" else publish.without_properties())

    @property
    def buffered(self) -> int:
        """Bytes published that have not left for the network yet."""
        return self._outbox.buffered if self._outbox is not None else 0

    async def drained(self, below: int = 0) -> None:
        """Wait until at most `below` bytes are buffered. Raises ConnectionLost."""
        _, outbox = self._live()
        await outbox.drained(below)

    async def subscribe(self, subscriptions: Sequence[Subscription]) -> list[int]:
        """Subscribe and return the granted reason codes, which are the QoS.

        Raises SubscribeRefused for the first filter that is not `optional` and that the broker did
        not take (the others may stand), InvalidMessage for one that is malformed, ConnectionLost.
        """
        link, _ = self._live()
        offered = [each for each in subscriptions if self._is_offered(each)]
        codes: list[int] = []
        try:
            async with asyncio.timeout(self._timeout_s):
                # One packet carries one identifier (3.8.2.1.2).
                for identifier, group in itertools.groupby(offered, self._identifier):
                    wanted = [(each.filter, _options(each)) for each in group]
                    for start in range(0, len(wanted), _FILTERS_PER_PACKET):
                        few = wanted[start : start + _FILTERS_PER_PACKET]
                        codes += await link.subscribed(few, identifier)
        except ValueError as error:
            raise InvalidMessage(f"a topic filter is malformed: {error}") from error
        except TimeoutError as error:
            link.abort(ConnectionLost(f"no answer to a subscription within {self._timeout_s:g} s"))
            raise self._connection_lost() from error
        answers = iter(codes)
        codes = [
            next(answers) if self._is_offered(each) else WILDCARDS_NOT_SUPPORTED
            for each in subscriptions
        ]
        for subscription, code in zip(subscriptions, codes, strict=True):
            if code >= UNSPECIFIED and not subscription.optional:
                raise SubscribeRefused(subscription.filter, code)
        return codes

    def _is_offered(self, subscription: Subscription) -> bool:
        """False for a filter with a wildcard for which the broker would end the connection."""
        return self.connack.wildcards_available or not set("+#") & set(subscription.filter)

    def unsubscribe(self, filters: Sequence[str]) -> None:
        """Unsubscribe filters; does not wait, and messages in flight still arrive.

        Raises ConnectionLost.
        """
        link, _ = self._live()
        link.unsubscribe_soon(list(filters))

    def ack(self, message: Incoming) -> bool:
        """Acknowledge a message, once all that arrived before it are acknowledged (4.6).

        Returns False, and sends nothing, for a message that is acknowledged already or came on
        another connection: the broker delivers it again, and its packet id may by now be
        another's. At QoS 0 there is nothing to do.
        """
        if message.qos == 0:
            return True
        if self._link is None or self._owed.get(message.mid) is not message:
            return False
        del self._owed[message.mid]
        self._acks.handled(message)
        return True

    def _acknowledge(self, message: Incoming) -> None:
        if self._link is not None:
            self._link.acknowledge(message.mid)

    async def disconnect(self, *, with_will: bool = False) -> None:
        """Send DISCONNECT after what is already on its way out, and close.

        With `with_will` the broker publishes the will as if the connection had been lost. Messages
        still waiting for their turn or for an acknowledgement fail with ConnectionLost.
        """
        if self._link is None or self._end is not None:
            return
        if self._outbox is not None:
            self._outbox.close()
        try:
            self._link.stop(with_will=with_will and self._will is not None)
            async with asyncio.timeout(self._timeout_s):
                await self._ended.wait()
        except TimeoutError:
            self.abort()
        except BaseException:
            self.abort()
            raise

    def abort(self) -> None:
        """Close at once without a DISCONNECT, so that the broker publishes the will."""
        if self._link is not None:
            self._link.abort(ConnectionLost("it was cut off here"))

    async def _handshake(self) -> None:
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._greeted.wait()
        except TimeoutError as error:
            raise Unreachable(f"{self.address} accepts connections but says nothing") from error
        if self._refusal is not None:
            raise self._refusal
        if self._connack is None and self._end is not None:
            raise Unreachable(f"{self.address}: {self._end.reason}")

    def _live(self) -> tuple[BrokerLink, Outbox]:
        if self._link is None or self._outbox is None:
            raise RuntimeError("not connected yet")
        if self._end is not None or self._outbox.closed:
            raise self._connection_lost()
        return self._link, self._outbox

    def _connection_lost(self) -> ConnectionLost:
        end = self._end or ConnectionLost("it is being closed here")
        return ConnectionLost(end.reason, end.code)

    def _events(self) -> Events:
        return Events(
            accepted=self._on_accepted,
            refused=self._on_refused,
            received=self._on_received,
            acknowledged=self._on_acknowledged,
            wrote=self._on_wrote,
            ended=self._on_ended,
        )

    def _identifier(self, subscription: Subscription) -> int | None:
        available = self.connack.subscription_ids_available and self.version == "5"
        return subscription.identifier if available else None

    def _on_accepted(self, connack: Connack) -> None:
        self._connack = connack
        limits = (connack.maximum_packet_size, self._own_limit)
        self.packet_limit = min((each for each in limits if each is not None), default=None)
        self.client_id = connack.assigned_client_id or self.client_id
        if self._link is not None:
            self._outbox = Outbox(self._link, connack.receive_maximum, pacer=self._pacer)
        self._greeted.set()

    def _on_refused(self, error: ConnectionRefused) -> None:
        self._refusal = error
        self._greeted.set()

    def _on_received(self, message: Incoming, size: int) -> None:
        if message.qos:
            self._owed[message.mid] = message
            self._acks.arrived(message)
            if not self._manual_ack:
                self.ack(message)
        self.messages.put(message, size)

    def _read(self, resume: bool) -> None:  # noqa: FBT001 - it is the question itself
        if self._link is not None and self._end is None:
            self._link.read(resume=resume)

    def _on_acknowledged(self, puback: Puback) -> None:
        if self._outbox is not None:
            self._outbox.acknowledged(puback)

    def _on_wrote(self) -> None:
        if self._outbox is not None:
            self._outbox.wrote()

    def _on_ended(self, error: ConnectionLost | None) -> None:
        self._end = error or ConnectionLost("it was closed here")
        self._owed.clear()
        if self._outbox is not None:
            self._outbox.fail(self._end.reason, self._end.code)
        self.messages.end(error)
        self._greeted.set()
        self._ended.set()


def _options(subscription: Subscription) -> SubscribeOptions:
    if subscription.qos not in (0, 1):
        # With manual acknowledgement, messages at QoS 2 get stuck for ever in paho.
        raise InvalidMessage(f"the QoS must be 0 or 1, not {subscription.qos}")
    return SubscribeOptions(
        qos=subscription.qos,
        noLocal=subscription.no_local,
        retainAsPublished=subscription.retain_as_published,
        retainHandling=subscription.retain_handling,
    )
