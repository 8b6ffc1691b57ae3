from __future__ import annotations

from typing import Any

from bridge.adapters.homeassistant.device_state import DeviceState, DoneEvent
from bridge.contract.messages import JobStatus, Progress


def status(job_id: str, state: Any, **fields: Any) -> JobStatus:
    return JobStatus(job_id=job_id, workflow="demo", n=1, state=state, attempt=0, **fields)


def progress(percent: float, **fields: Any) -> Progress:
    return Progress(job_id="a", workflow="demo", percent=percent, **fields)


def test_a_workflow_without_jobs_is_idle() -> None:
    assert DeviceState().shown() == {
        "state": "idle",
        "progress": "0",
        "queue": "0",
        "eta": "None",
        "busy": "OFF",
        "message": "None",
    }


def test_of_several_jobs_the_furthest_is_shown_and_the_others_are_counted() -> None:
    standing = DeviceState()
    standing.add("before", "queued")
    standing.status(status("a", "waiting"))
    assert standing.shown()["state"] == "queued"
    assert (standing.shown()["queue"], standing.shown()["busy"]) == ("2", "ON")
    standing.status(status("a", "running", eta_s=12.4))
    assert standing.shown() == {
        "state": "running",
        "progress": "0",
        "queue": "1",
        "eta": "12",
        "busy": "ON",
        "message": "None",
    }
    standing.progress(progress(37.5, eta_s=3))
    assert (standing.shown()["progress"], standing.shown()["eta"]) == ("37.5", "3")


def test_when_all_have_ended_the_last_outcome_stays() -> None:
    standing = DeviceState()
    standing.status(status("a", "running"))
    standing.progress(progress(50))
    standing.ended("a", "failed")
    assert standing.shown() == {
        "state": "failed",
        "progress": "50",
        "queue": "0",
        "eta": "None",
        "busy": "OFF",
        "message": "None",
    }
    standing.status(status("b", "running"))
    standing.ended("b", "succeeded")
    assert standing.shown()["progress"] == "100"


def test_why_a_job_waits_or_did_not_succeed_is_shown_until_the_next_one_goes_on() -> None:
    standing = DeviceState()
    standing.status(status("a", "queued", reason="the queue is paused"))
    assert standing.shown()["message"] == "the queue is paused"
    standing.status(status("a", "running"))
    assert standing.shown()["message"] == "None"
    standing.ended("a", "failed", "no memory" * 100)
    assert standing.shown()["message"].startswith("no memory")
    assert len(standing.shown()["message"]) == 255
    standing.refused("100 jobs wait")
    assert standing.shown()["message"] == "100 jobs wait"
    standing.ended("b", "succeeded")
    assert standing.shown()["message"] == "None"


def test_an_events_payload_has_only_what_applies() -> None:
    assert DoneEvent("succeeded", "a").payload() == {"event_type": "succeeded", "job_id": "a"}
