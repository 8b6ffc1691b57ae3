"""The tests' own client: its waits return each message once, and look at each once."""

from __future__ import annotations

import asyncio

from tests.support.peer import Message, Peer


def message(topic: str, payload: bytes) -> Message:
    return Message(topic, payload, 1, retain=False, properties={})


async def test_each_message_is_returned_once_in_its_order() -> None:
    peer = Peer("mqtt://nowhere")
    for topic, payload in (("a/1", b"0"), ("a/2", b"1"), ("a/1", b"2"), ("b", b"3")):
        peer._take(message(topic, payload))
    assert (await peer.next("a/1")).payload == b"0"
    assert (await peer.next("a/+", lambda each: each.payload != b"1")).payload == b"2"
    assert (await peer.next("a/#")).payload == b"1"
    waiting = asyncio.create_task(peer.next("a/1"))
    await asyncio.sleep(0)
    peer._take(message("a/1", b"4"))
    assert (await waiting).payload == b"4"
    assert [each.payload for each in peer.all("a/+")] == [b"0", b"1", b"2", b"4"]


async def test_a_wait_looks_at_each_message_once() -> None:
    peer = Peer("mqtt://nowhere")
    looks = []

    def is_last(each: Message) -> bool:
        looks.append(each.payload)
        return each.payload == b"99"

    waiting = asyncio.create_task(peer.next("a/+", is_last))
    for number in range(100):
        peer._take(message("a/1", b"%d" % number))
        await asyncio.sleep(0)
    assert (await waiting).payload == b"99"
    assert len(looks) == 100
