"""Publishing: which topic, at which QoS, with which properties, and what is not worth sending.

All calls return at once. What can be asked for again (progress, previews, a status) is dropped
while there is no broker; a result stays in the journal until the broker has it.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from bridge.contract.errors import TooLarge
from bridge.contract.messages import (
    Accepted,
    JobStatus,
    OutputInfo,
    Progress,
    Response,
    Transaction,
    encode,
    ok,
    refused,
)
from bridge.contract.topics import JOB_VERBS, Topics
from bridge.jobs.job import Envelope, Job
from bridge.jobs.queue import Key
from bridge.mqtt import (
    Connection,
    ConnectionLost,
    InvalidMessage,
    PacketTooLarge,
    PubAck,
    PublishProperties,
    PublishRefused,
)
from bridge.requests.context import Answer, RequestContext

log = logging.getLogger(__name__)

JSON = "application/json"
# Above this many bytes an output goes at QoS 0.
QOS1_LIMIT = 64 * 1024
# With more than this waiting for the network nothing is added that can be done without.
_CROWDED = 1024 * 1024
_FULL = 64 * 1024 * 1024
# At most this much of an answer's packet is topic and properties.
_FRAME_BYTES = 400
# MQTT 5 knows this word for a packet above the broker's limit.
_TOO_LARGE = 0x95

# Notes that the broker has a job's result.
Delivered = Callable[[Key], None]


class Outgoing:
    """Everything that goes out; a `jobs.listener.Listener`."""

    def __init__(
        self, topics: Topics, *, delivered: Delivered, keep_results_s: float, keep_outputs_s: float
    ) -> None:
        self._topics = topics
        self._delivered = delivered
        self._keep_results = int(keep_results_s)
        self._keep_outputs = int(keep_outputs_s)
        # Of several bridges, one that was frozen does not speak: others may do so in its place.
        self.may_speak: Callable[[], bool] = lambda: True
        self._connection: Connection | None = None
        # Learnt when a broker that does not announce its limit hangs up.
        self._learnt_limit: int | None = None
        self._largest = 0

    @property
    def connected(self) -> bool:
        """Whether there is a broker at the moment."""
        return self._connection is not None

    def attach(self, connection: Connection) -> None:
        """Publish by this connection from now on."""
        self._connection = connection
        self._largest = 0

    def detach(self, loss: ConnectionLost | None) -> None:
        """Stop publishing; `loss` tells why the connection ended, if it was not by us."""
        self._connection = None
        if loss is not None and loss.code == _TOO_LARGE and self._largest:
            self._learnt_limit = self._largest - 1
            log.warning("the broker takes less than %d bytes at a time", self._largest)

    @property
    def packet_limit(self) -> int | None:
        """The largest packet that the broker takes, as far as it is known."""
        announced = None if self._connection is None else self._connection.packet_limit
        known = [each for each in (announced, self._learnt_limit) if each is not None]
        return min(known, default=None)

    # Answers.

    def answer(self, asked: RequestContext, answer: Answer) -> None:
        """Answer a request on the client's response topic.

        The Response Topic gets the answer too, but for a job: its result comes there. So a refused
        job's error goes there as a failed result, and the result of one that ended before.

        Where the broker takes no more nothing is kept for it: who has no answer asks again.
        """
        if self._crowded(_FULL):
            return
        properties = PublishProperties(
            content_type=JSON, correlation_data=_correlation(asked.correlation, answer.transaction)
        )
        if answer.bytes is not None:
            part = answer.bytes.part
            topic = self._topics.job(
                asked.client, part.job_id, "part", str(part.output), str(part.offset)
            )
            self._send(
                topic,
                answer.bytes.data,
                qos=1 if len(answer.bytes.data) <= QOS1_LIMIT else 0,
                properties=PublishProperties(
                    content_type=part.content_type, correlation_data=properties.correlation_data
                ),
            )
        response = encode(_response(answer))
        limit = self.packet_limit
        if limit is not None and len(response) > limit - _FRAME_BYTES:
            # Not to be answered at all would be worse.
            too_large = TooLarge(
                f"the answer has {len(response)} bytes, the broker takes {limit}",
                size=len(response),
                limit=limit,
            )
            answer = Answer(error=too_large, transaction=answer.transaction)
            response = encode(_response(answer))
        self._send(self._topics.response(asked.client, asked.verb), response, properties=properties)
        reply = self._reply(asked, answer)
        if asked.response_topic is not None and reply is not None:
            self._send(asked.response_topic, reply, properties=properties)

    def _reply(self, asked: RequestContext, answer: Answer) -> bytes | None:
        """Return what goes to the Response Topic at once; None where the result comes later."""
        if isinstance(answer.data, Accepted):
            return None if answer.data.result is UNSET else bytes(answer.data.result)
        if answer.error is None or asked.verb not in JOB_VERBS:
            return encode(_response(answer))
        failed = {"state": "failed", "outputs": [], "error": answer.error.wire()}
        if answer.transaction is not UNSET:
            failed["transaction"] = answer.transaction
        return encode(failed)

    def answer_order(self, verb: str, answer: Answer, correlation: bytes | None) -> None:
        """Answer an operator's order."""
        self._send(
            self._topics.order_response(verb),
            encode(_response(answer)),
            properties=PublishProperties(
                content_type=JSON, correlation_data=_correlation(correlation, answer.transaction)
            ),
        )

    # What happens to jobs.

    def status(self, job: Job, status: JobStatus) -> None:
        """Publish a status."""
        self._send(
            self._job_topic(job, "status"),
            encode(status),
            properties=PublishProperties(
                content_type=JSON, correlation_data=job.envelope.correlation
            ),
            limit=job.envelope.max_packet,
        )

    def progress(self, job: Job, progress: Progress) -> None:
        """Publish how far a job is."""
        if not self._crowded(_CROWDED):
            self._send(
                self._job_topic(job, "progress"),
                encode(progress),
                qos=0,
                properties=PublishProperties(content_type=JSON),
                limit=job.envelope.max_packet,
            )

    def preview(self, job: Job, content_type: str, data: bytes | memoryview) -> None:
        """Publish a preview."""
        if not self._crowded(_CROWDED):
            self._send(
                self._job_topic(job, "preview"),
                data,
                qos=0,
                properties=PublishProperties(content_type=content_type, user_properties=about(job)),
                limit=job.envelope.max_packet,
            )

    def output(self, job: Job, info: OutputInfo, data: bytes | memoryview) -> str | None:
        """Publish an output's bytes; returns the topic, or None where they must be fetched."""
        envelope = job.envelope
        if self._crowded(_FULL):
            return None
        # Images in durable queues stall brokers: QoS 1 is for those who ask for it.
        qos = 1 if info.size <= QOS1_LIMIT or envelope.deliver == "push_qos1" else 0
        properties = PublishProperties(
            content_type=info.content_type,
            correlation_data=envelope.correlation,
            message_expiry=self._keep_outputs if job.keep_s is None else max(1, int(job.keep_s)),
            user_properties=[*about(job), *facts(info)],
        )
        topics = [self._job_topic(job, "output", str(info.index))]
        if envelope.reply_output and info.index == 0 and envelope.response_topic is not None:
            # First, and both or none: where these bytes do not go, the result has to.
            topics.insert(0, envelope.response_topic)
        for topic in topics:
            sent = self._send(
                topic, data, qos=qos, properties=properties, limit=envelope.max_packet
            )
            if sent is None:
                return None
        return topics[-1]

    def result(self, key: Key, envelope: Envelope, result: bytes) -> None:
        """Publish a result; the journal is told once the broker has it."""
        properties = PublishProperties(
            content_type=JSON,
            correlation_data=envelope.correlation,
            message_expiry=self._keep_results,
            user_properties=_trace(envelope),
        )
        limit = envelope.max_packet
        topic = self._topics.job(key.client, key.job_id, "result")
        sent = self._send(topic, result, properties=properties, limit=limit)
        if sent is not None:
            sent.add_done_callback(lambda done: self._note(key, done))
        reply = envelope.response_topic
        if reply is not None and not (envelope.reply_output and _has_published(result)):
            self._send(reply, result, properties=properties, limit=limit)

    # The bridge's own.

    def picture(
        self, topic: str, data: bytes, content_type: str, about: Sequence[tuple[str, str]]
    ) -> None:
        """Publish a picture, retained, if there is a broker. Raises PacketTooLarge."""
        self._publish(
            topic,
            data,
            # As with outputs: a durable queue is no place for what is retained anyway.
            qos=1 if len(data) <= QOS1_LIMIT else 0,
            retain=True,
            properties=PublishProperties(content_type=content_type, user_properties=about),
        )

    def passing(self, topic: str, data: bytes, content_type: str) -> None:
        """Publish what is only worth seeing now."""
        if not self._crowded(_CROWDED):
            self._send(topic, data, qos=0, properties=PublishProperties(content_type=content_type))

    def publish(
        self, topic: str, message: Any, *, retain: bool = False, expiry_s: float | None = None
    ) -> None:
        """Publish a message of the bridge's own; bytes go as they are, None clears the topic."""
        payload = (
            message if isinstance(message, bytes) else b"" if message is None else encode(message)
        )
        self._send(
            topic,
            payload,
            retain=retain,
            properties=PublishProperties(
                content_type=None if isinstance(message, bytes) else JSON,
                message_expiry=None if expiry_s is None else int(expiry_s),
            ),
        )

    def _send(
        self,
        topic: str,
        payload: bytes | memoryview,
        *,
        qos: int = 1,
        retain: bool = False,
        properties: PublishProperties,
        limit: int | None = None,
    ) -> asyncio.Future[PubAck] | None:
        """Publish if it can be; what came of it is logged where it was refused."""
        try:
            return self._publish(
                topic, payload, qos=qos, retain=retain, properties=properties, limit=limit
            )
        except PacketTooLarge as error:
            # Asked for, where it is a small device's own limit; else the operator should know.
            log.log(logging.DEBUG if limit is not None else logging.WARNING, "%s: %s", topic, error)
            return None

    def _publish(
        self,
        topic: str,
        payload: bytes | memoryview,
        *,
        qos: int,
        retain: bool,
        properties: PublishProperties,
        limit: int | None = None,
    ) -> asyncio.Future[PubAck] | None:
        """Publish; None where it is lost or malformed. Raises PacketTooLarge."""
        connection = self._connection
        if connection is None or not self.may_speak():
            return None
        limits = [each for each in (limit, self._learnt_limit) if each is not None]
        try:
            sent = connection.publish(
                topic,
                payload,
                qos=qos,
                retain=retain,
                properties=properties,
                limit=min(limits, default=None),
            )
        except InvalidMessage as error:
            log.warning("%s: %s", topic, error)
            return None
        except ConnectionLost:
            return None
        self._largest = max(self._largest, len(payload))
        sent.add_done_callback(_check)
        return sent

    def _note(self, key: Key, sent: asyncio.Future[PubAck]) -> None:
        if not sent.cancelled() and sent.exception() is None:
            self._delivered(key)

    def _crowded(self, limit: int) -> bool:
        return self._connection is None or self._connection.buffered > limit

    def _job_topic(self, job: Job, *names: str) -> str:
        return self._topics.job(job.key.client, job.key.job_id, *names)


