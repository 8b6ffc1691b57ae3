"""The outcomes of prompts, by frames, queue and history."""

from __future__ import annotations

import pytest

from bridge.comfyui import events, frames
from bridge.comfyui.errors import AlreadyFollowed
from bridge.comfyui.events import Event
from bridge.comfyui.execution import Execution
from bridge.comfyui.history import HistoryEntry, QueueState
from bridge.comfyui.prompt_tracker import FETCH_ATTEMPTS, Deliveries, Prompt, PromptTracker

LISTED = {
    "node": "9",
    "index": 0,
    "name": "image",
    "content_type": "image/png",
    "size": 3,
    "sha256": "00",
}
EMPTY = QueueState((), ())
ENDED = HistoryEntry({}, {}, events.Succeeded({}))


@pytest.fixture
def tracker() -> PromptTracker:
    return PromptTracker(silence_s=10)


def follow(
    tracker: PromptTracker, prompt_id: str = "p", *, submitted: bool = True, blind: bool = False
) -> Prompt:
    prompt = tracker.follow(prompt_id, Execution(preview=True), blind=blind, now=0.0)
    if submitted:
        tracker.submitted(prompt, 0.0)
    return prompt


def feed(tracker: PromptTracker, *received: frames.Frame, now: float = 0.0) -> Deliveries:
    return [each for frame in received for each in tracker.received(frame, now)]


def of(prompt: Prompt, deliveries: Deliveries) -> list[Event]:
    return [event for whose, event in deliveries if whose is prompt]


def without_its_output(tracker: PromptTracker) -> Prompt:
    """A prompt of which all was received but the bytes."""
    prompt = follow(tracker)
    feed(
        tracker,
        frames.NodeExecuted("p", "9", "9", {"comfy2mqtt": [LISTED]}),
        frames.ExecutionSuccess("p"),
        frames.Executing(None, "p"),
    )
    return prompt


# -- following ----------------------------------------------------------------------------------


def test_a_prompt_is_followed_once(tracker: PromptTracker) -> None:
    prompt = follow(tracker)
    with pytest.raises(AlreadyFollowed):
        follow(tracker)
    assert tracker.drop(prompt)
    assert "p" not in tracker
    follow(tracker)


def test_dropping_an_earlier_prompt_leaves_the_present_one(tracker: PromptTracker) -> None:
    earlier = follow(tracker)
    tracker.drop(earlier)
    present = follow(tracker)
    assert not tracker.drop(earlier)
    assert tracker.follows(present)
    assert len(tracker) == 1


# -- frames -------------------------------------------------------------------------------------


def test_a_frame_belongs_to_its_prompt(tracker: PromptTracker) -> None:
    both = follow(tracker, "a"), follow(tracker, "b")
    happened = [
        each
        for prompt_id in ("a", "b", "somebody's")
        for each in feed(
            tracker,
            frames.ExecutionStart(prompt_id),
            frames.ExecutionSuccess(prompt_id),
            frames.Executing(None, prompt_id),
        )
    ]
    for prompt in both:
        assert of(prompt, happened) == [events.Started(), events.Succeeded({})]
    assert len(tracker) == 0


def test_a_frame_that_names_no_prompt_belongs_to_the_one_that_runs(
    tracker: PromptTracker,
) -> None:
    preview = frames.PreviewImage("image/png", memoryview(b"png"))
    ours = follow(tracker, "ours")
    happened = feed(
        tracker,
        preview,
        frames.Executing("1", "somebody's"),
        preview,
        frames.Executing("3", "ours"),
        preview,
        frames.ExecutionSuccess("ours"),
        frames.Executing(None),
    )
    assert of(ours, happened) == [
        events.Started(),
        events.NodeStarted("3", "3"),
        events.PromptPreview("3", "image/png", memoryview(b"png")),
        events.Succeeded({}),
    ]


# -- doubt --------------------------------------------------------------------------------------


def test_an_end_without_a_reason_is_a_doubt(tracker: PromptTracker) -> None:
    prompt = follow(tracker)
    feed(tracker, frames.Executing(None, "p"))
    assert tracker.doubtful(0.0) == [prompt]
    assert tracker.doubt


