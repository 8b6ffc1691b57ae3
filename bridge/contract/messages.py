"""Messages: everything that the bridge and its clients send each other, as frozen Structs.

`bridge.contract.requests` decodes requests; `encode` encodes what the bridge sends. A field that
does not apply is absent rather than null, so that small devices parse less; clients ignore fields
that they do not know.

Times in fields ending in `_s` are seconds; `at` and `since` are seconds since the epoch (UTC).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias, TypeVar

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from bridge.contract.errors import Error
from bridge.contract.retained import Missing
from bridge.contract.sinks import MAX_PUTS, Delivered, Put, Webhook
from bridge.contract.topics import ID

CONTRACT_VERSION = 1

# The largest `meta` that is echoed, and the longest `transaction`, in bytes and characters; and how
# deep lists and objects lie in one another in a `meta`.
MAX_META = 4096
MAX_META_NESTING = 50
MAX_TRANSACTION = 256

Id: TypeAlias = Annotated[str, Meta(pattern=rf"\A{ID.pattern}\Z")]
# Shorter than a job's: the ids of its jobs are made of it.
SetId: TypeAlias = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_-]{1,48}\Z")]
Name: TypeAlias = Annotated[str, Meta(min_length=1, max_length=200)]
Transaction: TypeAlias = Annotated[str, Meta(max_length=MAX_TRANSACTION)] | int
# Up to what the journal's numbers hold.
Count: TypeAlias = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Pixels: TypeAlias = Annotated[int, Meta(ge=1, le=65_535)]
Seconds: TypeAlias = Annotated[float, Meta(gt=0, le=31_536_000)]
KeepSeconds: TypeAlias = Annotated[float, Meta(ge=0, le=31_536_000)]

State = Literal["waiting", "queued", "running", "succeeded", "failed", "cancelled", "expired"]
Outcome = Literal["succeeded", "failed", "cancelled", "expired"]
Deliver = Literal["push", "push_qos1", "fetch", "none"]
Format = Literal["png", "jpeg", "webp", "gif", "bmp"]
# What an image is dithered to; the colours are in `bridge.media.profile`.
Dither = Literal[
    "none",
    "1bit",
    "4grey",
    "black-white-red",
    "black-white-yellow",
    "spectra-6",
    "acep-7",
]
Metadata = Literal["keep", "strip"]
# What a set makes of its jobs' outputs, besides them.
Collect = Literal["sheet", "animation", "zip"]

# Requests: what a client may ask, one Struct a verb (`bridge.contract.requests.VERBS`).


class Ask(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The fields that every request may have."""

    transaction: Transaction | UnsetType = UNSET


