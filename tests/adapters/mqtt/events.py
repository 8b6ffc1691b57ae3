"""Jobs and events, for tests of what is published."""

from __future__ import annotations

from typing import Any

from msgspec import Raw

from bridge.contract.messages import JobStatus, OutputInfo, Result, Timings, encode
from bridge.contract.topics import RequestTopic
from bridge.jobs.job import Envelope, Job
from bridge.jobs.queue import Key
from bridge.requests.context import RequestContext
from bridge.workflows.catalogue import Needs

KEY = Key("alice", "j1")
REPLY = "comfy2mqtt/client/alice/reply/here"
TREE = "comfy2mqtt/client/alice"


def job(keep_s: float | None = None, **envelope: Any) -> Job:
    return Job(
        key=KEY,
        seq=1,
        workflow="demo",
        workflow_version="v1",
        state="running",
        priority=0,
        attempt=1,
        prompt_id="p",
        instance="main",
        accepted_at=0.0,
        start_before=None,
        timeout_s=None,
        keep_s=keep_s,
        ordered=False,
        replace=None,
        needs=Needs(),
        envelope=Envelope(**envelope),
    )


def status(meta: bytes | None = None) -> JobStatus:
    found = JobStatus(job_id="j1", workflow="demo", n=1, state="running", attempt=1)
    return (
        found
        if meta is None
        else JobStatus(
            job_id="j1", workflow="demo", n=1, state="running", attempt=1, meta=Raw(meta)
        )
    )


def output(size: int, index: int = 0) -> OutputInfo:
    return OutputInfo(
        index=index,
        name="image",
        kind="image",
        content_type="image/png",
        size=size,
        sha256="0" * 64,
        filename="a.png",
    )


def result(**fields: Any) -> bytes:
    return encode(
        Result(
            **{
                "job_id": "j1",
                "workflow": "demo",
                "n": 2,
                "state": "succeeded",
                "workflow_version": "v1",
                "timings": Timings(queued_s=0.0, load_s=0.0, run_s=0.0, deliver_s=0.0),
                "attempts": 1,
                **fields,
            }
        )
    )


def asked(verb: str = "ack", **fields: Any) -> RequestContext:
    return RequestContext(topic=RequestTopic("alice", verb), **fields)