def _response(answer: Answer) -> Response:
    if answer.error is not None:
        return refused(answer.error.wire(), answer.transaction)
    return ok(answer.data, answer.transaction)


def _check(sent: asyncio.Future[PubAck]) -> None:
    """Log a refusal: it would look like success otherwise."""
    if sent.cancelled():
        return
    error = sent.exception()
    if isinstance(error, PublishRefused):
        log.error("%s", error)


def _correlation(correlation: bytes | None, transaction: Transaction | UnsetType) -> bytes | None:
    if correlation is not None or transaction is UNSET:
        return correlation
    return str(transaction).encode()


# Brokers end the connection for these in a property (MQTT 5, 1.5.4), whoever wrote them.
_FORBIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\ufdd0-\ufdef\ufffe\uffff]")


def about(job: Job) -> list[tuple[str, str]]:
    """Return the User Properties that a message of bytes carries in place of JSON's fields."""
    envelope = job.envelope
    said = [("job_id", job.key.job_id), ("workflow", job.workflow)]
    if envelope.transaction is not UNSET:
        said.append(("transaction", _clean(str(envelope.transaction))))
    if envelope.meta is not UNSET:
        said.append(("meta", _clean(bytes(envelope.meta).decode())))
    return [*said, *_trace(envelope)]


def _trace(envelope: Envelope) -> list[tuple[str, str]]:
    """Return the sender's trace (W3C Trace Context), for those who go on with the result."""
    return [] if envelope.traceparent is None else [("traceparent", envelope.traceparent)]


def facts(info: OutputInfo) -> list[tuple[str, str]]:
    """Return the User Properties that tell of an output's bytes."""
    names = ("name", "index", "sha256", "size", "width", "height", "filename")
    values = ((name, getattr(info, name)) for name in names)
    return [(name, _clean(str(value))) for name, value in values if value is not UNSET]


def _clean(text: str) -> str:
    """Return a text as a property can carry it; JSON's own fields carry it whole."""
    return _FORBIDDEN.sub(" ", text)


class _Published(msgspec.Struct):
    topic: str | None = None


class _Glance(msgspec.Struct):
    outputs: list[_Published] = []


def _has_published(result: bytes) -> bool:
    """Whether a result's first output was published, rather than left to be fetched."""
    outputs = msgspec.json.decode(result, type=_Glance).outputs
    return bool(outputs) and outputs[0].topic is not None
