from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from bridge.adapters.triggers.rules import Message, Rule
from bridge.config import ConfigError, Trigger
from bridge.contract.errors import InvalidInput
from bridge.contract.sources import Inline
from bridge.contract.topics import Topics

BUTTON = "zigbee2mqtt/button"


def rule(topic: str = BUTTON, workflow: str = "demo", **fields: Any) -> Rule:
    table = msgspec.convert({"name": "t", "topic": topic, "workflow": workflow, **fields}, Trigger)
    return Rule(table, Topics())


def message(payload: Any, topic: str = BUTTON) -> Message:
    return Message(topic, payload if isinstance(payload, bytes) else json.dumps(payload).encode())


EVENT = {
    "type": "new",
    "after": {"id": "1607123955.4-mxk", "label": "person", "camera": "front", "top_score": 0.8},
}


@pytest.mark.parametrize(
    ("when", "payload", "fires"),
    [
        (None, b"\xff\xd8", True),
        ("action == 'single'", {"action": "single"}, True),
        ("action == 'single'", {"action": "double"}, False),
        ("action == 'single'", {"battery": 97}, False),
        ("action", {"action": ""}, False),
        ("action", {"action": None}, False),
        ("contacts", {"contacts": 0}, True),
        ("contains(['single', 'double'], action)", {"action": "double"}, True),
        ("type == 'new' && after.label == 'person' && after.top_score > `0.7`", EVENT, True),
        ("type == 'new' && after.top_score > `0.9`", EVENT, False),
        ("@ == 'ON'", b"ON", True),
        ("@ == 'ON'", b"OFF", False),
        ("@ == 'ON'", b"\xff\xd8", False),
        ("starts_with(action, 'button_1')", {"action": "button_1_press"}, True),
        ("starts_with(action, 'button_1')", {"action": 5}, False),
    ],
)
def test_a_condition_is_asked_of_the_payload(
    when: str | None, payload: Any, *, fires: bool
) -> None:
    assert rule(when=when).fires(message(payload)) is fires


def test_only_what_matches_the_topic_fires() -> None:
    wide = rule("zigbee2mqtt/+/action")
    assert wide.fires(message(b"single", "zigbee2mqtt/button/action"))
    assert not wide.fires(message(b"single", "zigbee2mqtt/button"))


def test_inputs_are_constants_or_drawn_from_the_message() -> None:
    camera = {"path": "join('/', ['frigate', after.camera, after.label, 'snapshot'])"}
    found = rule(
        "frigate/events",
        inputs={
            "prompt": "a watercolour",
            "strength": 0.5,
            "label": {"path": "after.label"},
            "absent": {"path": "after.speed"},
            "image": {"topic": camera, "max_age_s": 10, "wait_s": 10},
            "raw": {"payload": True},
            "several": [1, {"path": "type"}],
        },
        job_id="after.id",
        show="hall",
        priority=5,
        start_within_s=60,
        output={"format": "jpeg"},
    ).submit(message(EVENT, "frigate/events"))
    assert found.inputs == {
        "prompt": "a watercolour",
        "strength": 0.5,
        "label": "person",
        "image": {"topic": "frigate/front/person/snapshot", "max_age_s": 10, "wait_s": 10},
        "raw": Inline(json.dumps(EVENT).encode()),
        "several": [1, "new"],
    }
    assert found.job_id == "1607123955_4-mxk"
    assert (found.show, found.priority, found.start_within_s) == ("hall", 5, 60)
    assert found.output.format == "jpeg"
    assert found.meta == msgspec.Raw(b'{"trigger":"t","topic":"frigate/events"}')
    assert found.replace is UNSET
    assert rule(replace=True).submit(message({})).replace == "t"


def test_a_message_without_an_id_gives_the_job_none() -> None:
    for payload in ({"id": None}, {"id": ""}, {"id": [1]}, {"id": True}, b"\xff"):
        assert rule(job_id="id").submit(message(payload)).job_id is UNSET
    assert rule(job_id="id").submit(message({"id": 7})).job_id == "7"
    assert rule(job_id="id").submit(message({"id": "x" * 80})).job_id == "x" * 64


def test_what_cannot_be_drawn_from_a_message_names_the_input() -> None:
    drawn = rule(inputs={"prompt": {"path": "join(' ', words)"}})
    with pytest.raises(InvalidInput) as caught:
        drawn.submit(message({"words": 5}))
    assert caught.value.details == {"input": "prompt"}


@pytest.mark.parametrize(
    "topic", ["#", "+/state", "comfy2mqtt/#", "comfy2mqtt/client/a/job/+/result", "+/+/+"]
)
def test_a_trigger_on_what_the_bridge_publishes_is_refused(topic: str) -> None:
    with pytest.raises(ConfigError, match="the bridge itself publishes"):
        rule(topic)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"topic": "a/#/b"}, "no topic filter"),
        ({"topic": "$share/g/a"}, "no topic filter"),
        ({"when": "action =="}, "when: 'action =='"),
        ({"when": "lenght(action)"}, "Unknown function: lenght"),
        ({"inputs": {"prompt": {"path": "a b"}}}, "inputs.prompt"),
        ({"inputs": {"image": {"topic": {"path": "("}}}}, "inputs.image"),
        ({"job_id": "join(a)"}, "job_id"),
        ({"output": {"format": "tiff"}}, "output"),
        ({"output": {"format": "jpeg", "dither": "1bit"}}, "dithered"),
    ],
)
def test_a_table_that_could_never_work_is_refused(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told) as caught:
        rule(**fields)
    assert str(caught.value).startswith("trigger.t.")
    assert "\n" not in str(caught.value)


@given(st.binary(max_size=200))
def test_no_payload_is_too_strange(payload: bytes) -> None:
    found = rule(
        when="action == 'x' || type(@) != 'null'", inputs={"a": {"path": "a.b[0]"}}, job_id="@"
    )
    found.fires(message(payload))
    found.submit(message(payload))


@pytest.mark.parametrize("depth", [301, 900, 960, 970, 980, 100_000])
def test_deeply_nested_json_is_no_trouble(depth: int) -> None:
    deep = message(b"[" * depth + b"]" * depth)
    assert not rule(when="action").fires(deep)
    # It counts as a text.
    assert rule(when="length(to_string(@)) > `300`").fires(deep)
    assert isinstance(rule(inputs={"a": {"path": "@"}}).submit(deep).inputs["a"], str)


def test_numbers_that_no_float_holds_have_no_average() -> None:
    huge = message(b"[1" + b"0" * 400 + b"]")
    assert not rule(when="avg(@) > `5`").fires(huge)
    with pytest.raises(InvalidInput):
        rule(inputs={"a": {"path": "avg(@)"}}).submit(huge)
