"""A job has one outcome, and a defect costs one job."""

from __future__ import annotations

import pytest

from bridge.contract.errors import BridgeError
from bridge.jobs.core import effects, events
from bridge.jobs.core.entry import Entry
from tests.jobs.core.rig import Rig


def test_a_job_has_one_outcome_whatever_arrives_afterwards() -> None:
    core = Rig("main")
    core.ready("main")
    key = core.add("j1")
    core.feed(events.Began(key))
    (finish,) = core.feed(events.AttemptSucceeded(key, 1.0))[:1]
    assert isinstance(finish, effects.Finish)
    assert finish.outcome == "succeeded"
    for late in (
        events.AttemptFailed(key, BridgeError("late")),
        events.CancelRequested(key),
        events.Began(key),
        events.Requeued(key, 7),
    ):
        assert not [each for each in core.feed(late) if isinstance(each, effects.Finish)]
    assert core.feed(events.Finished(key)) == [effects.JobLeft(key, "succeeded")]
    assert core.feed(events.Finished(key)) == []
    assert key not in core.book


def test_a_defect_while_jobs_are_given_out_costs_one_job_and_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    core = Rig("main", "other")
    first, second, third = (core.add(name) for name in ("j1", "j2", "j3"))
    start = core._life._start
    broken = ZeroDivisionError()

    def fails(entry: Entry) -> None:
        if entry.job.key == second:
            raise broken
        start(entry)

    monkeypatch.setattr(core._life, "_start", fails)
    core.ready("main", "other")
    assert core.wanted(effects.ReportDefect) == [effects.ReportDefect(broken)]
    assert {each.key for each in core.wanted(effects.StartJob)} == {first, third}
    (finish,) = core.wanted(effects.Finish)
    assert (finish.key, finish.outcome) == (second, "failed")


def test_a_defect_in_what_an_event_changes_costs_its_job_and_loses_no_effect(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    core = Rig("main")
    core.ready("main")
    key = core.add("j1")
    other = core.add("j2")

    def fails(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(core.book.estimates, "ran", fails)
    core.feed(events.AttemptSucceeded(key, 1.0))
    (finish,) = core.wanted(effects.Finish)
    assert (finish.key, finish.outcome) == (key, "failed")
    core.feed(events.AttemptFailed(other, BridgeError("x")))
    assert core.wanted(effects.Finish)[-1].key == other


def test_a_defect_costs_the_job_and_a_second_one_leaves_it_to_the_next_start() -> None:
    core = Rig("main")
    core.ready("main")
    key = core.add("j1")
    core.feed(events.Defect(key, BridgeError("internal error")))
    assert core.wanted(effects.Finish)[-1].outcome == "failed"
    core.feed(events.Defect(key, BridgeError("internal error")))
    assert core.wanted(effects.JobLeft) == [effects.JobLeft(key, None)]
    assert not core.book.running
