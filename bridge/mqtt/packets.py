"""MQTT 5 PUBLISH packets as bytes, both ways, and the PUBACK that answers one.

paho leaves size limits to its caller, accepts values for which brokers end the connection, and
copies a payload twice for each property it reads (16 MB with twelve properties: 0.6 s of the
event loop). So these two packets are read and written here, and paho handles all others.

Pure: no socket, no clock. Sections are those of the OASIS MQTT 5.0 specification.
"""

from __future__ import annotations

import enum
import io
import re
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from bridge.mqtt.errors import InvalidMessage, PacketTooLarge

PUBLISH: Final = 0x30
PINGREQ: Final = 0xC0
PINGRESP: Final = bytes((0xD0, 0))
DISCONNECT: Final = 0xE0
# A PUBLISH above this many bytes is not collected in a buffer that grows.
LARGE: Final = 256 * 1024
_LONGEST_HEAD: Final = 4
LARGEST_REMAINING: Final = 268_435_455  # four bytes of a Variable Byte Integer (1.5.5)
LARGEST_STRING: Final = 65_535  # two bytes of length (1.5.4, 1.5.6)
DEEPEST_TOPIC: Final = 200  # mosquitto's TOPIC_HIERARCHY_LIMIT; beyond it, it disconnects

_HIGHEST_EXPIRY: Final = 2**32 - 1

# A receiver may take control characters and non-characters for a malformed packet (1.5.4), and
# mosquitto does, in topics and in properties: one line break in a file name ends the connection.
_FORBIDDEN: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\ufdd0-\ufdef"
    + "".join(chr(plane << 16 | low) for plane in range(17) for low in (0xFFFE, 0xFFFF))
    + "]"
)


class _PacketType(enum.IntEnum):
    """The types of the packets that are read here, with no flags (2.1.2)."""

    PUBLISH = PUBLISH
    PUBACK = 0x40


class _Property(enum.IntEnum):
    """The properties that a PUBLISH or PUBACK can have (2.2.2.2)."""

    PAYLOAD_FORMAT = 0x01
    MESSAGE_EXPIRY = 0x02
    CONTENT_TYPE = 0x03
    RESPONSE_TOPIC = 0x08
    CORRELATION_DATA = 0x09
    SUBSCRIPTION_ID = 0x0B
    REASON_STRING = 0x1F
    TOPIC_ALIAS = 0x23
    USER_PROPERTY = 0x26


class Malformed(ValueError):
    """The other side sent something that is no MQTT 5 packet."""


class PublishProperties(msgspec.Struct, frozen=True, kw_only=True):
    """A message's properties besides its payload (3.3.2.3)."""

    content_type: str | None = None
    response_topic: str | None = None
    correlation_data: bytes | None = None
    message_expiry: int | None = None
    """Seconds that a broker may keep it for a subscriber."""
    user_properties: Sequence[tuple[str, str]] = ()


NO_PROPERTIES: Final = PublishProperties()


