from __future__ import annotations

import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.custom_nodes.package import load

held: Any = load("held")
errors: Any = load("errors")


def header(prompt_id: str, size: int, node: str = "9", index: int = 0) -> Any:
    return held.OutputHeader(
        prompt_id=prompt_id,
        node=node,
        index=index,
        name="image",
        content_type="image/png",
        size=size,
        sha256="0" * 64,
        width=1,
        height=1,
    )


def keep(store: Any, prompt_id: str, size: int, node: str = "9", index: int = 0) -> None:
    store.hold(header(prompt_id, size, node, index), bytes(size))


def test_what_is_held_is_given_back_until_confirmed() -> None:
    store = held.HeldOutputs(budget=100)
    first = header("a", 3)
    store.hold(first, b"abc")
    assert store.get("a", "9", 0) == (first, b"abc")
    assert store.headers("a") == [first]
    store.confirm("a")
    assert store.get("a", "9", 0) is None
    assert store.headers("a") == []
    assert store.totals() == held.HeldTotals(count=0, bytes=0, budget=100)


def test_outputs_are_listed_in_the_order_of_their_making() -> None:
    store = held.HeldOutputs(budget=100)
    for node, index in (("9", 0), ("9", 1), ("4", 0)):
        keep(store, "a", 1, node, index)
    assert [(h.node, h.index) for h in store.headers("a")] == [("9", 0), ("9", 1), ("4", 0)]


def test_the_oldest_prompts_make_room_and_say_so(caplog: pytest.LogCaptureFixture) -> None:
    store = held.HeldOutputs(budget=10)
    for prompt_id in "abc":
        keep(store, prompt_id, 4)
    with pytest.raises(held.OutputsEvicted):
        store.get("a", "9", 0)
    with pytest.raises(held.OutputsEvicted):
        store.headers("a")
    assert store.get("b", "9", 0) is not None
    assert store.get("c", "9", 0) is not None
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "prompt a (4 bytes)" in record.getMessage()


def test_a_prompt_never_makes_room_for_itself() -> None:
    store = held.HeldOutputs(budget=10)
    keep(store, "a", 6)
    keep(store, "b", 4)
    keep(store, "a", 4, index=1)
    assert [h.index for h in store.headers("a")] == [0, 1]
    with pytest.raises(held.OutputsEvicted):
        store.headers("b")


def test_a_prompt_above_the_whole_budget_is_refused_and_evicts_nobody() -> None:
    store = held.HeldOutputs(budget=10)
    keep(store, "a", 4)
    keep(store, "b", 6)
    with pytest.raises(errors.OutputBudgetExceeded, match=r"11 bytes; 10 may be held"):
        keep(store, "b", 5, index=1)
    assert store.get("a", "9", 0) is not None
    assert store.totals().bytes == 10


def test_a_repeated_prompt_id_replaces_what_the_node_left_before() -> None:
    store = held.HeldOutputs(budget=10)
    for index in range(3):
        keep(store, "a", 1, index=index)
    keep(store, "a", 1, node="4")
    store.begin("a", "9")
    keep(store, "a", 2)
    assert [(h.node, h.index) for h in store.headers("a")] == [("4", 0), ("9", 0)]
    assert store.totals().bytes == 3


def test_an_evicted_prompt_that_runs_again_is_there_again() -> None:
    store = held.HeldOutputs(budget=4)
    keep(store, "a", 4)
    keep(store, "b", 4)
    store.begin("a", "9")
    keep(store, "a", 4)
    assert store.get("a", "9", 0) is not None


def test_only_the_last_few_thousand_evictions_are_remembered() -> None:
    store = held.HeldOutputs(budget=1)
    count = held.REMEMBERED_EVICTIONS + 2
    for number in range(count):
        keep(store, str(number), 1)
    assert store.headers("0") == []
    with pytest.raises(held.OutputsEvicted):
        store.headers(str(count - 2))


PROMPTS = st.sampled_from("abcd")
ACTIONS = st.one_of(
    st.tuples(st.just("hold"), PROMPTS, st.integers(0, 12), st.integers(0, 2)),
    st.tuples(st.just("begin"), PROMPTS, st.just(0), st.just(0)),
    st.tuples(st.just("confirm"), PROMPTS, st.just(0), st.just(0)),
)


@given(st.lists(ACTIONS, max_size=60))
def test_the_totals_are_the_sum_of_what_is_held_and_within_the_budget(
    actions: list[tuple[str, str, int, int]],
) -> None:
    store = held.HeldOutputs(budget=20)
    for action, prompt_id, size, index in actions:
        if action == "confirm":
            store.confirm(prompt_id)
        elif action == "begin":
            store.begin(prompt_id, "9")
        elif kept(store, prompt_id, size, index):
            assert store.get(prompt_id, "9", index)[0].size == size
        present = [h for prompt in "abcd" for h in headers_or_none(store, prompt)]
        totals = store.totals()
        assert totals.count == len(present)
        assert totals.bytes == sum(h.size for h in present) <= 20


def kept(store: Any, prompt_id: str, size: int, index: int) -> bool:
    """True if there was room for it: there is for whatever the budget allows one prompt."""
    others = [h.size for h in headers_or_none(store, prompt_id) if h.index != index]
    if sum(others) + size <= 20:
        keep(store, prompt_id, size, index=index)
        return True
    with pytest.raises(errors.OutputBudgetExceeded):
        keep(store, prompt_id, size, index=index)
    return False


def headers_or_none(store: Any, prompt_id: str) -> list[Any]:
    try:
        return list(store.headers(prompt_id))
    except held.OutputsEvicted:
        return []
