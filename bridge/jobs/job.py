"""A job in the queue and in the journal.

`Job` is light: ten thousand of them wait in memory. What is needed only to run one, its `Plan`
with the whole prompt, stays in the journal until its turn. Nor does the garbage collector know of
them (`gc=False`; none is part of a cycle): it stops the event loop while it looks at all it knows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from msgspec import UNSET, Raw, Struct, UnsetType

from bridge.contract.messages import Deliver, State, Transaction
from bridge.contract.retained import OutputDefinition
from bridge.contract.sources import JobOutput, Topic, Url
from bridge.jobs.queue import Key
from bridge.media.profile import Profile
from bridge.workflows.binding import upload_name
from bridge.workflows.catalogue import Needs


class OutputSink(Struct, frozen=True, omit_defaults=True):
    """A place to deliver outputs to: the one of index `output`, or all that the URL can take.

    `own`: the operator set it, so that the client needs no right for it.
    """

    url: str
    output: int | None = None
    headers: dict[str, str] = {}
    own: bool = False


class ResultWebhook(Struct, frozen=True, omit_defaults=True):
    """A receiver of the result; `own` as for an OutputSink."""

    url: str
    own: bool = False


class JobSinks(Struct, frozen=True):
    """The sinks of a job's outputs, and the receivers of its result."""

    put: list[OutputSink] = []
    webhooks: list[ResultWebhook] = []


class Envelope(Struct, frozen=True, omit_defaults=True, gc=False):
    """The parts of a request that are echoed, or that say how to answer.

    `correlation` is MQTT's Correlation Data, bytes as they came. A job of a set has the set's id,
    and its index in the set, from 0. Outputs are delivered to each of `put`, the result is sent to
    each of `webhooks`.
    """

    transaction: Transaction | UnsetType = UNSET
    meta: Raw | UnsetType = UNSET
    traceparent: str | None = None
    tracestate: str | None = None
    response_topic: str | None = None
    correlation: bytes | None = None
    reply_output: bool = False
    deliver: Deliver = "push"
    max_packet: int | None = None
    preview: bool = False
    profile: Profile | None = None
    show: str | None = None
    put: Sequence[OutputSink] = ()
    webhooks: Sequence[ResultWebhook] = ()
    set_id: str | None = None
    set_index: int | None = None


class Blob(Struct, frozen=True, tag=True):
    """Stored bytes, by their SHA-256; `size` in bytes."""

    sha256: str
    size: int
    content_type: str
    extension: str


class MediaInput(Struct, frozen=True):
    """A media input of a job: where it goes in the prompt, and its bytes, in their order.

    `via` is how they reach ComfyUI: `media`, by our nodes' route; `upload`, by ComfyUI's own. What
    is no `Blob` yet has to be waited for or fetched before the job can be queued.
    """

    name: str
    kind: str
    node: str
    input: str
    via: Literal["media", "upload"]
    items: list[Blob | JobOutput | Url | Topic]

    @property
    def blobs(self) -> list[Blob]:
        """The items that are stored."""
        return [item for item in self.items if isinstance(item, Blob)]


class Plan(Struct, frozen=True, omit_defaults=True):
    """The prompt for ComfyUI, and how to read what ComfyUI reports of it.

    `names` maps `node.input` of the prompt to the workflow's name of that input; `inputs` are the
    values as resolved, for the result. `drawing` is the workflow as ComfyUI's page saves it, as
    JSON, for nodes that read it. `partner`: the ComfyUI's API key is sent with it.
    """

    prompt: dict[str, dict[str, Any]]
    inputs: dict[str, Any]
    names: dict[str, str]
    outputs: list[OutputDefinition]
    media: list[MediaInput] = []
    drawing: Raw | UnsetType = UNSET
    partner: bool = False

    @property
    def blobs(self) -> list[Blob]:
        """All stored bytes that the plan refers to."""
        return [blob for media in self.media for blob in media.blobs]

    @property
    def uploads(self) -> set[str]:
        """The names of the plan's files in ComfyUI's input folder."""
        return {
            upload_name(blob.sha256, blob.extension)
            for media in self.media
            if media.via == "upload"
            for blob in media.blobs
        }

    @property
    def waits(self) -> bool:
        """True if some of its bytes are not stored yet."""
        return any(len(media.blobs) < len(media.items) for media in self.media)


class Job(Struct, kw_only=True, gc=False):
    """A job that has not ended. `attempt` counts its starts at a ComfyUI.

    No job that was accepted later may pass one that is `ordered`. Of those of a client with the
    same word in `replace`, only the newest is wanted. One that is `damaged` could not be read whole
    from the journal: all that it can do is fail.

    Times are seconds by the journal's clock; `start_before` is when it may no longer start.
    """

    key: Key
    seq: int = 0
    workflow: str
    workflow_version: str
    state: State
    priority: int = 0
    attempt: int = 0
    prompt_id: str
    instance: str | None = None
    accepted_at: float = 0.0
    start_before: float | None = None
    timeout_s: float | None = None
    keep_s: float | None = None
    ordered: bool = False
    replace: str | None = None
    needs: Needs = Needs()
    envelope: Envelope
    damaged: bool = False


class Draft(Struct, frozen=True, kw_only=True):
    """A request that is ready to become a job: the journal gives it its `seq` and `accepted_at`.

    `fingerprint` shows whether two requests under one id are the same. `delivery` names the MQTT
    delivery that it came by, as "session:packet id:content", and more after another colon where
    one makes several jobs; so a redelivered request without a job id is known again.
    `media` has those of the plan's bytes that came with the request, by SHA-256; large ones are
    files already.
    """

    job: Job
    fingerprint: bytes
    plan: Plan
    media: dict[str, bytes] = {}
    delivery: str | None = None
    redelivered: bool = False

    @property
    def key(self) -> Key:
        """The job's name."""
        return self.job.key


class KeptOutput(Struct, frozen=True, kw_only=True):
    """A stored output: `data` has the bytes if they are in the journal, None if in a file."""

    index: int
    content_type: str
    sha256: str
    size: int
    data: bytes | None
