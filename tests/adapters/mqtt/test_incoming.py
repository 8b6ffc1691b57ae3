"""The decision about each PUBLISH that arrives, and the order of acknowledgements."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from bridge.adapters.mqtt.incoming import (
    delivery_of,
    flow_of,
    is_dropped,
    is_nameless,
    kind_of_other,
    needs_delivery,
    read_request,
)
from bridge.contract.topics import RequestTopic, Topics
from bridge.mqtt import Flow, Incoming

TOPICS = Topics()
TREE = "comfy2mqtt/client/alice"


def message(topic: str, **fields: Any) -> Incoming:
    common = {"payload": b"{}", "qos": 1, "retain": False, "dup": False, "mid": 7}
    return Incoming(topic=topic, **{**common, **fields})


def read(topic: str, **fields: Any) -> tuple[Any, str | None]:
    found = read_request(TOPICS, message(topic, **fields), delivery="d", room=None)
    assert found is not None
    return found.context, None if found.refusal is None else found.refusal.code


def test_a_request_is_read_with_all_that_its_packet_says() -> None:
    context, refusal = read(
        f"{TREE}/request/run/demo/j1",
        payload=b"hello",
        content_type="text/plain",
        user_properties=[("traceparent", "x")],
        response_topic=f"{TREE}/reply/here",
        correlation_data=b"c",
        message_expiry=30,
        dup=True,
    )
    assert refusal is None
    assert context.topic == RequestTopic("alice", "run", "demo", "j1")
    assert (context.payload, context.content_type) == (b"hello", "text/plain")
    assert context.user_properties == [("traceparent", "x")]
    assert context.response_topic == f"{TREE}/reply/here"
    assert (context.correlation, context.expiry_s) == (b"c", 30)
    assert (context.delivery, context.redelivered) == ("d", True)


@pytest.mark.parametrize(
    ("topic", "upload", "offset", "fin"),
    [("a", "a", None, False), ("a/12", "a", 12, False), ("a/fin", "a", None, True)],
)
def test_the_parts_of_an_upload_are_distinguished(
    topic: str,
    upload: str,
    offset: int | None,
    fin: bool,  # noqa: FBT001 - a row of the table
) -> None:
    context, refusal = read(f"{TREE}/request/upload/{topic}")
    assert refusal is None
    assert context.topic == RequestTopic("alice", "upload", upload=upload, offset=offset, fin=fin)


def test_a_retained_request_is_refused_with_what_clears_it() -> None:
    kept = message(f"{TREE}/request/run/demo", retain=True)
    found = read_request(TOPICS, kept, delivery=None, room=None)
    assert found is not None
    assert found.refusal is not None
    assert found.refusal.code == "bad_request"
    assert "an empty retained message clears" in found.refusal.message


@pytest.mark.parametrize(
    "topic",
    [
        "comfy2mqtt/client/bob/reply/here",
        "comfy2mqtt/client/alice/request/run/demo",
        "comfy2mqtt/client/alice/reply/",
        "comfy2mqtt/client/alice/reply/#",
        "elsewhere",
    ],
)
def test_a_response_topic_outside_the_clients_replies_is_refused_and_not_written_to(
    topic: str,
) -> None:
    context, refusal = read(f"{TREE}/request/run/demo", response_topic=topic)
    assert refusal == "forbidden"
    assert context.response_topic is None


def test_a_topic_of_the_wrong_shape_is_answered_on_the_verbs_own_topic() -> None:
    context, refusal = read(f"{TREE}/request/run/demo/j1/more")
    assert refusal == "bad_request"
    assert (context.client, context.verb) == ("alice", "run")


@pytest.mark.parametrize(
    "topic",
    [
        "comfy2mqtt/client/a b/request/run/demo",
        "comfy2mqtt/bridge/state",
        "other/topic",
        f"{TREE}/x",
    ],
)
def test_what_names_no_client_and_verb_is_no_request(topic: str) -> None:
    assert read_request(TOPICS, message(topic), delivery=None, room=None) is None


@pytest.mark.parametrize(
    ("topic", "nameless"),
    [
        ("comfy2mqtt/client/my phone/request/run/demo", True),
        ("comfy2mqtt/client/kitchen.1/request/list", True),
        ("comfy2mqtt/client/alice/request", True),
        (f"{TREE}/request/run/demo", False),
        (f"{TREE}/request/run/de mo", False),  # refused, with an answer
        ("comfy2mqtt/bridge/state", False),
        ("cameras/front", False),
    ],
)
def test_a_request_that_nobody_can_be_answered_is_known(
    topic: str,
    nameless: bool,  # noqa: FBT001 - a row of the table
) -> None:
    assert is_nameless(TOPICS, message(topic)) is nameless


def test_a_flood_is_known_by_its_client_at_any_qos() -> None:
    def would_drop(client: str) -> bool:
        return client == "alice"

    assert is_dropped(TOPICS, message(f"{TREE}/request/list", qos=0), would_drop)
    assert is_dropped(TOPICS, message(f"{TREE}/request/list", qos=1), would_drop)
    assert not is_dropped(TOPICS, message("comfy2mqtt/client/bob/request/list", qos=0), would_drop)
    assert not is_dropped(TOPICS, message("cameras/front", qos=0), would_drop)


@pytest.mark.parametrize(
    ("topic", "fields", "clustered", "kind"),
    [
        ("comfy2mqtt/workflow/old", {"retain": True}, False, "leftover"),
        ("comfy2mqtt/bridge/comfyui/x", {"retain": True}, False, "leftover"),
        ("comfy2mqtt/workflow/old", {"retain": True, "payload": b""}, False, None),
        ("comfy2mqtt/workflow/old", {}, False, None),
        ("comfy2mqtt/workflow/old", {}, True, "leftover"),
        ("cameras/front", {}, False, "input"),
        ("cameras/front/large", {}, False, None),
        ("comfy2mqtt/bridge/info", {"retain": True}, False, None),
    ],
)
def test_what_is_no_request_is_a_leftover_an_input_or_others_business(
    topic: str,
    fields: dict[str, Any],
    clustered: bool,  # noqa: FBT001 - a row of the table
    kind: str | None,
) -> None:
    found = kind_of_other(TOPICS, message(topic, **fields), ["cameras/+"], clustered=clustered)
    assert found == kind


@pytest.mark.parametrize(
    ("topic", "qos", "needed"),
    [
        (f"{TREE}/request/run/demo", 1, True),
        (f"{TREE}/request/submit", 1, True),
        (f"{TREE}/request/submit", 0, False),
        (f"{TREE}/request/upload/a/0", 1, False),
        (f"{TREE}/request/list", 1, False),
        (f"{TREE}/elsewhere", 1, False),
        ("zigbee2mqtt/button", 1, True),
        ("zigbee2mqtt/button", 0, False),
    ],
)
def test_a_delivery_is_named_where_it_may_make_a_job(
    topic: str,
    qos: int,
    needed: bool,  # noqa: FBT001 - a row of the table
) -> None:
    assert needs_delivery(TOPICS, message(topic, qos=qos)) is needed


def test_a_delivery_is_named_by_session_packet_id_topic_and_payload() -> None:
    # As in the journals of before: the same delivery must be known after an update.
    digest = hashlib.sha256(b"t\0{}").hexdigest()
    assert delivery_of("s", message("t")) == f"s:7:{digest}"
    names = {
        delivery_of(session, message(topic, payload=payload, mid=mid))
        for session in ("s", "r")
        for topic in ("t", "u")
        for payload in (b"1", b"2")
        for mid in (1, 2)
    }
    assert len(names) == 16


def test_a_client_has_a_turn_of_its_own_once_it_is_known_and_new_ones_share_one() -> None:
    def flow(topic: str, client: str = "alice") -> Any:
        return flow_of(TOPICS, message(topic), lambda each: each == client)

    assert flow(f"{TREE}/request/list") == Flow("alice", "alice")
    new = flow(f"{TREE}/request/list", "bob")
    other = flow("comfy2mqtt/client/carol/request/list", "bob")
    assert (new.sender, other.sender) == ("alice", "carol")
    assert new.name == other.name not in ("alice", "carol", "bob")
    assert flow("cameras/door") is None
