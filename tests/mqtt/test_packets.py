import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt import _packet
from paho.mqtt.client import MQTTv5
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from bridge.mqtt import Incoming, InvalidMessage, PacketTooLarge, PublishProperties, check_topic
from bridge.mqtt.packets import (
    LARGE,
    LargePublish,
    Malformed,
    Puback,
    Publish,
    Splitter,
    puback_packet,
    read_puback,
    read_publish,
)

# What paho's reader takes too: it wrongly refuses U+FEFF.
CHARACTERS = st.characters(
    exclude_categories=["Cs", "Cc"],
    exclude_characters="\ufeff",
).filter(lambda c: not 0xFDD0 <= ord(c) <= 0xFDEF and ord(c) & 0xFFFE != 0xFFFE)
TEXT = st.text(CHARACTERS, max_size=300)
TOPICS = st.text(CHARACTERS.filter(lambda c: c not in "+#/"), min_size=1, max_size=300)
FIELDS = {
    "content_type": st.none() | TEXT,
    "response_topic": st.none() | TOPICS,
    "correlation_data": st.none() | st.binary(max_size=300),
    "message_expiry": st.none() | st.integers(0, 2**32 - 1),
    "user_properties": st.lists(st.tuples(TEXT, TEXT), max_size=5),
}
PROPERTIES = st.builds(PublishProperties, **FIELDS)
MESSAGES = st.builds(
    Incoming,
    topic=TOPICS,
    payload=st.binary(max_size=300) | st.integers(0, 20_000).map(bytes),
    qos=st.just(1),
    retain=st.booleans(),
    dup=st.just(False),  # noqa: FBT003 - a field's value
    mid=st.integers(1, 65535),
    **FIELDS,
)


def split(packet: bytes) -> tuple[int, bytes]:
    """Return a packet's first byte and what follows its length, which must be right."""
    at, length = 1, 0
    while packet[at] & 0x80:
        length |= (packet[at] & 0x7F) << 7 * (at - 1)
        at += 1
    length |= packet[at] << 7 * (at - 1)
    body = packet[at + 1 :]
    assert len(body) == length
    return packet[0], body


@given(MESSAGES, st.booleans())
def test_what_is_written_is_read_again_here_and_by_paho(sent: Incoming, acked: bool) -> None:  # noqa: FBT001 - drawn
    if not acked:
        sent = msgspec.structs.replace(sent, qos=0, mid=0)
    fields = {name: getattr(sent, name) for name in FIELDS}
    publish = Publish.of(
        sent.topic,
        sent.payload,
        qos=sent.qos,
        retain=sent.retain,
        properties=PublishProperties(**fields),
    )
    packet = publish.head(sent.mid) + sent.payload
    assert len(packet) == publish.size

    first_byte, body = split(packet)
    assert read_publish(first_byte, body) == sent

    theirs = _packet.decode_publish(first_byte, body, MQTTv5)
    assert (theirs.topic.decode(), theirs.payload) == (sent.topic, sent.payload)
    assert (theirs.qos, theirs.retain, theirs.mid) == (sent.qos, sent.retain, sent.mid)
    assert getattr(theirs.properties, "ContentType", None) == sent.content_type
    assert getattr(theirs.properties, "ResponseTopic", None) == sent.response_topic
    assert getattr(theirs.properties, "CorrelationData", None) == sent.correlation_data
    assert getattr(theirs.properties, "MessageExpiryInterval", None) == sent.message_expiry
    assert getattr(theirs.properties, "UserProperty", []) == sent.user_properties


@given(MESSAGES, st.lists(st.integers(1, 500), max_size=20))
def test_a_large_packet_is_the_same_in_whatever_pieces_it_comes(
    sent: Incoming, sizes: list[int]
) -> None:
    fields = {name: getattr(sent, name) for name in FIELDS}
    properties = PublishProperties(**fields)
    publish = Publish.of(sent.topic, sent.payload, qos=1, retain=sent.retain, properties=properties)
    first_byte, body = split(publish.head(sent.mid) + sent.payload)
    large = LargePublish(first_byte, len(body))
    assert len(large) == len(body)
    left = body
    for size in [*sizes, len(body)]:
        piece, left = left[:size], left[size:]
        large.extend(piece)
    assert large.read() == sent


@given(st.integers(0, 255), st.lists(st.binary(max_size=50)))
def test_a_large_packet_of_garbage_is_as_malformed_as_a_small_one(
    first_byte: int, pieces: list[bytes]
) -> None:
    body = b"".join(pieces)
    large = LargePublish(first_byte, len(body))
    for piece in pieces:
        large.extend(piece)
    try:
        expected = read_publish(first_byte, body)
    except Malformed:
        with pytest.raises(Malformed):
            large.read()
    else:
        assert large.read() == expected


