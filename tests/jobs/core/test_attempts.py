"""Attempts that fail, and jobs that return to the queue."""

from __future__ import annotations

import pytest

from bridge.contract.errors import BridgeError, ComfyUIUnavailable
from bridge.jobs.core import effects, events
from bridge.jobs.core.pool import BACKOFF_FIRST_S, BACKOFF_LONGEST_S
from bridge.jobs.core.retry_policy import MAX_NO_ROOM
from bridge.jobs.queue import Key
from tests.jobs.core.rig import LIMITS, Rig


def no_room(key: Key) -> events.AttemptBroke:
    error = BridgeError("node 9 (SaveImage): [Errno 28] No space left on device")
    return events.AttemptBroke(key, error, "p2", no_room=True)


def test_a_retry_gets_another_prompt_id_and_an_end() -> None:
    core = Rig("main")
    core.ready("main")
    key = core.add("j1")
    for number in range(1, 4):
        core.feed(events.Began(key))
        lost = events.AttemptBroke(key, ComfyUIUnavailable("lost"), f"p{number}")
        core.feed(lost)
        if number < 3:
            assert core.wanted(effects.Requeue)[-1].delay_s == 0
            core.feed(events.Requeued(key, number))
            job = core.book.job(key)
            assert job is not None
            assert job.prompt_id == f"p{number}"
    (finish,) = core.wanted(effects.Finish)
    assert (finish.outcome, finish.error.code) == ("failed", "comfyui_unavailable")
    assert core.counters.retried == 2


def test_an_attempt_that_never_reached_comfyui_is_made_again_after_a_pause() -> None:
    core = Rig("main")
    core.ready("main")
    key = core.add("j1")
    core.feed(events.AttemptBroke(key, ComfyUIUnavailable("refused"), "p1"))
    assert core.wanted(effects.Requeue)[-1].delay_s > 0
    assert core.book.job(key).attempt == 0  # type: ignore[union-attr]


def test_memory_that_runs_out_is_freed_once() -> None:
    core = Rig("main")
    core.ready("main")
    key = core.add("j1")
    full = events.AttemptBroke(key, BridgeError("out of memory"), "p", free_memory=True)
    core.feed(events.Began(key))
    core.feed(full)
    assert core.wanted(effects.Requeue)[-1].free == "main"
    core.feed(events.Requeued(key, 1))
    core.feed(events.Began(key))
    core.feed(full)
    assert core.wanted(effects.Finish)[-1].outcome == "failed"


def test_what_was_sent_back_keeps_its_attempt_and_its_place() -> None:
    core = Rig("main")
    core.ready("main")
    key = core.add("j1")
    core.feed(events.Began(key))
    core.feed(events.RequeueRequested("main"))
    assert core.wanted(effects.StopJob) == [effects.StopJob(key)]
    core.feed(events.AttemptStopped(key, "p2"))
    requeue = core.wanted(effects.Requeue)[-1]
    assert (requeue.expected, requeue.reason) == (True, "the operator took it from main")
    core.feed(events.Requeued(key, 5))
    assert core.counters.retried == 0
    published = core.wanted(effects.PublishStatus)[-1].status
    assert (published.state, published.n) == ("queued", 5)


def test_what_was_sent_back_for_the_gpu_names_who_has_it() -> None:
    core = Rig("main")
    core.ready("main")
    key = core.add("j1")
    core.feed(events.Began(key))
    core.feed(events.RequeueRequested("main", "GPU 'desk', which 'games' gets next"))
    core.feed(events.AttemptStopped(key, "p2"))
    told = "it was taken from main, which waits for GPU 'desk', which 'games' gets next"
    assert core.wanted(effects.Requeue)[-1].reason == told


