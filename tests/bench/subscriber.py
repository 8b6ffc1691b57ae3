"""A client of the bridge with little between it and the wire: requests out, bytes and results in.

Not `bridge.client`, which is for people: that asks again, checks hashes and keeps an outbox.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from msgspec import Raw, Struct

from bridge.contract.topics import Topics
from bridge.mqtt import Address, Connection, Incoming, Subscription
from tests.bench.delivery import BenchError, Delivery

# Bytes of an upload that go in one message.
PART = 256 * 1024


class _Job(Struct, eq=False):
    image: asyncio.Future[tuple[float, bytes]]
    end: asyncio.Future[float]
    accepted: asyncio.Future[None]


class _Answered(Struct):
    job_id: str = ""
    upload: str = ""


class _Answer(Struct):
    status: str
    data: _Answered | None = None
    error: Raw = Raw(b"null")


class _Result(Struct):
    state: str


_encode = msgspec.json.Encoder().encode
_read_answer = msgspec.json.Decoder(_Answer).decode
_read_result = msgspec.json.Decoder(_Result).decode


class Subscriber:
    """Clients of any names over one connection: see `subscribed`."""

    def __init__(self, connection: Connection, topics: Topics) -> None:
        self._connection = connection
        self._topics = topics
        self._jobs: dict[str, _Job] = {}
        self._uploads: dict[str, asyncio.Future[None]] = {}

    async def run(
        self, workflow: str, inputs: Mapping[str, Any] | bytes, *, client: str = "bench"
    ) -> Delivery:
        """Run a workflow with one output image; bytes are its main input. Raises BenchError."""
        job_id, job = self._new_job()
        began = time.perf_counter()
        topic = self._topics.request(client, "run", workflow, job_id)
        payload = inputs if isinstance(inputs, bytes) else _encode(inputs)
        self._connection.publish(topic, payload)
        at, image = await job.image
        ended = await job.end
        del self._jobs[job_id]
        return Delivery(at - began, max(at, ended) - began, image)

    async def submit(self, workflow: str, inputs: Mapping[str, Any], *, client: str) -> None:
        """Get a job accepted, and follow it no further. Raises BenchError."""
        job_id, job = self._new_job()
        topic = self._topics.request(client, "run", workflow, job_id)
        self._connection.publish(topic, _encode(inputs))
        await job.accepted
        del self._jobs[job_id]

    async def upload(self, upload: str, data: bytes, *, client: str = "bench") -> None:
        """Upload in parts, the next one when the one before is answered. Raises BenchError."""
        begin = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        await self._upload(client, _encode(begin), upload)
        for offset in range(0, len(data), PART):
            await self._upload(client, data[offset : offset + PART], upload, str(offset))
        await self._upload(client, b"", upload, "fin")

    async def _upload(self, client: str, payload: bytes, upload: str, *names: str) -> None:
        answered = self._uploads[upload] = asyncio.get_running_loop().create_future()
        self._connection.publish(self._topics.request(client, "upload", upload, *names), payload)
        await answered
        del self._uploads[upload]

    def _new_job(self) -> tuple[str, _Job]:
        loop = asyncio.get_running_loop()
        job_id = uuid.uuid4().hex
        job = _Job(loop.create_future(), loop.create_future(), loop.create_future())
        self._jobs[job_id] = job
        return job_id, job

    async def read(self) -> None:
        """Take what comes, until the connection ends."""
        try:
            async for message in self._connection.messages:
                self._take(message)
        finally:
            self._fail("the connection to the broker is gone")

    def _take(self, message: Incoming) -> None:
        _, _, _, kind, name, *rest = message.topic.split("/")
        if kind == "response":
            self._answered(message.payload)
            return
        job = self._jobs.get(name)
        if job is None:
            return
        if rest == ["result"]:
            if _read_result(message.payload).state != "succeeded":
                self._fail(message.payload.decode())
            else:
                job.end.set_result(time.perf_counter())
        elif rest[0] == "output":
            job.image.set_result((time.perf_counter(), message.payload))

    def _answered(self, payload: bytes) -> None:
        answer = _read_answer(payload)
        if answer.data is None:
            self._fail(bytes(answer.error).decode())
            return
        if answer.data.upload:
            self._uploads[answer.data.upload].set_result(None)
            return
        job = self._jobs.get(answer.data.job_id)
        if job is not None:
            job.accepted.set_result(None)

    def _fail(self, why: str) -> None:
        waited: list[asyncio.Future[Any]] = list(self._uploads.values())
        for job in self._jobs.values():
            waited += (job.image, job.end, job.accepted)
        for future in waited:
            if not future.done():
                future.set_exception(BenchError(why))
                future.exception()  # asyncio is not to log it where nobody waits


@asynccontextmanager
async def subscribed(url: str) -> AsyncIterator[Subscriber]:
    """Connect and subscribe to all clients' answers, outputs and results."""
    topics = Topics()
    async with Connection(Address.parse(url), manual_ack=False) as connection:
        mine = [topics.response("+", "run"), topics.response("+", "upload")]
        mine += [topics.job("+", "+", "output", "+"), topics.job("+", "+", "result")]
        await connection.subscribe([Subscription(filter=each) for each in mine])
        subscriber = Subscriber(connection, topics)
        reading = asyncio.create_task(subscriber.read())
        try:
            yield subscriber
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
