from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.contract.channels import PARAMETERS, channels
from bridge.contract.topics import BadTopic, RequestTopic, Topics, is_filter, is_id, matches

TOPICS = Topics("base")
IDS = st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True)


@given(client=IDS, workflow=IDS, job_id=IDS)
def test_a_run_topic_comes_back_as_it_was_built(client: str, workflow: str, job_id: str) -> None:
    topic = TOPICS.request(client, "run", workflow, job_id)
    assert TOPICS.parse_request(topic) == RequestTopic(client, "run", workflow, job_id)
    topic = TOPICS.request(client, "run", workflow)
    assert TOPICS.parse_request(topic) == RequestTopic(client, "run", workflow, None)


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        ("a", True),
        ("A-Z_09", True),
        ("a" * 64, True),
        ("a" * 65, False),
        ("", False),
        (".", False),
        ("..", False),
        ("a.b", False),
        ("a/b", False),
        ("a\n", False),
        ("\u0430", False),  # Cyrillic, and looks like an a
    ],
)
def test_an_id_is_a_short_word_and_no_path(text: str, *, valid: bool) -> None:
    assert is_id(text) is valid


@pytest.mark.parametrize(
    ("topic_filter", "topic", "matching"),
    [
        ("#", "a/b", True),
        ("+/b", "a/b", True),
        ("a/#", "a", True),
        ("a/#", "a/b/c", True),
        ("a/+", "a/b/c", False),
        ("a/+", "a", False),
        ("a/b", "a/b/c", False),
        ("a/#/b", "a/x/b", False),
        ("#", "$SYS/broker/uptime", False),
        ("+/broker/uptime", "$SYS/broker/uptime", False),
        ("$SYS/#", "$SYS/broker/uptime", True),
    ],
)
def test_a_filter_matches_as_mqtt_has_it(topic_filter: str, topic: str, *, matching: bool) -> None:
    assert matches(topic_filter, topic) is matching


@given(client=IDS, verb=IDS.filter(lambda verb: verb != "run"))
def test_any_other_verb_stands_alone(client: str, verb: str) -> None:
    assert TOPICS.parse_request(TOPICS.request(client, verb)) == RequestTopic(client, verb)


@given(st.text())
def test_any_text_is_a_request_or_refused_or_nothing(text: str) -> None:
    for topic in (text, f"base/client/{text}", f"base/client/me/request/{text}"):
        found: RequestTopic | BadTopic | None
        try:
            found = TOPICS.parse_request(topic)
        except BadTopic as error:
            found = error
        assert found is None or (is_id(found.client) and is_id(found.verb))


@pytest.mark.parametrize(
    "topic",
    [
        "base/client/me/request/run",
        "base/client/me/request/run/a/b/c",
        "base/client/me/request/run/a b",
        "base/client/me/request/run/a/+",
        "base/client/me/request/run//x",
        "base/client/me/request/cancel/job",
    ],
)
def test_a_request_of_the_wrong_shape_can_be_answered(topic: str) -> None:
    with pytest.raises(BadTopic) as caught:
        TOPICS.parse_request(topic)
    assert caught.value.client == "me"
    assert caught.value.details["topic"] == topic


@pytest.mark.parametrize(
    "topic",
    [
        "base/client/a+b/request/run/x",
        "base/client//request/run/x",
        "base/client/me/job/1/result",
        "base/bridge/state",
        "other/client/me/request/run/x",
        "base/client/me/request/",
        "",
    ],
)
def test_what_is_nobodys_request_is_nothing(topic: str) -> None:
    assert TOPICS.parse_request(topic) is None


@pytest.mark.parametrize(
    ("topic", "allowed"),
    [
        ("base/client/me/reply/here", True),
        ("base/client/me/reply/a/b", True),
        ("base/client/me/reply/", False),
        ("base/client/me/reply", False),
        ("base/client/me/reply/+", False),
        ("base/client/me/reply/$x", False),
        ("base/client/you/reply/here", False),
        ("base/client/me/request/run/demo", False),
        ("base/client/me/reply/../you", True),  # two dots mean nothing to a broker
        ("$SYS/x", False),
    ],
)
def test_replies_go_only_below_the_clients_own_reply_topic(topic: str, *, allowed: bool) -> None:
    assert TOPICS.is_reply("me", topic) is allowed


def test_a_jobs_topic_gives_its_job_and_its_kind_of_message() -> None:
    assert TOPICS.job_of(TOPICS.job("me", "j1", "output", "0")) == ("j1", ("output", "0"))
    assert TOPICS.job_of("base/client/me/job/j1") is None
    assert TOPICS.job_of(TOPICS.response("me", "run")) is None


@pytest.mark.parametrize("text", ["a", "a/b", "+", "#", "a/+/b", "a/#", "/", "a//b", "$SYS/#"])
def test_filters_are_known(text: str) -> None:
    assert is_filter(text)


@pytest.mark.parametrize("text", ["", "a/#/b", "a#", "a/b+", "$share/group/#", "a\0"])
def test_what_is_no_filter_is_known_too(text: str) -> None:
    assert not is_filter(text)


def test_filters_that_reach_into_the_own_tree_are_known() -> None:
    topics = Topics("base")
    for covering in ("#", "+", "+/bridge/state", "base/#", "base"):
        assert topics.covers(covering)
    for other in ("bases/#", "zigbee2mqtt/+", "$SYS/#"):
        assert not topics.covers(other)


def test_every_topic_of_the_contract_is_within_what_aws_iot_takes() -> None:
    """Seven slashes and 256 bytes; a base topic of one level, and names as long as they may be."""
    longest = dict.fromkeys(PARAMETERS, "x" * 64) | {"base": "comfy2mqtt", "reply": "r"}
    longest |= {"set_id": "x" * 48, "index": "0", "offset": "0" * 15}
    for channel in channels():
        topic = channel.topic(**longest)
        assert topic.count("/") <= 7, channel.name
        assert len(topic.encode()) <= 256, channel.name