class Incoming(msgspec.Struct, frozen=True, kw_only=True):
    """A message from the broker."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    dup: bool
    mid: int
    """The packet id, 0 at QoS 0. Its meaning ends with the connection."""
    content_type: str | None = None
    response_topic: str | None = None
    correlation_data: bytes | None = None
    message_expiry: int | None = None
    """Seconds that were left of its life when the broker sent it."""
    user_properties: list[tuple[str, str]] = []
    subscription_ids: list[int] = []
    """The identifiers of the subscriptions that it came by, of those that have one (3.3.2.3.8)."""


class Publish(msgspec.Struct, frozen=True):
    """A checked message, ready to be sent once its packet id is known."""

    topic: str
    payload: bytes | memoryview
    qos: int
    retain: bool
    properties: PublishProperties
    size: int
    """The size of the whole packet in bytes, as Maximum Packet Size counts it (3.2.2.3.6)."""
    encoded_length: bytes
    encoded_topic: bytes
    encoded_properties: bytes

    @classmethod
    def of(
        cls,
        topic: str,
        payload: bytes | memoryview,
        *,
        qos: int,
        retain: bool,
        properties: PublishProperties | None = NO_PROPERTIES,
    ) -> Publish:
        """Check and encode everything but the packet id. Does not copy the payload.

        With None for `properties` it is a packet of MQTT 3.1.1. Raises InvalidMessage for what
        must not be sent, PacketTooLarge for what no MQTT packet can hold.
        """
        if qos not in (0, 1):
            raise InvalidMessage(f"the QoS must be 0 or 1, not {qos}")
        encoded_topic = _topic(topic, "topic")
        encoded_properties = b"" if properties is None else _properties(properties)
        # The bytes that follow the packet's length (2.1.4).
        remaining = len(encoded_topic) + 2 * qos + len(encoded_properties) + len(payload)
        if remaining > LARGEST_REMAINING:
            raise PacketTooLarge(5 + remaining, 5 + LARGEST_REMAINING)
        length = _varint(remaining)
        return cls(
            topic=topic,
            payload=payload,
            qos=qos,
            retain=retain,
            properties=properties or NO_PROPERTIES,
            size=1 + len(length) + remaining,
            encoded_length=length,
            encoded_topic=encoded_topic,
            encoded_properties=encoded_properties,
        )

    def without_properties(self) -> Publish:
        """Return the same message as MQTT 3.1.1 has it."""
        return Publish.of(
            self.topic, self.payload, qos=self.qos, retain=self.retain, properties=None
        )

    def within(self, qos: int, *, retain: bool) -> Publish:
        """Return the same message for a broker that takes QoS `qos` at most, and may not retain."""
        if self.qos <= qos and (retain or not self.retain):
            return self
        return Publish.of(
            self.topic,
            self.payload,
            qos=min(self.qos, qos),
            retain=self.retain and retain,
            properties=self.properties,
        )

    def room(self, limit: int) -> int:
        """Return how many bytes of payload this topic and these properties leave below `limit`.

        `limit` bounds the whole packet, in bytes. The result is negative by as many bytes as are
        lacking for an empty payload. Exact, except that it is one byte less if one more byte of
        payload would lengthen the packet's length field.
        """
        # The bytes between the packet's length and its payload (3.3.2).
        header = len(self.encoded_topic) + 2 * self.qos + len(self.encoded_properties)
        room = limit - 2 - header
        for length in (2, 3, 4):
            if header + room >= 1 << 7 * (length - 1):
                room = limit - 1 - length - header
        return min(room, LARGEST_REMAINING - header)

    def head(self, mid: int) -> bytes:
        """Return the packet up to its payload; `mid` counts at QoS 1 only."""
        return b"".join(
            (
                bytes((PUBLISH | self.qos << 1 | self.retain,)),
                self.encoded_length,
                self.encoded_topic,
                mid.to_bytes(2, "big") if self.qos else b"",
                self.encoded_properties,
            )
        )


def check_topic(topic: str) -> None:
    """Raise InvalidMessage unless a message may be published on `topic`."""
    _topic(topic, "topic")


def read_publish(
    first_byte: int,
    body: bytes | bytearray,
    payload: bytes | None = None,
    *,
    properties: bool = True,
) -> Incoming:
    """Read a PUBLISH packet: its first byte, and what follows its length. Raises Malformed.

    With `payload`, the body ends before it. Without `properties` it is one of MQTT 3.1.1.
    """
    view = _PacketReader(body)
    qos = first_byte >> 1 & 3
    if qos > 1:
        # We never subscribe with more than QoS 1.
        raise Malformed(f"a message at QoS {qos}")
    topic = view.text()
    mid = view.integer(2) if qos else 0
    found = view.properties() if properties else _Properties()
    return Incoming(
        topic=topic,
        payload=view.rest() if payload is None else payload,
        qos=qos,
        retain=bool(first_byte & 1),
        dup=bool(first_byte & 8),
        mid=mid,
        content_type=found.content_type,
        response_topic=found.response_topic,
        correlation_data=found.correlation_data,
        message_expiry=found.message_expiry,
        user_properties=found.user_properties,
        subscription_ids=found.subscription_ids,
    )


class LargePublish:
    """A large PUBLISH packet's body as it arrives, its payload written once, to its final place.

    Growing a buffer to 16 MB and then copying the payload out of it takes two pauses of 10 ms, most
    of them for memory that is touched for the first time; this spreads them over the arrival.
    """

    def __init__(self, first_byte: int, size: int, *, properties: bool = True) -> None:
        self._first_byte = first_byte
        self._size = size
        self._properties = properties
        self._head = bytearray()
        self._payload: io.BytesIO | None = None

    def __len__(self) -> int:
        return self._size

    def extend(self, data: bytes | memoryview) -> None:
        """Append what came next."""
        if self._payload is not None:
            self._payload.write(data)
            return
        self._head += data
        end = self._head_size()
        if end is not None and end <= len(self._head):
            # Zeros that nobody else holds: CPython writes into them, and gives them out, uncopied.
            self._payload = io.BytesIO(bytes(max(0, self._size - end)))
            self._payload.write(self._head[end:])
            del self._head[end:]

    def read(self) -> Incoming:
        """Return the message, once all is here. Raises Malformed."""
        payload = None if self._payload is None else self._payload.getvalue()
        return read_publish(self._first_byte, self._head, payload, properties=self._properties)

    def _head_size(self) -> int | None:
        """Return the payload's offset; None if it is not known yet, or never."""
        view = _PacketReader(self._head)
        try:
            view.binary()
            if self._first_byte >> 1 & 3:
                view.integer(2)
            length = view.varint() if self._properties else 0
        except Malformed:
            return None
        return len(self._head) - view.left + length


