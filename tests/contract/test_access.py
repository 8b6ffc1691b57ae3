from __future__ import annotations

from bridge.contract.access import USER, ForeignTopics, Grant, client, role
from bridge.contract.topics import Topics, matches

TOPICS = Topics()
REQUEST = TOPICS.request("alice", "submit")
ANSWER = TOPICS.response("alice", "submit")
RESULT = TOPICS.job("alice", "j1", "result")
REPLY = f"{TOPICS.reply('alice')}here"
ORDER = TOPICS.command("queue/clear")


def reads(grants: tuple[Grant, ...], topic: str) -> bool:
    return _may(grants, topic, "read")


def writes(grants: tuple[Grant, ...], topic: str) -> bool:
    return _may(grants, topic, "write")


def _may(grants: tuple[Grant, ...], topic: str, access: str) -> bool:
    return any(
        matches(each.filter.replace(USER, "alice"), topic)
        for each in grants
        if each.access in (access, "readwrite")
    )


def test_a_client_writes_its_requests_and_reads_what_comes_of_them() -> None:
    alice = client(TOPICS)
    assert writes(alice, REQUEST)
    assert not reads(alice, REQUEST)
    for topic in (ANSWER, RESULT, REPLY):
        assert reads(alice, topic)
        assert not writes(alice, topic)


def test_a_client_has_no_part_in_anothers_tree_and_sends_no_commands() -> None:
    alice = client(TOPICS)
    for topic in (
        TOPICS.request("bob", "submit"),
        TOPICS.response("bob", "submit"),
        TOPICS.job("bob", "j1", "result"),
        f"{TOPICS.reply('bob')}here",
        ORDER,
        TOPICS.command_response("queue/clear"),
        TOPICS.log,
    ):
        assert not reads(alice, topic)
        assert not writes(alice, topic)
    assert not writes(alice, TOPICS.state)


def test_a_role_has_what_it_needs_and_no_more() -> None:
    others = ForeignTopics(inputs=("cameras/#",), outputs=("house/gpu",))
    bridge = role("bridge", TOPICS, others)
    assert reads(bridge, REQUEST)
    assert not writes(bridge, REQUEST)
    assert reads(bridge, "cameras/front")
    assert not writes(bridge, "cameras/front")
    assert writes(bridge, "house/gpu")
    assert not reads(bridge, "house/gpu")
    adapter = role("adapter", TOPICS, others)
    assert writes(adapter, REQUEST)
    assert reads(adapter, RESULT)
    assert not writes(adapter, ORDER)
    operator = role("operator", TOPICS, others)
    assert writes(operator, ORDER)
    assert not writes(operator, REQUEST)
    games = role("gpu", TOPICS, others)
    assert writes(games, TOPICS.command("gpu/request"))
    assert reads(games, TOPICS.command_response("gpu/request"))
    assert reads(client(TOPICS), TOPICS.gpu("card"))
    assert not writes((*client(TOPICS), *games), TOPICS.gpu("card"))
    assert not writes(games, ORDER)
    assert not reads(games, RESULT)
    home = role("homeassistant", TOPICS, others)
    assert writes(home, TOPICS.command("queue/pause"))
    assert not writes(home, ORDER)
    assert not reads(home, RESULT)
