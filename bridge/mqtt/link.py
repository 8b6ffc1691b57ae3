"""One network connection, which paho and our own code share.

paho connects, pings, subscribes, disconnects and knows the other packets of a session; aiomqtt
matches SUBACKs to their callers. PUBLISH and PUBACK are ours (`bridge.mqtt.packets`): paho never
sees one. It reads and writes a `Stream` in place of the socket, so that a turn of the event loop
moves a bounded number of bytes. All that happens is reported to one `Events`.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypeAlias

import aiomqtt
import msgspec
import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from bridge.aio import first
from bridge.mqtt.errors import (
    ConnectionLost,
    ConnectionRefused,
    InvalidMessage,
    reason_of,
)
from bridge.mqtt.internals import next_mid, paho_of, use_stream
from bridge.mqtt.packets import (
    LARGEST_STRING,
    NO_PROPERTIES,
    PINGRESP,
    Incoming,
    Malformed,
    Puback,
    Publish,
    Splitter,
    puback_packet,
)

if TYPE_CHECKING:
    from bridge.mqtt.address import Address
    from bridge.mqtt.stream import Stream

_log = logging.getLogger(__name__)
# aiomqtt reports as errors what `Events.ended` says, and answers that nobody waits for.
_silent = logging.getLogger(f"{__name__}.aiomqtt")
_silent.setLevel(logging.CRITICAL + 1)

# Bytes that one turn of the event loop reads and writes: 16 MB then take 256 turns in, 64 out.
_READ_SIZE: Final = 64 * 1024
_WRITE_SIZE: Final = 256 * 1024
# How often paho looks at its clock, to ping.
_TICK_S: Final = 1.0
_NOT_MQTT: Final = "the broker hung up, or sent what is not MQTT"

# MQTT's versions that we speak, the newest first. 3.1.1 has no properties and no reason codes.
Version: TypeAlias = Literal["5", "3.1.1"]


class Will(msgspec.Struct, frozen=True, kw_only=True):
    """The will: the broker publishes it if the connection ends without a DISCONNECT (3.1.3.2)."""

    topic: str
    payload: bytes = b""
    qos: int = 1
    retain: bool = False
    delay_s: int = 0


class Connack(msgspec.Struct, frozen=True, kw_only=True):
    """The broker's CONNACK, with the defaults of what it left out (3.2.2)."""

    session_present: bool
    maximum_packet_size: int | None = None
    """Bytes; None: no limit announced (mosquitto's `message_size_limit` is not announced)."""
    receive_maximum: int = 65_535
    retain_available: bool = True
    maximum_qos: int = 2
    subscription_ids_available: bool = True
    wildcards_available: bool = True
    session_expiry: int | None = None
    """Seconds that the broker keeps the session, if it is not what was asked for."""
    assigned_client_id: str | None = None
    server_keep_alive: int | None = None
    """Seconds; where given, it is the keep-alive in force."""
    reason: str | None = None


class Events(NamedTuple):
    """Callbacks of a BrokerLink; all run on the event loop's thread, and must not block."""

    accepted: Callable[[Connack], None]
    refused: Callable[[ConnectionRefused], None]
    """`ended` follows."""
    received: Callable[[Incoming, int], None]
    """A message, and the bytes that it took."""
    acknowledged: Callable[[Puback], None]
    wrote: Callable[[], None]
    ended: Callable[[ConnectionLost | None], None]
    """Exactly once; None: we asked for it."""


