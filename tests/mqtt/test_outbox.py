import asyncio

import pytest

from bridge.mqtt import ConnectionLost, PubAck, PublishRefused
from bridge.mqtt.outbox import Outbox
from bridge.mqtt.pacing import Pacer
from bridge.mqtt.packets import Puback, Publish
from tests.support.patience import PATIENCE_S

KILO = 1024
NO_SUBSCRIBERS = 0x10  # a reason code of PUBACK


class FakeWire:
    """A wire that keeps what it is given and writes when the test wants."""

    def __init__(self, mids: list[int] | None = None) -> None:
        self.queued = 0
        self.written = 0
        self.sent: list[tuple[str, int]] = []
        self.mids = mids or list(range(1, 1000))

    def next_mid(self) -> int:
        return self.mids.pop(0)

    def send(self, publish: Publish, mid: int) -> None:
        self.sent.append((publish.topic, mid))
        self.queued += publish.size

    def write_all(self) -> None:
        self.written = self.queued


def message(topic: str, qos: int, size: int = 10) -> Publish:
    return Publish.of(topic, bytes(size), qos=qos, retain=False)


async def test_qos_0_does_not_overtake_what_waits_for_the_window() -> None:
    wire = FakeWire()
    outbox = Outbox(wire, receive_maximum=1)
    for topic, qos in (("a", 1), ("b", 1), ("c", 0), ("d", 1)):
        outbox.add(message(topic, qos))
    assert wire.sent == [("a", 1)]
    outbox.acknowledged(Puback(1))
    assert wire.sent == [("a", 1), ("b", 2), ("c", 0)]
    outbox.acknowledged(Puback(2))
    assert wire.sent[3:] == [("d", 3)]


async def test_no_more_is_given_to_the_wire_than_it_can_soon_send() -> None:
    wire = FakeWire()
    outbox = Outbox(wire, receive_maximum=100)
    for _ in range(10):
        outbox.add(message("a", 1, 200 * KILO))
    assert len(wire.sent) == 2
    assert outbox.buffered > 2000 * KILO
    wire.write_all()
    outbox.wrote()
    assert len(wire.sent) == 4


async def test_a_packet_id_in_use_is_not_given_twice() -> None:
    wire = FakeWire(mids=[7, 7, 8])
    outbox = Outbox(wire, receive_maximum=10)
    outbox.add(message("a", 1))
    outbox.add(message("b", 1))
    assert wire.sent == [("a", 7), ("b", 8)]


async def test_qos_0_is_done_when_its_last_byte_has_left() -> None:
    wire = FakeWire()
    outbox = Outbox(wire, receive_maximum=10)
    first = outbox.add(message("a", 0))
    second = outbox.add(message("b", 0))
    wire.written = wire.queued - 1
    outbox.wrote()
    assert first.done()
    assert not second.done()
    wire.write_all()
    outbox.wrote()
    assert await second == PubAck()


async def test_the_brokers_answers_reach_who_published() -> None:
    wire = FakeWire()
    outbox = Outbox(wire, receive_maximum=10)
    well, nobody, refused, given_up = [outbox.add(message(topic, 1)) for topic in "abcd"]
    given_up.cancel()
    for puback in (Puback(4, 0x87), Puback(3, 0x87), Puback(2, 0x10), Puback(1), Puback(99)):
        outbox.acknowledged(puback)
    assert (await well).code == 0
    assert (await nobody).code == NO_SUBSCRIBERS
    with pytest.raises(PublishRefused) as caught:
        await refused
    assert (caught.value.topic, caught.value.code) == ("c", 0x87)


async def test_draining_waits_until_little_enough_is_left() -> None:
    wire = FakeWire()
    outbox = Outbox(wire, receive_maximum=10)
    await outbox.drained(0)
    outbox.add(message("a", 0, 90))
    half = asyncio.ensure_future(outbox.drained(50))
    whole = asyncio.ensure_future(outbox.drained(0))
    await asyncio.sleep(0)
    wire.written = 60
    outbox.wrote()
    await half
    assert not whole.done()
    wire.write_all()
    outbox.wrote()
    await whole


async def test_failing_wakes_everybody() -> None:
    wire = FakeWire()
    outbox = Outbox(wire, receive_maximum=1)
    leaving = outbox.add(message("a", 0))
    unacknowledged = outbox.add(message("b", 1))
    waiting = outbox.add(message("c", 1))
    draining = asyncio.ensure_future(outbox.drained(0))
    await asyncio.sleep(0)
    outbox.fail("gone", 0x8E)
    for future in (leaving, unacknowledged, waiting, draining):
        with pytest.raises(ConnectionLost) as caught:
            await future
        assert caught.value.code == 0x8E
    assert outbox.closed


async def test_a_closed_outbox_sends_nothing_more() -> None:
    wire = FakeWire()
    outbox = Outbox(wire, receive_maximum=1)
    outbox.add(message("a", 1))
    outbox.add(message("b", 1))
    outbox.close()
    outbox.acknowledged(Puback(1))
    assert wire.sent == [("a", 1)]


class Unpaced(Pacer):
    """Holds nothing back."""

    def wait_s(self, now: float) -> float:
        return 0.0 * now


async def test_what_is_refused_for_a_quota_is_sent_again_before_what_waits() -> None:
    wire = FakeWire()
    outbox = Outbox(wire, receive_maximum=2, pacer=Unpaced())
    sent = [outbox.add(message(topic, 1)) for topic in "abc"]
    for mid, code in ((1, 0x97), (2, 0x97), (3, 0), (4, 0), (5, 0)):
        outbox.acknowledged(Puback(mid, code))
    assert wire.sent == [("a", 1), ("b", 2), ("a", 3), ("b", 4), ("c", 5)]
    assert [await each for each in sent] == [PubAck()] * 3


async def test_a_quota_holds_all_messages_back_for_a_while() -> None:
    sent_again = asyncio.Event()

    class Wire(FakeWire):
        def send(self, publish: Publish, mid: int) -> None:
            super().send(publish, mid)
            if len(self.sent) == 3:
                sent_again.set()

    wire = Wire()
    outbox = Outbox(wire, receive_maximum=10)
    outbox.add(message("a", 1))
    outbox.acknowledged(Puback(1, 0x97))
    outbox.add(message("b", 1))
    assert wire.sent == [("a", 1)]
    assert outbox.buffered
    async with asyncio.timeout(PATIENCE_S):
        await sent_again.wait()
    assert wire.sent == [("a", 1), ("a", 2), ("b", 3)]


async def test_other_refusals_are_final() -> None:
    wire = FakeWire()
    outbox = Outbox(wire, receive_maximum=2)
    refused = outbox.add(message("a", 1))
    outbox.acknowledged(Puback(1, 0x87))
    with pytest.raises(PublishRefused):
        await refused
    outbox.add(message("b", 1))
    assert wire.sent == [("a", 1), ("b", 2)]


async def test_what_waits_for_a_quota_fails_with_the_connection() -> None:
    wire = FakeWire()
    outbox = Outbox(wire, receive_maximum=2)
    sent = outbox.add(message("a", 1))
    outbox.acknowledged(Puback(1, 0x97))
    outbox.fail("the end", None)
    with pytest.raises(ConnectionLost):
        await sent
    wire.write_all()
    assert outbox.buffered == 0


async def test_no_more_is_in_flight_than_a_quota_may_refuse_at_once() -> None:
    wire = FakeWire()
    outbox = Outbox(wire, receive_maximum=65535)
    for _ in range(100):
        outbox.add(message("a", 1))
    assert len(wire.sent) == 32
