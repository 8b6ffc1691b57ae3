"""Messages that wait to be handled, and acknowledgements, without a broker."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bridge.mqtt import Flow, Incoming
from bridge.mqtt.inbox import AckOrder, FairQueue


def message(topic: str = "t", mid: int = 1) -> Incoming:
    return Incoming(topic=topic, payload=b"", qos=1, retain=False, dup=False, mid=mid)


def flow_of(incoming: Incoming) -> Flow | None:
    """Return the flow of `sender/flow`, None for a topic of one level."""
    sender, _, flow = incoming.topic.partition("/")
    return Flow(sender, flow) if flow else None


def taken(turns: FairQueue) -> list[str]:
    found = []
    while (each := turns.take()) is not None:
        found.append(f"{each[0].topic}{each[0].mid}")
    return found


def filled(*topics: str) -> FairQueue:
    turns = FairQueue(flow_of)
    for place, topic in enumerate(topics):
        turns.put(message(topic, place), 1)
    assert len(turns) == len(topics)
    return turns


def test_one_of_each_flow_has_its_turn() -> None:
    turns = filled("a/a", "a/a", "a/a", "b/b", "b/b", "c/c")
    assert taken(turns) == ["a/a0", "b/b3", "c/c5", "a/a1", "b/b4", "a/a2"]
    assert turns.take() is None
    assert not turns._senders
    assert not turns._flows


def test_whoever_comes_while_another_has_thousands_waits_for_one_of_them() -> None:
    turns = filled(*["a/a"] * 5000)
    assert turns.take() is not None
    turns.put(message("b/b", 0), 1)
    turns.take()
    found = turns.take()
    assert found is not None
    assert found[0].topic == "b/b"


def test_senders_that_share_a_flow_share_its_turns() -> None:
    assert taken(filled("x/?", "y/?", "z/?", "a/a")) == ["x/?0", "a/a3", "y/?1", "z/?2"]


def test_a_sender_stays_in_its_flow_as_long_as_it_has_something_there() -> None:
    turns = filled("x/?", "y/?", "x/?")
    turns.put(message("x/x", 3), 1)
    assert taken(turns) == ["x/?0", "y/?1", "x/?2", "x/x3"]
    turns.put(message("x/x", 4), 1)
    turns.put(message("y/?", 5), 1)
    turns.put(message("x/x", 6), 1)
    assert taken(turns) == ["x/x4", "y/?5", "x/x6"]


def test_nothing_that_came_later_passes_what_has_no_flow() -> None:
    turns = filled("a/a", "a/a", "value", "b/b", "a/a")
    assert taken(turns) == ["a/a0", "value2", "b/b3", "a/a1", "a/a4"]


@given(st.lists(st.sampled_from(["a/a", "a/b", "b/b", "b/a", "c/?", "d/?", "value"])))
def test_all_is_taken_once_and_no_sender_passes_itself(topics: list[str]) -> None:
    found = taken(filled(*topics))
    assert sorted(found) == sorted(f"{topic}{place}" for place, topic in enumerate(topics))
    for sender in "abcd":
        of_it = [int(each[3:]) for each in found if each.startswith(f"{sender}/")]
        assert of_it == sorted(of_it)


@given(st.permutations(range(6)))
def test_messages_are_acknowledged_in_their_order_however_they_are_handled(
    handled: list[int],
) -> None:
    acked: list[int] = []
    order = AckOrder(lambda incoming: acked.append(incoming.mid))
    messages = [message(mid=mid) for mid in range(6)]
    for each in messages:
        order.arrived(each)
    done: set[int] = set()
    for mid in handled:
        order.handled(messages[mid])
        done.add(mid)
        expected = next((index for index in range(6) if index not in done), 6)
        assert acked == list(range(expected))


def test_a_message_is_not_acknowledged_before_it_is_handled() -> None:
    acked: list[Incoming] = []
    order = AckOrder(acked.append)
    first, second = message(), message()
    order.arrived(first)
    order.arrived(second)
    assert acked == []
    order.handled(second)
    assert acked == []
    order.handled(first)
    assert [each is wanted for each, wanted in zip(acked, (first, second), strict=True)] == [
        True,
        True,
    ]
