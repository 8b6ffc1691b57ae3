"""The admin commands on `bridge/request/<verb>`, and their answers.

The broker's ACL says who is an operator. A command is answered when it was accepted; the retained
states show its effect. A verb is a Struct here, a row in `VERBS`, and a `case` in
`bridge.requests.operator`.
"""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple, TypeAlias

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from bridge.contract.errors import BadRequest, Error
from bridge.contract.messages import Ask, Id, State
from bridge.contract.reading import decoded, text_of
from bridge.contract.retained import ComfyUIState, GpuLease
from bridge.text import as_utf8, did_you_mean

Level = Literal["debug", "info", "warning", "error"]


class Named(Ask, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A command to one ComfyUI, or to all of them."""

    instance: Id | UnsetType = UNSET


class Start(Named, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Start it, at once even in a crash loop."""


class Stop(Named, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """End its process until a `start`; its jobs return to the queue."""


class Restart(Named, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """End its process and start it; its jobs return to the queue."""


class Free(Named, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Unload its models and drop its caches after the running job."""


class Yield(Named, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Yield the GPU to another program: give ComfyUI no jobs, and free its memory.

    With `finish` running jobs end first; without, they return to the queue. `yielded` false does
    the same as `resume`, for a switch, which has one topic.
    """

    finish: bool = True
    yielded: bool = True


class Resume(Named, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Resume a ComfyUI: it takes jobs again."""


class Update(Named, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Install another release of the managed ComfyUI: by default the newest that is known.

    It is for all ComfyUIs that share the install. With `install` false it is only looked whether
    there is a newer one.
    """

    version: Annotated[str, Meta(min_length=1, max_length=64)] | UnsetType = UNSET
    install: bool = True


class OpenPage(Named, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Make a link to the page of a ComfyUI that the bridge runs; of several name one."""


class Reload(Ask, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Read the folder of workflows again."""


class ListQueue(Ask, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Show the jobs that have not ended, of one client or of all, in the order of their turns."""

    client: Id | UnsetType = UNSET
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100


class PauseQueue(Ask, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Start no more jobs, also after a restart of the bridge.

    With `paused` false jobs start again, as by `resume`: for a switch, which has one topic.
    """

    paused: bool = True


class ResumeQueue(Ask, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Start jobs again."""


class ClearQueue(Ask, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Cancel the jobs that have not started, of one client or of all."""

    client: Id | UnsetType = UNSET


class ReleaseQuarantine(Ask, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Take prompts again that were refused because each had ended a ComfyUI twice."""


class OfGpu(Ask, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A command about a GPU for a program, `holder`; without `gpu` about the only one."""

    holder: Id
    gpu: Id | UnsetType = UNSET


class RequestGpu(OfGpu, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Ask for a GPU for `for_s` seconds from when it is given, or for so long from now again.

    It is waited for `wait_s` seconds. The bridge's own priority is 0. With `finish` what runs ends
    first; without, it goes back to the queue.
    """

    for_s: Annotated[float, Meta(gt=0, le=86_400)] = 600.0
    priority: Annotated[int, Meta(ge=-100, le=100)] = 0
    wait_s: Annotated[float, Meta(ge=0, le=86_400)] = 3600.0
    finish: bool = True


class ReleaseGpu(OfGpu, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Release a GPU, or withdraw the request for it."""


class CheckHealth(Ask, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Return the health of the bridge and its ComfyUIs."""


class SetLogLevel(Ask, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Log from this level on, until the next start."""

    level: Level


Command: TypeAlias = (
    Start
    | Stop
    | Restart
    | Free
    | Yield
    | Resume
    | Update
    | OpenPage
    | Reload
    | ListQueue
    | PauseQueue
    | ResumeQueue
    | ClearQueue
    | ReleaseQuarantine
    | RequestGpu
    | ReleaseGpu
    | CheckHealth
    | SetLogLevel
)

# Answers.


class OfAll(Struct, frozen=True, kw_only=True):
    """A report of all bridges of a group; `failed` says why by the names of those that failed.

    `comfyui_unavailable`: it died before it reported. `timeout`: it lives, and may do it yet.
    """

    failed: dict[str, Error] | UnsetType = UNSET


class InstancesReport(OfAll, frozen=True, kw_only=True):
    """The ComfyUIs that a command was sent to, in their state just after it."""

    instances: dict[str, ComfyUIState]


class GpuReport(Struct, frozen=True, kw_only=True):
    """The lock of a GPU after a command; `done`: it was granted, or released."""

    done: bool
    lease: GpuLease


class LinkReport(Struct, frozen=True, kw_only=True):
    """A link for a browser on the bridge's machine, good once and for `lasts_s` seconds.

    Without `lasts_s` it is not guarded: the link is good for everybody there.
    """

    instance: str
    url: str
    lasts_s: float | UnsetType = UNSET


class ReloadReport(OfAll, frozen=True, kw_only=True):
    """The workflows by name, what is wrong with files that cannot be used, files that wait."""

    workflows: list[str]
    broken: list[str]
    waiting: list[str]


class QueueEntry(Struct, frozen=True, kw_only=True):
    """A job that has not ended; `position` counts those that start before it."""

    client: str
    job_id: str
    workflow: str
    state: State
    priority: int
    attempt: int
    accepted_at: float
    position: int | UnsetType = UNSET
    instance: str | UnsetType = UNSET


class QueueReport(Struct, frozen=True, kw_only=True):
    """The queue: those at a ComfyUI first. With `more`, not all are shown.

    `held` is why the bridge that answers starts no job at present.
    """

    paused: bool
    queued: int
    running: int
    jobs: list[QueueEntry]
    more: bool
    held: str | UnsetType = UNSET


class PauseReport(Struct, frozen=True, kw_only=True):
    """The answer to `pause` and `resume`: `paused` is how the queue stands now."""

    paused: bool


class ClearReport(Struct, frozen=True, kw_only=True):
    """The number of jobs that were cancelled."""

    cancelled: int


class ReleaseReport(OfAll, frozen=True, kw_only=True):
    """The number of prompts that were refused, and are no longer."""

    released: int


class HealthReport(Struct, frozen=True, kw_only=True):
    """The health of all parts; `healthy`: at least one ComfyUI takes jobs. `memory` is in bytes.

    `store` is what is wrong with the store of large outputs, `held` is why no job starts now.
    """

    healthy: bool
    version: str
    paused: bool
    queued: int
    running: int
    succeeded: int
    failed: int
    comfyui: dict[str, ComfyUIState]
    memory: int | UnsetType = UNSET
    store: str | UnsetType = UNSET
    held: str | UnsetType = UNSET


class LevelReport(OfAll, frozen=True, kw_only=True):
    """The level that is logged from now."""

    level: Level


class BridgeLog(Struct, frozen=True, kw_only=True):
    """A line of the bridge's log, a warning or worse; `dropped` were left out before it."""

    at: float
    level: str
    logger: str
    message: str
    dropped: int | UnsetType = UNSET


Report: TypeAlias = (
    InstancesReport
    | LinkReport
    | ReloadReport
    | QueueReport
    | PauseReport
    | ClearReport
    | ReleaseReport
    | GpuReport
    | HealthReport
    | LevelReport
)


class Verb(NamedTuple):
    """The payload of an admin command, and the data of its answer."""

    command: type[Command]
    report: type[Report]


VERBS: dict[str, Verb] = {
    "comfyui/start": Verb(Start, InstancesReport),
    "comfyui/stop": Verb(Stop, InstancesReport),
    "comfyui/restart": Verb(Restart, InstancesReport),
    "comfyui/free": Verb(Free, InstancesReport),
    "comfyui/yield": Verb(Yield, InstancesReport),
    "comfyui/resume": Verb(Resume, InstancesReport),
    "comfyui/update": Verb(Update, InstancesReport),
    "comfyui/open": Verb(OpenPage, LinkReport),
    "workflows/reload": Verb(Reload, ReloadReport),
    "queue/list": Verb(ListQueue, QueueReport),
    "queue/pause": Verb(PauseQueue, PauseReport),
    "queue/resume": Verb(ResumeQueue, PauseReport),
    "queue/clear": Verb(ClearQueue, ClearReport),
    "queue/release": Verb(ReleaseQuarantine, ReleaseReport),
    "gpu/request": Verb(RequestGpu, GpuReport),
    "gpu/release": Verb(ReleaseGpu, GpuReport),
    "health_check": Verb(CheckHealth, HealthReport),
    "log_level": Verb(SetLogLevel, LevelReport),
}
_DECODERS = {verb: msgspec.json.Decoder(row.command) for verb, row in VERBS.items()}
# What a payload of plain text stands for, by the field that a verb has: `mosquitto_pub -m gpu0`.
_AS_TEXT = ("instance", "client", "level", "holder")


def decode(verb: str, payload: bytes) -> Command:
    """Decode a command. Raises BadRequest, which names the field and what is allowed there."""
    row = VERBS.get(verb)
    if row is None:
        allowed = sorted(VERBS)
        raise BadRequest(f"unknown verb {verb!r}{did_you_mean(verb, allowed)}", allowed=allowed)
    payload = as_utf8(payload).strip()
    if payload and payload[:1] != b"{":
        payload = msgspec.json.encode({_field(verb, row): text_of(payload)})
    command: Command = decoded(_DECODERS[verb], payload or b"{}", row.command)
    return command


def _field(verb: str, row: Verb) -> str:
    for name in _AS_TEXT:
        if name in row.command.__struct_fields__:
            return name
    raise BadRequest(f"{verb} takes no text: an empty payload, or a JSON object")
