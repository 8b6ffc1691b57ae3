"""The consequences of an attempt that did not succeed, by its stop and how it ended."""

from __future__ import annotations

import pytest

from bridge.contract.errors import ComfyUIUnavailable
from bridge.jobs.core import events
from bridge.jobs.core.entry import Entry, Phase, StopReason
from bridge.jobs.core.retry_policy import JobEnds, JobReturns, Unsuccessful, after_attempt
from bridge.jobs.state import Transition
from tests.jobs.drafts import draft

ERROR = ComfyUIUnavailable("it ended")


def follows(
    how: str, stop: StopReason | None = None, *, began: bool = True, counts: bool = False
) -> JobEnds | JobReturns:
    """Return what follows for a job at its first attempt of three."""
    job = draft("j1").job
    job.state, job.attempt = ("running", 1) if began else ("queued", 0)
    entry = Entry(job, Phase.ACTIVE, "main", stop=stop, sent_back="the operator took it")
    event: Unsuccessful
    match how:
        case "failed":
            event = events.AttemptFailed(job.key, ERROR, counts)
        case "stopped":
            event = events.AttemptStopped(job.key, "p2")
        case _:
            event = events.AttemptBroke(job.key, ERROR, "p2", counts, no_room=how == "no room")
    return after_attempt(entry, event, max_attempts=3, ahead=0.0)


@pytest.mark.parametrize("stop", [None, *StopReason])
@pytest.mark.parametrize("began", [False, True])
def test_an_attempt_that_failed_ends_its_job_whoever_stopped_it(
    stop: StopReason | None, *, began: bool
) -> None:
    found = follows("failed", stop, began=began)
    assert found == JobEnds(Transition.FAIL, ERROR, int(began))


@pytest.mark.parametrize("how", ["stopped", "broke", "no room"])
@pytest.mark.parametrize("began", [False, True])
def test_a_stop_decides_before_how_the_attempt_ended(how: str, *, began: bool) -> None:
    attempt = int(began)
    assert follows(how, StopReason.CANCEL, began=began) == JobEnds(Transition.CANCEL, None, attempt)
    back = follows(how, StopReason.SEND_BACK, began=began)
    assert isinstance(back, JobReturns)
    assert (back.error.message, back.prompt_id) == ("the operator took it", "p2")
    assert (back.attempt, back.retried, back.withdrawn) == (attempt, False, None)
    late = follows(how, StopReason.EXPIRE, began=began)
    if began:
        # Expired only before the start: it goes back first.
        assert isinstance(late, JobReturns)
        assert late.withdrawn is not None
        assert late.withdrawn.transition is Transition.EXPIRE
    else:
        assert isinstance(late, JobEnds)
        assert late.transition is Transition.EXPIRE


def test_a_stop_that_nobody_of_ours_asked_for_cancels_the_job() -> None:
    found = follows("stopped")
    assert isinstance(found, JobEnds)
    assert found.error is not None
    assert (found.transition, found.error.code) == (Transition.CANCEL, "interrupted")


@pytest.mark.parametrize(
    ("how", "began", "counts", "attempt"),
    [
        ("broke", True, False, 1),
        ("broke", True, True, 1),
        ("broke", False, False, 0),
        ("broke", False, True, 1),
        ("no room", True, True, 0),
        ("no room", False, True, 0),
    ],
)
def test_an_attempt_counts_if_it_began_or_says_so_but_not_for_a_full_disk(
    how: str, attempt: int, *, began: bool, counts: bool
) -> None:
    found = follows(how, began=began, counts=counts)
    assert isinstance(found, JobReturns)
    assert (found.attempt, found.retried, found.no_room) == (attempt, True, how == "no room")
