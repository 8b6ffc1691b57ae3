from __future__ import annotations

import pytest

from bridge.workflows.catalogue import NodeRules
from bridge.workflows.graph import Graph, Node

GRAPH = Graph({str(at): Node(str(at), name, {}) for at, name in enumerate(("B", "ExecA", "B"))})


@pytest.mark.parametrize(
    ("rules", "forbidden"),
    [
        (NodeRules(), ()),
        (NodeRules(deny=("Exec*",)), ("ExecA",)),
        (NodeRules(allow=("B",)), ("ExecA",)),
        (NodeRules(allow=("*",), deny=("?",)), ("B",)),
        (NodeRules(allow=("b",)), ("B", "ExecA")),
    ],
)
def test_classes_are_held_to_the_operators_lists(
    rules: NodeRules, forbidden: tuple[str, ...]
) -> None:
    assert rules.forbidden(GRAPH) == forbidden


def test_which_list_forbids_a_class_is_reported() -> None:
    rules = NodeRules(allow=("A", "B"), deny=("B",))
    assert [rules.setting(each) for each in "ABC"] == [None, "deny_nodes", "allow_nodes"]