class BrokerLink:
    """One connection to a broker: paho's session, our PUBLISH and PUBACK, one stream.

    A new object is needed for each connection. For the event loop's thread.
    """

    def __init__(
        self,
        events: Events,
        stream: Stream,
        address: Address,
        *,
        password: str | None,
        version: Version,
        client_id: str,
        clean_start: bool,
        session_expiry: int,
        receive_maximum: int | None,
        keepalive: int,
        will: Will | None,
    ) -> None:
        self._v5 = v5 = version == "5"
        self._connect_options: dict[str, Any] = {}
        if v5:
            properties = _properties(PacketTypes.CONNECT)
            properties.SessionExpiryInterval = session_expiry
            if receive_maximum is not None:
                properties.ReceiveMaximum = receive_maximum
            self._connect_options = {"clean_start": clean_start, "properties": properties}
        self._address = address
        self._keepalive = keepalive
        self._aiomqtt = aiomqtt.Client(
            address.host,
            address.port,
            username=address.username,
            password=password,
            logger=_silent,
            identifier=client_id or None,
            protocol=aiomqtt.ProtocolVersion.V5 if v5 else aiomqtt.ProtocolVersion.V311,
            # A session of 3.1.1 either ends with its connection or never.
            clean_session=None if v5 else clean_start or not session_expiry or not client_id,
            will=_will(will, v5=v5) if will is not None else None,
        )
        self._client = client = paho_of(self._aiomqtt)
        # In place of aiomqtt's, but for those of SUBACK and UNSUBACK.
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_socket_open = None
        client.on_socket_close = self._on_socket_close
        client.on_socket_register_write = self._on_socket_register_write
        client.on_socket_unregister_write = None
        client.disable_logger()
        self._stream = stream
        use_stream(client, self._stream)
        self._splitter = Splitter(properties=v5)
        self._loop = asyncio.get_running_loop()
        self._events = events
        self._accepted = False
        self._stopping = False
        self._flushing = False
        # By our clock: when bytes moved last, and when no ping waited for its answer.
        self._answered_at = monotonic()
        self.moved_at = self._answered_at
        """The time when bytes last came or went: `time.monotonic`."""
        self._over = asyncio.Event()
        self._end: ConnectionLost | None = None
        self._tick_timer: asyncio.TimerHandle | None = None

    @property
    def queued(self) -> int:
        """Bytes ever queued; once `written` has come as far, the last of them is out."""
        return self._stream.queued

    @property
    def written(self) -> int:
        """Bytes ever written."""
        return self._stream.written

    def start(self) -> None:
        """Send CONNECT; `accepted` or `refused` follows."""
        self._client.connect(
            self._address.host,
            self._address.port,
            self._keepalive,
            **self._connect_options,
        )
        self.read(resume=True)
        self._tick()

    def next_mid(self) -> int:
        """Return a packet id that may be in use already."""
        return next_mid(self._client)

    def send(self, publish: Publish, mid: int) -> None:
        """Queue a message."""
        self._put(publish.head(mid), publish.payload)

    def acknowledge(self, mid: int) -> None:
        """Queue the PUBACK for a message."""
        self._put(puback_packet(mid))

    def read(self, *, resume: bool) -> None:
        """Continue reading from the network, or stop it: then the broker has to wait."""
        if self._over.is_set():
            return
        if resume:
            self._loop.add_reader(self._stream.fileno(), self._turn, self._read)
            # A TLS socket may hold bytes already, for which the selector does not wake us.
            self._loop.call_soon(self._turn, self._read)
        else:
            self._loop.remove_reader(self._stream.fileno())

    async def subscribed(
        self, filters: Sequence[tuple[str, SubscribeOptions]], identifier: int | None = None
    ) -> list[int]:
        """Subscribe and return the broker's reason codes, one for each filter.

        Raises ValueError, and ConnectionLost; an answer with too few codes or too many ends the
        connection, since nobody knows which filter stands.
        """
        properties = None
        if identifier is not None:
            properties = _properties(PacketTypes.SUBSCRIBE)
            properties.SubscriptionIdentifier = identifier
        asked: Any = [(topic, options if self._v5 else options.QoS) for topic, options in filters]
        subscribing = self._aiomqtt.subscribe(asked, properties=properties, timeout=math.inf)
        try:
            codes = await first(subscribing, self._over.wait())
        except aiomqtt.MqttCodeError as error:
            # It ended in the same turn in which it answered the subscription before this one.
            raise ConnectionLost("it ended while topics were subscribed") from error
        if codes is True:
            end = self._end or ConnectionLost("it was closed here")
            raise ConnectionLost(end.reason, end.code)
        if len(codes) != len(filters):
            text = (
                f"the broker answered {len(filters)} subscriptions with {len(codes)} reason codes"
            )
            self.abort(ConnectionLost(text))
            raise ConnectionLost(text)
        return [code if isinstance(code, int) else code.value for code in codes]

    def unsubscribe_soon(self, filters: list[str]) -> None:
        """Queue an UNSUBSCRIBE; nobody waits for the answer."""
        self._client.unsubscribe(filters)

    def stop(self, *, with_will: bool) -> None:
        """Queue a DISCONNECT; `ended` follows when it is out."""
        self._stopping = True
        if with_will and not self._v5:
            self.abort(None)  # a DISCONNECT of 3.1.1 always withdraws the will
            return
        # 0x04 asks the broker to publish the will nevertheless (3.14.2.1).
        reason = ReasonCode(PacketTypes.DISCONNECT, "Disconnect with will message")
        self._client.disconnect(reason if with_will else None)

    def abort(self, error: ConnectionLost | None) -> None:
        """End the connection at once, without a DISCONNECT."""
        if self._over.is_set():
            return
        self._end = error
        self._over.set()
        if self._tick_timer is not None:
            self._tick_timer.cancel()
        self._forget_socket()
        self._stream.close()
        self._events.ended(error)

    # Reading and writing.

    def _put(self, head: bytes, payload: bytes | memoryview = b"") -> None:
        if self._client.want_write():
            self._client.loop_write()  # packets of paho's that were queued before this one
        self._stream.put(head, payload)
        self._flush_soon()

    def _flush_soon(self) -> None:
        # Not by the selector: the socket takes bytes nearly always, and asking costs two system
        # calls and a turn of the loop for each message.
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._turn, self._flush)

    def _flush(self) -> None:
        """Write what was queued in this turn; leave what the socket does not take to the loop."""
        self._flushing = False
        if self._client.want_write():
            self._client.loop_write()
        before = self._stream.written
        if not self._over.is_set():
            self._stream.write(_WRITE_SIZE)
        if not self._over.is_set() and not self._stream.waiting and self._client.want_write():
            self._client.loop_write()  # a DISCONNECT, which comes last
        if self._over.is_set():
            return
        if self._stream.ping_waits and self._stream.written > before:
            self.moved_at = monotonic()
        if self._stream.waiting or self._client.want_write():
            self._loop.add_writer(self._stream.fileno(), self._turn, self._flush)
        else:
            self._loop.remove_writer(self._stream.fileno())
        self._events.wrote()

    def _read(self) -> None:
        """Read once, and handle every packet that is complete with that."""
        if self._over.is_set():
            return
        self.moved_at = monotonic()  # also for a part of something, which is not handed on yet
        data = self._stream.read(_READ_SIZE)
        if self._stream.waiting:
            self._flush_soon()  # what a WebSocket answers by itself
        if data == b"":
            self._closed_by_peer(_NOT_MQTT)
        if not data:
            return
        try:
            for packet in self._splitter.feed(data):
                self._received(packet)
                if self._over.is_set():
                    return
        except Malformed:
            self._closed_by_peer(_NOT_MQTT)

    def _received(self, packet: tuple[Incoming, int] | Puback | bytes) -> None:
        match packet:
            case bytes():
                self._stream.pinging &= packet != PINGRESP
                self._let_paho_read(packet)
            case Puback():
                self._events.acknowledged(packet)
            case incoming, size:
                self._events.received(incoming, size)

    def _let_paho_read(self, packet: bytes) -> None:
        self._stream.feed(packet)
        while self._stream.has_unread and not self._over.is_set():
            self._client.loop_read()

    def _tick(self) -> None:
        self._keep_alive()
        if not self._over.is_set():
            self._tick_timer = self._loop.call_later(_TICK_S, self._turn, self._tick)

    def _keep_alive(self) -> None:
        """Send paho's PINGREQ when it is due, and close the connection when no PINGRESP comes."""
        # paho would give up when a ping is not answered within the keep-alive, though on a slow
        # line it may still wait behind a large packet here, or its answer behind one at the broker:
        # as long as such a packet moves, the other side is alive. So paho's pings are answered
        # here, and whether the broker's answer is late is decided by what moves.
        now = monotonic()
        if not self._stream.pinging:
            self._answered_at = now
        elif now - max(self._answered_at, self.moved_at) >= self._keepalive:
            self.abort(ConnectionLost("the broker sent nothing"))
            return
        if self._accepted:
            self._let_paho_read(PINGRESP)
        self._client.loop_misc()

    def _turn(self, step: Callable[[], None]) -> None:
        if self._over.is_set():
            return
        try:
            step()
        except OSError as error:
            self._closed_by_peer(error.strerror or str(error))
        except Exception as error:  # noqa: BLE001 - the stream cannot be read on, whatever it was
            _log.exception("closing the connection: a packet cannot be handled")
            self.abort(ConnectionLost(f"its packets could not be handled: {error!r}"))

    def _closed_by_peer(self, reason: str) -> None:
        """End a connection that the other side, or the network, has ended."""
        self.abort(None if self._stopping else ConnectionLost(reason))

    def _forget_socket(self) -> None:
        descriptor = self._stream.fileno()
        if descriptor >= 0:
            self._loop.remove_reader(descriptor)
            self._loop.remove_writer(descriptor)

    # What paho calls, all on the event loop's thread.

    def _on_connect(
        self,
        client: paho.Client,
        userdata: Any,
        flags: paho.ConnectFlags,
        reason_code: ReasonCode,
        properties: Properties | None = None,
    ) -> None:
        del client, userdata
        if reason_code.is_failure:
            reason = getattr(properties, "ReasonString", None)
            self._events.refused(ConnectionRefused(reason_code.value, reason))
        elif not self._accepted:
            self._accepted = True
            connack = _connack(flags, properties)
            self._keepalive = connack.server_keep_alive or self._keepalive
            self._events.accepted(connack)

    def _on_disconnect(
        self,
        client: paho.Client,
        userdata: Any,
        flags: paho.DisconnectFlags,
        reason_code: ReasonCode,
        properties: Properties | None = None,
    ) -> None:
        del client, userdata
        by_broker = flags.is_disconnect_packet_from_server
        if by_broker:
            reason = getattr(properties, "ReasonString", None) or reason_of(reason_code.value)
            self.abort(ConnectionLost(f"the broker closed it: {reason}", reason_code.value))
        elif not reason_code.is_failure:
            self.abort(None)
        else:
            self.abort(ConnectionLost(_NOT_MQTT))

    def _on_socket_close(self, client: paho.Client, userdata: Any, sock: Any) -> None:
        del client, userdata, sock
        self._forget_socket()  # before its number may be another's

    def _on_socket_register_write(self, client: paho.Client, userdata: Any, sock: Any) -> None:
        del client, userdata, sock
        self._flush_soon()


