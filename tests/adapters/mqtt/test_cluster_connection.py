"""A bridge's own connection in a cluster, without a broker: what it publishes, and when."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from bridge.adapters.mqtt.cluster_connection import ClusterConnection
from bridge.adapters.mqtt.extension import Extension
from bridge.adapters.mqtt.subscriber import BrokerSettings
from bridge.contract.topics import Topics
from bridge.jobs.clock import Clock
from bridge.jobs.database import DatabaseError, LeaseLost
from bridge.jobs.job import Envelope
from bridge.jobs.journal.membership import HeartbeatResult
from bridge.jobs.queue import Key
from bridge.mqtt import Address, Incoming, Subscription
from bridge.retry import Backoff
from tests.adapters.mqtt.links import FakeConnection, until
from tests.support.patience import PATIENCE_S

STATE = "comfy2mqtt/bridge/member/one"


class Publisher:
    connected = True
    behind = False

    def __init__(self, log: list[Any]) -> None:
        self.log = log

    def attach(self, _connection: object) -> None:
        self.log.append("attached")

    def detach(self, _loss: object) -> None:
        self.log.append("detached")

    def publish(self, topic: str, message: bytes, *, retain: bool) -> None:
        assert retain
        self.log.append((topic, message))

    def catch_up(self, results: list[tuple[Key, Envelope, bytes]]) -> None:
        self.log += [("result", key.job_id) for key, _, _ in results]

    def orphaned_result(self, key: Key, _envelope: Envelope, _result: bytes) -> None:
        self.log.append(("result", key.job_id))


class Retained:
    def __init__(self, log: list[Any]) -> None:
        self.log = log
        self.members: set[str] = set()

    def publish_all(self) -> None:
        self.log.append("publish_all")

    def offline(self) -> None:
        self.log.append("offline")

    def set_members(self, members: frozenset[str]) -> None:
        self.members = set(members)


class Group:
    name = "one"
    was_silent = False
    has_intake = True
    others_take_over = False
    started = False

    def __init__(self) -> None:
        self.beat: Callable[[HeartbeatResult], None] = lambda _: None
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self, on_beat: Callable[[HeartbeatResult], None]) -> None:
        self.beat, self.started = on_beat, True
        await self.failed

    async def hand_over(self) -> bool:
        return self.others_take_over


class Journal:
    def __init__(self) -> None:
        self.clock = Clock()
        self.calls: list[bool] = []
        self.failures = 0

    async def unpublished(
        self, _since: float, *, orphans: bool = False
    ) -> list[tuple[Key, Envelope, bytes]]:
        self.calls.append(orphans)
        if self.failures:
            self.failures -= 1
            raise DatabaseError("away")
        return [(Key("alice", f"j{len(self.calls)}"), Envelope(), b"{}")]


class Commands(Extension):
    def __init__(self) -> None:
        self.taken: list[str] = []

    @property
    def subscriptions(self) -> list[Subscription]:
        return [Subscription(filter="commands")]

    async def received(self, incoming: Incoming, _delivery: str | None, _handler: object) -> None:
        self.taken.append(incoming.topic)


class Setup:
    def __init__(self) -> None:
        self.log: list[Any] = []
        self.group, self.journal, self.commands = Group(), Journal(), Commands()
        self.retained = Retained(self.log)
        self.publisher = Publisher(self.log)
        self.connection = FakeConnection(self.log)
        setup = self

        class Connecting(ClusterConnection):
            def _connection(self) -> Any:
                setup.connection = FakeConnection(setup.log)
                return setup.connection

        self.made = Connecting(
            BrokerSettings(Address(host="broker"), "bridge", 60.0, None, ()),
            cast("Any", self.group),
            topics=Topics(),
            handler=cast("Any", None),
            journal=cast("Any", self.journal),
            publisher=cast("Any", self.publisher),
            retained=cast("Any", self.retained),
            extensions=[self.commands],
        )
        self.made._reconnect._backoff = Backoff(draw=lambda *_: 0.0)


def beat(*others: str, intake: bool = True) -> HeartbeatResult:
    return HeartbeatResult(others=frozenset(others), intake=intake, requeued=[])


async def test_it_says_online_publishes_what_is_retained_and_repeats_results() -> None:
    setup = Setup()
    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as tasks:
        tasks.create_task(setup.made.run())
        await until(lambda: ("result", "j1") in setup.log)
        assert setup.log == [
            "connected",
            "attached",
            "subscribed",
            (STATE, b"online"),
            "publish_all",
            ("result", "j1"),
        ]
        setup.connection.deliver("commands", 5)
        await until(lambda: ("ack", 5) in setup.log)
        assert setup.commands.taken == ["commands"]
        setup.made.close()
    assert (STATE, b"offline") in setup.log
    assert setup.log.index((STATE, b"offline")) < setup.log.index("disconnected")


async def test_results_are_published_for_a_bridge_that_died_and_after_being_silent() -> None:
    setup = Setup()
    setup.group.has_intake = False
    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as tasks:
        tasks.create_task(setup.made.run())
        await until(lambda: setup.group.started and setup.journal.calls == [False])
        setup.group.beat(beat("two"))
        assert setup.retained.members == {"two"}
        setup.group.beat(beat(intake=False))  # not by us: another bridge takes the requests
        setup.group.beat(beat("two"))
        setup.group.beat(beat())
        await until(lambda: setup.journal.calls == [False, True])
        setup.group.was_silent = True
        setup.group.beat(beat())
        await until(lambda: setup.journal.calls == [False, True, False])
        assert setup.log.count("publish_all") == 2
        setup.made.close()


async def test_what_was_due_without_a_connection_is_published_with_the_next_one() -> None:
    setup = Setup()
    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as tasks:
        tasks.create_task(setup.made.run())
        await until(lambda: setup.group.started and setup.journal.calls == [False, True])
        setup.made.close()


async def test_a_publisher_that_is_behind_catches_up_at_the_next_heartbeat() -> None:
    setup = Setup()
    setup.group.has_intake = False
    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as tasks:
        tasks.create_task(setup.made.run())
        await until(lambda: setup.group.started and setup.journal.calls == [False])
        setup.publisher.behind = True
        setup.group.beat(beat(intake=False))
        await until(lambda: setup.journal.calls == [False, False])
        assert setup.log[-1] == ("result", "j2")
        setup.made.close()


async def test_a_member_that_is_fenced_stops() -> None:
    setup = Setup()
    with pytest.RaisesGroup(LeaseLost, flatten_subgroups=True):
        async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as tasks:
            tasks.create_task(setup.made.run())
            await until(lambda: setup.journal.calls)
            setup.group.failed.set_exception(LeaseLost())
    assert "left" in setup.log


@pytest.mark.parametrize(
    ("had_intake", "others", "offline"),
    [(True, False, True), (True, True, False), (False, False, False)],
)
async def test_the_last_bridge_says_that_nobody_takes_requests(
    had_intake: bool,  # noqa: FBT001 - a row of the table
    others: bool,  # noqa: FBT001 - a row of the table
    offline: bool,  # noqa: FBT001 - a row of the table
) -> None:
    setup = Setup()
    setup.group.has_intake, setup.group.others_take_over = had_intake, others
    await setup.made.hand_over()
    assert ("offline" in setup.log) is offline