class Splitter:
    """Splits the broker's bytes into packets, in whatever pieces they come.

    Without `properties` they are those of MQTT 3.1.1.
    """

    def __init__(self, *, properties: bool = True) -> None:
        self._properties = properties
        self._head = bytearray()
        self._body: bytearray | LargePublish | None = None
        self._left = 0

    def feed(self, data: bytes) -> Iterator[tuple[Incoming, int] | Puback | bytes]:
        """Yield each packet that is complete with these bytes. Raises Malformed.

        A PUBLISH comes with the bytes that follow its length; what is neither PUBLISH nor PUBACK
        comes as its bytes.
        """
        view = memoryview(data)
        at = 0
        while at < len(view):
            if self._body is None:
                self._head.append(view[at])
                at += 1
                size = _length_after(self._head)
                if size is None:
                    continue
                self._left = size
                large = self._head[0] & 0xF0 == PUBLISH and size > LARGE
                self._body = (
                    LargePublish(self._head[0], size, properties=self._properties)
                    if large
                    else bytearray()
                )
            piece = view[at : at + self._left]
            self._body.extend(piece)
            at += len(piece)
            self._left -= len(piece)
            if not self._left:
                yield self._packet(self._body)
                self._head.clear()
                self._body = None

    def _packet(self, body: bytearray | LargePublish) -> tuple[Incoming, int] | Puback | bytes:
        if isinstance(body, LargePublish):
            return body.read(), len(body)
        match self._head[0] & 0xF0:
            case _PacketType.PUBLISH:
                incoming = read_publish(self._head[0], body, properties=self._properties)
                return incoming, len(body)
            case _PacketType.PUBACK:
                return read_puback(body)
        return bytes(self._head + body)


def _length_after(head: bytearray) -> int | None:
    """Return the length that a fixed header announces (2.1.4), None if it is not complete."""
    if len(head) == 1 or head[-1] & 0x80:
        if len(head) > _LONGEST_HEAD:
            raise Malformed("a length of more than four bytes")
        return None
    length = 0
    for byte in reversed(head[1:]):
        length = length << 7 | byte & 0x7F
    return length


def puback_packet(mid: int) -> bytes:
    """Return the PUBACK packet that takes a message: 0x00, success (3.4.2.1)."""
    return bytes((_PacketType.PUBACK, 2)) + mid.to_bytes(2, "big")


class Puback(msgspec.Struct, frozen=True):
    """The broker's answer to a publish at QoS 1."""

    mid: int
    code: int = 0
    reason: str | None = None


def read_puback(body: bytes | bytearray) -> Puback:
    """Read a PUBACK packet: what follows its length. Raises Malformed."""
    view = _PacketReader(body)
    mid = view.integer(2)
    if not view.left:
        return Puback(mid)
    code = view.integer(1)
    return Puback(mid, code, view.properties().reason if view.left else None)


class _Properties(msgspec.Struct):
    """The properties of one packet as they are being read."""

    content_type: str | None = None
    response_topic: str | None = None
    correlation_data: bytes | None = None
    message_expiry: int | None = None
    reason: str | None = None
    user_properties: list[tuple[str, str]] = []
    subscription_ids: list[int] = []


