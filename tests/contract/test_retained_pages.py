"""Pages of what the bridge retains."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET, UnsetType

from bridge.contract import retained_pages
from bridge.contract.errors import UnknownWorkflow
from bridge.contract.messages import Workflows, encode
from bridge.contract.retained import Choices, ComfyUIState, Definition
from bridge.contract.retained_pages import RetainedMessage, WorkflowsReport, page


def definition(name: str, *, nodes: int = 1) -> Definition:
    return Definition(
        name=name, title=name, version="1", inputs={}, outputs=[], nodes=["Node"] * nodes
    )


RETAINED: dict[str, RetainedMessage] = {
    "workflow/b": definition("b"),
    "workflow/a": definition("a"),
    "bridge/comfyui/main": ComfyUIState(state="ready", since=1.0, restarts=0),
    "bridge/choices/models": Choices(name="models", choices=["x", "y"]),
}


def pages(retained: dict[str, RetainedMessage], room: int) -> list[WorkflowsReport]:
    found: list[WorkflowsReport] = []
    after: str | UnsetType = UNSET
    while True:
        found.append(page(retained, Workflows(after=after), room))
        if found[-1].next is UNSET:
            return found
        assert found[-1].next != after
        after = found[-1].next


def test_one_page_has_all_where_it_fits() -> None:
    (whole,) = pages(RETAINED, 10_000)
    assert [each.name for each in whole.workflows] == ["a", "b"]
    assert whole.choices == [RETAINED["bridge/choices/models"]]
    assert whole.comfyui == {"main": RETAINED["bridge/comfyui/main"]}


@given(
    sizes=st.lists(st.integers(0, 60), max_size=12),
    room=st.integers(400, 3000),
)
def test_pages_fit_and_have_each_workflow_once(sizes: list[int], room: int) -> None:
    retained: dict[str, RetainedMessage] = {
        f"workflow/w{index}": definition(f"w{index}", nodes=size)
        for index, size in enumerate(sizes)
    }
    found = pages(retained, room)
    assert all(len(encode(each)) <= room for each in found)
    names = [each.name for one in found for each in one.workflows]
    assert sorted(names) == sorted(name.removeprefix("workflow/") for name in retained)


def test_what_fits_no_page_is_named_and_does_not_end_the_listing() -> None:
    large = Definition(
        name="a", title="a", version="1", inputs={"x": "y" * 5000}, outputs=[], nodes=[]
    )
    found = pages({**RETAINED, "workflow/a": large}, 600)
    assert [name for each in found for name in each.left_out] == ["a"]
    assert [each.name for one in found for each in one.workflows] == ["b"]


def test_one_workflow_is_had_by_its_name() -> None:
    assert page(RETAINED, Workflows(name="b"), 10_000).workflows == [definition("b")]
    with pytest.raises(UnknownWorkflow):
        page(RETAINED, Workflows(name="c"), 10_000)


async def test_pages_are_asked_for_until_there_is_no_next_one_or_no_answer() -> None:
    answers: list[WorkflowsReport | None] = [
        WorkflowsReport(left_out=["a"], next="a"),
        WorkflowsReport(left_out=["b"], next="b"),
        WorkflowsReport(left_out=["c"]),
    ]
    asked: list[Workflows] = []

    async def ask(request: Workflows) -> WorkflowsReport | None:
        asked.append(request)
        return answers[len(asked) - 1]

    assert [each.left_out async for each in retained_pages.pages(ask, "demo")] == [
        ["a"],
        ["b"],
        ["c"],
    ]
    assert [each.after for each in asked] == [UNSET, "a", "b"]
    assert {each.name for each in asked} == {"demo"}
    asked.clear()
    answers[1] = None
    assert [each.left_out async for each in retained_pages.pages(ask)] == [["a"]]
