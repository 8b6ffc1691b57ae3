"""Turns events of jobs, answers and the bridge's own messages into MQTT packets. Pure.

Topic, QoS, retain, expiry and limits are those of the table `bridge.contract.channels`. If a
message is larger than the limit, its packet is a shortened one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import replace

from bridge.contract.channels import Channel, Expiry, channels
from bridge.contract.errors import TooLarge
from bridge.contract.fitting import fit_result
from bridge.contract.messages import (
    Accepted,
    JobMessage,
    JobStatus,
    OutputInfo,
    Part,
    Progress,
    Result,
    Transaction,
    encode,
    ok,
    refused,
)
from bridge.contract.reading import UNREADABLE
from bridge.contract.sets import SetAccepted
from bridge.contract.topics import JOB_VERBS, SUBMIT, Topics
from bridge.jobs.job import Envelope, Job
from bridge.jobs.queue import Key
from bridge.mqtt.errors import InvalidMessage, PacketTooLarge
from bridge.mqtt.packets import Publish, PublishProperties
from bridge.requests.context import Answer, RequestContext

JSON = "application/json"
# A result with fewer bytes would lack what it is about: it goes without Correlation Data instead.
LEAST_RESULT = 512

# A payload and the properties beside it; of several the first that fits is sent.
_Body = tuple[bytes | memoryview, PublishProperties]


class Packet(Struct, frozen=True, kw_only=True):
    """A message on one topic: `publish`, or the `problem` that leaves nothing to publish.

    `shortened`: the whole message was larger than the limit, and this one has less in it.
    `drop_above`: it is not sent while more than this many bytes wait for the network.
    """

    topic: str
    publish: Publish | None = None
    problem: InvalidMessage | PacketTooLarge | None = None
    shortened: bool = False
    drop_above: int | None = None


class Encoder:
    """Makes the packets of one bridge. Each `limit` is the broker's, in bytes; None: not known."""

    def __init__(
        self, topics: Topics, expiry: Mapping[Expiry, float], *, cloudevents: bool = False
    ) -> None:
        """`expiry`: the settings that the table of channels names, in seconds.

        With `cloudevents` statuses, outputs and results are CloudEvents 1.0 besides, in the binary
        mode of its MQTT binding: the attributes are User Properties.
        """
        self._cloudevents = cloudevents
        self._topics = topics
        self._channels = {each.name: each for each in channels(topics)}
        self._expiry = {name: int(seconds) for name, seconds in expiry.items()}

    # Answers.

    def answer(self, asked: RequestContext, answer: Answer, limit: int | None) -> list[Packet]:
        """Make the packets of an answer: the bytes asked for, the response, the Response Topic.

        The Response Topic gets the answer too, except for a job, whose result goes there. So a
        refused job's error goes there as a failed result, and an earlier job's result again.
        """
        properties = _answering(asked.correlation, answer.transaction)
        channel, topic = self._response(asked)
        packets = []
        if answer.bytes is not None:
            part, data = answer.bytes.part, answer.bytes.data
            beside = replace(properties, content_type=part.content_type)
            where = self._part_topic(asked.client, part)
            packets.append(packet_of(self._channels["jobPart"], where, [(data, beside)], limit))
        packets.append(
            packet_of(channel, topic, _answers(answer, properties, limit, _response), limit)
        )
        reply = asked.response_topic
        if reply is not None and not isinstance(answer.data, Accepted | SetAccepted):
            bodies = _answers(answer, properties, limit, lambda each: _reply(asked.verb, each))
            packets.append(packet_of(channel, reply, bodies, limit))
        elif reply is not None and answer.data.result is not UNSET:
            bodies = _results(reply, bytes(answer.data.result), properties, limit)
            packets.append(packet_of(channel, reply, bodies, limit))
        return packets

    def answer_room(
        self, asked: RequestContext, transaction: Transaction | UnsetType, limit: int
    ) -> int:
        """Return how many bytes of JSON the answer to a request may have, wherever it goes."""
        properties = _answering(asked.correlation, transaction)
        topics = (self._response(asked)[1], asked.response_topic)
        return min(room_of(each, properties, limit) for each in topics if each is not None)

    def part_room(
        self, asked: RequestContext, transaction: Transaction | UnsetType, part: Part, limit: int
    ) -> int:
        """Return how many bytes of an output fit into the packet beside the answer to a `fetch`."""
        properties = _answering(asked.correlation, transaction)
        topic = self._part_topic(asked.client, part)
        return room_of(topic, replace(properties, content_type=part.content_type), limit)

    def admin_answer(
        self, verb: str, answer: Answer, correlation: bytes | None, limit: int | None
    ) -> list[Packet]:
        """Answer an operator's command."""
        properties = _answering(correlation, answer.transaction)
        bodies = _answers(answer, properties, limit, _response)
        topic = self._topics.command_response(verb)
        return [packet_of(self._channels["orderHealthCheckResponse"], topic, bodies, limit)]

    # What happens to jobs.

    def status(self, job: Job, status: JobStatus, limit: int | None) -> list[Packet]:
        """Publish a status."""
        properties = PublishProperties(
            content_type=JSON,
            correlation_data=job.envelope.correlation,
            user_properties=self._event("status", job.key, str(status.n)),
        )
        return self._about("jobStatus", job, _messages(status, properties), limit)

    def progress(self, job: Job, progress: Progress, limit: int | None) -> list[Packet]:
        """Publish how far a job is."""
        properties = PublishProperties(content_type=JSON)
        return self._about("jobProgress", job, _messages(progress, properties), limit)

    def preview(
        self, job: Job, content_type: str, data: bytes | memoryview, limit: int | None
    ) -> list[Packet]:
        """Publish an image of the work so far."""
        properties = PublishProperties(content_type=content_type, user_properties=about(job))
        return self._about("jobPreview", job, [(data, properties)], limit)

    def output(
        self, job: Job, info: OutputInfo, data: bytes | memoryview, limit: int | None
    ) -> list[Packet]:
        """Publish an output's bytes: at the Response Topic, if asked for, then the job's."""
        envelope = job.envelope
        channel = self._channels["jobOutput"]
        if envelope.deliver == "push_qos1":
            channel = replace(channel, large_qos=1)
        properties = PublishProperties(
            content_type=info.content_type,
            correlation_data=envelope.correlation,
            message_expiry=(
                self._expires(channel) if job.keep_s is None else max(1, int(job.keep_s))
            ),
            user_properties=[
                *about(job),
                *facts(info),
                *self._event("output", job.key, str(info.index)),
            ],
        )
        levels = {"client": job.key.client, "job_id": job.key.job_id, "index": info.index}
        topics = [channel.topic(**levels)]
        if envelope.reply_output and info.index == 0 and envelope.response_topic is not None:
            topics.insert(0, envelope.response_topic)
        limit = least(limit, envelope.max_packet)
        return [packet_of(channel, topic, [(data, properties)], limit) for topic in topics]

    def result(
        self, key: Key, envelope: Envelope, result: bytes, limit: int | None
    ) -> list[Packet]:
        """Publish a result: on the job's topic first, then at the Response Topic, if there is one.

        The Response Topic does not get it if it got the first output's bytes.
        """
        channel = self._channels["jobResult"]
        properties = self._result_properties(key, envelope)
        limit = least(limit, envelope.max_packet)
        first, *replies = self._result_topics(key, envelope)
        if envelope.reply_output and _has_published(result):
            replies = []
        return [
            packet_of(channel, topic, _results(topic, result, properties, limit), limit)
            for topic in (first, *replies)
        ]

    def result_room(self, key: Key, envelope: Envelope, limit: int | None) -> int | None:
        """Return how many bytes the result of a job may have, wherever it goes; None: any number.

        Within the broker's limit and the `max_packet` of the request.
        """
        limit = least(limit, envelope.max_packet)
        if limit is None:
            return None
        properties = self._result_properties(key, envelope)
        topics = self._result_topics(key, envelope)
        return min(_result_room(topic, properties, limit)[0] for topic in topics)

    # The bridge's own.

    def own(
        self,
        topic: str,
        message: Any,
        limit: int | None,
        *,
        retain: bool = False,
        expiry_s: float | None = None,
    ) -> Packet:
        """Publish a message of the bridge's own; bytes as they are, None clears the topic."""
        raw = isinstance(message, bytes)
        payload = message if raw else b"" if message is None else encode(message)
        properties = PublishProperties(
            content_type=None if raw else JSON,
            message_expiry=None if expiry_s is None else int(expiry_s),
        )
        channel = self._channels["info" if retain else "event"]
        return packet_of(channel, topic, [(payload, properties)], limit)

    def image(
        self,
        topic: str,
        data: bytes,
        content_type: str,
        about: Sequence[tuple[str, str]],
        limit: int | None,
    ) -> Packet:
        """Publish an image, retained."""
        properties = PublishProperties(content_type=content_type, user_properties=about)
        return packet_of(self._channels["displayImage"], topic, [(data, properties)], limit)

    def image_room(
        self, topic: str, content_type: str, about: Sequence[tuple[str, str]], limit: int
    ) -> int:
        """Return how many bytes an image may have."""
        properties = PublishProperties(content_type=content_type, user_properties=about)
        return room_of(topic, properties, limit)

    def foreign(
        self,
        topic: str,
        data: bytes,
        content_type: str,
        about: Sequence[tuple[str, str]],
        limit: int | None,
    ) -> Packet:
        """Publish a job's output to a topic that is not the bridge's, at QoS 1."""
        properties = PublishProperties(content_type=content_type, user_properties=[*about])
        return packet_of(self._channels["event"], topic, [(data, properties)], limit)

    def transient(self, topic: str, data: bytes, content_type: str, limit: int | None) -> Packet:
        """Publish an image of the moment, as a preview is."""
        properties = PublishProperties(content_type=content_type)
        return packet_of(self._channels["jobPreview"], topic, [(data, properties)], limit)

    def _response(self, asked: RequestContext) -> tuple[Channel, str]:
        # A verb that nobody knows is answered as well.
        channel = self._channels.get(f"{asked.verb}Response", self._channels[f"{SUBMIT}Response"])
        return channel, self._topics.response(asked.client, asked.verb)

    def _part_topic(self, client: str, part: Part) -> str:
        return self._channels["jobPart" if part.set_id is UNSET else "setPart"].topic(
            client=client,
            job_id=part.job_id,
            set_id=part.set_id,
            index=part.output,
            offset=part.offset,
        )

    def _about(
        self, name: str, job: Job, bodies: Iterable[_Body], limit: int | None
    ) -> list[Packet]:
        channel = self._channels[name]
        topic = channel.topic(client=job.key.client, job_id=job.key.job_id)
        return [packet_of(channel, topic, bodies, least(limit, job.envelope.max_packet))]

    def _event(self, what: str, key: Key, number: str = "") -> list[tuple[str, str]]:
        """Return the attributes of a message about a job as a CloudEvent, if it is one.

        The `id` is the same however often the message is published.
        """
        if not self._cloudevents:
            return []
        subject = f"{key.client}/{key.job_id}"
        return [
            ("specversion", "1.0"),
            ("type", f"comfy2mqtt.job.{what}"),
            ("source", self._topics.base),
            ("subject", subject),
            ("id", "/".join(each for each in (subject, what, number) if each)),
        ]

    def _result_properties(self, key: Key, envelope: Envelope) -> PublishProperties:
        return PublishProperties(
            content_type=JSON,
            correlation_data=envelope.correlation,
            message_expiry=self._expires(self._channels["jobResult"]),
            user_properties=[*trace_of(envelope), *self._event("result", key)],
        )

    def _result_topics(self, key: Key, envelope: Envelope) -> list[str]:
        topic = self._channels["jobResult"].topic(client=key.client, job_id=key.job_id)
        reply = envelope.response_topic
        return [topic] if reply is None else [topic, reply]

    def _expires(self, channel: Channel) -> int | None:
        return None if channel.expiry is None else self._expiry[channel.expiry]