def test_a_job_that_a_full_disk_ended_at_comfyui_waits_and_has_its_attempt_again() -> None:
    core = Rig("main")
    core.ready("main")
    key = core.add("j1")
    core.feed(events.Began(key))
    core.feed(no_room(key))
    assert core.wanted(effects.Finish) == []
    core.done = []
    core.feed(events.Requeued(key, 7))
    job = core.book.job(key)
    assert job is not None
    assert (job.state, job.attempt) == ("queued", 0)
    assert core.started() == []
    assert core.book.why_waiting(job) == "ComfyUI main has no room left on its disk"
    assert core.wakes_at().steady <= core.clock + BACKOFF_FIRST_S
    core.clock += BACKOFF_FIRST_S
    core.feed(events.Tick())
    assert core.started() == [("j1", "main")]
    assert core.book.why_waiting(job) is None


def test_a_comfyui_whose_disk_is_full_rests_longer_each_time_until_it_has_saved_something() -> None:
    core = Rig("main")
    core.ready("main")
    key = core.add("j1")
    rests = []
    for _ in range(9):
        core.feed(events.Began(key))
        core.feed(no_room(key))
        core.feed(events.Requeued(key, 1))
        due = core.book.pool["main"].backs_off_until
        assert due is not None
        rests.append(due - core.clock)
        core.clock = due
        core.feed(events.Tick())
    assert rests[:3] == [BACKOFF_FIRST_S, 2 * BACKOFF_FIRST_S, 4 * BACKOFF_FIRST_S]
    assert max(rests) == rests[-1] == BACKOFF_LONGEST_S
    core.feed(events.Began(key))
    core.feed(events.AttemptSucceeded(key, 1.0))
    core.feed(events.Finished(key))
    other = core.add("j2")
    core.feed(events.Began(other))
    core.feed(no_room(other))
    assert core.book.pool["main"].backs_off_until == core.clock + BACKOFF_FIRST_S


def test_another_comfyui_with_room_takes_the_job_at_once() -> None:
    core = Rig("full", "other")
    core.ready("full")
    key = core.add("j1")
    core.feed(events.Began(key))
    core.feed(no_room(key))
    core.ready("other")
    core.done = []
    core.feed(events.Requeued(key, 1))
    assert core.started() == [("j1", "other")]


def test_a_job_that_fills_the_disk_each_time_is_given_up() -> None:
    core = Rig("main")
    core.ready("main")
    key = core.add("j1")
    for _ in range(MAX_NO_ROOM):
        core.feed(events.Began(key))
        core.feed(no_room(key))
        core.feed(events.Requeued(key, 1))
        core.clock += BACKOFF_LONGEST_S
        core.feed(events.Tick())
    assert core.wanted(effects.Finish) == []
    core.feed(events.Began(key))
    core.feed(no_room(key))
    assert core.wanted(effects.Finish)[-1].outcome == "failed"


@pytest.mark.parametrize("broke", [False, True])
def test_a_job_that_is_cancelled_while_it_runs_is_not_run_again(*, broke: bool) -> None:
    core = Rig("main")
    core.ready("main")
    key = core.add("j1")
    core.feed(events.Began(key))
    assert core.feed(events.CancelRequested(key)) == [effects.StopJob(key)]
    died = events.AttemptBroke(key, ComfyUIUnavailable("died"), "p2")
    core.feed(died if broke else events.AttemptStopped(key, "p2"))
    assert core.wanted(effects.Requeue) == []
    assert core.wanted(effects.Finish)[-1].outcome == "cancelled"


def test_a_job_that_every_bridge_died_of_is_lost() -> None:
    core = Rig("main")
    job = core.make("j1")
    job.attempt = LIMITS.max_attempts
    core.feed(events.Recovered([job]))
    core.ready("main")
    core.feed(events.PromptsListed("main", frozenset()))
    (finish,) = core.wanted(effects.Finish)
    assert (finish.outcome, finish.error.code) == ("failed", "lost")
    assert core.started() == []


def test_an_attempt_that_never_reached_comfyui_counts_if_it_says_so() -> None:
    core = Rig("main")
    core.ready("main")
    key = core.add("j1")
    refused = events.AttemptBroke(key, ComfyUIUnavailable("refused"), "p", counts=True)
    for number in range(1, LIMITS.max_attempts):
        core.feed(refused)
        assert core.wanted(effects.Finish) == []
        core.feed(events.Requeued(key, number))
    core.feed(refused)
    assert core.wanted(effects.Finish)[-1].outcome == "failed"
