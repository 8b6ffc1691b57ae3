from __future__ import annotations

import asyncio

import pytest

from bridge.adapters.mqtt.last_values import LastValues
from bridge.contract.errors import DependencyFailed
from bridge.contract.sources import Topic

TOPIC = "cameras/door/snapshot"


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


async def test_a_message_is_given_while_it_is_young_enough() -> None:
    clock = Clock()
    values = LastValues(clock)
    values.put(TOPIC, b"picture", stored=False)
    clock.now += 10
    assert await values.get("alice", Topic(TOPIC, max_age_s=10)) == b"picture"
    clock.now += 1
    with pytest.raises(DependencyFailed, match="too old"):
        await values.get("alice", Topic(TOPIC, max_age_s=10))
    assert await values.get("alice", Topic(TOPIC)) == b"picture"


async def test_the_age_of_a_stored_message_is_not_known() -> None:
    values = LastValues(Clock())
    values.put(TOPIC, b"old", stored=True)
    assert await values.get("alice", Topic(TOPIC)) == b"old"
    with pytest.raises(DependencyFailed):
        await values.get("alice", Topic(TOPIC, max_age_s=1000))


async def test_who_waits_is_not_put_off_by_a_stored_message() -> None:
    values = LastValues(Clock())
    waiting = asyncio.create_task(values.get("alice", Topic(TOPIC, max_age_s=5, wait_s=60)))
    await asyncio.sleep(0)
    values.put(TOPIC, b"old", stored=True)
    await asyncio.sleep(0)
    values.put(TOPIC, b"new", stored=False)
    assert await waiting == b"new"


async def test_a_topic_without_a_message_is_reported() -> None:
    with pytest.raises(DependencyFailed, match="no message"):
        await LastValues().get("alice", Topic("cameras/garden/snapshot"))
