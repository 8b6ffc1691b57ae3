"""Jobs to write down, for tests."""

from __future__ import annotations

from typing import Any

from bridge.contract.retained import OutputDefinition
from bridge.jobs.job import Draft, Envelope, Plan
from bridge.jobs.queue import Key

PLAN = Plan(
    prompt={"1": {"class_type": "SaveImage", "inputs": {"filename_prefix": "x"}}},
    inputs={"prompt": "a barn"},
    names={"1.filename_prefix": "prefix"},
    outputs=[OutputDefinition(name="image", kind="image", node="1")],
)


def draft(job_id: str = "j1", client: str = "alice", **changes: Any) -> Draft:
    values: dict[str, Any] = {
        "key": Key(client, job_id),
        "workflow": "demo",
        "workflow_version": "v1",
        "fingerprint": b"same",
        "priority": 0,
        "prompt_id": f"prompt-{job_id}",
        "start_before": None,
        "timeout_s": None,
        "keep_s": None,
        "envelope": Envelope(transaction="t", correlation=b"\xff\x00", response_topic="r"),
        "plan": PLAN,
    }
    return Draft(**{**values, **changes})
