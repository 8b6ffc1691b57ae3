"""No table's work for one grows with what others began, and no table grows without a bound."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from bridge.adapters.mqtt.last_values import MAX_BYTES, LastValues
from bridge.adapters.mqtt.retained import MAX_SEEN, Retained
from bridge.adapters.triggers.rules import MAX_TOPICS, Debounce
from bridge.adapters.web.limits import Failures
from bridge.contract.topics import Topics
from bridge.jobs import counters
from bridge.jobs.counters import Counters
from bridge.jobs.journal.sequence import ClientNumbers
from bridge.jobs.queue import MAX_EXACT, Key, Queue
from bridge.jobs.unfinished_uploads import UnfinishedUploads
from bridge.mqtt import Flow, Incoming
from bridge.mqtt.inbox import FairQueue
from bridge.requests import processor_time, rate_limit
from bridge.requests.processor_time import ProcessorTime
from bridge.requests.rate_limit import RateLimiter
from bridge.workflows import catalogue
from bridge.workflows.catalogue import Needs, NodeCatalogue
from bridge.workflows.objectinfo import ObjectInfo
from tests.support.steps import steps

FEW, MANY = 10, 100_000


class Table(NamedTuple):
    """A table: what the `n`-th of others does to it, what one does then, and what it may hold."""

    other: Callable[[int], object]
    one: Callable[[], object]
    size: Callable[[], int]
    bound: int | None = None


def _rates() -> Table:
    table = RateLimiter(lambda _: 100.0, lambda: 1.0, new_per_s=1e9)

    def one() -> None:
        table.would_drop("alice")
        table.count("alice")

    def other(number: int) -> None:
        for _ in range(1 + number % 2):
            table.count(f"c{number}")

    return Table(
        other,
        one,
        lambda: len(table._known) + len(table._asked_once),
        2 * rate_limit.MAX_CLIENTS,
    )


def _turns() -> Table:
    def flow_of(incoming: Incoming) -> Flow:
        return Flow(incoming.topic, incoming.topic)

    table = FairQueue(flow_of)

    def put(topic: str) -> None:
        table.put(Incoming(topic=topic, payload=b"", qos=0, retain=False, dup=False, mid=0), 1)

    def one() -> None:
        put("alice")
        table.take()

    # Bounded by who adds: `Messages`.
    return Table(lambda n: put(f"c{n}"), one, lambda: len(table))


def _processor() -> Table:
    table = ProcessorTime(lambda _: 1.0, lambda: 1.0)

    def one() -> None:
        table.request("alice", "submit")
        table.begin("alice")
        table.end("alice", 0.0)

    return Table(
        lambda n: table.request(f"c{n}", "list"),
        one,
        lambda: len(table._clients),
        processor_time.MAX_CLIENTS,
    )


def _begun() -> Table:
    table = UnfinishedUploads()

    def one() -> None:
        table.total_without("alice", "mine")
        table.add("alice", "mine", 5)
        table.remove("alice", "mine")

    # Bounded by who adds: `Uploads`.
    return Table(lambda n: table.add(f"c{n // 50}", f"u{n}", 1), one, lambda: len(table))


def _debounced() -> Table:
    table = Debounce(3600.0)
    return Table(
        lambda n: table.is_due(f"zigbee/{n}", 1.0),
        lambda: table.is_due("door", 1.0),
        lambda: len(table),
        MAX_TOPICS,
    )


def _values() -> Table:
    table = LastValues(lambda: 1.0)
    return Table(
        lambda n: table.put(f"cameras/{n}", bytes(1000), stored=False),
        lambda: table.put("cameras/door", b"x", stored=False),
        lambda: table._bytes,
        MAX_BYTES,
    )


def _queue() -> Table:
    table = Queue()
    mine = Key("alice", "1")

    def one() -> None:
        table.position_of_next("alice", 0)
        table.add(mine, seq=10**6, priority=0, placement="l")
        table.position(mine)
        table.count("alice")
        table.take(may_take=lambda placement: placement == "none")
        table.remove(mine)

    # Bounded by who adds: `max_queue`.
    return Table(
        lambda n: table.add(Key(f"c{n}", "1"), seq=n, priority=0, placement="l"),
        one,
        lambda: len(table),
    )


def _able() -> Table:
    table = NodeCatalogue({"gpu": ObjectInfo({})})
    return Table(
        lambda n: table.can_run("gpu", Needs((f"Class{n}",))),
        lambda: table.can_run("gpu", Needs(("Mine",))),
        lambda: len(table._able),
        catalogue.MAX_KNOWN,
    )


def _counted() -> Table:
    table = Counters()

    def ended(client: str) -> None:
        table.ended("succeeded", client=client, workflow="w", instance="gpu", run_s=1.0)

    return Table(
        lambda n: ended(f"c{n}"),
        lambda: ended("alice"),
        lambda: len(table.clients),
        counters.MAX_CLIENTS + 1,
    )


class _Nobody:
    def __getattr__(self, _: str) -> Any:
        return lambda *_, **__: None


def _retained() -> Table:
    nobody: Any = _Nobody()
    table = Retained(Topics(), nobody, lambda: True)
    return Table(
        lambda n: table.received(f"comfy2mqtt/workflow/w{n}"),
        lambda: table.received("comfy2mqtt/workflow/mine"),
        lambda: len(table._seen),
        MAX_SEEN,
    )


def _wrong_keys() -> Table:
    table = Failures()

    def one() -> None:
        table.wait_s("10.0.0.1", 1.0)
        table.note("10.0.0.1", 1.0)

    return Table(
        lambda n: table.note(f"2001:db8:{n >> 16:x}:{n & 0xFFFF:x}::1", 1.0),
        one,
        lambda: len(table._failed),
        10_000,
    )


def _numbers() -> Table:
    table = ClientNumbers()
    # As many as the journal remembers clients; swept with it.
    return Table(
        lambda n: table.draw(f"c{n}"), lambda: table.draw("alice"), lambda: len(table._blocks)
    )


TABLES = {
    "rates": _rates,
    "turns": _turns,
    "processor time": _processor,
    "begun uploads": _begun,
    "debounced topics": _debounced,
    "last values": _values,
    "queue": _queue,
    "what can run": _able,
    "counters": _counted,
    "retained by others": _retained,
    "wrong keys": _wrong_keys,
    "numbers": _numbers,
}


@pytest.fixture(autouse=True)
def untraced() -> Iterator[None]:
    before = sys.gettrace()
    sys.settrace(None)
    yield
    sys.settrace(before)


@pytest.mark.slow
@pytest.mark.parametrize("name", TABLES)
def test_the_work_of_one_does_not_grow_with_what_others_began(name: str) -> None:
    few, many = TABLES[name](), TABLES[name]()
    for table, others in ((few, FEW), (many, MANY)):
        for number in range(others):
            table.other(number)
        table.one()  # what is made at the first time is not counted
    assert steps(many.one) <= 1.3 * steps(few.one)
    if many.bound is not None:
        assert many.size() <= many.bound


def test_a_position_among_very_many_clients_is_an_upper_bound() -> None:
    queue, exact = Queue(), Queue()
    for number in range(MAX_EXACT + 10):
        queue.add(Key(f"c{number}", "1"), seq=number, priority=0)
    for number in range(3):
        queue.add(Key("alice", f"{number}"), seq=1_000 + number, priority=0)
    others = MAX_EXACT + 10
    assert [queue.position(Key("alice", f"{number}")) for number in range(3)] == [
        others,
        others + 1,
        others + 2,
    ]
    assert queue.position_of_next("bob", 0) == others + 1
    assert exact.position_of_next("bob", 0) == 0
