"""Jobs that several bridges know: claims, and what the others did."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.jobs.core import effects, events
from bridge.jobs.core.ownership import events_for
from tests.jobs.core.rig import Rig


def test_in_a_group_a_job_is_claimed_before_it_is_run_or_ended() -> None:
    core = Rig("main", alone=False)
    core.ready("main")
    key = core.add("j1")
    assert core.wanted(effects.Claim) == [effects.Claim(key)]
    core.feed(events.TakenElsewhere(key))  # an old notice: the claim's answer decides
    assert key in core.book
    core.feed(events.Claimed(key, 2, "p9"))
    assert core.started() == [("j1", "main")]
    other = core.add("j2")
    core.feed(events.ClaimLost(other))
    assert core.wanted(effects.JobLeft) == [effects.JobLeft(other, None)]
    assert core.book.running == 1


@pytest.mark.parametrize("alone", [True, False])
def test_a_bridge_of_a_group_that_stops_gives_back_what_has_not_begun(alone: bool) -> None:  # noqa: FBT001
    core = Rig("main", alone=alone)
    core.ready("main")
    runs, waits = core.add("j1"), core.add("j2")
    for key in () if alone else (runs, waits):
        core.feed(events.Claimed(key, 1, f"p-{key.job_id}"))
    core.feed(events.Began(runs))
    core.feed(events.Draining())
    assert [each.key for each in core.wanted(effects.StopJob)] == ([] if alone else [waits])
    assert core.book.is_busy
    core.feed(events.AttemptStopped(waits, "p9"))
    core.feed(events.Requeued(waits, 5))
    assert core.book.is_busy
    core.feed(events.AttemptSucceeded(runs, 1.0))
    core.feed(events.Finished(runs))
    assert not core.book.is_busy


def test_a_job_that_a_stopping_bridge_gives_back_says_so() -> None:
    core = Rig("main", alone=False)
    core.ready("main")
    key = core.add("j1")
    core.feed(events.Claimed(key, 0, "p1"))
    core.feed(events.Draining())
    core.feed(events.AttemptStopped(key, "p2"))
    assert core.wanted(effects.Requeue)[-1].reason == "the bridge of main stops"


def test_a_job_whose_claim_is_answered_once_the_bridge_stops_is_given_back() -> None:
    core = Rig("main", alone=False)
    core.ready("main")
    key = core.add("j1")
    core.feed(events.Draining())
    core.feed(events.Claimed(key, 0, "p1"))
    assert core.book.is_busy
    assert [each.key for each in core.wanted(effects.StopJob)] == [key]
    core.feed(events.AttemptStopped(key, "p2"))
    assert core.wanted(effects.Requeue)[-1].reason == "the bridge of main stops"


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ({"ended": True}, [events.EndedElsewhere]),
        ({"owner": "other"}, [events.TakenElsewhere]),
        ({"owner": "me", "cancelling": True, "known": True}, [events.CancelRequested]),
        ({"owner": "me", "cancelling": True}, []),
        ({"known": True}, []),
        ({}, [events.JobAccepted]),
        ({"cancelling": True}, [events.JobAccepted, events.CancelRequested]),
        ({"state": "waiting"}, []),
        ({"state": "waiting", "has_intake": True}, [events.JobAccepted]),
    ],
)
def test_what_other_bridges_do_is_understood(found: dict[str, Any], expected: list[type]) -> None:
    job = Rig().make("j1", state=found.pop("state", "queued"))
    record: dict[str, Any] = {
        "owner": None,
        "cancelling": False,
        "ended": False,
        "life": "me",
        "has_intake": False,
        "known": False,
    }
    assert [type(each) for each in events_for(job, **{**record, **found})] == expected
