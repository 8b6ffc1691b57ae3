"""One network connection: aiomqtt and paho, with what they do wrong put right.

This is the only module that knows their insides, hence the upper bounds on their versions. aiomqtt
wires paho to the event loop and matches SUBACKs; paho frames packets, connects, pings, subscribes
and disconnects. Changed here: the socket is opened beforehand (`bridge.mqtt.sockets`), a turn of
the event loop moves a bounded number of bytes, PUBLISH and PUBACK are `bridge.mqtt.packets`'s, and
all that happens goes to one `Events`.
"""

from __future__ import annotations

import asyncio
import logging
import math
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

import aiomqtt
import msgspec
import paho.mqtt.client as paho
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.exception import MalformedPacket
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from bridge.mqtt.errors import (
    KEEP_ALIVE_TIMEOUT,
    ConnectionLost,
    ConnectionRefused,
    InvalidMessage,
    reason_of,
)
from bridge.mqtt.packets import (
    LARGEST_STRING,
    NO_PROPERTIES,
    PUBLISH,
    Incoming,
    LargePublish,
    Malformed,
    Puback,
    Publish,
    read_puback,
    read_publish,
)

if TYPE_CHECKING:
    from bridge.mqtt.address import Address

_log = logging.getLogger(__name__)

# Bytes that one turn of the event loop reads and writes: 16 MB then take 256 turns in, 64 out.
_READ_SIZE: Final = 64 * 1024
_WRITE_SIZE: Final = 256 * 1024
# Payloads up to this size are joined with their packet's head: one system call, one segment.
_JOINED: Final = 16 * 1024
# Packets above this size are not collected in paho's buffer.
_LARGE: Final = 256 * 1024


class Will(msgspec.Struct, frozen=True, kw_only=True):
    """What the broker publishes for us when the connection ends without our word (3.1.3.2)."""

    topic: str
    payload: bytes = b""
    qos: int = 1
    retain: bool = False
    delay_s: int = 0


class Connack(msgspec.Struct, frozen=True, kw_only=True):
    """What the broker said when it accepted us (3.2.2)."""

    session_present: bool
    maximum_packet_size: int | None = None
    """Bytes; None: no limit announced (mosquitto's `message_size_limit` is not announced)."""
    receive_maximum: int = 65_535
    retain_available: bool = True
    maximum_qos: int = 2
    wildcard_available: bool = True
    shared_available: bool = True
    subscription_ids_available: bool = True
    assigned_client_id: str | None = None
    server_keep_alive: int | None = None
    """Seconds; where given, it is the keep-alive in force."""
    reason: str | None = None


class Events(NamedTuple):
    """Whom a link tells what happens on it, always on the event loop's own thread."""

    accepted: Callable[[Connack], None]
    refused: Callable[[ConnectionRefused], None]
    """`ended` follows."""
    received: Callable[[Incoming, int], None]
    """A message, and the bytes that it took."""
    acknowledged: Callable[[Puback], None]
    wrote: Callable[[], None]
    ended: Callable[[ConnectionLost | None], None]
    """Exactly once; None: we asked for it."""


