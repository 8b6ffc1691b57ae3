from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.contract.errors import BadRequest
from bridge.contract.operator import (
    VERBS,
    ClearQueue,
    ListQueue,
    SetLogLevel,
    Start,
    Stop,
    Yield,
    decode,
)
from bridge.contract.topics import Topics

TOPICS = Topics()


@pytest.mark.parametrize(
    ("verb", "payload", "command"),
    [
        ("comfyui/start", b"", Start()),
        ("comfyui/stop", b" gpu0\n", Stop(instance="gpu0")),
        ("comfyui/stop", b'{"instance": "gpu0"}', Stop(instance="gpu0")),
        ("comfyui/yield", b'{"finish": false}', Yield(finish=False)),
        ("queue/list", b"alice", ListQueue(client="alice")),
        ("queue/clear", b"{}", ClearQueue()),
        ("log_level", b"debug", SetLogLevel(level="debug")),
    ],
)
def test_a_payload_is_nothing_a_name_or_an_object(
    verb: str, payload: bytes, command: object
) -> None:
    assert decode(verb, payload) == command


@pytest.mark.parametrize(
    ("verb", "payload", "field"),
    [
        ("comfyui/stop", b"a name", "instance"),
        ("comfyui/stop", b'{"instanse": "x"}', "instanse"),
        ("comfyui/yield", b'{"finish": 1}', "finish"),
        ("log_level", b"loud", "level"),
        ("queue/list", b'{"limit": 0}', "limit"),
    ],
)
def test_what_is_wrong_is_named(verb: str, payload: bytes, field: str) -> None:
    with pytest.raises(BadRequest) as caught:
        decode(verb, payload)
    assert caught.value.details["field"] == field


def test_an_unknown_verb_is_answered_with_the_known_ones() -> None:
    with pytest.raises(BadRequest) as caught:
        decode("comfyui/explode", b"")
    assert caught.value.details["allowed"] == sorted(VERBS)


def test_a_verb_without_a_name_takes_no_text() -> None:
    with pytest.raises(BadRequest, match="takes no text"):
        decode("queue/pause", b"please")


@given(st.sampled_from(sorted(VERBS)), st.binary())
def test_any_payload_is_a_command_or_refused(verb: str, payload: bytes) -> None:
    try:
        command = decode(verb, payload)
    except BadRequest:
        return
    assert isinstance(command, VERBS[verb].command)


@pytest.mark.parametrize("verb", VERBS)
def test_an_order_survives_the_way(verb: str) -> None:
    assert TOPICS.parse_command(TOPICS.command(verb)) == verb


@pytest.mark.parametrize("verb", sorted(set(VERBS) - {"log_level"}))
def test_a_transaction_goes_with_every_order(verb: str) -> None:
    needed = {"holder": "games"} if verb.startswith("gpu/") else {}
    payload = msgspec.json.encode({"transaction": 1, **needed})
    assert decode(verb, payload).transaction == 1


@pytest.mark.parametrize(
    "topic",
    [
        "comfy2mqtt/bridge/request/",
        "comfy2mqtt/bridge/request/a/b/c",
        "comfy2mqtt/bridge/request/a b",
        "comfy2mqtt/bridge/response/comfyui/stop",
        "other/bridge/request/comfyui/stop",
    ],
)
def test_what_is_no_order_is_nothing(topic: str) -> None:
    assert TOPICS.parse_command(topic) is None
