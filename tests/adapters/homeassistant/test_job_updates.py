from __future__ import annotations

from bridge.adapters.homeassistant.job_updates import JobUpdate, JobUpdateFilter, read_job_update
from bridge.contract.messages import JobStatus, encode


def test_updates_of_another_version_or_of_nobody_are_none() -> None:
    told = JobUpdate(status=JobStatus(job_id="j1", workflow="demo", n=1, state="queued", attempt=0))
    assert read_job_update(encode(told)) == told
    assert read_job_update(b'{"ended": true, "more": 1}') == JobUpdate(ended=True)
    assert read_job_update(b"\xff") is None
    assert read_job_update(b"[]") is None


def test_what_comes_late_or_twice_changes_nothing() -> None:
    order = JobUpdateFilter()
    assert order.is_newer("j1", 2)
    assert not order.is_newer("j1", 1)
    assert order.is_newer("j1", 3)
    assert order.is_running("j1")
    assert order.ends("j1")
    assert not order.ends("j1")
    assert not order.is_newer("j1", 4)
    assert not order.is_running("j1")
    assert order.is_newer("j2", 1)


def test_no_more_ends_are_remembered_than_come_twice() -> None:
    order = JobUpdateFilter()
    for index in range(5000):
        order.ends(f"j{index}")
    assert order.is_running("j0")
    assert not order.is_running("j4999")
