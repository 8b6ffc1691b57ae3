"""Jobs that are cancelled, replaced, late or without their inputs."""

from __future__ import annotations

import pytest

from bridge.contract.errors import BridgeError, ComfyUIUnavailable
from bridge.jobs.core import Moment, Phase, effects, events
from tests.jobs.core.rig import Rig
from tests.jobs.drafts import PLAN


@pytest.mark.parametrize("began", [False, True])
def test_a_job_that_expires_at_comfyui_is_expired_unless_it_had_begun(*, began: bool) -> None:
    core = Rig("main")
    core.ready("main")
    key = core.add("j1", start_before=150.0)
    if began:
        core.feed(events.Began(key))
    core.clock = 200.0
    core.feed(events.Tick())
    assert bool(core.wanted(effects.StopJob)) is not began
    if not began:
        core.feed(events.AttemptStopped(key, "p"))
        assert core.wanted(effects.Finish)[-1].outcome == "expired"


def test_an_expired_start_is_reported_by_the_wall_clock() -> None:
    core = Rig()
    core.add("j1", start_before=150.0)
    done = core.handle(events.Tick(), Moment(200.0, 200.0, ahead=1_000.0))
    (finish,) = (each for each in done if isinstance(each, effects.Finish))
    assert finish.error is not None
    assert finish.error.details["start_before"] == 1_150.0


def test_a_job_that_begins_just_as_its_deadline_stops_it_is_expired() -> None:
    core = Rig("main")
    core.ready("main")
    key = core.add("j1", start_before=150.0)
    core.clock = 200.0
    core.feed(events.Tick())
    core.feed(events.Began(key))
    core.feed(events.AttemptStopped(key, "p"))
    (requeue,) = core.wanted(effects.Requeue)
    assert requeue.expected
    core.feed(events.Requeued(key, 3))
    (finish,) = core.wanted(effects.Finish)
    assert (finish.outcome, finish.error.code) == ("expired", "expired")
    core.feed(events.Finished(key))
    assert key not in core.book


def test_wakes_are_asked_for_at_the_first_deadline() -> None:
    core = Rig("main")
    core.add("j1", start_before=500.0)
    core.add("j2", start_before=300.0)
    assert core.wakes_at().journal == 300.0
    core.clock = 300.0
    core.feed(events.Tick())
    assert core.wanted(effects.Finish)[-1].key.job_id == "j2"
    assert core.wakes_at().journal == 500.0


def test_a_cancel_that_comes_too_late_leaves_the_result() -> None:
    core = Rig("main")
    core.ready("main")
    key = core.add("j1")
    core.feed(events.Began(key))
    core.feed(events.CancelRequested(key))
    core.feed(events.AttemptSucceeded(key, 1.0))
    assert core.wanted(effects.Finish)[-1].outcome == "succeeded"


def test_a_clear_leaves_alone_what_has_started_and_other_clients() -> None:
    core = Rig("main")
    core.ready("main")
    for number in range(4):
        core.add(f"j{number}")
    theirs = core.add("theirs", "bob")
    core.done = []
    core.feed(events.ClearRequested("alice"))
    assert [each.key.job_id for each in core.wanted(effects.Finish)] == ["j2", "j3"]
    assert core.wanted(effects.StopJob) == []
    assert theirs in core.book


def test_of_jobs_that_replace_each_other_the_newest_is_run() -> None:
    core = Rig("main")
    core.add("older", replace="sensor")
    core.add("theirs", "bob", replace="sensor")
    core.add("newer", replace="sensor")
    (finish,) = core.wanted(effects.Finish)
    assert (finish.key.job_id, finish.outcome) == ("older", "cancelled")
    assert finish.error.details["by"] == "newer"
    core.ready("main")
    assert set(core.started()) == {("theirs", "main"), ("newer", "main")}


def test_a_job_that_has_started_is_replaced_only_if_it_comes_back() -> None:
    core = Rig("main")
    core.ready("main")
    older = core.add("older", replace="sensor")
    core.feed(events.Began(older))
    newer = core.add("newer", replace="sensor")
    assert core.wanted(effects.StopJob) == []
    assert core.wanted(effects.Finish) == []
    core.feed(events.AttemptBroke(older, ComfyUIUnavailable("died"), "p2"))
    core.feed(events.Requeued(older, 1))
    (finish,) = core.wanted(effects.Finish)
    assert (finish.key, finish.outcome) == (older, "cancelled")
    assert newer in core.book


def test_a_job_that_is_cancelled_while_it_is_released_is_cancelled() -> None:
    core = Rig("main")
    job = core.make("j1", state="waiting")
    core.feed(events.JobAccepted(job))
    core.feed(events.Resolved(job.key, PLAN, {}))
    core.feed(events.CancelRequested(job.key))
    entry = core.book.entry(job.key)
    assert entry is not None
    assert entry.phase is Phase.RELEASING
    core.feed(events.Released(job.key, 3))
    assert core.wanted(effects.Finish)[-1].outcome == "cancelled"


@pytest.mark.parametrize("released", [False, True])
def test_a_job_whose_input_cannot_be_had_fails(*, released: bool) -> None:
    core = Rig("main")
    job = core.make("j1", state="waiting")
    core.feed(events.JobAccepted(job))
    if released:
        core.feed(events.Resolved(job.key, PLAN, {}))
    core.feed(events.Unresolvable(job.key, BridgeError("swept")))
    assert core.wanted(effects.Finish)[-1].outcome == "failed"


def test_deadlines_of_jobs_that_have_ended_or_come_back_take_no_memory() -> None:
    core = Rig("main")
    core.ready("main")
    again = core.add("again", start_before=1e9)
    for number in range(2000):
        key = core.add(f"j{number}", start_before=1e9)
        core.feed(events.AttemptSucceeded(key, 1.0))
        core.feed(events.Finished(key))
        core.feed(events.AttemptBroke(again, ComfyUIUnavailable("refused"), "p"))
        core.feed(events.Requeued(again, number))
    assert len(core._life.deadlines) < 300
    core.feed(events.AttemptBroke(again, ComfyUIUnavailable("refused"), "p"))
    core.clock = 1e9
    core.feed(events.Tick())
    core.feed(events.Requeued(again, 3000))
    core.feed(events.Tick())
    assert core.wanted(effects.Finish)[-1].outcome == "expired"