@pytest.mark.parametrize(
    "properties",
    [
        b"\x80\x80\x80\x80\x01",  # a length of five bytes
        b"\x03\x02\x00\x00\x00\x00",  # a property that is longer than the packet
        b"\x01\x21",  # Receive Maximum, which a PUBLISH cannot have
    ],
)
def test_malformed_properties_are_found(properties: bytes) -> None:
    with pytest.raises(Malformed):
        read_publish(0x30, b"\x00\x01t" + properties)


@given(st.integers(0, 255), st.binary(max_size=200))
def test_garbage_raises_only_malformed(first_byte: int, body: bytes) -> None:
    for read in (lambda: read_publish(first_byte, body), lambda: read_puback(body)):
        try:
            read()
        except Malformed:
            continue


@given(TOPICS, PROPERTIES, st.data())
def test_a_packet_cut_short_is_malformed(
    topic: str, properties: PublishProperties, data: st.DataObject
) -> None:
    publish = Publish.of(topic, b"", qos=1, retain=False, properties=properties)
    first_byte, body = split(publish.head(7))
    shorter = body[: data.draw(st.integers(0, len(body) - 1))]
    with pytest.raises(Malformed):
        read_publish(first_byte, shorter)


def test_properties_for_which_we_have_no_use_are_passed_over() -> None:
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # paho has no types for it
    properties.PayloadFormatIndicator = 1
    properties.SubscriptionIdentifier = [5, 200_000_000]
    properties.TopicAlias = 3
    properties.ContentType = "image/png"
    body = b"\x00\x01t" + properties.pack() + b"payload"  # type: ignore[no-untyped-call]  # as above
    message = read_publish(0x3D & 0xF9, body)
    assert (message.topic, message.content_type) == ("t", "image/png")
    assert message.payload == b"payload"
    assert message.dup
    assert message.retain


def test_a_byte_order_mark_is_an_ordinary_character() -> None:
    publish = Publish.of("t", b"", qos=0, retain=False, properties=PublishProperties())
    assert split(publish.head(0))
    marked = PublishProperties(content_type="\ufefftext/plain")
    head = Publish.of("t", b"", qos=0, retain=False, properties=marked).head(0)
    assert read_publish(*split(head)).content_type == "\ufefftext/plain"


@pytest.mark.parametrize(
    "topic", ["", "a/+/b", "#", "a\0", "a\n", "\ud800", "a" * 65536, "/" * 201]
)
def test_a_topic_that_brokers_refuse_is_refused(topic: str) -> None:
    with pytest.raises(InvalidMessage, match="topic"):
        check_topic(topic)


@pytest.mark.parametrize("topic", ["a", "/", "a/b c/\u00e9", "$SYS", "a" * 65535, "/" * 200])
def test_any_other_topic_is_taken(topic: str) -> None:
    check_topic(topic)


@pytest.mark.parametrize(
    ("properties", "words"),
    [
        (PublishProperties(response_topic=""), "response topic is empty"),
        (PublishProperties(response_topic="a/+"), "response topic contains a wildcard"),
        (PublishProperties(response_topic="a#"), "response topic contains a wildcard"),
        (PublishProperties(content_type="a\0b"), "content type contains U\\+0000"),
        (PublishProperties(content_type="a" * 65536), "content type has 65536 bytes"),
        (PublishProperties(content_type="\u00e9" * 32768), "content type has 65536 bytes"),
        (PublishProperties(correlation_data=b"a" * 65536), "correlation data has 65536 bytes"),
        (PublishProperties(message_expiry=-1), "message expiry"),
        (PublishProperties(message_expiry=2**32), "message expiry"),
        (PublishProperties(user_properties=[("a", "\ud800")]), "user property 'a' .* surrogate"),
        (PublishProperties(user_properties=[("a\x85", "")]), "name contains U\\+0085"),
        (PublishProperties(user_properties=[("a", "two\nlines")]), "user property 'a' .* U\\+000A"),
        (PublishProperties(user_properties=[("a", "\uffff")]), "U\\+FFFF"),
        (PublishProperties(user_properties=[("a", "\U0010fffe")]), "U\\+10FFFE"),
    ],
)
def test_a_property_that_brokers_refuse_is_named(properties: PublishProperties, words: str) -> None:
    with pytest.raises(InvalidMessage, match=words):
        Publish.of("t", b"", qos=0, retain=False, properties=properties)