class _PacketReader:
    """Takes a packet's body apart from front to back, copying only what it returns."""

    def __init__(self, body: bytes | bytearray) -> None:
        self._view = memoryview(body)
        self._at = 0

    @property
    def left(self) -> int:
        return len(self._view) - self._at

    def _take(self, count: int) -> memoryview:
        start, self._at = self._at, self._at + count
        if self._at > len(self._view):
            raise Malformed("the packet ends too early")
        return self._view[start : self._at]

    def integer(self, size: int) -> int:
        return int.from_bytes(self._take(size), "big")

    def varint(self) -> int:
        value = 0
        for shift in (0, 7, 14, 21):
            byte = self.integer(1)
            value |= (byte & 0x7F) << shift
            if not byte & 0x80:
                return value
        raise Malformed("an integer of more than four bytes")

    def binary(self) -> bytes:
        return bytes(self._take(self.integer(2)))

    def text(self) -> str:
        try:
            return self.binary().decode()
        except UnicodeDecodeError as error:
            raise Malformed("a string that is not UTF-8") from error

    def rest(self) -> bytes:
        return bytes(self._take(self.left))

    def properties(self) -> _Properties:
        found = _Properties()
        length = self.varint()
        end = self._at + length
        while self._at < end:
            self._property(found)
        if self._at != end:
            raise Malformed("properties longer than announced")
        return found

    def _property(self, found: _Properties) -> None:
        match self.varint():
            case _Property.PAYLOAD_FORMAT:
                self.integer(1)
            case _Property.MESSAGE_EXPIRY:
                found.message_expiry = self.integer(4)
            case _Property.CONTENT_TYPE:
                found.content_type = self.text()
            case _Property.RESPONSE_TOPIC:
                found.response_topic = self.text()
            case _Property.CORRELATION_DATA:
                found.correlation_data = self.binary()
            case _Property.SUBSCRIPTION_ID:
                found.subscription_ids.append(self.varint())
            case _Property.REASON_STRING:
                found.reason = self.text()
            case _Property.TOPIC_ALIAS:
                self.integer(2)
            case _Property.USER_PROPERTY:
                found.user_properties.append((self.text(), self.text()))
            case identifier:
                raise Malformed(f"property 0x{identifier:02X} does not belong here")


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while rest := value >> 7:
        encoded.append(value & 0x7F | 0x80)
        value = rest
    encoded.append(value)
    return bytes(encoded)


def _binary(value: bytes, field: str) -> bytes:
    if len(value) > LARGEST_STRING:
        raise InvalidMessage(f"the {field} has {len(value)} bytes, at most {LARGEST_STRING} fit")
    return len(value).to_bytes(2, "big") + value


def _text(value: str, field: str) -> bytes:
    if bad := _FORBIDDEN.search(value):
        raise InvalidMessage(f"the {field} contains U+{ord(bad[0]):04X}, which brokers refuse")
    try:
        return _binary(value.encode(), field)
    except UnicodeEncodeError as error:
        raise InvalidMessage(f"the {field} contains a lone surrogate") from error


def _topic(value: str, field: str) -> bytes:
    if not value:
        raise InvalidMessage(f"the {field} is empty")
    if "+" in value or "#" in value:
        raise InvalidMessage(f"the {field} contains a wildcard")
    if value.count("/") > DEEPEST_TOPIC:
        raise InvalidMessage(f"the {field} has more than {DEEPEST_TOPIC} levels")
    return _text(value, field)


def _properties(properties: PublishProperties) -> bytes:
    packed = bytearray()
    if (expiry := properties.message_expiry) is not None:
        if not 0 <= expiry <= _HIGHEST_EXPIRY:
            raise InvalidMessage(f"the message expiry must be 0 to {_HIGHEST_EXPIRY} seconds")
        packed.append(_Property.MESSAGE_EXPIRY)
        packed += expiry.to_bytes(4, "big")
    if properties.content_type is not None:
        packed.append(_Property.CONTENT_TYPE)
        packed += _text(properties.content_type, "content type")
    if properties.response_topic is not None:
        packed.append(_Property.RESPONSE_TOPIC)
        packed += _topic(properties.response_topic, "response topic")
    if properties.correlation_data is not None:
        packed.append(_Property.CORRELATION_DATA)
        packed += _binary(properties.correlation_data, "correlation data")
    for name, value in properties.user_properties:
        packed.append(_Property.USER_PROPERTY)
        packed += _text(name, "user property's name") + _text(value, f"user property {name!r}")
    if len(packed) > LARGEST_REMAINING:
        raise PacketTooLarge(len(packed), LARGEST_REMAINING)
    return _varint(len(packed)) + packed