# Which packet.


def packet_of(channel: Channel, topic: str, bodies: Iterable[_Body], limit: int | None) -> Packet:
    """Return the packet with the first of `bodies` that fits; later ones are not made."""
    found: Packet | None = None
    for payload, properties in bodies:
        try:
            publish = Publish.of(
                topic,
                payload,
                qos=channel.qos_of(len(payload)),
                retain=channel.retain,
                properties=properties,
            )
        except (InvalidMessage, PacketTooLarge) as problem:
            return Packet(topic=topic, problem=problem)
        if limit is None or publish.size <= limit:
            return Packet(
                topic=topic,
                publish=publish,
                shortened=found is not None,
                drop_above=channel.drop_above,
            )
        found = Packet(topic=topic, problem=PacketTooLarge(publish.size, limit))
    if found is None:
        raise ValueError("a packet needs a body")
    return found


def _messages(message: JobMessage, properties: PublishProperties) -> Iterator[_Body]:
    """Yield a message, then what is left of it without `meta` and without Correlation Data."""
    yield encode(message), properties
    bare = encode(replace(message, meta=UNSET))
    yield bare, properties
    yield bare, replace(properties, correlation_data=None)


def _answers(
    answer: Answer,
    properties: PublishProperties,
    limit: int | None,
    body: Callable[[Answer], bytes],
) -> Iterator[_Body]:
    """Yield an answer, then an error that says that it is too large.

    If the Correlation Data leaves no room even for that, the error without it.
    """
    whole = body(answer)
    yield whole, properties
    too_large = TooLarge(
        f"the answer has {len(whole)} bytes, the broker takes {limit}",
        size=len(whole),
        limit=limit,
    )
    short = body(Answer(error=too_large, transaction=answer.transaction))
    yield short, properties
    bare = replace(properties, correlation_data=None)
    yield whole, bare
    yield short, bare


