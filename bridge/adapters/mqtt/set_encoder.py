"""Turns what happens to sets into MQTT packets, as `encoder` does for jobs. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import msgspec
from msgspec.structs import replace

from bridge.adapters.mqtt.encoder import (
    JSON,
    Packet,
    echoed,
    facts,
    least,
    packet_of,
    room_of,
    trace_of,
)
from bridge.contract.channels import channels
from bridge.contract.fitting import fit_set_result
from bridge.contract.messages import OutputInfo, encode
from bridge.contract.reading import UNREADABLE
from bridge.contract.sets import SetResult, SetStatus
from bridge.contract.topics import Topics
from bridge.jobs.job import Envelope
from bridge.jobs.journal.sets import SetRecord
from bridge.jobs.queue import Key
from bridge.mqtt.packets import PublishProperties


class SetEncoder:
    """Makes the packets of sets. Each `limit` is the broker's, in bytes; None: not known."""

    def __init__(self, topics: Topics, keep_results_s: float) -> None:
        """`keep_results_s` is how long a broker may keep a result for a subscriber, in seconds."""
        found = {each.name: each for each in channels(topics)}
        self._status, self._result = found["setStatus"], found["setResult"]
        self._output = found["setOutput"]
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

    def output(
        self,
        record: SetRecord,
        info: OutputInfo,
        data: bytes | memoryview,
        keep_s: float,
        limit: int | None,
    ) -> Packet:
        """Publish the bytes of what a set has collected, which is kept for `keep_s` seconds."""
        envelope, channel = record.envelope, self._output
        if envelope.deliver == "push_qos1":
            channel = replace(channel, large_qos=1)
        fields = [("set_id", record.key.job_id), ("workflow", record.workflow)]
        properties = PublishProperties(
            content_type=info.content_type,
            correlation_data=envelope.correlation,
            message_expiry=max(1, int(keep_s)),
            user_properties=[*fields, *echoed(envelope), *facts(info)],
        )
        topic = channel.topic(client=record.key.client, set_id=record.key.job_id, index=info.index)
        return packet_of(channel, topic, [(data, properties)], least(limit, envelope.max_packet))

    def result(
        self, key: Key, envelope: Envelope, result: bytes, limit: int | None
    ) -> list[Packet]:
        """Publish a result: on the set's topic, then at the Response Topic, if there is one."""
        limit = least(limit, envelope.max_packet)
        properties = self._properties(envelope)

        def bodies(topic: str) -> Iterator[tuple[bytes, PublishProperties]]:
            yield result, properties
            if limit is None:
                return
            with suppress(*UNREADABLE):
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