@given(st.builds(PublishProperties, content_type=st.text(), response_topic=st.text()), st.text())
def test_no_text_raises_anything_but_invalid_message(
    properties: PublishProperties, topic: str
) -> None:
    try:
        Publish.of(topic, b"", qos=0, retain=False, properties=properties).head(0)
    except InvalidMessage:
        return


@pytest.mark.parametrize("qos", [-1, 2, 3])
def test_only_qos_0_and_1_are_sent(qos: int) -> None:
    with pytest.raises(InvalidMessage, match="QoS"):
        Publish.of("t", b"", qos=qos, retain=False)


def test_a_message_at_qos_2_is_malformed_for_we_never_subscribe_so() -> None:
    with pytest.raises(Malformed, match="QoS 2"):
        read_publish(0x34, b"\x00\x01t\x00\x01\x00")


def test_no_packet_is_larger_than_its_length_can_say() -> None:
    payload = bytes(268_435_455)
    with pytest.raises(PacketTooLarge) as caught:
        Publish.of("t", payload, qos=0, retain=False)
    assert caught.value.size == len(payload) + 9
    assert caught.value.limit == 268_435_460


@given(
    topic=st.text("abc", min_size=1, max_size=300),
    qos=st.sampled_from([0, 1]),
    correlation=st.none() | st.binary(max_size=2000),
    limit=st.integers(0, 3_000_000),
)
def test_the_room_below_a_limit_is_exact(
    topic: str, qos: int, correlation: bytes | None, limit: int
) -> None:
    properties = PublishProperties(correlation_data=correlation)

    def of(size: int) -> Publish:
        return Publish.of(topic, bytes(size), qos=qos, retain=False, properties=properties)

    room = of(0).room(limit)
    assert of(123).room(limit) == room
    if room < 0:
        assert of(0).size > limit
    else:
        assert limit - 1 <= of(room).size <= limit
        assert of(room + 2).size > limit


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"\x01\x02", (258, 0, None)),
        (b"\x00\x07\x10", (7, 0x10, None)),
        (b"\x00\x07\x87\x00", (7, 0x87, None)),
        (b"\x00\x07\x87\x05\x1f\x00\x02no", (7, 0x87, "no")),
    ],
)
def test_a_puback_is_read_in_its_short_and_long_forms(
    body: bytes, expected: tuple[int, int, str | None]
) -> None:
    puback = read_puback(body)
    assert (puback.mid, puback.code, puback.reason) == expected


def packets_of(*messages: Incoming) -> bytes:
    found = b""
    for each in messages:
        publish = Publish.of(each.topic, each.payload, qos=each.qos, retain=each.retain)
        found += publish.head(each.mid) + each.payload
    return found


def plain(mid: int, payload: bytes = b"x") -> Incoming:
    return Incoming(topic="t", payload=payload, qos=1, retain=False, dup=False, mid=mid)


@given(st.lists(st.integers(1, 40), max_size=60))
def test_a_stream_is_split_into_the_same_packets_in_whatever_pieces_it_comes(
    cuts: list[int],
) -> None:
    suback = b"\x90\x04\x00\x05\x00\x01"
    data = packets_of(plain(1)) + suback + puback_packet(7) + b"\xd0\x00"
    data += packets_of(plain(2), plain(3))
    splitter, found, at = Splitter(), [], 0
    for cut in [*cuts, len(data)]:
        found += list(splitter.feed(data[at : at + cut]))
        at += cut
    assert found == [(plain(1), 7), suback, Puback(7), b"\xd0\x00", (plain(2), 7), (plain(3), 7)]


def test_a_large_packet_is_split_off_like_any_other() -> None:
    large = plain(1, bytes(range(256)) * (LARGE // 256 + 1))
    data = packets_of(large, plain(2))
    splitter, found = Splitter(), []
    for at in range(0, len(data), 60_000):
        found += list(splitter.feed(data[at : at + 60_000]))
    assert found == [(large, 6 + len(large.payload)), (plain(2), 7)]


def test_a_length_of_more_than_four_bytes_is_malformed() -> None:
    with pytest.raises(Malformed, match="length"):
        list(Splitter().feed(b"\x30\xff\xff\xff\xff\x01"))
    longest = Splitter()
    assert list(longest.feed(b"\x30\xff\xff\xff\x7f")) == []


@given(st.binary(max_size=300))
def test_garbage_splits_or_is_malformed(data: bytes) -> None:
    try:
        for _ in Splitter().feed(data):
            pass
    except Malformed:
        pass