def _results(
    topic: str, result: bytes, properties: PublishProperties, limit: int | None
) -> Iterator[_Body]:
    """Yield a result, then shortened ones, without Correlation Data if that leaves no room."""
    yield result, properties
    if limit is None:
        return
    room, properties = _result_room(topic, properties, limit)
    yield result, properties
    with suppress(*UNREADABLE):
        decoded = msgspec.json.decode(result, type=Result)
        yield encode(fit_result(decoded, room)), properties


def _result_room(
    topic: str, properties: PublishProperties, limit: int
) -> tuple[int, PublishProperties]:
    """Return how many bytes a result may have, and the properties that leave it that room."""
    room = room_of(topic, properties, limit)
    if room < LEAST_RESULT:
        properties = replace(properties, correlation_data=None)
        room = room_of(topic, properties, limit)
    return room, properties


def room_of(topic: str, properties: PublishProperties, limit: int) -> int:
    """Return how many bytes of payload a packet at QoS 1 may have."""
    return Publish.of(topic, b"", qos=1, retain=False, properties=properties).room(limit)


def least(one: int | None, other: int | None) -> int | None:
    """Return the smaller of two limits; None is an unknown one."""
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)


# What is in it.


def _response(answer: Answer) -> bytes:
    if answer.error is not None:
        return encode(refused(answer.error.wire(), answer.transaction))
    return encode(ok(answer.data, answer.transaction))


