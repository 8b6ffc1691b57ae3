from __future__ import annotations

import pytest

from bridge.jobs.estimates import Estimates


def test_nothing_is_estimated_for_a_workflow_that_never_ran() -> None:
    estimates = Estimates()
    assert estimates.until_end("a", 0, active=0, instances=1) is None
    assert estimates.left_of("a", 0.0, 1.0) is None


def test_the_newest_runs_count_most() -> None:
    estimates = Estimates()
    assert estimates.ran("a", 10.0) == 10.0
    for _ in range(20):
        estimates.ran("a", 2.0)
    assert estimates.run_s("a") == pytest.approx(2.0, abs=0.1)


def test_a_job_ends_after_those_before_it_shared_by_all_places() -> None:
    estimates = Estimates({"a": 10.0, "b": 2.0})
    for workflow in ("a", "b"):
        estimates.queued(workflow)
    assert estimates.until_end("b", 4, active=1, instances=1) == pytest.approx(2.0 + 4.5 * 6.0)
    assert estimates.until_end("b", 4, active=2, instances=2) == pytest.approx(2.0 + 5.0 * 6.0 / 2)
    assert estimates.until_end("b", 4, active=0, instances=0) is None
    estimates.left("a")
    assert estimates.until_end("b", 4, active=1, instances=1) == pytest.approx(2.0 + 4.5 * 2.0)


def test_jobs_at_a_comfyui_count_too_those_that_run_as_half_done() -> None:
    estimates = Estimates({"a": 2.0})
    assert estimates.until_end("a", 0, active=0, instances=1) == 2.0
    assert estimates.until_end("a", 0, active=1, instances=1) == 3.0
    assert estimates.until_end("a", 0, active=2, instances=1) == 5.0
    assert estimates.until_end("a", 0, active=1, instances=2) == 2.5


def test_the_rest_of_a_run_is_estimated_from_its_progress() -> None:
    estimates = Estimates({"a": 10.0})
    assert estimates.left_of("a", 2.0, 4.0) == 6.0  # too early to tell by the percent
    assert estimates.left_of("a", 2.0, 14.0) == 0.0
    assert estimates.left_of("a", 80.0, 4.0) == pytest.approx(1.0)
