"""The publisher without a broker: what is sent, dropped, logged and noted as delivered."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, cast

import pytest
from msgspec import Raw

from bridge.adapters.mqtt import logtopic
from bridge.adapters.mqtt.publisher import Publisher
from bridge.contract.messages import AckReport, Part, Progress
from bridge.contract.topics import Topics
from bridge.jobs.journal import Unpublished
from bridge.jobs.journal.sets import SetRecord
from bridge.jobs.queue import Key
from bridge.mqtt import (
    Connection,
    ConnectionLost,
    MqttError,
    PacketTooLarge,
    PubAck,
    Publish,
    PublishRefused,
)
from bridge.requests.context import Answer, PartBytes
from tests.adapters.mqtt.events import KEY, REPLY, TREE, asked, job, output, result, status

MEGA = 1024 * 1024


class Broker:
    """Takes what it is sent."""

    def __init__(self, limit: int | None = None) -> None:
        self.packet_limit = limit
        self.buffered = 0
        self.lost = False
        self.sent: list[Publish] = []
        self.acks: list[asyncio.Future[PubAck]] = []

    def send(self, publish: Publish) -> asyncio.Future[PubAck]:
        if self.lost:
            raise ConnectionLost("gone")
        assert self.packet_limit is None or publish.size <= self.packet_limit
        self.sent.append(publish)
        self.acks.append(asyncio.get_running_loop().create_future())
        return self.acks[-1]

    @property
    def topics(self) -> list[str]:
        return [each.topic for each in self.sent]


def publisher(broker: Broker | None = None, **changes: Any) -> tuple[Publisher, list[Key]]:
    """Return a publisher that has caught up with the broker, and what was delivered."""
    delivered: list[Key] = []
    made = Publisher(
        Topics(), delivered=delivered.append, keep_results_s=9, keep_outputs_s=9, **changes
    )
    if broker is not None:
        made.attach(cast("Connection", broker))
        made.catch_up([])
    return made, delivered


async def test_a_result_counts_as_delivered_once_the_broker_has_it() -> None:
    broker = Broker()
    made, delivered = publisher(broker)
    made.result(KEY, job(response_topic=REPLY).envelope, result())
    assert broker.topics == [f"{TREE}/job/j1/result", REPLY]
    await asyncio.sleep(0)
    assert delivered == []
    broker.acks[0].set_result(PubAck())
    await asyncio.sleep(0)
    assert delivered == [KEY]


@pytest.mark.parametrize(
    "error", [PublishRefused("t", 0x87), ConnectionLost("gone")], ids=["refused", "lost"]
)
async def test_a_result_that_the_broker_refuses_or_that_is_lost_is_not_delivered(
    error: MqttError, caplog: pytest.LogCaptureFixture
) -> None:
    broker = Broker()
    made, delivered = publisher(broker)
    made.result(KEY, job().envelope, result())
    broker.acks[0].set_exception(error)
    await asyncio.sleep(0)
    assert delivered == []
    assert ("refused" in caplog.text) is isinstance(error, PublishRefused)


async def test_without_a_broker_nothing_is_published() -> None:
    made, delivered = publisher()
    made.result(KEY, job().envelope, result())
    made.status(job(), status())
    assert made.output(job(), output(1), b"x") is None
    assert not made.connected
    assert delivered == []
    broker = Broker()
    made.attach(cast("Connection", broker))
    made.detach(None)
    made.status(job(), status())
    assert broker.sent == []


async def test_a_bridge_that_was_frozen_does_not_publish() -> None:
    broker = Broker()
    holds = False
    made, _ = publisher(broker, may_publish=lambda: holds)
    made.status(job(), status())
    made.result(KEY, job().envelope, result())
    made.answer(asked(), Answer(data=AckReport(acked=1)))
    made.publish("comfy2mqtt/bridge/event", {"a": 1})
    assert made.output(job(), output(1), b"x") is None
    assert broker.sent == []
    holds = True
    made.publish("comfy2mqtt/bridge/event", {"a": 1})
    assert broker.topics == ["comfy2mqtt/bridge/event"]


async def test_after_a_connection_nothing_with_a_number_passes_what_is_missing() -> None:
    broker = Broker()
    made, _ = publisher()
    made.attach(cast("Connection", broker))
    made.result(Key("alice", "j2"), job().envelope, result())
    made.status(job(), status())
    made.publish("comfy2mqtt/bridge/event", {"a": 1})
    assert broker.topics == ["comfy2mqtt/bridge/event"]
    missing = [
        Unpublished(Key("alice", "j1"), job().envelope, result()),
        Unpublished(Key("alice", "s1"), job().envelope, result(), of_set=True),
        Unpublished(Key("alice", "j2"), job().envelope, result()),
    ]
    made.catch_up(missing)
    made.status(job(), status())
    assert broker.topics[1:] == [
        f"{TREE}/job/j1/result",
        f"{TREE}/set/s1/result",
        f"{TREE}/job/j2/result",
        f"{TREE}/job/j1/status",
    ]


async def test_a_sets_result_has_its_turn_and_is_noted_once_the_broker_has_it() -> None:
    broker = Broker()
    noted: list[Key] = []
    made, _ = publisher(set_delivered=noted.append)
    made.attach(cast("Connection", broker))
    made.set_result(KEY, job().envelope, result())
    assert broker.sent == []
    made.catch_up([])
    for _ in range(2):
        made.set_result(KEY, job().envelope, result())
    broker.acks[0].set_result(PubAck())
    broker.acks[1].set_exception(PublishRefused("t", 0x87))
    await asyncio.sleep(0)
    assert noted == [KEY]
    broker.lost = True
    made.set_result(KEY, job().envelope, result())
    assert made.behind


async def test_once_a_result_could_not_be_sent_nothing_with_a_number_is_until_it_was() -> None:
    broker = Broker()
    holds = False
    made, _ = publisher(broker, may_publish=lambda: holds)
    holds = True
    made.catch_up([])
    holds = False
    made.result(KEY, job().envelope, result())
    holds = True
    assert made.behind
    made.status(job(), status())
    assert broker.sent == []
    made.catch_up([Unpublished(KEY, job().envelope, result())])
    made.status(job(), status())
    assert broker.topics == [f"{TREE}/job/j1/result", f"{TREE}/job/j1/status"]
    broker.lost = True
    made.result(KEY, job().envelope, result())
    assert made.behind


async def test_a_dead_bridges_result_waits_for_no_turn() -> None:
    broker = Broker()
    made, delivered = publisher()
    made.attach(cast("Connection", broker))
    made.orphaned_result(KEY, job().envelope, result())
    broker.acks[0].set_result(PubAck())
    await asyncio.sleep(0)
    assert delivered == [KEY]


async def test_a_result_that_the_broker_does_not_take_is_noted_and_the_next_ones_go_on() -> None:
    broker = Broker(limit=60)
    passed: list[Key] = []
    made, _ = publisher(broker, passed_over=passed.append)
    made.result(KEY, job().envelope, result())
    assert passed == [KEY]
    broker.packet_limit = None
    made.result(Key("alice", "j2"), job().envelope, result())
    broker.acks[0].set_exception(PublishRefused("t", 0x87))
    await asyncio.sleep(0)
    assert passed == [KEY, Key("alice", "j2")]
    assert not made.behind


async def test_an_outputs_topic_is_named_only_if_its_bytes_went_everywhere() -> None:
    broker = Broker(2000)
    made, _ = publisher(broker)
    subject = job(response_topic=REPLY, reply_output=True)
    assert made.output(subject, output(10), bytes(10)) == f"{TREE}/job/j1/output/0"
    assert broker.topics == [REPLY, f"{TREE}/job/j1/output/0"]
    broker.sent.clear()
    # It fits at one topic, and at the other by a few bytes not.
    sizes = [
        size
        for size in range(1000, 2000)
        if made.output(subject, output(size), bytes(size)) is None
    ]
    assert len({each.topic for each in broker.sent}) == 2
    assert len(broker.sent) == 2 * (min(sizes) - 1000)


async def test_what_a_set_has_collected_is_published_as_outputs_are() -> None:
    broker = Broker(2000)
    made, _ = publisher(broker)
    envelope = job(transaction="t", meta=Raw(b"[1]"), deliver="push_qos1").envelope
    record = SetRecord(
        key=Key("alice", "s1"),
        workflow="demo",
        fingerprint=b"",
        state="running",
        total=1,
        made=1,
        waits=False,
        accepted_at=0.0,
        envelope=envelope,
        n=1,
    )
    assert made.set_output(record, output(10), bytes(10), 7.9) == f"{TREE}/set/s1/output/0"
    (sent,) = broker.sent
    facts = dict(sent.properties.user_properties)
    assert facts.items() >= {
        ("set_id", "s1"),
        ("workflow", "demo"),
        ("transaction", "t"),
        ("meta", "[1]"),
        ("size", "10"),
    }
    assert "job_id" not in facts
    assert (sent.qos, sent.properties.message_expiry) == (1, 7)
    assert made.set_output(record, output(3000), bytes(3000), 7.9) is None
    part = Part(
        set_id="s1", output=2, offset=5, count=1, size=6, sha256="0", content_type="image/png"
    )
    made.answer(asked(verb="fetch"), Answer(data=part, bytes=PartBytes(part, b"x")))
    assert broker.topics[1:] == [f"{TREE}/set/s1/part/2/5", f"{TREE}/response/fetch"]


async def test_crowded_lines_drop_what_can_be_done_without() -> None:
    broker = Broker()
    made, _ = publisher(broker)
    progress = Progress(job_id="j1", workflow="demo", percent=50.0)
    broker.buffered = MEGA + 1
    made.progress(job(), progress)
    made.preview(job(), "image/jpeg", b"x")
    made.transient("t", b"x", "image/jpeg")
    assert broker.sent == []
    made.answer(asked(), Answer(data=AckReport(acked=1)))
    assert made.output(job(), output(1), b"x") is not None
    broker.buffered = 64 * MEGA + 1
    made.answer(asked(), Answer(data=AckReport(acked=1)))
    assert made.output(job(), output(1), b"x") is None
    assert len(broker.sent) == 2
    made.status(job(), status())
    made.result(KEY, job().envelope, result())
    assert len(broker.sent) == 4


async def test_what_was_shortened_is_logged_once_for_each_kind(
    caplog: pytest.LogCaptureFixture,
) -> None:
    broker = Broker(400)
    made, _ = publisher(broker)
    for _ in range(3):
        made.status(job(), status(b'"%s"' % (b"m" * 500)))
    assert len(broker.sent) == 3
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "shortened" in caplog.text


async def test_response_topics_that_a_client_makes_up_are_warned_of_once_and_briefly(
    caplog: pytest.LogCaptureFixture,
) -> None:
    made, _ = publisher(Broker())
    for number in range(3):
        topic = f"comfy2mqtt/client/alice/reply/{number}{'/' * 300}{'x' * 10_000}"
        made.answer(asked(response_topic=topic), Answer(data=AckReport(acked=1)))
    (line,) = caplog.messages
    assert len(line) < 2000


async def test_an_output_above_the_devices_own_limit_is_not_warned_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    made, _ = publisher(Broker())
    assert made.output(job(max_packet=1024), output(2000), bytes(2000)) is None
    assert caplog.records == []
    made, _ = publisher(Broker(1024))
    assert made.output(job(), output(2000), bytes(2000)) is None
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


async def test_answers_and_results_beside_large_correlation_data_are_published() -> None:
    broker = Broker(2048)
    made, _ = publisher(broker)
    made.answer(asked(correlation=b"c" * 2000), Answer(data=AckReport(acked=1)))
    made.result(KEY, job(correlation=b"c" * 900, max_packet=1024).envelope, result())
    assert broker.topics == [f"{TREE}/response/ack", f"{TREE}/job/j1/result"]


async def test_a_brokers_silent_limit_is_learnt(caplog: pytest.LogCaptureFixture) -> None:
    broker = Broker()
    made, _ = publisher(broker)
    made.publish("t", bytes(5000))
    made.publish("t", bytes(100))
    before = made.packet_limit
    assert before is None
    made.detach(ConnectionLost("too large", 0x95))
    assert made.packet_limit == 4096
    assert "a packet of 5000 bytes" in caplog.text
    made.attach(cast("Connection", broker))
    made.publish("t", bytes(5000))
    assert len(broker.sent) == 2


async def test_the_room_is_that_of_the_broker_and_the_device() -> None:
    made, _ = publisher(Broker(5000))
    wide, narrow = (
        made.result_room(KEY, job().envelope),
        made.result_room(KEY, job(max_packet=1024).envelope),
    )
    assert wide is not None
    assert narrow is not None
    assert wide - narrow == pytest.approx(5000 - 1024, abs=2)
    assert made.answer_room(asked(), "t", 2000) == pytest.approx(2000, abs=200)
    unlimited, _ = publisher(Broker())
    assert unlimited.result_room(KEY, job().envelope) is None
    assert unlimited.answer_room(asked(), "t") is None
    assert unlimited.image_room("t", "image/jpeg", []) is None


async def test_an_image_that_the_broker_does_not_take_is_an_error() -> None:
    broker = Broker(1000)
    made, _ = publisher(broker)
    with pytest.raises(PacketTooLarge):
        made.image("t", bytes(2000), "image/png", [])
    made.image("t", bytes(900), "image/png", [])
    assert broker.topics == ["t"]
    assert broker.sent[0].retain


async def test_a_connection_that_was_just_lost_loses_the_message_quietly() -> None:
    broker = Broker()
    broker.lost = True
    made, delivered = publisher(broker)
    made.result(KEY, job().envelope, result())
    assert made.output(job(), output(1), b"x") is None
    assert delivered == []


async def test_an_operators_command_is_answered_on_its_topic() -> None:
    broker = Broker()
    made, _ = publisher(broker)
    made.answer_command("queue/pause", Answer(data={"paused": True}, transaction="t"), b"c")
    (publish,) = broker.sent
    assert publish.topic == "comfy2mqtt/bridge/response/queue/pause"
    assert publish.properties.correlation_data == b"c"


async def test_a_broker_that_refuses_the_log_is_not_asked_again_for_its_refusals() -> None:
    broker = Broker()
    made, _ = publisher(broker)
    with logtopic.publishing(lambda line: made.publish("comfy2mqtt/bridge/log", line), []):
        logging.getLogger("bridge").warning("something")
        for turn in range(20):
            await asyncio.sleep(0)
            for sent in broker.acks[turn : turn + 1]:
                sent.set_exception(PublishRefused("comfy2mqtt/bridge/log", 0x87))
    # The warning, and once that it was refused.
    assert len(broker.sent) == 2
