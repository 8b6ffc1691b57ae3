"""Sets on the bus: the packets of their statuses and results, and the task that drives them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator

import msgspec
from msgspec.structs import replace

from bridge.adapters.mqtt.encoder import JSON, Packet, least, packet_of, room_of, trace_of
from bridge.adapters.mqtt.extension import Extension
from bridge.adapters.mqtt.publisher import Publisher
from bridge.adapters.mqtt.subscriber import REPEAT_S
from bridge.contract.channels import channels
from bridge.contract.fitting import fit_set_result
from bridge.contract.messages import encode
from bridge.contract.sets import SetResult, SetStatus
from bridge.contract.topics import Topics
from bridge.jobs.database import DatabaseError
from bridge.jobs.job import Envelope
from bridge.jobs.journal import Journal
from bridge.jobs.queue import Key
from bridge.jobs.sets.driver import SetDriver
from bridge.mqtt import PubAck
from bridge.mqtt.packets import PublishProperties

log = logging.getLogger(__name__)


class SetEncoder:
    """Makes the packets of sets. Pure; each `limit` is the broker's, in bytes; None: not known."""

    def __init__(self, topics: Topics, keep_results_s: float) -> None:
        """`keep_results_s` is how long a broker may keep a result for a subscriber, in seconds."""
        found = {each.name: each for each in channels(topics)}
        self._status, self._result = found["setStatus"], found["setResult"]
        self._expiry = int(keep_results_s)

    def status(
        self, key: Key, envelope: Envelope, status: SetStatus, limit: int | None
    ) -> list[Packet]:
        """Publish how far a set is."""
        topic = self._status.topic(client=key.client, set_id=key.job_id)
        properties = PublishProperties(content_type=JSON)
        bodies = [
            (encode(each), properties) for each in (status, replace(status, meta=msgspec.UNSET))
        ]
        return [packet_of(self._status, topic, bodies, least(limit, envelope.max_packet))]

    def result(
        self, key: Key, envelope: Envelope, result: bytes, limit: int | None
    ) -> list[Packet]:
        """Publish a result: on the set's topic, then at the Response Topic, if there is one."""
        limit = least(limit, envelope.max_packet)
        properties = self._properties(envelope)

        def bodies(topic: str) -> Iterator[tuple[bytes, PublishProperties]]:
            yield result, properties
            if limit is not None:
                whole = msgspec.json.decode(result, type=SetResult)
                for each in (properties, replace(properties, correlation_data=None)):
                    fitted = fit_set_result(whole, room_of(topic, each, limit))
                    yield encode(fitted), each

        return [
            packet_of(self._result, topic, bodies(topic), limit)
            for topic in self._topics(key, envelope)
        ]

    def result_room(self, key: Key, envelope: Envelope, limit: int | None) -> int | None:
        """Return how many bytes a result may have, wherever it goes; None: any number."""
        limit = least(limit, envelope.max_packet)
        if limit is None:
            return None
        properties = self._properties(envelope)
        return min(room_of(each, properties, limit) for each in self._topics(key, envelope))

    def _properties(self, envelope: Envelope) -> PublishProperties:
        return PublishProperties(
            content_type=JSON,
            correlation_data=envelope.correlation,
            message_expiry=self._expiry,
            user_properties=trace_of(envelope),
        )

    def _topics(self, key: Key, envelope: Envelope) -> list[str]:
        topic = self._result.topic(client=key.client, set_id=key.job_id)
        reply = envelope.response_topic
        return [topic] if reply is None else [topic, reply]


class SetPublisher:
    """Publishes what happens to sets; a `jobs.sets.driver.SetListener`."""

    def __init__(self, encoder: SetEncoder, publisher: Publisher, journal: Journal) -> None:
        self._encoder = encoder
        self._publisher = publisher
        self._journal = journal
        self._noting: set[asyncio.Task[None]] = set()

    def set_status(self, key: Key, envelope: Envelope, status: SetStatus) -> None:
        """Publish how far a set is."""
        limit = self._publisher.packet_limit
        self._publisher.send(self._encoder.status(key, envelope, status, limit))

    def set_result(self, key: Key, envelope: Envelope, result: bytes) -> None:
        """Publish a set's result in its turn, and note it once the broker has it."""
        if self._publisher.behind:
            return  # it is published again once others are that have a lower number
        limit = self._publisher.packet_limit
        sent = self._publisher.send(self._encoder.result(key, envelope, result, limit))
        if sent and sent[0] is not None:
            sent[0].add_done_callback(lambda done: self._delivered(key, done))

    def set_result_room(self, key: Key, envelope: Envelope) -> int | None:
        """Return how many bytes a set's result may have; None: any number."""
        return self._encoder.result_room(key, envelope, self._publisher.packet_limit)

    def _delivered(self, key: Key, sent: asyncio.Future[PubAck]) -> None:
        if sent.cancelled() or sent.exception() is not None:
            return
        noting = asyncio.ensure_future(self._note(key))
        self._noting.add(noting)
        noting.add_done_callback(self._noting.discard)

    async def _note(self, key: Key) -> None:
        try:
            await self._journal.sets.published(key)
        except DatabaseError as error:
            # It means only that the same result is published once more.
            log.info("set %s: %s", key.job_id, error)


class SetExtension(Extension):
    """Drives sets while the bridge runs, and publishes results again that may be lost."""

    def __init__(
        self,
        driver: SetDriver,
        listener: SetPublisher,
        publisher: Publisher,
        journal: Journal,
    ) -> None:
        self._driver = driver
        self._listener = listener
        self._publisher = publisher
        self._journal = journal
        self._caught_up = asyncio.Event()
        self._lost_at = float("inf")

    async def run(self) -> None:
        """Make the jobs of sets and end sets, until cancelled."""
        self._publisher.on_detached = self._detached
        self._publisher.on_caught_up = self._caught_up.set
        if not self._publisher.behind:
            self._caught_up.set()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._driver.run())
            tasks.create_task(self._repeat())

    def _detached(self) -> None:
        self._lost_at = self._journal.clock.now()

    async def _repeat(self) -> None:
        """Publish, after each connection, the results that the broker may not have."""
        while True:
            await self._caught_up.wait()
            self._caught_up.clear()
            try:
                found = await self._journal.sets.unpublished(self._lost_at - REPEAT_S)
            except DatabaseError:
                self._caught_up.set()
                await asyncio.sleep(1)
                continue
            for each in found:
                self._listener.set_result(*each)