def test_comfyui_is_not_asked_about_what_is_not_submitted(tracker: PromptTracker) -> None:
    prompt = follow(tracker, submitted=False)
    tracker.connected()
    assert tracker.doubtful(0.0) == []
    tracker.doubt = False
    tracker.submitted(prompt, 0.0)
    assert tracker.doubtful(0.0) == [prompt]
    assert tracker.doubt


def test_a_silent_prompt_is_in_doubt(tracker: PromptTracker) -> None:
    prompt = follow(tracker)
    assert tracker.doubtful(9.0) == []
    feed(tracker, frames.ExecutionStart("p"), now=9.0)
    assert tracker.doubtful(18.0) == []
    assert tracker.silence("p", 18.0) == 9
    assert not tracker.any_silent(18.0)
    assert tracker.doubtful(19.0) == [prompt]
    assert tracker.any_silent(19.0)
    assert tracker.silence("unknown", 19.0) is None


def test_a_queue_that_ran_empty_is_a_doubt_for_what_has_not_started(
    tracker: PromptTracker,
) -> None:
    waiting, running = follow(tracker, "waiting"), follow(tracker, "running")
    feed(tracker, frames.ExecutionStart("running"))
    tracker.queue_length(1)
    assert tracker.doubtful(0.0) == []
    tracker.queue_length(0)
    assert tracker.doubtful(0.0) == [waiting]
    tracker.disconnected()
    tracker.queue_length(1)
    assert tracker.doubtful(0.0) == [waiting, running]


# -- what the queue says ------------------------------------------------------------------------


def test_a_prompt_in_the_queue_is_in_doubt_no_longer(tracker: PromptTracker) -> None:
    waiting, running, gone = (follow(tracker, name) for name in ("waiting", "running", "gone"))
    tracker.connected()
    queue = QueueState(running=("running",), pending=("waiting", "somebody's"))
    happened, others = tracker.queue_read([waiting, running, gone], queue, 1.0)
    assert others == [gone]
    assert of(waiting, happened) == [events.Queued()]
    assert of(running, happened) == [events.Queued(), events.Started()]
    assert tracker.doubtful(1.0) == [gone]


def test_only_a_prompt_without_events_counts_as_alive_by_being_in_the_queue(
    tracker: PromptTracker,
) -> None:
    blind, seeing = follow(tracker, "blind", blind=True), follow(tracker, "seeing")
    tracker.queue_read([blind, seeing], QueueState(("blind",), ("seeing",)), 7.0)
    assert tracker.silence("blind", 8.0) == 1.0
    assert tracker.silence("seeing", 8.0) == 8.0


@pytest.mark.parametrize(
    ("withdrawn", "end"), [(False, events.PromptLost), (True, events.PromptInterrupted)]
)
def test_a_prompt_that_vanished_is_lost_or_was_withdrawn(
    tracker: PromptTracker, *, withdrawn: bool, end: type[Event]
) -> None:
    prompt = follow(tracker)
    if withdrawn:
        assert tracker.withdraw("p") is prompt
    assert tracker.withdraw("unknown") is None
    (last,) = of(prompt, tracker.vanished(prompt))
    assert isinstance(last, end)
    assert tracker.vanished(prompt) == []


# -- what the history says ----------------------------------------------------------------------


def test_the_history_of_a_prompt_whose_frames_are_only_late_is_left_alone(
    tracker: PromptTracker,
) -> None:
    prompt = follow(tracker)
    tracker.question(prompt)
    assert tracker.history_read(prompt, ENDED, 1.0) == []
    assert not prompt.incomplete
    assert tracker.doubtful(1.0) == []


@pytest.mark.parametrize("why", ["blind", "silent", "ended"])
def test_the_history_has_what_frames_cannot_report(tracker: PromptTracker, why: str) -> None:
    prompt = follow(tracker, blind=why == "blind")
    if why == "ended":
        feed(tracker, frames.Executing(None, "p"))
    now = 10.0 if why == "silent" else 1.0
    happened = tracker.history_read(prompt, ENDED, now)
    assert of(prompt, happened) == [events.Queued(), events.Started()]
    assert prompt.incomplete
    assert of(prompt, tracker.complete(prompt)) == [events.Succeeded({})]


def test_what_ended_while_comfyui_was_asked_has_no_more_events(tracker: PromptTracker) -> None:
    prompt = follow(tracker)
    tracker.question(prompt)
    feed(tracker, frames.ExecutionSuccess("p"), frames.Executing(None, "p"))
    assert tracker.queue_read([prompt], QueueState((), ("p",)), 1.0) == ([], [])
    assert tracker.history_read(prompt, ENDED, 1.0) == []


