"""An operator's commands: each is carried out and answered, and what is refused."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from bridge.adapters.mqtt import admin_commands
from bridge.adapters.mqtt.admin_commands import AdminCommands
from bridge.config import Config
from bridge.contract.topics import Topics
from bridge.mqtt import Incoming
from bridge.requests.context import Answer
from bridge.service.group import GroupParts
from tests.adapters.mqtt.links import until


class Operator:
    def __init__(self) -> None:
        self.commands: list[tuple[str, bytes]] = []

    async def handle(self, verb: str, payload: bytes, _correlation: bytes | None) -> Answer:
        self.commands.append((verb, payload))
        return Answer(data={"paused": True})


class Publisher:
    def __init__(self) -> None:
        self.answers: list[tuple[str, Answer, bytes | None]] = []

    def answer_command(self, verb: str, answer: Answer, correlation: bytes | None) -> None:
        self.answers.append((verb, answer, correlation))


def command(topic: str = "comfy2mqtt/bridge/request/queue/pause", **fields: Any) -> Incoming:
    common = {"payload": b"", "qos": 1, "retain": False, "dup": False, "mid": 1}
    return Incoming(topic=topic, **{**common, **fields})


async def carried_out(incoming: Incoming) -> tuple[Operator, Publisher]:
    operator, publisher = Operator(), Publisher()
    alone = GroupParts(Config())
    made = AdminCommands(Topics(), operator.handle, cast("Any", publisher), alone.wait_for_lease)
    await made.received(incoming, None, cast("Any", None))
    return operator, publisher


async def test_a_command_is_carried_out_and_answered() -> None:
    operator, publisher = await carried_out(command(correlation_data=b"c"))
    assert operator.commands == [("queue/pause", b"")]
    ((verb, answer, correlation),) = publisher.answers
    assert (verb, answer.data, correlation) == ("queue/pause", {"paused": True}, b"c")


async def test_an_answer_that_is_due_while_the_bridge_may_not_publish_is_published_then() -> None:
    lease = asyncio.Event()
    operator, publisher = Operator(), Publisher()

    async def held() -> None:
        await lease.wait()

    made = AdminCommands(Topics(), operator.handle, cast("Any", publisher), held)
    received = asyncio.ensure_future(made.received(command(), None, cast("Any", None)))
    await until(lambda: operator.commands)
    assert publisher.answers == []
    lease.set()
    await received
    assert len(publisher.answers) == 1


async def test_an_answer_that_takes_long_delays_no_acknowledgement(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(admin_commands, "LATE_S", 0.0)
    done, lease, began = asyncio.Event(), asyncio.Event(), asyncio.Event()
    publisher = Publisher()

    async def handle(*_: Any) -> Answer:
        began.set()
        await done.wait()
        return Answer(data={"paused": True})

    async def held() -> None:
        await lease.wait()

    made = AdminCommands(Topics(), handle, cast("Any", publisher), held)
    received = asyncio.ensure_future(made.received(command(), None, cast("Any", None)))
    await began.wait()
    assert not received.done()  # the next bridge would have to answer it
    lease.set()
    await received  # now it is acknowledged
    assert publisher.answers == []
    done.set()
    await until(lambda: publisher.answers)


@pytest.mark.parametrize(
    ("fields", "code"), [({"retain": True}, "bad_request"), ({"response_topic": "t"}, "forbidden")]
)
async def test_a_retained_command_or_one_with_a_response_topic_is_refused(
    fields: dict[str, Any], code: str
) -> None:
    operator, publisher = await carried_out(command(**fields))
    assert operator.commands == []
    ((_, answer, _),) = publisher.answers
    assert answer.error is not None
    assert answer.error.code == code


async def test_what_is_no_command_is_left_alone() -> None:
    operator, publisher = await carried_out(command("zigbee2mqtt/button"))
    assert operator.commands == []
    assert publisher.answers == []
