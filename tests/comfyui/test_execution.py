from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from bridge.comfyui import events, frames
from bridge.comfyui.events import Event
from bridge.comfyui.execution import Execution, socket_nodes
from bridge.comfyui.history import HistoryEntry

START = frames.ExecutionStart("p")
SUCCESS = frames.ExecutionSuccess("p")
OVER = frames.Executing(None, "p")
IMAGES = {"images": [{"filename": "a.png", "subfolder": "", "type": "output"}]}
PREVIEW = frames.PreviewImage("image/jpeg", memoryview(b"jpeg"), "p", "3")
FAULT = frames.ExecutionFault("p", "3", "KSampler", "ValueError", "no\n", ("line",))
FAILED = events.Failed("ValueError", "no", "3", "KSampler", ("line",))
GRAPH = {
    "1": {"class_type": "EmptyImage", "inputs": {}},
    "3": {"class_type": "SaveImageWebsocket", "inputs": {}},
}


def header(index: int = 0) -> frames.OutputHeader:
    return frames.OutputHeader("9", index, "image", "image/png", 3, "00", prompt_id="p")


def output(index: int = 0) -> frames.OutputBytes:
    return frames.OutputBytes(header(index), memoryview(b"png"))


def listed(count: int) -> dict[str, Any]:
    described = (header(index) for index in range(count))
    return {
        "comfy2mqtt": [
            {name: getattr(one, name) for name in one.__struct_fields__} for one in described
        ]
    }


def fed(execution: Execution, *said: frames.Frame) -> list[Event]:
    return [event for frame in said for event in execution.feed(frame)]


def remembered(
    outputs: dict[str, dict[str, Any]], end: events.Failed | events.PromptInterrupted | None = None
) -> HistoryEntry:
    return HistoryEntry(GRAPH, outputs, end or events.Succeeded(outputs))


def test_a_run_is_reported_in_order() -> None:
    execution = Execution()
    told = fed(
        execution,
        START,
        frames.ExecutionCached("p", ()),
        frames.Executing("3", "p", "3"),
        frames.NodeExecuted("p", "3", "3", IMAGES),
        SUCCESS,
    )
    assert told == [
        events.Started(),
        events.NodeStarted("3", "3"),
        events.Executed("3", "3", IMAGES),
    ]
    assert fed(execution, OVER) == []
    assert list(execution.close()) == [events.Succeeded({"3": IMAGES})]


def test_the_end_is_not_the_success_but_what_follows_the_history() -> None:
    execution = Execution()
    fed(execution, START, SUCCESS)
    before = execution.ended
    fed(execution, OVER)
    assert (before, execution.ended) == (False, True)


def test_only_nodes_whose_results_are_used_again_are_reported_as_cached() -> None:
    assert fed(Execution(), frames.ExecutionCached("p", ())) == []
    assert fed(Execution(), frames.ExecutionCached("p", ("1",))) == [events.Cached(("1",))]


def test_a_cached_node_without_an_output_says_nothing() -> None:
    assert fed(Execution(), frames.NodeExecuted("p", "1", "1", None)) == []


def test_an_expanded_node_is_shown_as_the_one_it_came_from() -> None:
    told = fed(Execution(), START, frames.Executing("406.0.0.428", "p", "406"))
    assert told[-1] == events.NodeStarted("406.0.0.428", "406")


def test_a_step_reported_twice_is_one_step() -> None:
    told = fed(
        Execution(),
        frames.ProgressState("p", {"3": frames.NodeProgress(0, 1, "running")}),
        frames.ProgressState("p", {"3": frames.NodeProgress(1, 12, "running")}),
        frames.StepProgress(1, 12, "p", "3"),
        frames.ProgressState("p", {"3": frames.NodeProgress(2, 12, "running")}),
        frames.ProgressState("p", {"3": frames.NodeProgress(12, 12, "finished")}),
    )
    assert told == [events.Step("3", 1, 12), events.Step("3", 2, 12)]


def test_each_output_is_given_once() -> None:
    execution = Execution()
    assert len(fed(execution, output(0), output(1), output(0))) == 2
    assert list(execution.output(header(1), b"png")) == []


def test_outputs_that_were_announced_and_did_not_come_are_missing() -> None:
    execution = Execution()
    fed(execution, output(1), frames.NodeExecuted("p", "9", "9", listed(3)), SUCCESS, OVER)
    assert [one.index for one in execution.missing()] == [0, 2]


def test_a_failure_lacks_nothing() -> None:
    execution = Execution()
    fed(execution, frames.NodeExecuted("p", "9", "9", listed(1)), FAULT, OVER)
    assert execution.missing() == ()
    assert list(execution.close()) == [FAILED]


def test_an_interruption_is_reported() -> None:
    execution = Execution()
    fed(execution, START, frames.ExecutionInterrupted("p"), OVER)
    assert list(execution.close()) == [events.PromptInterrupted()]