class _Paho(paho.Client):
    """paho's client, reading and writing a bounded piece at a time and without its copies.

    Its attributes have their first values on the class: aiomqtt makes the instance.
    """

    events: Events
    opened: socket.socket | None = None
    queued: int = 0
    """Bytes ever handed over to be written."""
    written: int = 0
    """Bytes ever written."""
    failure: OSError | None = None
    """What the network did; paho only logs it."""
    _ahead: bytes = b""
    _at: int = 0
    _ping_end: int = 0
    _may_read = False
    _may_write = 0

    def read_some(self) -> None:
        """Read once from the socket and handle every packet completed by that."""
        self._may_read = True
        self.loop_read()
        while self._at < len(self._ahead) and self._sock is not None:
            self.loop_read()

    def write_some(self) -> None:
        """Write what one turn allows of what is queued."""
        self._may_write = _WRITE_SIZE
        self.loop_write()

    def send(self, publish: Publish, mid: int) -> None:
        """Queue a message, its payload by reference where it is large."""
        head = publish.head(mid)
        if len(publish.payload) <= _JOINED:
            self._queue(head + publish.payload)
        else:
            self._queue(head)
            self._queue(publish.payload)

    def next_mid(self) -> int:
        """Return the next packet id; SUBSCRIBE draws from the same numbers."""
        return self._mid_generate()

    def cut(self) -> None:
        """Close the socket without a word to the broker."""
        self._sock_close()

    def _queue(self, data: bytes | memoryview) -> None:
        # As no command of paho's, or it would report a publish at QoS 0 that it knows nothing of.
        self._packet_queue(0, data, 0, 0)

    def _packet_queue(
        self,
        command: int,
        packet: bytes | bytearray | memoryview,
        mid: int,
        qos: int,
        info: paho.MQTTMessageInfo | None = None,
    ) -> MQTTErrorCode:
        self.queued += len(packet)
        if command == paho.PINGREQ:
            self._ping_end = self.queued
        # paho slices off what is left for each write: of a view that costs nothing, of 16 MB 5 ms.
        view = cast("bytes", memoryview(packet))
        return super()._packet_queue(command, view, mid, qos, info)

    def _create_socket(self) -> Any:
        return self.opened

    def _sock_recv(self, bufsize: int) -> bytes:
        # paho asks for one byte, then another; they are served from one larger read. One read a
        # turn, so that neither a large packet nor a flood of small ones holds up the event loop.
        packet = self._in_packet
        if bufsize == packet["remaining_length"] > _LARGE and packet["command"] & 0xF0 == PUBLISH:
            packet["packet"] = cast("bytearray", LargePublish(packet["command"], bufsize))
        if self._at == len(self._ahead):
            if not self._may_read:
                raise BlockingIOError
            self._may_read = False
            with self._noting_failure():
                self._ahead, self._at = super()._sock_recv(_READ_SIZE), 0
            self._heard()
        data = self._ahead[self._at : self._at + bufsize]
        self._at += len(data)
        return data

    def _sock_send(self, buf: bytes | bytearray) -> int:
        if not self._may_write:
            raise BlockingIOError
        with self._noting_failure():
            sent = super()._sock_send(buf[: self._may_write])
        self._may_write -= sent
        self.written += sent
        if self.written < self._ping_end:
            self._heard()
        return sent

    @contextmanager
    def _noting_failure(self) -> Iterator[None]:
        try:
            yield
        except BlockingIOError:
            raise
        except OSError as error:
            self.failure = error
            raise

    def _heard(self) -> None:
        # paho gives up when a ping is not answered within the keep-alive, though on a slow line the
        # ping may still wait behind a large packet here, or its answer behind one at the broker.
        # As long as such a packet moves, the other side is alive.
        if self._ping_t:
            self._ping_t = self._last_bytes_received = paho.time_func()

    def _handle_publish(self) -> MQTTErrorCode:
        body: LargePublish | bytearray = self._in_packet["packet"]
        try:
            if isinstance(body, LargePublish):
                message = body.read()
            else:
                message = read_publish(self._in_packet["command"], body)
        except Malformed as error:
            raise MalformedPacket(str(error)) from error
        self.events.received(message, len(body))
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    def _handle_pubackcomp(self, cmd: Any) -> MQTTErrorCode:
        try:
            puback = read_puback(self._in_packet["packet"])
        except Malformed as error:
            raise MalformedPacket(f"{cmd}: {error}") from error
        self.events.acknowledged(puback)
        return MQTTErrorCode.MQTT_ERR_SUCCESS


