"""The connection that takes requests, without a broker: order, acknowledging, failures, the end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from bridge.adapters.mqtt.extension import Extension
from bridge.adapters.mqtt.last_values import LastValues
from bridge.adapters.mqtt.subscriber import REPEAT_S, BrokerSettings, Subscriber
from bridge.contract.sources import Topic
from bridge.contract.topics import Topics
from bridge.jobs.clock import Clock
from bridge.jobs.database import LeaseLost
from bridge.jobs.job import Envelope
from bridge.jobs.queue import Key
from bridge.jobs.refused_intake import RefusedIntake
from bridge.mqtt import Address, BadAddress, ConnectionRefused, Incoming, Subscription
from bridge.requests.context import Answer, RequestContext
from bridge.retry import Backoff
from tests.adapters.mqtt.links import FakeConnection, until
from tests.support.patience import PATIENCE_S

RUN = "comfy2mqtt/client/alice/request/run/demo"
LIST = "comfy2mqtt/client/alice/request/list"


class Handler:
    """Handles each request when its test says so."""

    def __init__(self, log: list[Any]) -> None:
        self.log = log
        self.asked: list[RequestContext] = []
        self.gates: dict[str, asyncio.Event] = {}
        self.error: BaseException | None = None

    def would_drop(self, client: str) -> bool:
        return client == "flooder"

    def knows(self, client: str) -> bool:
        return not client.startswith("new")

    def refuse(self, asked: RequestContext, error: Any, respond: Callable[[Answer], None]) -> None:
        self.log.append(("refused", asked.verb, error.code))
        respond(Answer(error=error))

    async def handle(self, asked: RequestContext, respond: Callable[[Answer], None]) -> None:
        self.asked.append(asked)
        if self.error is not None:
            raise self.error
        if asked.payload == b"lets pass":
            asked.let_pass()
        if asked.payload.decode() in self.gates:
            await self.gates[asked.payload.decode()].wait()
        respond(Answer(data={}))


class Publisher:
    connected = True

    def __init__(self, log: list[Any]) -> None:
        self.log = log

    def attach(self, _connection: object) -> None:
        self.log.append("attached")

    def detach(self, loss: object) -> None:
        self.log.append("detached" if loss is None else "lost")

    def answer(self, asked: RequestContext, _answer: Answer) -> None:
        self.log.append(("answered", asked.verb))

    def catch_up(self, results: list[tuple[Key, Envelope, bytes]]) -> None:
        self.log += [("result", key.job_id) for key, _, _ in results]

    def orphaned_result(self, key: Key, _envelope: Envelope, _result: bytes) -> None:
        self.log.append(("result", key.job_id))


class Retained:
    def __init__(self, log: list[Any]) -> None:
        self.log = log

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: self.log.append((name, *arguments) if arguments else name)


class Journal:
    def __init__(self) -> None:
        self.clock = Clock()
        self.since: list[tuple[float, bool]] = []

    async def session(self, *, present: bool) -> str:
        return f"session-{present}"

    async def unpublished(
        self, since: float, *, orphans: bool = False
    ) -> list[tuple[Key, Envelope, bytes]]:
        self.since.append((since, orphans))
        return [(Key("alice", "j1"), Envelope(), b"{}")]


class Group:
    """A cluster in which this bridge takes requests when its test says so."""

    lease_s = 10.0

    def __init__(self) -> None:
        self.refused = RefusedIntake(self.lease_s)
        self.leads = asyncio.Event()
        self.confirmed = True
        self.lease = asyncio.Event()
        self.lease.set()
        self.waiting = 0

    async def wait_for_intake(self) -> None:
        await self.leads.wait()

    async def confirm_intake(self) -> bool:
        return self.confirmed

    async def wait_for_lease(self) -> None:
        self.waiting += 1
        await self.lease.wait()
        self.waiting -= 1

    def holds_lease(self) -> bool:
        return self.lease.is_set()


class Setup:
    def __init__(
        self, extensions: list[Extension] | None = None, group: Group | None = None
    ) -> None:
        self.log: list[Any] = []
        self.handler = Handler(self.log)
        self.journal = Journal()
        self.publisher = Publisher(self.log)
        self.connections: list[FakeConnection] = []
        self.values = LastValues()
        self.failures: list[Exception] = []
        setup = self

        class Connecting(Subscriber):
            def _connection(self) -> Any:
                fails = setup.failures.pop(0) if setup.failures else None
                flow_of = super()._connection()._flow_of
                setup.connections.append(FakeConnection(setup.log, fails=fails, flow_of=flow_of))
                return setup.connections[-1]

        self.subscriber = Connecting(
            BrokerSettings(Address(host="broker"), "bridge", 60.0, None, ("cameras/+",)),
            topics=Topics(),
            handler=cast("Any", self.handler),
            journal=cast("Any", self.journal),
            publisher=cast("Any", self.publisher),
            retained=cast("Any", Retained(self.log)),
            last_values=self.values,
            connected=lambda _: self.log.append("introduced"),
            extensions=extensions or [],
            group=cast("Any", group),
        )
        self.subscriber._reconnect._backoff = Backoff(draw=lambda *_: 0.0)

    @property
    def connection(self) -> FakeConnection:
        return self.connections[-1]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[FakeConnection]:
        async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as tasks:
            running = tasks.create_task(self.subscriber.run())
            await until(lambda: "online" in self.log)
            yield self.connection
            self.subscriber.close()
            await running

    def acked(self) -> list[int]:
        return [each[1] for each in self.log if each[0] == "ack"]


async def test_it_subscribes_before_it_publishes_and_says_online_last() -> None:
    setup = Setup()
    async with setup.running():
        assert setup.log == [
            "connected",
            "attached",
            "introduced",
            "subscribed",
            "publish_all",
            ("result", "j1"),
            "online",
        ]
        filters = [each.filter for each in setup.connection.subscribed]
        assert filters[0] == "comfy2mqtt/client/+/request/#"
        assert setup.connection.subscribed[0].retain_handling == 2
        # A thousand workflows that a broker retains are not kept on its disk once more for us.
        qos = {each.filter: each.qos for each in setup.connection.subscribed}
        assert (qos["comfy2mqtt/workflow/+"], qos["comfy2mqtt/bridge/comfyui/+"]) == (0, 1)
        assert "cameras/+" in filters
    # `lost` is the set of retained messages', for the broker may publish the will.
    assert setup.log[-4:] == ["disconnected", "left", "lost", "detached"]


async def test_a_request_is_acknowledged_after_its_answer_and_in_the_order_of_arrival() -> None:
    setup = Setup()
    async with setup.running() as connection:
        setup.handler.gates["slow"] = asyncio.Event()
        connection.deliver(LIST, 1, payload=b"slow")
        connection.deliver(LIST, 2)
        await until(lambda: ("answered", "list") in setup.log)
        assert setup.acked() == []
        setup.handler.gates["slow"].set()
        await until(lambda: len(setup.acked()) == 2)
        assert setup.acked() == [1, 2]
        answers = [index for index, each in enumerate(setup.log) if each == ("answered", "list")]
        assert max(answers) < setup.log.index(("ack", 1))


async def test_a_request_of_a_client_without_a_valid_name_is_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    setup = Setup()
    async with setup.running() as connection:
        for mid in range(1, 4):
            connection.deliver("comfy2mqtt/client/my phone/request/run/demo", mid)
        for mid in range(4, 64):
            connection.deliver(f"comfy2mqtt/client/a b{mid}/request/run/demo", mid)
        await until(lambda: len(setup.acked()) == 63)
    first, *others = [each for each in caplog.messages if "gets no answer" in each]
    assert "'comfy2mqtt/client/my phone/request/run/demo'" in first
    assert "A-Z a-z 0-9 _ -" in first
    assert len(others) == 19


async def test_a_request_that_lets_others_pass_is_acknowledged_once_before_its_answer() -> None:
    setup = Setup()
    async with setup.running() as connection:
        setup.handler.gates["lets pass"] = asyncio.Event()
        connection.deliver(LIST, 1, payload=b"lets pass")
        connection.deliver(LIST, 2)
        await until(lambda: len(setup.acked()) == 2)
        assert setup.acked() == [1, 2]
        setup.handler.gates["lets pass"].set()
        connection.deliver(LIST, 3)
        await until(lambda: setup.log.count(("answered", "list")) == 3)
        await until(lambda: len(setup.acked()) == 3)
        assert setup.acked() == [1, 2, 3]


async def test_requests_wait_at_the_broker_while_the_database_is_away() -> None:
    group = Group()
    group.leads.set()
    setup = Setup(group=group)
    async with setup.running() as connection:
        group.lease.clear()
        connection.deliver(LIST, 1)
        connection.deliver(LIST, 2)
        await until(lambda: group.waiting == 1 or bool(setup.acked()))
        assert (setup.handler.asked, setup.acked()) == ([], [])
        group.lease.set()
        await until(lambda: setup.acked() == [1, 2])
        assert setup.log.count(("answered", "list")) == 2


async def test_an_answer_that_was_due_while_the_database_was_away_is_published_then() -> None:
    group = Group()
    group.leads.set()
    setup = Setup(group=group)
    async with setup.running() as connection:
        setup.handler.gates["slow"] = asyncio.Event()
        connection.deliver(LIST, 1, payload=b"slow")
        await until(lambda: setup.handler.asked)
        group.lease.clear()
        setup.handler.gates["slow"].set()
        await until(lambda: group.waiting == 1 or bool(setup.acked()))
        assert (("answered", "list") in setup.log, setup.acked()) == (False, [])
        group.lease.set()
        await until(lambda: setup.acked() == [1])
        assert ("answered", "list") in setup.log


async def test_clients_take_turns_and_pubacks_keep_the_order_of_arrival() -> None:
    setup = Setup()
    async with setup.running() as connection:
        for number in range(1, 301):
            connection.deliver("comfy2mqtt/client/mallory/request/list", number)
        for number in range(301, 501):
            connection.deliver(f"comfy2mqtt/client/new{number}/request/list", number)
        connection.deliver("comfy2mqtt/client/bob/request/list", 501)
        await until(lambda: any(each.client == "bob" for each in setup.handler.asked))
        assert len(setup.handler.asked) <= 4
        await until(lambda: len(setup.acked()) == 501)
        assert setup.acked() == list(range(1, 502))


async def test_what_arrives_while_others_wait_is_read_before_all_of_them_are_begun() -> None:
    setup = Setup()
    async with setup.running() as connection:
        for number in range(1, 101):
            connection.deliver(LIST, number)
        await until(lambda: setup.handler.asked)
        connection.deliver("comfy2mqtt/client/bob/request/list", 101)
        await until(lambda: any(each.client == "bob" for each in setup.handler.asked))
        assert len(setup.handler.asked) < 10
        await until(lambda: len(setup.acked()) == 101)


async def test_the_bytes_of_requests_that_are_handled_at_a_time_are_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bridge.adapters.mqtt.subscriber.MAX_HANDLED_BYTES", 1_000)
    setup = Setup()
    async with setup.running() as connection:
        slow = "s" * 600
        gate = setup.handler.gates[slow] = asyncio.Event()
        for number in range(1, 6):
            connection.deliver(LIST, number, payload=slow.encode())
        await until(lambda: len(setup.handler.asked) == 2)
        connection.deliver(LIST, 6, payload=b"later")
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(setup.handler.asked) == 2
        gate.set()
        await until(lambda: len(setup.acked()) == 6)
        assert setup.acked() == [1, 2, 3, 4, 5, 6]


async def test_a_large_payload_is_hashed_in_a_thread_and_nothing_overtakes_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    setup = Setup()
    threads: list[int] = []
    original = asyncio.to_thread

    async def to_thread(function: Any, *arguments: Any) -> Any:
        threads.append(len(arguments[1].payload))
        return await original(function, *arguments)

    monkeypatch.setattr(asyncio, "to_thread", to_thread)
    async with setup.running() as connection:
        connection.deliver(RUN, 1, payload=bytes(300_000))
        connection.deliver(RUN, 2, payload=b"small")
        await until(lambda: len(setup.acked()) == 2)
    assert [len(asked.payload) for asked in setup.handler.asked] == [300_000, 5]
    assert threads == [300_000]
    assert all((asked.delivery or "").startswith("session-True:") for asked in setup.handler.asked)


async def test_only_the_sender_of_a_large_payload_waits_until_it_is_hashed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    setup = Setup()
    gate = asyncio.Event()
    original = asyncio.to_thread

    async def to_thread(function: Any, *arguments: Any) -> Any:
        await gate.wait()
        return await original(function, *arguments)

    monkeypatch.setattr(asyncio, "to_thread", to_thread)
    async with setup.running() as connection:
        for number, size in enumerate((300_000, 5, 300_001, 6), start=1):
            connection.deliver(RUN, number, payload=bytes(size))
        connection.deliver("comfy2mqtt/client/bob/request/list", 5)
        await until(lambda: setup.handler.asked)
        assert [asked.client for asked in setup.handler.asked] == ["bob"]
        gate.set()
        await until(lambda: len(setup.acked()) == 5)
        assert setup.acked() == [1, 2, 3, 4, 5]
    sizes = [len(asked.payload) for asked in setup.handler.asked if asked.client == "alice"]
    assert sizes == [300_000, 5, 300_001, 6]


async def test_a_retained_request_and_a_foreign_response_topic_do_not_get_to_the_handler() -> None:
    setup = Setup()
    async with setup.running() as connection:
        connection.deliver(RUN, 1, retain=True)
        connection.deliver(RUN, 2, response_topic="comfy2mqtt/client/bob/reply/x")
        connection.deliver(f"{RUN}/j1/more", 3)
        await until(lambda: len(setup.acked()) == 3)
    assert setup.handler.asked == []
    assert [each for each in setup.log if each[0] == "refused"] == [
        ("refused", "run", "bad_request"),
        ("refused", "run", "forbidden"),
        ("refused", "run", "bad_request"),
    ]


async def test_a_flood_is_acknowledged_and_passed_over_while_others_are_served() -> None:
    setup = Setup()
    async with setup.running() as connection:
        for number in range(1, 200):
            topic = "comfy2mqtt/client/flooder/request/list"
            connection.deliver(topic, number, qos=number % 2)
        for _ in range(3):
            await asyncio.sleep(0)
        assert setup.acked() != [number for number in range(1, 200) if number % 2]
        connection.deliver(LIST, 201)
        await until(lambda: setup.acked()[-1:] == [201])
    assert setup.acked() == [*(number for number in range(1, 200) if number % 2), 201]
    assert [asked.client for asked in setup.handler.asked] == ["alice"]


async def test_when_drained_requests_stay_with_the_broker() -> None:
    setup = Setup()
    async with setup.running() as connection:
        setup.subscriber.drain()
        assert setup.log[-1] == "offline"
        connection.deliver(LIST, 1)
        await until(lambda: connection.messages.backlog == 0)
        await asyncio.sleep(0)
    assert setup.handler.asked == []
    assert setup.acked() == []


async def test_after_a_loss_results_of_the_last_minute_are_published_again() -> None:
    setup = Setup()
    async with setup.running() as connection:
        setup.log.clear()
        before = time.time()
        connection.lose()
        await until(lambda: "online" in setup.log)
        assert setup.log[:2] == ["left", "lost"]
        assert setup.log.index(("result", "j1")) < setup.log.index("online")
        since, orphans = setup.journal.since[-1]
        assert before - REPEAT_S <= since <= time.time() - REPEAT_S
        assert not orphans


async def test_a_request_goes_on_when_the_connection_ends() -> None:
    setup = Setup()
    async with setup.running() as connection:
        setup.handler.gates["slow"] = asyncio.Event()
        connection.deliver(LIST, 1, payload=b"slow")
        await until(lambda: setup.handler.asked)
        setup.log.clear()
        connection.lose()
        await until(lambda: "online" in setup.log)
        setup.handler.gates["slow"].set()
        await until(lambda: ("answered", "list") in setup.log)


async def test_what_comes_again_while_it_is_being_handled_waits_for_that() -> None:
    setup = Setup()
    async with setup.running() as connection:
        setup.handler.gates["slow"] = asyncio.Event()
        connection.deliver(RUN, 1, payload=b"slow")
        connection.deliver(RUN, 2, payload=b"slow")  # another one like it
        await until(lambda: len(setup.handler.asked) == 2)
        setup.log.clear()
        connection.lose()
        await until(lambda: "online" in setup.log)
        setup.connection.deliver(RUN, 1, payload=b"slow", dup=True)
        setup.connection.deliver(RUN, 2, payload=b"slow", dup=True)
        setup.connection.deliver(LIST, 3)
        await until(lambda: setup.handler.asked[-1].verb == "list")
        assert len(setup.handler.asked) == 3
        setup.handler.gates["slow"].set()
        await until(lambda: setup.acked()[-3:] == [1, 2, 3])
        assert len(setup.handler.asked) == 5
    assert setup.subscriber._in_hand == {}


async def test_a_request_that_fails_beyond_its_answer_ends_the_bridge_unacknowledged() -> None:
    setup = Setup()
    setup.handler.error = LeaseLost()
    with pytest.RaisesGroup(LeaseLost, flatten_subgroups=True):
        async with setup.running() as connection:
            connection.deliver(LIST, 1)
            await asyncio.sleep(5)  # the error comes before, and ends it
    assert setup.acked() == []


class Notes(Extension):
    def __init__(self) -> None:
        self.taken: list[tuple[str, str | None]] = []

    @property
    def subscriptions(self) -> list[Subscription]:
        return [Subscription(filter="zigbee2mqtt/#")]

    async def received(self, incoming: Incoming, delivery: str | None, _handler: object) -> None:
        self.taken.append((incoming.topic, delivery))


class Broken(Extension):
    async def received(self, _incoming: Incoming, _delivery: str | None, _handler: object) -> None:
        raise ZeroDivisionError


async def test_an_extension_gets_what_is_no_request_and_its_defect_costs_that_message(
    caplog: pytest.LogCaptureFixture,
) -> None:
    notes = Notes()
    setup = Setup([Broken(), notes])
    async with setup.running() as connection:
        assert "zigbee2mqtt/#" in [each.filter for each in connection.subscribed]
        connection.deliver("zigbee2mqtt/button", 1)
        connection.deliver(LIST, 2)
        await until(lambda: setup.acked() == [1, 2])
    ((topic, delivery),) = notes.taken
    assert topic == "zigbee2mqtt/button"
    assert delivery is not None
    assert "ZeroDivisionError" in caplog.text


async def test_leftovers_and_inputs_get_where_they_belong() -> None:
    setup = Setup()
    async with setup.running() as connection:
        connection.deliver("comfy2mqtt/workflow/old", 1, retain=True)
        connection.deliver("cameras/front", 0, qos=0, payload=b"picture")
        await until(lambda: setup.acked() == [1])
        await asyncio.sleep(0)
        assert ("received", "comfy2mqtt/workflow/old") in [each[:2] for each in setup.log]
        assert await setup.values.get("alice", Topic("cameras/front")) == b"picture"


async def test_a_wrong_password_ends_it_at_the_first_attempt_alone() -> None:
    setup = Setup()
    setup.failures = [ConnectionRefused(0x86)]
    with pytest.RaisesGroup(ConnectionRefused, flatten_subgroups=True):
        await setup.subscriber.run()
    setup = Setup()
    async with setup.running() as connection:
        setup.log.clear()
        setup.failures = [ConnectionRefused(0x86), ConnectionRefused(0x88)]
        connection.lose()
        await until(lambda: "online" in setup.log)
    assert len(setup.connections) == 4


async def test_nothing_that_may_pass_ends_a_standby_when_it_is_to_take_requests() -> None:
    group = Group()
    group.leads.set()
    setup = Setup(group=group)
    setup.failures = [ConnectionRefused(0x86), BadAddress("no CA file")]
    async with setup.running():
        assert setup.failures == []


async def test_in_a_cluster_it_notes_whether_the_broker_sends_it_the_requests() -> None:
    group = Group()
    group.leads.set()
    setup = Setup(group=group)
    setup.failures = [ConnectionRefused(0x86), BadAddress("no CA file")]
    async with setup.running() as connection:
        await until(lambda: group.refused.receives)
        setup.failures = [ConnectionRefused(0x86)] * 1000
        connection.lose()
        await until(lambda: not group.refused.receives)


async def test_in_a_cluster_it_connects_when_it_is_to_take_requests_and_publishes_elsewhere() -> (
    None
):
    group = Group()
    setup = Setup(group=group)
    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(setup.subscriber.run())
        for _ in range(5):
            await asyncio.sleep(0)
        assert setup.connections == []
        group.confirmed = False
        group.leads.set()
        await until(lambda: "left" in setup.log)
        assert "subscribed" not in setup.log
        group.confirmed = True
        await until(lambda: "online" in setup.log)
        assert "attached" not in setup.log
        assert setup.journal.since[-1][1]
        setup.subscriber.close()
        await running


async def test_a_request_whose_answer_reaches_nobody_comes_again() -> None:
    group = Group()
    group.leads.set()
    setup = Setup(group=group)
    setup.publisher.connected = False
    async with setup.running() as connection:
        setup.log.clear()
        connection.deliver(LIST, 1)
        await until(lambda: "aborted" in setup.log or setup.acked())
        assert setup.acked() == []
        await until(lambda: "online" in setup.log)
        setup.publisher.connected = True
        setup.connection.deliver(LIST, 1, dup=True)
        await until(lambda: setup.acked() == [1])


async def test_a_bridge_that_never_takes_requests_can_be_closed() -> None:
    setup = Setup(group=Group())
    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(setup.subscriber.run())
        await asyncio.sleep(0)
        setup.subscriber.close()
        await running
    assert setup.connections == []
