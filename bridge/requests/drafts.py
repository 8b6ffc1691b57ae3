"""Makes the draft of a job from a request. Pure: times and ids are arguments."""

from __future__ import annotations

import hashlib
import re
from typing import Any

import msgspec
from msgspec import UNSET, Struct

from bridge.contract import missing
from bridge.contract.errors import Busy, ComfyUIUnavailable, InvalidInput, QuotaExceeded
from bridge.contract.messages import Submit, or_none
from bridge.contract.retained import Missing
from bridge.jobs.job import Draft, Envelope, Job, JobSinks, MediaInput, Plan
from bridge.jobs.queue import Key
from bridge.jobs.state import first
from bridge.media import profile
from bridge.requests.context import Submission
from bridge.requests.permissions import setting
from bridge.workflows.binding import BoundPrompt
from bridge.workflows.catalogue import Needs
from bridge.workflows.workflow import Workflow

NO_SINKS = JobSinks()
# W3C Trace Context: version, trace, span and flags.
_TRACEPARENT = re.compile("[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
# What several tracers have to say beside it, of which each reads its own.
_TRACESTATE = re.compile("[ -~]{1,512}")


class QueueRoom(Struct, frozen=True):
    """The queue's fill, in jobs of all clients and of one, and its limits."""

    waiting: int
    max_waiting: int
    of_client: int
    max_of_client: int


def check_room(client: str, room: QueueRoom) -> None:
    """Raise Busy if the queue takes no more, QuotaExceeded if it takes no more of this client."""
    if room.waiting >= room.max_waiting:
        raise Busy(
            f"{room.max_waiting} jobs wait; no more are taken",
            limit=room.max_waiting,
            setting="max_queue",
        )
    if room.of_client >= room.max_of_client:
        raise QuotaExceeded(
            f"{room.max_of_client} jobs of this client wait; no more are taken",
            limit=room.max_of_client,
            setting=setting(client, "max_queue"),
        )


def check_runnable(workflow: str, bound: BoundPrompt, lacking: Missing | None) -> None:
    """Refuse what no connected ComfyUI can run; wait with None, while none has reported its nodes.

    `workflow` is the name of the prompt's workflow.

    Raises InvalidInput for a value that the request itself gave, else ComfyUIUnavailable.
    """
    if lacking is None:
        return
    for choice in lacking.choices:
        name = bound.names.get(f"{choice.node}.{choice.input}")
        if name is not None:
            raise InvalidInput(
                f"input {name!r}: {choice.value!r} is not there",
                input=name,
                allowed=choice.allowed,
            )
    if lacking.nodes or lacking.choices:
        wanted = [*lacking.nodes, *map(missing.in_words, lacking.choices)]
        raise ComfyUIUnavailable(
            f"no connected ComfyUI has {', '.join(wanted)}; {missing.advice(lacking, workflow)}",
            missing=msgspec.to_builtins(lacking),
        )
    if lacking.api_key:
        raise ComfyUIUnavailable(
            f"no connected ComfyUI has an API key of Comfy.org, which {', '.join(lacking.api_key)} "
            "needs: its operator can set one",
            setting="comfyui_api_key_file",
            missing=msgspec.to_builtins(lacking),
        )


def may_be_stale(error: ComfyUIUnavailable | InvalidInput) -> bool:
    """True if a refusal may be due to outdated nodes or choices: read them again."""
    return isinstance(error, ComfyUIUnavailable) or "allowed" in error.details


def draft(
    submission: Submission,
    *,
    key: Key,
    prompt_id: str,
    workflow: Workflow,
    bound: BoundPrompt,
    plan: Plan,
    needs: Needs,
    media: dict[str, bytes],
    now: float,
    sinks: JobSinks = NO_SINKS,
) -> Draft:
    """Return the job that a submission asks for; `media` are the bytes that came with it."""
    submit, context = submission.submit, submission.context
    job = Job(
        key=key,
        workflow=workflow.name,
        workflow_version=workflow.version,
        state=first(waits=plan.waits),
        priority=submit.priority,
        prompt_id=prompt_id,
        start_before=start_before(submission, now),
        timeout_s=or_none(submit.timeout_s),
        keep_s=or_none(submit.keep_s),
        ordered=submit.ordered,
        replace=or_none(submit.replace),
        needs=needs,
        envelope=envelope(submission, sinks),
    )
    return Draft(
        job=job,
        fingerprint=fingerprint(submit, bound, plan.media),
        plan=plan,
        media=media,
        delivery=context.delivery,
        redelivered=context.redelivered,
    )


def start_before(submission: Submission, now: float) -> float | None:
    """Return the time by which the job has to start: by its field, else by Message Expiry."""
    own = submission.submit.start_within_s
    given = submission.context.expiry_s if own is UNSET else own
    return None if given is None else now + given


def fingerprint(submit: Submit, bound: BoundPrompt, media: list[MediaInput]) -> bytes:
    """Return a hash that is the same for equal requests: workflow, inputs as given, output.

    Its sinks do not count: a client that repeats a request may have signed their URLs again.
    """
    given = [(each.name, each.items) for each in media]
    work = submit.prompt if submit.workflow is UNSET else submit.workflow
    same: list[Any] = [work, bound.given, given, submit.output]
    if submit.show is not UNSET:
        same.append(submit.show)
    return hashlib.sha256(msgspec.json.encode(same, order="deterministic")).digest()


def envelope(submission: Submission, sinks: JobSinks = NO_SINKS) -> Envelope:
    """Return the sender's options besides the work. Raises BadRequest for its `output`."""
    submit, context = submission.submit, submission.context
    given = dict(context.user_properties)
    traced = _TRACEPARENT.fullmatch(given.get("traceparent", "")) is not None
    tracestate = given.get("tracestate", "")
    return Envelope(
        transaction=submission.transaction,
        meta=submit.meta,
        traceparent=given["traceparent"] if traced else None,
        tracestate=tracestate if traced and _TRACESTATE.fullmatch(tracestate) else None,
        response_topic=context.response_topic,
        correlation=context.correlation,
        reply_output=("reply", "output") in context.user_properties,
        deliver=submit.output.deliver,
        max_packet=or_none(submit.output.max_packet),
        preview=submit.preview,
        profile=profile.read(submit.output),
        show=or_none(submit.show),
        put=tuple(sinks.put),
        webhooks=tuple(sinks.webhooks),
    )
