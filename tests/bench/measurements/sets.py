"""A set of a thousand trivial jobs against a thousand requests: jobs a second, and messages."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Sequence

import msgspec
from msgspec import Struct

from bridge.contract.topics import Topics
from bridge.mqtt import Address, Connection, Incoming, Subscription
from tests.bench.delivery import BenchError
from tests.bench.figures import compare, p50
from tests.bench.graphs import COLOUR, trivial
from tests.bench.measurements.trivial import OUTPUTS
from tests.bench.report import Aim, Row
from tests.bench.stand import Measurement, Stand
from tests.support.bridge import BridgeProcess

JOBS = 1000
TIMEOUT_S = 300.0
CLIENT = "bench"
FASTER = Aim(1.3, at_least=True)
FEWER = Aim(0.5)


class _Result(Struct):
    state: str


class _Taken(Struct, frozen=True):
    """One way to run all jobs: how many a second, and how many messages either way."""

    per_s: float
    messages: int


class _Asker:
    """A client that counts all messages of its own, and waits for results."""

    def __init__(self, connection: Connection, topics: Topics) -> None:
        self._connection = connection
        self._topics = topics
        self._messages = 0
        self._ended: set[str] = set()
        self._came = asyncio.Event()

    async def read(self) -> None:
        """Take what comes, until cancelled."""
        async for message in self._connection.messages:
            self._take(message)

    def _take(self, message: Incoming) -> None:
        self._messages += 1
        about = self._topics.job_of(message.topic)
        if about is not None and about[1] == ("result",):
            if msgspec.json.decode(message.payload, type=_Result).state != "succeeded":
                raise BenchError(message.payload.decode())
            self._ended.add(about[0])
            self._came.set()

    async def take(self, ask: Callable[[], int]) -> _Taken:
        """Ask for all jobs, and wait for their results; `ask` returns how many requests it sent."""
        self._messages, self._ended = 0, set()
        began = time.perf_counter()
        self._messages += ask()
        while len(self._ended) < JOBS:
            self._came.clear()
            await self._came.wait()
        return _Taken(JOBS / (time.perf_counter() - began), self._messages)

    def one_by_one(self, workflow: str, colours: Sequence[int]) -> int:
        """Send a request for each job."""
        for colour in colours:
            topic = self._topics.request(CLIENT, "run", workflow, uuid.uuid4().hex)
            self._connection.publish(topic, msgspec.json.encode({COLOUR: colour}))
        return len(colours)

    def as_set(self, workflow: str, colours: Sequence[int]) -> int:
        """Send one request for all."""
        each = [{COLOUR: colour} for colour in colours]
        payload = msgspec.json.encode({"workflow": workflow, "each": each})
        self._connection.publish(self._topics.request(CLIENT, "submit"), payload)
        return 1


async def measure(stand: Stand) -> list[Row]:
    """Measure both ways, in turns."""
    output = OUTPUTS[0]
    workflows = {output.workflow: trivial(0, output.node)}
    topics = Topics()
    async with (
        stand.broker() as broker,
        stand.bridge(BridgeProcess, broker, workflows),
        Connection(Address.parse(broker.url), manual_ack=False) as connection,
    ):
        await connection.subscribe([Subscription(filter=f"comfy2mqtt/client/{CLIENT}/+/#")])
        asker = _Asker(connection, topics)
        reading = asyncio.create_task(asker.read())
        try:
            return await _compared(stand, asker, output.workflow)
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)


async def _compared(stand: Stand, asker: _Asker, workflow: str) -> list[Row]:
    async def taken(ask: Callable[[str, Sequence[int]], int]) -> _Taken:
        stand.empty_output()
        colours = [stand.colour() for _ in range(JOBS)]
        async with asyncio.timeout(TIMEOUT_S):
            return await asker.take(lambda: ask(workflow, colours))

    await taken(asker.as_set)  # the first jobs after a start take longer
    singles, sets = [], []
    for number in range(stand.rounds):
        singles.append(await taken(asker.one_by_one))
        sets.append(await taken(asker.as_set))
        one, other = singles[-1], sets[-1]
        stand.tell(
            f"round {number + 1} of {stand.rounds}: {one.per_s:.0f} jobs/s by requests, "
            f"{other.per_s:.0f} as a set; {one.messages} and {other.messages} messages"
        )
    return [
        Row.compared(
            f"a set of {JOBS:,} trivial jobs against as many requests: jobs a second",
            "/s",
            compare([[each.per_s] for each in sets], [[each.per_s] for each in singles], p50),
            FASTER,
        ),
        Row.compared(
            "the same: messages over the broker",
            "",
            compare(
                [[float(each.messages)] for each in sets],
                [[float(each.messages)] for each in singles],
                p50,
            ),
            FEWER,
        ),
    ]


MEASUREMENT = Measurement("sets", f"a set of {JOBS:,} trivial jobs", measure, rounds=3)