# -- outputs that did not come ------------------------------------------------------------------


def test_an_output_that_did_not_come_is_fetched(tracker: PromptTracker) -> None:
    prompt = without_its_output(tracker)
    assert tracker.doubtful(0.0) == [prompt]
    (header,) = prompt.execution.missing()
    (output,) = of(prompt, tracker.output_fetched(prompt, header, b"png"))
    assert isinstance(output, events.NodeOutput)
    assert output.data == b"png"
    assert isinstance(of(prompt, tracker.complete(prompt))[-1], events.Succeeded)


def test_an_output_that_had_to_go_makes_the_prompt_lost(tracker: PromptTracker) -> None:
    prompt = without_its_output(tracker)
    (end,) = of(prompt, tracker.output_failed(prompt, "410", final=True))
    assert isinstance(end, events.PromptLost)


def test_a_fetch_that_fails_is_repeated_before_the_prompt_is_lost(
    tracker: PromptTracker,
) -> None:
    prompt = without_its_output(tracker)
    for _ in range(FETCH_ATTEMPTS - 1):
        assert tracker.output_failed(prompt, "500", final=False) == []
        assert tracker.doubtful(0.0) == [prompt]
    (end,) = of(prompt, tracker.output_failed(prompt, "500", final=False))
    assert isinstance(end, events.PromptLost)


def test_a_prompt_whose_outputs_are_being_fetched_stays_in_doubt(tracker: PromptTracker) -> None:
    prompt = follow(tracker, blind=True)
    tracker.question(prompt)
    graph_output = {"9": {"comfy2mqtt": [LISTED]}}
    entry = HistoryEntry({}, graph_output, events.Succeeded(graph_output))
    tracker.history_read(prompt, entry, 1.0)
    assert prompt.execution.missing()
    assert tracker.doubtful(1.0) == [prompt]  # should the fetch fail, it is tried again


def test_an_output_of_a_prompt_that_was_dropped_is_nobodys(tracker: PromptTracker) -> None:
    prompt = without_its_output(tracker)
    (header,) = prompt.execution.missing()
    tracker.drop(prompt)
    present = follow(tracker)
    assert tracker.output_fetched(prompt, header, b"png") == []
    assert tracker.complete(prompt) == []
    assert not present.execution.ended


# -- the end of ComfyUI -------------------------------------------------------------------------


def test_a_lost_comfyui_ends_all_but_what_is_known(tracker: PromptTracker) -> None:
    done, running = follow(tracker, "done"), follow(tracker, "running")
    feed(tracker, frames.ExecutionSuccess("done"))
    happened = tracker.fail_all("it was killed", died=True)
    assert of(done, happened) == [events.Succeeded({})]
    assert of(running, happened) == [events.PromptLost("it was killed", died=True)]
    assert len(tracker) == 0


def test_a_process_that_died_names_the_prompt_that_it_ran(tracker: PromptTracker) -> None:
    done, first, second = (follow(tracker, name) for name in ("done", "first", "second"))
    feed(tracker, frames.ExecutionSuccess("done"))
    feed(tracker, frames.Executing(node=None, prompt_id="done"))
    happened = tracker.fail_all("it crashed", died=True)
    # No event says that either has begun: it died while it ran the first.
    assert of(first, happened) == [events.PromptLost("it crashed", died=True)]
    assert of(second, happened) == [events.PromptLost("it crashed", died=False)]
    assert of(done, happened) == []


def test_the_one_that_had_begun_is_named_before_an_earlier_one(tracker: PromptTracker) -> None:
    first, second = follow(tracker, "first"), follow(tracker, "second")
    feed(tracker, frames.ExecutionStart("second"))
    happened = tracker.fail_all("it crashed", died=True)
    assert of(first, happened) == [events.PromptLost("it crashed", died=False)]
    assert of(second, happened) == [events.PromptLost("it crashed", died=True)]


def test_where_others_have_prompts_only_one_that_had_begun_is_named(
    tracker: PromptTracker,
) -> None:
    waits = follow(tracker, "waits")
    happened = tracker.fail_all("its worker ended", died=True, alone=False)
    assert of(waits, happened) == [events.PromptLost("its worker ended", died=False)]