def _reply(verb: str, answer: Answer) -> bytes:
    """Return an answer as the Response Topic gets it: a refused job's as a failed result."""
    if answer.error is None or verb not in JOB_VERBS:
        return _response(answer)
    failed = {"state": "failed", "outputs": [], "error": answer.error.wire()}
    if answer.transaction is not UNSET:
        failed["transaction"] = answer.transaction
    return encode(failed)


def _answering(
    correlation: bytes | None, transaction: Transaction | UnsetType
) -> PublishProperties:
    if correlation is None and transaction is not UNSET:
        correlation = str(transaction).encode()
    return PublishProperties(content_type=JSON, correlation_data=correlation)


# Brokers end the connection for these in a property (MQTT 5, 1.5.4), whoever wrote them.
_FORBIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\ufdd0-\ufdef\ufffe\uffff]")


def about(job: Job) -> list[tuple[str, str]]:
    """Return the User Properties that a message of bytes carries in place of JSON's fields.

    What a set has collected belongs to no job.
    """
    envelope = job.envelope
    fields = [("job_id", job.key.job_id), ("workflow", job.workflow)]
    if envelope.set_id == job.key.job_id:
        del fields[0]
    if envelope.set_id is not None:
        fields.append(("set_id", envelope.set_id))
    return [*fields, *echoed(envelope)]


def echoed(envelope: Envelope) -> list[tuple[str, str]]:
    """Return the User Properties that a request sent itself: transaction, `meta` and trace."""
    fields = []
    if envelope.transaction is not UNSET:
        fields.append(("transaction", _clean(str(envelope.transaction))))
    if envelope.meta is not UNSET:
        fields.append(("meta", _clean(bytes(envelope.meta).decode())))
    return [*fields, *trace_of(envelope)]


def facts(info: OutputInfo) -> list[tuple[str, str]]:
    """Return the User Properties that describe an output's bytes."""
    found = []
    for name in ("name", "index", "sha256", "size", "width", "height", "filename"):
        value = getattr(info, name)
        if value is not UNSET:
            found.append((name, _clean(str(value))))
    return found


def trace_of(envelope: Envelope) -> list[tuple[str, str]]:
    """Return the sender's trace (W3C Trace Context), for those who use the result."""
    found = (("traceparent", envelope.traceparent), ("tracestate", envelope.tracestate))
    return [(name, value) for name, value in found if value is not None]


def _clean(text: str) -> str:
    """Return a text without what a property cannot carry; JSON fields have all of it."""
    return _FORBIDDEN.sub(" ", text)


class _PublishedOutput(Struct):
    topic: str | None = None


class _ResultOutputs(Struct):
    outputs: list[_PublishedOutput] = []


def _has_published(result: bytes) -> bool:
    """True if a result's first output was published, rather than left to be fetched."""
    outputs: list[_PublishedOutput] = []
    with suppress(*UNREADABLE):
        outputs = msgspec.json.decode(result, type=_ResultOutputs).outputs
    return bool(outputs) and outputs[0].topic is not None
