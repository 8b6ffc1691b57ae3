"""Jobs to write down, for tests."""

from __future__ import annotations

import hashlib
from typing import Any

from msgspec.structs import replace

from bridge.contract.retained import OutputDefinition
from bridge.contract.sources import JobOutput
from bridge.jobs.job import Draft, Envelope, Job, KeptOutput, MediaInput, Plan
from bridge.jobs.queue import Key
from bridge.jobs.state import first

PICTURE = b"\x89PNG\r\n\x1a\n" + b"x" * 100
KEPT_PICTURE = KeptOutput(
    index=0,
    content_type="image/png",
    sha256=hashlib.sha256(PICTURE).hexdigest(),
    size=len(PICTURE),
    data=PICTURE,
)
PLAN = Plan(
    prompt={"1": {"class_type": "SaveImage", "inputs": {"filename_prefix": "x"}}},
    inputs={"prompt": "a barn"},
    names={"1.filename_prefix": "prefix"},
    outputs=[OutputDefinition(name="image", kind="image", node="1")],
)


_OF_A_DRAFT = ("fingerprint", "plan", "media", "delivery", "redelivered")


def draft(job_id: str = "j1", client: str = "alice", **changes: Any) -> Draft:
    """A draft; `changes` are fields of it, or of its job."""
    about = {name: changes.pop(name) for name in _OF_A_DRAFT if name in changes}
    about = {"fingerprint": b"same", "plan": PLAN, **about}
    values: dict[str, Any] = {
        "key": Key(client, job_id),
        "workflow": "demo",
        "workflow_version": "v1",
        "state": first(waits=about["plan"].waits),
        "prompt_id": f"prompt-{job_id}",
        "envelope": Envelope(transaction="t", correlation=b"\xff\x00", response_topic="r"),
    }
    return Draft(job=Job(**{**values, **changes}), **about)


def waits_for_a_job(job_id: str) -> Plan:
    """A plan whose picture is an output of another job."""
    media = MediaInput("image", "image", "1", "image", "media", [JobOutput(job_id)])
    return replace(PLAN, media=[media])
