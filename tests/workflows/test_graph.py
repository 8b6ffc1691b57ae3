from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.workflows import graph
from bridge.workflows.graph import NodeLink, WorkflowError
from tests.workflows.graphs import PLAIN

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["class_type", "inputs", "prompt", "1", "2", "_meta", "title"]), inner
        )
    ),
    max_leaves=12,
)


@given(ANYTHING)
def test_anything_is_a_graph_or_refused(document: Any) -> None:
    found: Any
    try:
        found = graph.parse(document).nodes
    except WorkflowError as error:
        found = error.reason
    assert found


def test_a_graph_gives_a_new_prompt_each_time() -> None:
    found = graph.parse(PLAIN)
    first = found.prompt()
    first["2"]["inputs"]["steps"] = 1
    assert found.prompt()["2"]["inputs"]["steps"] == 20
    assert found.prompt() == PLAIN  # titles included, for nodes that read them


def test_links_and_literals_are_distinguished() -> None:
    node = graph.parse(PLAIN).nodes["2"]
    assert dict(node.links()) == {"model": NodeLink("1", 0)}
    assert dict(node.literals())["steps"] == 20
    assert node.title == "The sampler"
    assert graph.link(["1", True]) is None
    assert graph.link(["1", 0, 0]) is None


def test_consumers_are_found() -> None:
    found = graph.parse(PLAIN)
    assert [(node.id, name) for node, name in found.consumers()["2"]] == [("58:4", "images")]
    assert "58:4" not in found.consumers()


@pytest.mark.parametrize(
    ("document", "node", "reason"),
    [
        ([], None, "expected an object"),
        ({}, None, "no nodes"),
        ({"nodes": [], "links": []}, "nodes", "not a node"),
        ({"1": {"inputs": {}}}, "1", "class_type"),
        ({"1": {"class_type": "X"}}, "1", "inputs"),
        ({"1": {"class_type": "X", "inputs": {"a": ["9", 0]}}}, "1", "node 9, which is not there"),
        (
            {"1": {"class_type": "X", "inputs": {"a": ["1", 10**9]}}},
            "1",
            "output 1000000000 of node 1: no node has as many",
        ),
        ({str(key): {} for key in range(10_001)}, None, "more than 10000"),
    ],
)
def test_what_is_no_graph_says_where_and_why(document: Any, node: str | None, reason: str) -> None:
    with pytest.raises(WorkflowError, match=reason) as caught:
        graph.parse(document)
    assert caught.value.node == node


def test_a_graph_may_come_as_it_would_be_sent() -> None:
    assert graph.parse({"prompt": PLAIN}).nodes == graph.parse(PLAIN).nodes