def _will(will: Will, *, v5: bool) -> aiomqtt.Will:
    Publish.of(will.topic, b"", qos=will.qos, retain=will.retain, properties=NO_PROPERTIES)
    if len(will.payload) > LARGEST_STRING:
        raise InvalidMessage(
            f"the will has {len(will.payload)} bytes, at most {LARGEST_STRING} fit"
        )
    if not v5:
        return aiomqtt.Will(will.topic, will.payload, will.qos, will.retain)
    properties = _properties(PacketTypes.WILLMESSAGE)
    if will.delay_s:
        properties.WillDelayInterval = will.delay_s
    return aiomqtt.Will(will.topic, will.payload, will.qos, will.retain, properties)


def _properties(packet_type: int) -> Properties:
    return Properties(packet_type)  # type: ignore[no-untyped-call]  # paho has no types for it


def _connack(flags: paho.ConnectFlags, properties: Properties | None) -> Connack:
    def value(name: str, default: Any = None) -> Any:
        return getattr(properties, name, default)

    return Connack(
        session_present=flags.session_present,
        maximum_packet_size=value("MaximumPacketSize"),
        receive_maximum=value("ReceiveMaximum", 65_535),
        retain_available=bool(value("RetainAvailable", 1)),
        maximum_qos=value("MaximumQoS", 2),
        subscription_ids_available=bool(value("SubscriptionIdentifierAvailable", 1)),
        wildcards_available=bool(value("WildcardSubscriptionAvailable", 1)),
        session_expiry=value("SessionExpiryInterval"),
        assigned_client_id=value("AssignedClientIdentifier"),
        server_keep_alive=value("ServerKeepAlive"),
        reason=value("ReasonString"),
    )