class Output(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The form and delivery of a job's outputs.

    `push` publishes the bytes before the result, above 64 KB at QoS 0; `push_qos1` at QoS 1 in any
    case; `fetch` only announces them; `none` keeps none. `max_packet` bounds every message of the
    job in bytes, the result too.

    The rest is for images alone, and without any of it they come byte for byte as ComfyUI made
    them: `max_width` and `max_height` are pixels, `max_bytes` bytes. Which go together, and what
    each means, is in `bridge.media.profile`.
    """

    deliver: Deliver = "push"
    max_packet: Annotated[int, Meta(ge=1024)] | UnsetType = UNSET
    format: Format | UnsetType = UNSET
    quality: Annotated[int, Meta(ge=1, le=100)] | UnsetType = UNSET
    max_width: Pixels | UnsetType = UNSET
    max_height: Pixels | UnsetType = UNSET
    max_bytes: Annotated[int, Meta(ge=1024)] | UnsetType = UNSET
    dither: Dither | UnsetType = UNSET
    metadata: Metadata | UnsetType = UNSET


class Axis(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, rename={"start": "from"}):
    """The values of one input in a `grid`, other than a list of them; one of three.

    `from`, `to` and `step`: numbers, `to` included. `seeds`: so many seeds, drawn once. `set`: the
    outputs of that index of each job of another set, as media.
    """

    start: float | int | UnsetType = UNSET
    to: float | int | UnsetType = UNSET
    step: float | int = 1
    seeds: Annotated[int, Meta(ge=1)] | UnsetType = UNSET
    set: SetId | UnsetType = UNSET
    output: Count = 0


class Submit(Ask, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Run a workflow (or, where allowed, an inline `prompt`), with all options.

    With `each`, `grid` or `repeat` it makes a set: many jobs, which differ in what these say, and
    one outcome. `each` lists inputs of one job each; `grid` has the values of some inputs, for a
    job of every combination; `repeat` counts jobs that differ in their seed alone.

    Of the client's jobs with the same word in `replace`, those that have not started are cancelled
    when a newer one comes. One that is `ordered` is passed by none that was accepted later,
    whatever model is loaded.

    With `dry_run` nothing is run or kept: the answer says what would be. `show` names a display
    that gets the first image. Outputs are delivered to each `put` before the result is published;
    `webhook` is sent the result, of a set only the set's. `collect` names what a set makes of its
    jobs' outputs when they have ended: a contact sheet or an animation of their first images, or a
    zip of all that they gave.
    """

    workflow: Name | UnsetType = UNSET
    prompt: dict[str, Any] | UnsetType = UNSET
    workflow_version: str | UnsetType = UNSET
    inputs: dict[str, Any] = {}
    each: Annotated[list[dict[str, Any]], Meta(min_length=1)] | UnsetType = UNSET
    grid: Annotated[dict[str, list[Any] | Axis], Meta(min_length=1)] | UnsetType = UNSET
    repeat: Annotated[int, Meta(ge=1)] | UnsetType = UNSET
    collect: Annotated[list[Collect], Meta(min_length=1, max_length=3)] | UnsetType = UNSET
    job_id: Id | UnsetType = UNSET
    set_id: SetId | UnsetType = UNSET
    meta: Raw | UnsetType = UNSET
    priority: Annotated[int, Meta(ge=-100, le=100)] = 0
    start_within_s: Seconds | UnsetType = UNSET
    timeout_s: Seconds | UnsetType = UNSET
    keep_s: KeepSeconds | UnsetType = UNSET
    replace: Id | UnsetType = UNSET
    ordered: bool = False
    preview: bool = False
    dry_run: bool = False
    output: Output = Output()
    show: Id | UnsetType = UNSET
    put: Annotated[list[Put], Meta(max_length=MAX_PUTS)] | UnsetType = UNSET
    webhook: Webhook | UnsetType = UNSET

    @property
    def is_set(self) -> bool:
        """True if it asks for a set of jobs rather than for one."""
        return not (self.each is UNSET and self.grid is UNSET and self.repeat is UNSET)


class Cancel(Ask, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """End a job that waits or runs."""

    job_id: Id


class Status(Ask, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Return the state of a job, with its result if it has one."""

    job_id: Id


class List(Ask, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Return the client's jobs whose latest `n` is above `after`, in that order.

    Asking for what comes after n acks what came up to n, unless it only is to `peek`. With
    `set_id`, those of one set; that acks nothing.
    """

    after: Count = 0
    peek: bool = False
    states: list[State] | UnsetType = UNSET
    workflow: Name | UnsetType = UNSET
    set_id: SetId | UnsetType = UNSET
    limit: Annotated[int, Meta(ge=1, le=100)] = 50


class Ack(Ask, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Acknowledge every result up to `n`."""

    up_to: Count


class FetchBytes(Ask, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The bytes of an output to fetch: from `offset` on, at most `count`.

    With `width` they are those of a WebP of the image, at most so many pixels wide; what is no
    image comes as it is.
    """

    output: Count = 0
    width: Pixels | UnsetType = UNSET
    offset: Count = 0
    count: Annotated[int, Meta(ge=1)] | UnsetType = UNSET
    inline: bool = False


class Fetch(FetchBytes, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Fetch bytes of an output, from `offset` on, at most `count`.

    They come on `job/<job_id>/part/<output>/<offset>`, or with `inline` in the response, in base64.
    With `width` they are those of a WebP of the image, at most so many pixels wide; what is no
    image comes as it is.
    """

    job_id: Id


class Keep(Ask, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Keep a job's outputs for so long from now, longer or shorter than they would be."""

    job_id: Id
    keep_s: KeepSeconds


class Forget(Ask, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Delete a job's result, outputs and recipe now. Its id stays taken."""

    job_id: Id


class Recipe(Ask, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Return the prompt that a job ran, or will run, as ComfyUI was given it."""

    job_id: Id


class Workflows(Ask, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Return what is retained, page by page: `after` is the `next` of the page before.

    For brokers that retain nothing, or send it to no filter with a wildcard. With `name`, the
    definition of that workflow alone.
    """

    name: Name | UnsetType = UNSET
    after: Name | UnsetType = UNSET


_AboutJobs: TypeAlias = Cancel | Status | List | Ack | Fetch | Keep | Forget | Recipe
Request: TypeAlias = Submit | _AboutJobs | Workflows

# Answers.


class Response(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The answer to one request: `ok` with data, or `error` with an error."""

    status: Literal["ok", "error"]
    data: Any = None
    error: Error | None = None
    transaction: Transaction | UnsetType = UNSET


class JobMessage(Struct, frozen=True, kw_only=True):
    """The fields of every message about a job; `meta` is the sender's own, as it came.

    `set_id` names the set that the job is one of.
    """

    job_id: str
    workflow: str
    set_id: str | UnsetType = UNSET
    transaction: Transaction | UnsetType = UNSET
    meta: Raw | UnsetType = UNSET


class JobStatus(JobMessage, frozen=True, kw_only=True):
    """The state of a job. `n` rises with each status and result of a client.

    `position` counts the jobs that start before it, 0 for the next.
    """

    n: int
    state: State
    attempt: int
    reason: str | UnsetType = UNSET
    position: int | UnsetType = UNSET
    eta_s: float | UnsetType = UNSET


class Progress(JobMessage, frozen=True, kw_only=True):
    """The progress of a running job, in percent; it never decreases within a job."""

    percent: float
    node: str | UnsetType = UNSET
    step: int | UnsetType = UNSET
    steps: int | UnsetType = UNSET
    eta_s: float | UnsetType = UNSET


class OutputInfo(Struct, frozen=True, kw_only=True):
    """One output of a job, as its result lists it.

    `size` is bytes, `width` and `height` pixels. With `topic` the bytes were published there;
    in any case they can be fetched while they are kept. `preview`: ComfyUI keeps the file only as
    a temporary one, to show it; such outputs come after those that are saved.
    """

    index: int
    name: str
    kind: str
    content_type: str
    size: int
    sha256: str
    width: int | UnsetType = UNSET
    height: int | UnsetType = UNSET
    filename: str | UnsetType = UNSET
    topic: str | UnsetType = UNSET
    url: str | UnsetType = UNSET
    preview: bool | UnsetType = UNSET


class MissingOutput(Struct, frozen=True, kw_only=True):
    """An output that a node reported and that ComfyUI does not give, with the reason."""

    name: str
    error: Error
    filename: str | UnsetType = UNSET


class Timings(Struct, frozen=True, kw_only=True):
    """The seconds that each part of a job took.

    From accepted to sent to ComfyUI, from there to the first node, to the last node, and until the
    outputs were here and published.
    """

    queued_s: float
    load_s: float
    run_s: float
    deliver_s: float


class Shown(Struct, frozen=True, kw_only=True):
    """The outcome of `show`: the display has the picture, on `topic`, or `error` says why not.

    A job whose picture could not be shown has succeeded nevertheless.
    """

    display: str
    topic: str | UnsetType = UNSET
    url: str | UnsetType = UNSET
    error: Error | UnsetType = UNSET


class Result(JobMessage, frozen=True, kw_only=True):
    """The end of a job: exactly one, the last message of the job.

    `missing` names outputs of a job that succeeded without them, `delivered` says where outputs
    went that were to be delivered.
    """

    n: int
    state: Outcome
    outputs: list[OutputInfo] = []
    error: Error | UnsetType = UNSET
    inputs: dict[str, Any] = {}
    workflow_version: str
    instance: str | UnsetType = UNSET
    comfyui_version: str | UnsetType = UNSET
    reused: bool = False
    timings: Timings
    attempts: int
    shown: Shown | UnsetType = UNSET
    missing: list[MissingOutput] | UnsetType = UNSET
    delivered: list[Delivered] | UnsetType = UNSET


class Accepted(JobMessage, frozen=True, kw_only=True):
    """A job was taken, or had been: it is in the journal and gets exactly one outcome."""

    state: State
    duplicate: bool = False
    position: int | UnsetType = UNSET
    eta_s: float | UnsetType = UNSET
    result: Raw | UnsetType = UNSET


class DryRun(Struct, frozen=True, kw_only=True):
    """The job that a request would be; `position` counts the jobs that would start before it.

    `instances` are the ComfyUIs that could take it, `eta_s` in how many seconds it would have
    ended. Media that is not here yet stays out of the prompt. `missing` is what no connected
    ComfyUI has.
    """

    workflow: str
    workflow_version: str
    prompt: dict[str, dict[str, Any]]
    inputs: dict[str, Any]
    runnable: bool | UnsetType = UNSET
    missing: Missing | UnsetType = UNSET
    instances: list[str]
    position: int
    eta_s: float | UnsetType = UNSET


class RecipeReport(Struct, frozen=True, kw_only=True):
    """The prompt of a job: run again, it gives the same."""

    job_id: str
    workflow: str
    workflow_version: str
    prompt: dict[str, dict[str, Any]]
    inputs: dict[str, Any]


class JobView(JobMessage, frozen=True, kw_only=True):
    """A job as `status` and `list` show it; `result` is the stored one, byte for byte."""

    n: int
    state: State
    attempt: int
    accepted_at: float
    acked: bool = False
    position: int | UnsetType = UNSET
    reason: str | UnsetType = UNSET
    eta_s: float | UnsetType = UNSET
    result: Raw | UnsetType = UNSET


class JobList(Struct, frozen=True, kw_only=True):
    """A page of jobs; with `more`, ask again `after` the last one's `n`."""

    jobs: list[JobView]
    more: bool


class CancelReport(Struct, frozen=True, kw_only=True):
    """The state of a job after a cancel. Its result says how it ended."""

    job_id: str
    state: State
    cancelling: bool


class AckReport(Struct, frozen=True, kw_only=True):
    """The number of results that were newly acknowledged."""

    acked: int


class KeepReport(Struct, frozen=True, kw_only=True):
    """Until when a job's outputs are kept now (seconds since the epoch), and how many they are."""

    job_id: str
    outputs: int
    keep_until: float


class ForgetReport(Struct, frozen=True, kw_only=True):
    """The parts of a job that are not kept any more."""

    job_id: str
    forgotten: bool


class BeginUpload(Ask, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Begin an upload in parts, or ask how much of it is here; `size` in bytes."""

    size: Annotated[int, Meta(ge=1)]
    sha256: Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]
    content_type: Annotated[str, Meta(max_length=200)] | UnsetType = UNSET


class UploadReport(Struct, frozen=True, kw_only=True):
    """The progress of an upload: `held` of `size` bytes; continue at `held`.

    Once `complete` it can be an input: `{"upload": "<id>"}`.
    """

    upload: str
    held: int
    size: int
    complete: bool = False
    sha256: str | UnsetType = UNSET
    content_type: str | UnsetType = UNSET


class Part(Struct, frozen=True, kw_only=True):
    """An answer to `fetch`: which bytes were sent, of how many; `next` is absent at the end.

    It names the job whose output it is, or the set.
    """

    job_id: str | UnsetType = UNSET
    set_id: str | UnsetType = UNSET
    output: int
    offset: int
    count: int
    size: int
    sha256: str
    content_type: str
    next: int | UnsetType = UNSET
    topic: str | UnsetType = UNSET
    base64: str | UnsetType = UNSET


T = TypeVar("T")


def or_none(value: T | UnsetType) -> T | None:
    """Return a field's value, None for one that is absent."""
    return None if value is UNSET else value


def or_unset(value: T | None) -> T | UnsetType:
    """Return a field's value, UNSET for None, so that the field is left out."""
    return UNSET if value is None else value


_encoder = msgspec.json.Encoder(decimal_format="number", uuid_format="canonical")


def encode(message: Any) -> bytes:
    """Return a message's JSON bytes; absent fields are left out."""
    return _encoder.encode(message)


def ok(data: Any, transaction: Transaction | UnsetType = UNSET) -> Response:
    """Return the answer that carries `data`."""
    return Response(status="ok", data=data, transaction=transaction)


def refused(error: Error, transaction: Transaction | UnsetType = UNSET) -> Response:
    """Return the answer that carries an error."""
    return Response(status="error", error=error, transaction=transaction)
