"""Publishes the packets that `encoder` makes, on the present connection.

All calls return at once. What can be asked for again (progress, previews, a status) is dropped
while there is no broker; a result stays in the journal until the broker has it.

Messages with an `n` leave in the order of the numbers: a client that saw a higher number would ack
a result unseen. So if a result could not be sent, no message with an `n` is sent until `catch_up`,
which first sends the results that the broker lacks.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from msgspec import UnsetType

from bridge.adapters.mqtt.encoder import Encoder, Packet, least
from bridge.adapters.mqtt.set_encoder import SetEncoder
from bridge.contract.channels import Expiry
from bridge.contract.messages import JobStatus, OutputInfo, Part, Progress, Transaction
from bridge.contract.sets import SetStatus
from bridge.contract.topics import Topics
from bridge.jobs.job import Envelope, Job
from bridge.jobs.journal.rows import Unpublished
from bridge.jobs.journal.sets import SetRecord
from bridge.jobs.queue import Key
from bridge.mqtt import (
    PACKET_TOO_LARGE,
    Connection,
    ConnectionLost,
    InvalidMessage,
    PacketTooLarge,
    PubAck,
    PublishRefused,
    lower_limit,
)
from bridge.requests.context import Answer, RequestContext
from bridge.text import clip

log = logging.getLogger(__name__)

# One warning for a client's messages of one kind, rather than one for each of its jobs.
_ONE_JOB = re.compile(r"/(job|set)/[^/]+/([^/]+).*")
# ... and for all the Response Topics of a client, which it makes up.
_REPLY = re.compile(r"/reply/.*")
# How many kinds are remembered.
_MAX_WARNED = 1000
# Characters of a topic or a text in the log.
_LONGEST = 500

# Notes that the broker has a result, or does not take it.
Note = Callable[[Key], object]


class Publisher:
    """Publishes all messages of the bridge.

    A `jobs.listener.Listener`, and a `jobs.sets.driver.SetListener`.

    Used on the event loop's thread alone.
    """

    def __init__(
        self,
        topics: Topics,
        *,
        delivered: Note,
        passed_over: Note = lambda _: None,
        set_delivered: Note = lambda _: None,
        keep_results_s: float,
        keep_outputs_s: float,
        may_publish: Callable[[], bool] = lambda: True,
        cloudevents: bool = False,
    ) -> None:
        """`delivered` is called once the broker has a job's result.

        `passed_over` is called if the broker refuses a result, after which the next ones are sent.
        `set_delivered` is called once the broker has a set's result: no later `n` acks it.
        `may_publish`: False while another bridge of the cluster may publish in this one's place,
        as this one was frozen for longer than its lease. `cloudevents`: see `Encoder`.
        """
        expiry: dict[Expiry, float] = {
            "keep_results_s": keep_results_s,
            "keep_outputs_s": keep_outputs_s,
        }
        self._encoder = Encoder(topics, expiry, cloudevents=cloudevents)
        self._set_encoder = SetEncoder(topics, keep_results_s)
        self._notes = {False: (delivered, passed_over), True: (set_delivered, lambda _: None)}
        self._may_publish = may_publish
        self._connection: Connection | None = None
        # True once the broker was sent every result that has a lower number than what comes next.
        self._caught_up = False
        # Learnt when a broker that does not announce its limit ends the connection.
        self._learnt_limit: int | None = None
        self._largest = 0
        self.connections = 0
        """The number of connections so far."""
        self._warned: OrderedDict[str, None] = OrderedDict()

    @property
    def connected(self) -> bool:
        """True if there is a connection to the broker."""
        return self._connection is not None

    @property
    def packet_limit(self) -> int | None:
        """The largest packet that the broker takes, in bytes; None: not known."""
        announced = None if self._connection is None else self._connection.packet_limit
        return least(announced, self._learnt_limit)

    def learn_limit(self, limit: int) -> None:
        """Publish no packet larger than `limit` bytes, whatever the broker announces."""
        self._learnt_limit = least(self._learnt_limit, limit)

    @property
    def behind(self) -> bool:
        """True if nothing with an `n` is published until `catch_up`."""
        return not self._caught_up

    def attach(self, connection: Connection) -> None:
        """Publish on this connection from now on; messages with an `n` only after `catch_up`."""
        self._connection = connection
        self.connections += 1
        self._largest = 0
        self._caught_up = False

    def catch_up(self, results: Iterable[Unpublished]) -> None:
        """Publish the results that the broker may lack, and later messages with an `n` after them.

        `results` are all of them, of jobs and sets, by rising `n`; nothing may be awaited between
        reading them and this call.
        """
        self._caught_up = self._connection is not None and self._may_publish()
        for each in results:
            if self._caught_up:
                self.orphaned_result(*each)

    def detach(self, loss: ConnectionLost | None) -> None:
        """Stop publishing. `loss`: why the connection ended, None if we ended it."""
        self._connection = None
        if loss is not None and loss.code == PACKET_TOO_LARGE and self._largest:
            self._learnt_limit = least(self._learnt_limit, lower_limit(self._largest))
            log.warning(
                "the broker disconnected at a packet of %d bytes: packets are smaller from now on",
                self._largest,
            )

    # Answers.

    def answer(self, asked: RequestContext, answer: Answer) -> None:
        """Answer a request on the client's response topic, and at its Response Topic."""
        self.send(self._encoder.answer(asked, answer, self.packet_limit))

    def answer_room(
        self,
        asked: RequestContext,
        transaction: Transaction | UnsetType,
        max_packet: int | None = None,
    ) -> int | None:
        """Return how many bytes of JSON the answer may have; None: any number."""
        limit = least(self.packet_limit, max_packet)
        return None if limit is None else self._encoder.answer_room(asked, transaction, limit)

    def part_room(
        self,
        asked: RequestContext,
        transaction: Transaction | UnsetType,
        part: Part,
        max_packet: int | None,
    ) -> int | None:
        """Return how many bytes of an output may go beside the answer; None: any number."""
        limit = least(self.packet_limit, max_packet)
        return None if limit is None else self._encoder.part_room(asked, transaction, part, limit)

    def answer_command(self, verb: str, answer: Answer, correlation: bytes | None) -> None:
        """Answer an operator's command."""
        self.send(self._encoder.admin_answer(verb, answer, correlation, self.packet_limit))

    # What happens to jobs.

    def status(self, job: Job, status: JobStatus) -> None:
        """Publish a status."""
        if self._caught_up:
            self.send(self._encoder.status(job, status, self.packet_limit))

    def progress(self, job: Job, progress: Progress) -> None:
        """Publish how far a job is."""
        self.send(self._encoder.progress(job, progress, self.packet_limit))

    def preview(self, job: Job, content_type: str, data: bytes | memoryview) -> None:
        """Publish a preview."""
        packets = self._encoder.preview(job, content_type, data, self.packet_limit)
        self.send(packets, optional=job.envelope.max_packet is not None)

    def output(self, job: Job, info: OutputInfo, data: bytes | memoryview) -> str | None:
        """Publish an output's bytes; returns the topic, or None if they must be fetched."""
        packets = self._encoder.output(job, info, data, self.packet_limit)
        # All or none: where the Response Topic does not get these bytes, it gets the result.
        if any(packet.publish is None for packet in packets):
            self._log_problems(packets, optional=job.envelope.max_packet is not None)
            return None
        sent = self.send(packets)
        return packets[-1].topic if sent and None not in sent else None

    def result(self, key: Key, envelope: Envelope, result: bytes) -> None:
        """Publish a result in its turn; `delivered` is called once the broker has it."""
        if self._caught_up:
            self.orphaned_result(key, envelope, result)

    def orphaned_result(
        self,
        key: Key,
        envelope: Envelope,
        result: bytes,
        of_set: bool = False,  # noqa: FBT001, FBT002 - the last field of `Unpublished`
    ) -> None:
        """Publish a dead bridge's result at once: its turn is over. Otherwise as `result`.

        `of_set`: as `set_result`.
        """
        encoder = self._set_encoder if of_set else self._encoder
        delivered, passed_over = self._notes[of_set]

        def note(done: asyncio.Future[PubAck]) -> None:
            if done.cancelled():
                return
            error = done.exception()
            if error is None:
                delivered(key)
            elif isinstance(error, PublishRefused):
                passed_over(key)

        sent = self.send(encoder.result(key, envelope, result, self.packet_limit))
        if not sent:
            self._caught_up = False
        elif sent[0] is not None:
            sent[0].add_done_callback(note)
        elif self._caught_up:
            passed_over(key)

    def result_room(self, key: Key, envelope: Envelope) -> int | None:
        """Return how many bytes the result of a job may have now; None: any number.

        Counts the broker's packet limit, the request's `max_packet`, the topics and the properties.
        """
        return self._encoder.result_room(key, envelope, self.packet_limit)

    # What happens to sets.

    def set_status(self, key: Key, envelope: Envelope, status: SetStatus) -> None:
        """Publish how far a set is; it has no `n`."""
        self.send(self._set_encoder.status(key, envelope, status, self.packet_limit))

    def set_output(
        self, record: SetRecord, info: OutputInfo, data: bytes | memoryview, keep_s: float
    ) -> str | None:
        """Publish what a set has collected, as `output`; it is kept for `keep_s` seconds."""
        packet = self._set_encoder.output(record, info, data, keep_s, self.packet_limit)
        if packet.publish is None:
            self._log_problems([packet], optional=record.envelope.max_packet is not None)
            return None
        sent = self.send([packet])
        return packet.topic if sent and None not in sent else None

    def set_result(self, key: Key, envelope: Envelope, result: bytes) -> None:
        """Publish a set's result in its turn; `set_delivered` is called once the broker has it."""
        if self._caught_up:
            self.orphaned_result(key, envelope, result, of_set=True)

    def set_result_room(self, key: Key, envelope: Envelope) -> int | None:
        """Return how many bytes a set's result may have; None: any number."""
        return self._set_encoder.result_room(key, envelope, self.packet_limit)

    # The bridge's own.

    def publish(
        self, topic: str, message: Any, *, retain: bool = False, expiry_s: float | None = None
    ) -> None:
        """Publish a message of the bridge's own; bytes as they are, None clears the topic."""
        packet = self._encoder.own(
            topic, message, self.packet_limit, retain=retain, expiry_s=expiry_s
        )
        self.send([packet])

    def image(
        self, topic: str, data: bytes, content_type: str, about: Sequence[tuple[str, str]]
    ) -> None:
        """Publish an image, retained, if there is a broker. Raises PacketTooLarge."""
        packet = self._encoder.image(topic, data, content_type, about, self.packet_limit)
        if isinstance(packet.problem, PacketTooLarge):
            raise packet.problem
        self.send([packet])

    def image_room(
        self, topic: str, content_type: str, about: Sequence[tuple[str, str]]
    ) -> int | None:
        """Return how many bytes an image may have; None: any number."""
        limit = self.packet_limit
        if limit is None:
            return None
        return self._encoder.image_room(topic, content_type, about, limit)

    def transient(self, topic: str, data: bytes, content_type: str) -> None:
        """Publish what is only worth seeing now."""
        self.send([self._encoder.transient(topic, data, content_type, self.packet_limit)])

    def foreign(
        self, topic: str, data: bytes, content_type: str, about: Sequence[tuple[str, str]]
    ) -> asyncio.Future[PubAck] | None:
        """Publish to a topic that is not the bridge's, at QoS 1; None if there is no broker.

        Raises PacketTooLarge, InvalidMessage; the future raises PublishRefused, ConnectionLost.
        """
        packet = self._encoder.foreign(topic, data, content_type, about, self.packet_limit)
        if packet.problem is not None:
            raise packet.problem
        sent = self.send([packet])
        return sent[0] if sent else None

    # Sending.

    def send(
        self, packets: Sequence[Packet], *, optional: bool = False
    ) -> list[asyncio.Future[PubAck] | None]:
        """Send packets in their order; None for each that was not.

        They are sent together, or not at all if too many bytes wait already. `optional`: a packet
        above its limit is expected, since the client asked for that limit.
        """
        connection = self._connection
        if connection is None or not self._may_publish():
            return []
        for packet in packets:
            if packet.drop_above is not None and connection.buffered > packet.drop_above:
                return []
        self._log_problems(packets, optional=optional)
        return [self._send_one(connection, packet) for packet in packets]

    def _send_one(self, connection: Connection, packet: Packet) -> asyncio.Future[PubAck] | None:
        if packet.publish is None:
            return None
        try:
            sent = connection.send(packet.publish)
        except (InvalidMessage, PacketTooLarge) as error:
            self._warn(packet.topic, str(error))
            return None
        except ConnectionLost:
            self._caught_up = False
            return None
        self._largest = max(self._largest, len(packet.publish.payload))
        sent.add_done_callback(self._log_refusal)
        return sent

    def _log_problems(self, packets: Sequence[Packet], *, optional: bool) -> None:
        for packet in packets:
            if packet.problem is not None and optional:
                log.debug("%s: %s", packet.topic, packet.problem)
            elif packet.problem is not None:
                self._warn(packet.topic, str(packet.problem))
            elif packet.shortened:
                self._warn(packet.topic, "the whole message would be too large: it was shortened")

    def _log_refusal(self, sent: asyncio.Future[PubAck]) -> None:
        """Log a refusal, once for each kind of topic: nobody else would notice it."""
        error = None if sent.cancelled() else sent.exception()
        if isinstance(error, PublishRefused):
            self._warn(error.topic, str(error))

    def _warn(self, topic: str, text: str) -> None:
        """Log a warning about a topic once."""
        kind = _REPLY.sub("/reply", _ONE_JOB.sub(r"/\1/\2", topic))
        if kind in self._warned:
            return
        self._warned[kind] = None
        if len(self._warned) > _MAX_WARNED:
            self._warned.popitem(last=False)
        log.warning("%s: %s", clip(topic, _LONGEST), clip(text, _LONGEST))
