"""A job, as the queue holds it and as the journal keeps it.

`Job` is light: ten thousand of them wait in memory. What is needed only to run one, its `Plan`
with the whole prompt, stays in the journal until its turn.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import UNSET, Raw, Struct, UnsetType

from bridge.contract.messages import Deliver, OutputDefinition, State, Transaction
from bridge.jobs.queue import Key


class Envelope(Struct, frozen=True, omit_defaults=True):
    """What the sender said besides the work: echoed, or telling how to answer.

    `correlation` is MQTT's Correlation Data, bytes as they came.
    """

    transaction: Transaction | UnsetType = UNSET
    meta: Raw | UnsetType = UNSET
    response_topic: str | None = None
    correlation: bytes | None = None
    reply_output: bool = False
    deliver: Deliver = "push"
    max_packet: int | None = None
    preview: bool = False


class MediaUse(Struct, frozen=True):
    """Bytes that a job's prompt refers to, and the way they reach ComfyUI.

    `media`: by our nodes' route, under their SHA-256. `upload`: by ComfyUI's own upload, as
    `filename` in the input subfolder that the prompt names.
    """

    sha256: str
    content_type: str
    via: Literal["media", "upload"]
    filename: str = ""


class Plan(Struct, frozen=True, omit_defaults=True):
    """What ComfyUI is given, and how to read what it says.

    `names` maps `node.input` of the prompt to the workflow's name of that input; `inputs` are the
    values as resolved, for the result.
    """

    prompt: dict[str, dict[str, Any]]
    inputs: dict[str, Any]
    names: dict[str, str]
    outputs: list[OutputDefinition]
    media: list[MediaUse] = []


class Job(Struct, kw_only=True):
    """A job that has not ended. `attempt` counts its starts at a ComfyUI.

    Times are seconds since the epoch; `start_before` is when it may no longer start.
    """

    key: Key
    seq: int
    workflow: str
    workflow_version: str
    state: State
    priority: int
    attempt: int
    prompt_id: str
    instance: str | None
    accepted_at: float
    start_before: float | None
    timeout_s: float | None
    keep_s: float | None
    envelope: Envelope


class Draft(Struct, frozen=True, kw_only=True):
    """A request that is ready to become a job.

    `fingerprint` tells whether two requests under one id are the same; `delivery` marks the MQTT
    delivery that it came by, so that a redelivered request without a job id is known again.
    `media` has the bytes that `plan.media` names, by SHA-256; large ones are files already.
    """

    key: Key
    workflow: str
    workflow_version: str
    fingerprint: bytes
    priority: int
    prompt_id: str
    start_before: float | None
    timeout_s: float | None
    keep_s: float | None
    envelope: Envelope
    plan: Plan
    media: dict[str, bytes] = {}
    delivery: str | None = None
    redelivered: bool = False


class KeptOutput(Struct, frozen=True, kw_only=True):
    """An output's bytes as they are kept: inline in the journal, or (None) in a file."""

    index: int
    content_type: str
    sha256: str
    size: int
    data: bytes | None