class Link(aiomqtt.Client):
    """A connection being made, in use, or over. Never used twice."""

    _client: _Paho

    def __init__(
        self,
        events: Events,
        sock: socket.socket,
        address: Address,
        *,
        client_id: str,
        clean_start: bool,
        session_expiry: int,
        receive_maximum: int | None,
        keepalive: int,
        will: Will | None,
    ) -> None:
        properties = _properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = session_expiry
        if receive_maximum is not None:
            properties.ReceiveMaximum = receive_maximum
        super().__init__(
            address.host,
            address.port,
            username=address.username,
            password=address.password,
            logger=_log,
            identifier=client_id or None,
            protocol=aiomqtt.ProtocolVersion.V5,
            will=_will(will) if will is not None else None,
            keepalive=keepalive,
            clean_start=clean_start,
            properties=properties,
        )
        # aiomqtt makes paho's client itself and takes no other class for it.
        self._client.__class__ = _Paho
        self._client.events = events
        self._client.opened = sock
        self._client.on_publish = None
        self._client.manual_ack_set(on=True)
        # It would report each packet, and as an error what `ended` tells.
        self._client.disable_logger()
        self._events = events
        self._accepted = False
        self._over = False

    @property
    def queued(self) -> int:
        """Bytes ever queued; once `written` has come as far, the last of them is out."""
        return self._client.queued

    @property
    def written(self) -> int:
        """Bytes ever written."""
        return self._client.written

    def start(self) -> None:
        """Send CONNECT; `accepted` or `refused` follows."""
        self._client_connect()

    def next_mid(self) -> int:
        """Return a packet id that may be in use already."""
        return self._client.next_mid()

    def send(self, publish: Publish, mid: int) -> None:
        """Queue a message."""
        self._client.send(publish, mid)

    def read(self, *, go_on: bool) -> None:
        """Go on reading from the network, or stop it: then the broker has to wait."""
        sock = self._client.socket()
        if sock is None:
            return
        if go_on:
            self._loop.add_reader(sock, self._turn, self._client.read_some)
            # TLS may have taken in already what the network does not tell of again.
            self._loop.call_soon(self._turn, self._client.read_some)
        else:
            self._loop.remove_reader(sock)

    def acknowledge(self, mid: int) -> None:
        """Send the PUBACK for a message."""
        self._client.ack(mid, 1)

    async def subscribed(
        self, filters: list[tuple[str, SubscribeOptions]], identifier: int | None = None
    ) -> list[int]:
        """Subscribe and return the broker's reason codes. Raises ValueError, ConnectionLost."""
        properties = None
        if identifier is not None:
            properties = _properties(PacketTypes.SUBSCRIBE)
            properties.SubscriptionIdentifier = identifier
        try:
            codes = await self.subscribe(filters, properties=properties, timeout=math.inf)
        except aiomqtt.MqttCodeError as error:
            # It ended in the same turn in which it answered the subscription before this one.
            raise ConnectionLost("it ended while topics were subscribed") from error
        return [code if isinstance(code, int) else code.value for code in codes]

    def unsubscribe_soon(self, filters: list[str]) -> None:
        """Queue an UNSUBSCRIBE; nobody waits for the answer."""
        _, mid = self._client.unsubscribe(filters)
        if mid is not None:
            # aiomqtt logs an answer that it does not expect.
            self._pending_unsubscribes[mid] = asyncio.Event()

    def stop(self, *, with_will: bool) -> None:
        """Queue a DISCONNECT; `ended` follows when it is out."""
        # 0x04 asks the broker to publish the will all the same (3.14.2.1).
        reason = ReasonCode(PacketTypes.DISCONNECT, "Disconnect with will message")
        self._client.disconnect(reason if with_will else None)

    def cut(self, error: ConnectionLost | None) -> None:
        """End the connection at once, without a word to the broker."""
        self._client.cut()
        self._down(error)

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
            self._events.accepted(_connack(flags, properties))

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
            said = getattr(properties, "ReasonString", None) or reason_of(reason_code.value)
            self._down(ConnectionLost(f"the broker closed it: {said}", reason_code.value))
        elif reason_code.is_failure:
            self._down(ConnectionLost(self._cause(reason_code)))
        else:
            self._down(None)

    def _cause(self, reason_code: ReasonCode) -> str:
        """Put into words why the connection ended without a DISCONNECT."""
        if self._client.failure is not None:
            return self._client.failure.strerror or str(self._client.failure)
        if reason_code.value == KEEP_ALIVE_TIMEOUT:
            return "nothing was heard from the broker"
        return "the broker hung up, or sent what is not MQTT 5"

    def _down(self, error: ConnectionLost | None) -> None:
        if self._over:
            return
        self._over = True
        failure = error or ConnectionLost("it was closed here")
        for pending in self._pending_subscribes.values():
            if not pending.done():
                pending.set_exception(failure)
        self._events.ended(error)

    def _on_socket_open(self, client: paho.Client, userdata: Any, sock: Any) -> None:
        del client, userdata
        self._loop.add_reader(sock, self._turn, self._client.read_some)
        self._misc_task = self._loop.create_task(self._misc_loop())

    def _on_socket_register_write(self, client: paho.Client, userdata: Any, sock: Any) -> None:
        # Not by the selector: the socket takes bytes nearly always, and asking costs two system
        # calls and a turn of the loop for each message.
        del client, userdata, sock
        self._loop.call_soon(self._turn, self._write_at_once)

    def _on_socket_unregister_write(self, client: paho.Client, userdata: Any, sock: Any) -> None:
        # aiomqtt does this a turn of the loop later, when the socket may be closed and its number
        # another's.
        del client, userdata
        self._loop.remove_writer(sock)

    def _write_at_once(self) -> None:
        """Write what was queued in this turn; leave what the socket does not take to the loop."""
        sock = self._client.socket()
        if sock is None:
            return
        self._write()
        if self._client.want_write() and self._client.socket() is sock:
            self._loop.add_writer(sock, self._turn, self._write)

    def _write(self) -> None:
        self._client.write_some()
        self._events.wrote()

    def _turn(self, step: Callable[[], None]) -> None:
        try:
            step()
        except Exception as error:  # noqa: BLE001 - the stream cannot be read on, whatever it was
            _log.exception("the connection is given up")
            self.cut(ConnectionLost(f"its packets could not be handled: {error!r}"))


def _will(will: Will) -> aiomqtt.Will:
    Publish.of(will.topic, b"", qos=will.qos, retain=will.retain, properties=NO_PROPERTIES)
    if len(will.payload) > LARGEST_STRING:
        raise InvalidMessage(
            f"the will has {len(will.payload)} bytes, at most {LARGEST_STRING} fit"
        )
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
        wildcard_available=bool(value("WildcardSubscriptionAvailable", 1)),
        shared_available=bool(value("SharedSubscriptionAvailable", 1)),
        subscription_ids_available=bool(value("SubscriptionIdentifierAvailable", 1)),
        assigned_client_id=value("AssignedClientIdentifier"),
        server_keep_alive=value("ServerKeepAlive"),
        reason=value("ReasonString"),
    )
