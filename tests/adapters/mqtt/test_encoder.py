"""The packet of each event: topic, QoS, retain, expiry, properties, and its size."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET, Raw

from bridge.adapters.mqtt.encoder import Encoder, Packet
from bridge.adapters.mqtt.set_encoder import SetEncoder
from bridge.contract.channels import LARGE_BYTES, Bytes, channels
from bridge.contract.errors import Conflict
from bridge.contract.messages import Accepted, AckReport, JobList, Part, Progress
from bridge.contract.topics import Topics
from bridge.mqtt import InvalidMessage, PacketTooLarge, Publish
from bridge.requests.context import Answer, PartBytes
from tests.adapters.mqtt.events import KEY, REPLY, TREE, asked, job, output, result, status

ENCODER = Encoder(Topics(), {"keep_results_s": 700.0, "keep_outputs_s": 80.0})
SMALL, LARGE = bytes(LARGE_BYTES), bytes(LARGE_BYTES + 1)
TRACE = "00-" + "1" * 32 + "-" + "2" * 16 + "-01"
EVERYTHING: dict[str, Any] = {
    "correlation": b"c",
    "transaction": "t",
    "meta": Raw(b'{"room": "hall"}'),
    "traceparent": TRACE,
    "tracestate": "vendor=1",
}


def sent(packet: Packet) -> Publish:
    assert packet.problem is None
    assert packet.publish is not None
    return packet.publish


def body(packet: Packet) -> Any:
    return json.loads(bytes(sent(packet).payload))


def test_every_event_of_a_job_is_published_as_the_table_says() -> None:
    subject = job(**EVERYTHING)
    table = {each.name: each for each in channels(Topics())}
    progress = Progress(job_id="j1", workflow="demo", percent=50.0)
    events = {
        "jobStatus": ENCODER.status(subject, status(), None),
        "jobProgress": ENCODER.progress(subject, progress, None),
        "jobPreview": ENCODER.preview(subject, "image/jpeg", b"x", None),
        "jobOutput": ENCODER.output(subject, output(1), b"x", None),
        "jobResult": ENCODER.result(KEY, subject.envelope, result(), None),
    }
    for name, (packet,) in events.items():
        channel, publish = table[name], sent(packet)
        assert publish.topic == channel.topic(client="alice", job_id="j1", index=0)
        assert publish.qos == channel.qos
        assert publish.retain is channel.retain is False
        assert packet.drop_above == channel.drop_above
        expiry = {"keep_results_s": 700, "keep_outputs_s": 80, None: None}[channel.expiry]
        assert publish.properties.message_expiry == expiry
        (message,) = channel.messages
        if isinstance(message, Bytes):
            names = {name for name, _ in publish.properties.user_properties}
            assert names - {"index"} <= set(message.properties)
            assert {
                "job_id",
                "workflow",
                "transaction",
                "meta",
                "traceparent",
                "tracestate",
            } <= names


def test_messages_of_a_job_are_cloudevents_where_that_is_set() -> None:
    expiry = {"keep_results_s": 700.0, "keep_outputs_s": 80.0}
    made = Encoder(Topics("base"), expiry, cloudevents=True)  # type: ignore[arg-type]  # literals
    subject = job()
    for packets, kind, number in (
        (made.status(subject, status(), None), "status", f"/{status().n}"),
        (made.output(subject, output(1), b"x", None), "output", "/0"),
        (made.result(KEY, subject.envelope, result(), None), "result", ""),
    ):
        found = dict(sent(packets[0]).properties.user_properties)
        assert found.items() >= {
            ("specversion", "1.0"),
            ("type", f"comfy2mqtt.job.{kind}"),
            ("source", "base"),
            ("subject", "alice/j1"),
            ("id", f"alice/j1/{kind}{number}"),
        }
    room = made.result_room(KEY, subject.envelope, 2000)
    plain = ENCODER.result_room(KEY, subject.envelope, 2000)
    assert room is not None
    assert plain is not None
    assert room < plain


def test_the_correlation_data_goes_with_status_outputs_and_result() -> None:
    subject = job(**EVERYTHING)
    progress = Progress(job_id="j1", workflow="demo", percent=50.0)
    for packets, expected in (
        (ENCODER.status(subject, status(), None), b"c"),
        (ENCODER.output(subject, output(1), b"x", None), b"c"),
        (ENCODER.result(KEY, subject.envelope, result(), None), b"c"),
        (ENCODER.progress(subject, progress, None), None),
        (ENCODER.preview(subject, "image/jpeg", b"x", None), None),
    ):
        assert sent(packets[0]).properties.correlation_data == expected


@pytest.mark.parametrize(
    ("data", "deliver", "qos"),
    [(SMALL, "push", 1), (LARGE, "push", 0), (LARGE, "push_qos1", 1), (SMALL, "push_qos1", 1)],
)
def test_a_large_output_goes_at_qos_0_unless_qos_1_was_asked_for(
    data: bytes, deliver: str, qos: int
) -> None:
    (packet,) = ENCODER.output(job(deliver=deliver), output(len(data)), data, None)
    assert sent(packet).qos == qos


def test_an_output_is_kept_by_the_broker_as_long_as_the_request_says() -> None:
    (packet,) = ENCODER.output(job(keep_s=7.9), output(1), b"x", None)
    assert sent(packet).properties.message_expiry == 7
    (packet,) = ENCODER.output(job(keep_s=0.2), output(1), b"x", None)
    assert sent(packet).properties.message_expiry == 1


def test_the_first_output_goes_to_the_response_topic_first_where_that_was_asked_for() -> None:
    subject = job(response_topic=REPLY, reply_output=True)
    packets = ENCODER.output(subject, output(1), b"x", None)
    assert [packet.topic for packet in packets] == [REPLY, f"{TREE}/job/j1/output/0"]
    packets = ENCODER.output(subject, output(1, index=1), b"x", None)
    assert [packet.topic for packet in packets] == [f"{TREE}/job/j1/output/1"]


@pytest.mark.parametrize(
    ("topic", "topics"),
    [("t", [f"{TREE}/job/j1/result"]), (None, [f"{TREE}/job/j1/result", REPLY])],
)
def test_a_result_goes_to_the_response_topic_unless_that_got_the_output(
    topic: str | None, topics: list[str]
) -> None:
    envelope = job(response_topic=REPLY, reply_output=True).envelope
    info = output(1)
    found = result(
        outputs=[info if topic is None else type(info)(**{**_fields(info), "topic": topic})]
    )
    packets = ENCODER.result(KEY, envelope, found, None)
    assert [packet.topic for packet in packets] == topics
    assert all(sent(packet).payload == found for packet in packets)


def _fields(info: Any) -> dict[str, Any]:
    return {name: getattr(info, name) for name in info.__struct_fields__}


def test_control_characters_do_not_get_into_properties() -> None:
    subject = job(meta=Raw(b'"a\nb"'), transaction="x\ty")
    (packet,) = ENCODER.preview(subject, "image/jpeg", b"x", None)
    properties = dict(sent(packet).properties.user_properties)
    assert properties["meta"] == '"a b"'
    assert properties["transaction"] == "x y"


# What does not fit.


def test_a_status_leaves_out_meta_then_the_correlation_data() -> None:
    subject = job(correlation=b"c" * 300)
    (packet,) = ENCODER.status(subject, status(b'"%s"' % (b"m" * 500)), 600)
    assert "meta" not in body(packet)
    assert sent(packet).properties.correlation_data == b"c" * 300
    assert packet.shortened
    (packet,) = ENCODER.status(subject, status(b'"%s"' % (b"m" * 500)), 400)
    assert sent(packet).properties.correlation_data is None


def test_the_requests_own_limit_holds_as_the_brokers_does() -> None:
    (packet,) = ENCODER.status(job(max_packet=400), status(b'"%s"' % (b"m" * 500)), None)
    assert sent(packet).size <= 400
    (packet,) = ENCODER.output(job(max_packet=1024), output(2000), bytes(2000), 100_000)
    assert isinstance(packet.problem, PacketTooLarge)
    assert packet.problem.limit == 1024


def test_an_answer_that_is_too_large_is_answered_by_an_error() -> None:
    view = Answer(data=JobList(jobs=[], more=False), transaction="t" * 200)
    (packet,) = ENCODER.answer(asked("list"), view, None)
    exact = sent(packet).size
    (packet,) = ENCODER.answer(asked("list"), view, exact)
    assert body(packet)["status"] == "ok"
    assert not packet.shortened
    big = Answer(data={"prompt": "x" * 4000}, transaction="t")
    (packet,) = ENCODER.answer(asked("recipe"), big, 1000)
    assert body(packet)["error"]["code"] == "too_large"
    assert body(packet)["error"]["details"]["limit"] == 1000
    assert packet.shortened


def test_an_answer_beside_large_correlation_data_goes_without_it() -> None:
    question = asked("ack", correlation=b"c" * 2000)
    (packet,) = ENCODER.answer(question, Answer(data=AckReport(acked=1)), 2048)
    assert body(packet) == {"status": "ok", "data": {"acked": 1}}
    assert sent(packet).properties.correlation_data is None
    assert packet.shortened


def test_a_result_beside_large_correlation_data_goes_without_it() -> None:
    envelope = job(correlation=b"c" * 900, max_packet=1024).envelope
    found = result(inputs={"prompt": "p" * 400})
    (packet,) = ENCODER.result(KEY, envelope, found, None)
    assert sent(packet).payload == found
    assert sent(packet).properties.correlation_data is None


def test_a_result_that_a_smaller_broker_does_not_take_is_cut() -> None:
    envelope = job(correlation=b"c", response_topic=REPLY).envelope
    found = result(inputs={"prompt": "p" * 4000}, outputs=[output(1)])
    packets = ENCODER.result(KEY, envelope, found, 1024)
    assert len(packets) == 2
    for packet in packets:
        assert body(packet)["inputs"] == {}
        assert body(packet)["state"] == "succeeded"
        assert sent(packet).properties.correlation_data == b"c"
        assert sent(packet).size <= 1024


@pytest.mark.parametrize("limit", [None, 1024])
def test_a_result_that_cannot_be_read_is_published_as_it_is_or_not_at_all(
    limit: int | None,
) -> None:
    # Of a `meta` that an earlier version accepted.
    deep = b'{"outputs": [], "meta": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    envelope = job(response_topic=REPLY, reply_output=True).envelope
    sets = SetEncoder(Topics("comfy2mqtt"), 3600.0)
    for packets in (
        ENCODER.result(KEY, envelope, deep, limit),
        sets.result(KEY, envelope, deep, limit),
    ):
        payloads = [each.publish and each.publish.payload for each in packets]
        assert payloads == [deep if limit is None else None] * 2


@given(limit=st.integers(1024, 70_000), correlation=st.binary(max_size=1500))
def test_the_room_of_a_result_is_exact(limit: int, correlation: bytes) -> None:
    envelope = job(correlation=correlation, response_topic=REPLY, traceparent=TRACE).envelope
    room = ENCODER.result_room(KEY, envelope, limit)
    assert room is not None
    filled = result(inputs={"p": ""})
    filled = result(inputs={"p": "x" * (room - len(filled))})
    assert len(filled) == room
    packets = ENCODER.result(KEY, envelope, filled, limit)
    assert all(sent(packet).payload == filled for packet in packets)
    # One or two bytes may be left where the packet's own length grows by one.
    assert limit - max(sent(packet).size for packet in packets) <= 1
    over = result(inputs={"p": "x" * (room - len(result(inputs={"p": ""})) + 2)})
    assert any(
        sent(packet).payload != over for packet in ENCODER.result(KEY, envelope, over, limit)
    )


def test_a_result_without_any_limit_may_have_any_size() -> None:
    assert ENCODER.result_room(KEY, job().envelope, None) is None


def test_the_room_of_an_answer_and_of_a_part_is_exact() -> None:
    question = asked("fetch", correlation=b"c" * 50, response_topic=REPLY)
    part = Part(
        job_id="j1",
        output=0,
        offset=1234,
        count=1,
        size=9999,
        sha256="0" * 64,
        content_type="image/png",
        next=1235,
    )
    room = ENCODER.part_room(question, UNSET, part, 1200)
    answer = Answer(data=part, bytes=PartBytes(part, bytes(room)))
    first, response, reply = ENCODER.answer(question, answer, 1200)
    assert first.topic == f"{TREE}/job/j1/part/0/1234"
    assert sent(first).size == 1200
    assert sent(first).properties.content_type == "image/png"
    assert response.topic == f"{TREE}/response/fetch"
    assert reply.topic == REPLY
    space = ENCODER.answer_room(question, "t", 1200)
    around = len(sent(ENCODER.answer(question, Answer(data="", transaction="t"), None)[0]).payload)
    full = Answer(data="x" * (space - around), transaction="t")
    packets = ENCODER.answer(question, full, 1200)
    assert not any(packet.shortened for packet in packets)
    assert max(sent(packet).size for packet in packets) == 1200


# Response Topics.


def test_the_response_topic_gets_a_refused_jobs_error_as_a_failed_result() -> None:
    error = Conflict("the id is taken", job_id="j1")
    packets = ENCODER.answer(
        asked("run", response_topic=REPLY), Answer(error=error, transaction="t"), None
    )
    assert [packet.topic for packet in packets] == [f"{TREE}/response/run", REPLY]
    assert body(packets[0])["status"] == "error"
    assert body(packets[1]) == {
        "state": "failed",
        "outputs": [],
        "error": {"code": "conflict", "message": "the id is taken", "details": {"job_id": "j1"}},
        "transaction": "t",
    }


def test_the_response_topic_gets_nothing_of_an_accepted_job_until_its_result() -> None:
    accepted = Accepted(job_id="j1", workflow="demo", state="queued")
    packets = ENCODER.answer(asked("run", response_topic=REPLY), Answer(data=accepted), None)
    assert [packet.topic for packet in packets] == [f"{TREE}/response/run"]
    again = Accepted(job_id="j1", workflow="demo", state="succeeded", result=Raw(result()))
    packets = ENCODER.answer(asked("run", response_topic=REPLY), Answer(data=again), None)
    assert sent(packets[1]).topic == REPLY
    assert sent(packets[1]).payload == result()


def test_the_transaction_is_the_correlation_data_of_who_has_none() -> None:
    (packet,) = ENCODER.answer(asked(), Answer(data=AckReport(acked=1), transaction="t"), None)
    assert sent(packet).properties.correlation_data == b"t"
    (packet,) = ENCODER.answer(
        asked(correlation=b"c"), Answer(data=AckReport(acked=1), transaction="t"), None
    )
    assert sent(packet).properties.correlation_data == b"c"


def test_an_unknown_verb_is_answered_on_its_own_topic() -> None:
    (packet,) = ENCODER.answer(asked("dance"), Answer(error=Conflict("no")), None)
    assert packet.topic == f"{TREE}/response/dance"
    assert sent(packet).qos == 1


def test_a_topic_that_no_packet_can_carry_costs_that_packet_alone() -> None:
    envelope = job(response_topic="a\nb").envelope
    first, second = ENCODER.result(KEY, envelope, result(), None)
    assert sent(first).payload == result()
    assert isinstance(second.problem, InvalidMessage)


# The bridge's own.


def test_what_the_bridge_retains_and_its_events() -> None:
    retained = ENCODER.own("comfy2mqtt/bridge/info", {"a": 1}, None, retain=True, expiry_s=120.0)
    assert sent(retained).retain
    assert sent(retained).qos == 1
    assert sent(retained).properties.message_expiry == 120
    assert sent(retained).properties.content_type == "application/json"
    cleared = ENCODER.own("comfy2mqtt/workflow/x", None, None, retain=True)
    assert sent(cleared).payload == b""
    event = ENCODER.own("comfy2mqtt/bridge/event", b"raw", None)
    assert not sent(event).retain
    assert sent(event).properties.content_type is None


def test_an_image_is_retained_and_large_goes_at_qos_0() -> None:
    topic = "comfy2mqtt/display/hall/image"
    for data, qos in ((SMALL, 1), (LARGE, 0)):
        packet = ENCODER.image(topic, data, "image/png", [("name", "hall")], None)
        assert sent(packet).qos == qos
        assert sent(packet).retain
    room = ENCODER.image_room(topic, "image/png", [("name", "hall")], 1000)
    assert (
        sent(ENCODER.image(topic, bytes(room), "image/png", [("name", "hall")], 1000)).size == 1000
    )


def test_what_is_only_worth_seeing_now_is_a_preview() -> None:
    packet = ENCODER.transient("comfy2mqtt/homeassistant/demo/preview", b"x", "image/jpeg", None)
    assert sent(packet).qos == 0
    assert not sent(packet).retain
    assert packet.drop_above is not None


def test_every_topic_of_the_table_can_be_written() -> None:
    for channel in channels(Topics("base")):
        levels = dict.fromkeys(re.findall(r"\{(\w+)\}", channel.address), "x")
        assert channel.topic(**levels).startswith("base/")
        assert "{" not in channel.topic(**levels)