def test_a_blocked_output_makes_a_success_a_failure() -> None:
    execution = Execution()
    blocked = frames.ExecutionFault("p", "3", "Switch", "ExecutionBlocked", "Execution Blocked: no")
    fed(execution, START, blocked)
    assert execution.end is None
    fed(execution, SUCCESS, OVER)
    (end,) = execution.close()
    assert isinstance(end, events.Failed)
    assert end.exception_type == "ExecutionBlocked"


def test_previews_are_reported_where_they_were_asked_for() -> None:
    assert fed(Execution(), PREVIEW) == []
    assert fed(Execution(preview=True), PREVIEW) == [
        events.PromptPreview("3", "image/jpeg", memoryview(b"jpeg"))
    ]


def test_an_older_preview_belongs_to_the_node_that_runs() -> None:
    older = frames.PreviewImage("image/png", memoryview(b"png"))
    told = fed(Execution(preview=True), older, frames.Executing("4", "p"), older)
    assert [event.node for event in told if isinstance(event, events.PromptPreview)] == [None, "4"]


def test_results_that_come_as_previews_are_known_by_their_node() -> None:
    assert socket_nodes(GRAPH) == {"3"}
    assert socket_nodes({"1": "garbage", "2": {"inputs": {}}}) == frozenset()
    told = fed(Execution(socket_nodes=frozenset({"3"})), PREVIEW, PREVIEW)
    assert [
        (event.node, event.index) for event in told if isinstance(event, events.SocketImage)
    ] == [
        ("3", 0),
        ("3", 1),
    ]


def test_the_history_adds_what_the_frames_left_out() -> None:
    execution = Execution()
    fed(execution, START, frames.NodeExecuted("p", "3", "3", IMAGES))
    execution.settle(remembered({"3": IMAGES, "9": listed(1)}))
    assert [one.node for one in execution.missing()] == ["9"]
    assert len(list(execution.output(header(), b"png"))) == 1
    assert list(execution.close()) == [
        events.Executed("9", "9", listed(1)),
        events.Succeeded({"3": IMAGES, "9": listed(1)}),
    ]


def test_the_end_that_the_frames_reported_stands() -> None:
    execution = Execution()
    fed(execution, FAULT)
    execution.settle(remembered({}))
    assert list(execution.close()) == [FAILED]


def test_a_cut_among_images_sent_over_the_socket_loses_the_prompt() -> None:
    execution = Execution(socket_nodes=frozenset({"3"}))
    fed(execution, START, frames.StepProgress(0, 2, "p", "3"), PREVIEW)
    execution.disconnected()
    execution.settle(remembered({}))
    assert [type(event) for event in execution.close()] == [events.PromptLost]


def test_a_cut_after_the_last_image_sent_over_the_socket_loses_nothing() -> None:
    execution = Execution(socket_nodes=frozenset({"3"}))
    fed(execution, START, frames.StepProgress(0, 2, "p", "3"), PREVIEW, PREVIEW)
    execution.disconnected()
    execution.settle(remembered({}))
    assert list(execution.close()) == [events.Succeeded({})]


def test_adopted_images_sent_over_the_socket_are_lost() -> None:
    execution = Execution()
    execution.disconnected()
    execution.settle(remembered({}))
    assert [type(event) for event in execution.close()] == [events.PromptLost]


FRAMES = st.sampled_from(
    [
        START,
        SUCCESS,
        OVER,
        FAULT,
        PREVIEW,
        frames.ExecutionInterrupted("p"),
        frames.Executing("3", "p"),
        frames.StepProgress(1, 2, "p", "3"),
        frames.NodeExecuted("p", "9", "9", listed(2)),
        output(0),
        output(1),
        frames.StatusMessage(),
    ]
)


def ends(told: Iterable[Event]) -> list[Event]:
    return [event for event in told if isinstance(event, events.Terminal)]


@given(before=st.lists(FRAMES), after=st.lists(FRAMES), cut=st.booleans())
def test_whatever_is_reported_there_is_one_end_and_no_output_twice(
    *, before: list[frames.Frame], after: list[frames.Frame], cut: bool
) -> None:
    execution = Execution(socket_nodes=frozenset({"3"}), preview=True)
    told = fed(execution, *before)
    if cut:
        execution.disconnected()
    told += fed(execution, *after)
    assert not ends(told)
    execution.settle(remembered({"9": listed(2)}))
    for missing in execution.missing():
        told += execution.output(missing, b"png")
    assert execution.missing() == ()
    told += execution.close()
    assert len(ends(told)) == 1
    headers = [one.header for one in told if isinstance(one, events.NodeOutput)]
    given_outputs = [(header.node, header.index) for header in headers]
    assert len(given_outputs) == len(set(given_outputs))
    if isinstance(told[-1], events.Succeeded):
        assert set(given_outputs) == {("9", 0), ("9", 1)}
