"""Messages that the broker keeps for those who come later: workflows, the bridge, its ComfyUIs.

A field that does not apply is absent. `at` and `since` are seconds since the epoch (UTC).
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType

# Whether the broker confines each client to its own tree.
Isolation = Literal["enforced", "none", "unknown"]
StateName = Literal[
    "stopped",
    "starting",
    "ready",
    "busy",
    "unreachable",
    "yielded",
    "restarting",
    "crash_loop",
]


class OutputDefinition(Struct, frozen=True, kw_only=True):
    """An output that a workflow declares. `preview`: ComfyUI shows it and saves nothing."""

    name: str
    kind: str
    node: str
    title: str | UnsetType = UNSET
    description: str | UnsetType = UNSET
    content_type: str | UnsetType = UNSET
    preview: bool | UnsetType = UNSET


class MissingChoice(Struct, frozen=True, kw_only=True):
    """A value in a graph that ComfyUI does not offer: a model that is not there, most often.

    Of a model `folder` is where its file belongs, below ComfyUI's `models`, and `url` where it
    can be downloaded, if the workflow names that.
    """

    node: str
    input: str
    value: str
    allowed: list[str]
    folder: str | UnsetType = UNSET
    url: str | UnsetType = UNSET


class MissingInput(Struct, frozen=True, kw_only=True):
    """An input of a node that needs a link or a value, and has neither."""

    node: str
    input: str
    type: str


class Missing(Struct, frozen=True, kw_only=True):
    """The node types, and the values of choices, that no connected ComfyUI has; and missing links.

    `api_key` are classes of partner nodes, where no API key of Comfy.org is set for the ComfyUI.
    `unknown_inputs` have a link or a value in the file, and are no inputs of their class there, or
    take no such value: the file is of a newer ComfyUI, and this one runs without them.
    """

    nodes: list[str] = []
    choices: list[MissingChoice] = []
    inputs: list[MissingInput] = []
    api_key: list[str] = []
    unknown_inputs: list[MissingInput] = []

    @property
    def is_enough(self) -> bool:
        """True if it can be run without what is missing."""
        return not (self.nodes or self.choices or self.inputs or self.api_key)


class Definition(Struct, frozen=True, kw_only=True):
    """A workflow: what it takes, what it gives, whether it can run.

    `inputs` is a JSON Schema of an object; where an input has `x-choices` instead of `enum`, the
    choices are a `Choices` of that name. `nodes` are the classes that it is made of. `runnable` is
    absent while no ComfyUI has reported what it has. `forbidden` are those of its nodes that the
    operator does not allow: with any of them it cannot run. `version` is a hash of the file and its
    sidecar. `example` are inputs that make a request. `partner` are those of its nodes that a
    partner of Comfy.org runs for money: not every client may.
    """

    name: str
    title: str
    version: str
    inputs: dict[str, Any]
    outputs: list[OutputDefinition]
    nodes: list[str] = []
    description: str | UnsetType = UNSET
    runnable: bool | UnsetType = UNSET
    missing: Missing | UnsetType = UNSET
    forbidden: list[str] | UnsetType = UNSET
    partner: list[str] | UnsetType = UNSET
    example: dict[str, Any] = {}


class Choices(Struct, frozen=True, kw_only=True):
    """A list of choices that is too long for the definitions that use it."""

    name: str
    choices: list[str | int | float | bool]


class Limits(Struct, frozen=True, kw_only=True):
    """Bounds of this bridge: bytes, seconds and counts."""

    max_packet: int | UnsetType = UNSET
    max_inline_input: int
    max_upload: int
    max_queue: int
    max_queue_per_client: int
    max_set: int | UnsetType = UNSET
    keep_results_s: float
    keep_outputs_s: float
    remember_ids_s: float


class BridgeInfo(Struct, frozen=True, kw_only=True):
    """The identity of this bridge; never a secret. `features` are the verbs that it takes.

    `mqtt` is the version that it speaks with the broker. Over 3.1.1 nothing comes that properties
    alone carry: content types, Response Topics, expiry. `restrictions` are what the broker does not
    offer: a sentence by a stable word, such as `retain`, `qos`, `session`; docs/brokers.md has all.
    `page` is where a browser finds the page: the setting `public_url`.
    """

    name: str
    version: str
    contract: int
    limits: Limits
    features: list[str]
    isolation: Isolation
    mqtt: Literal["5", "3.1.1"] = "5"
    restrictions: dict[str, str] | UnsetType = UNSET
    page: str | UnsetType = UNSET


class Usage(Struct, frozen=True, kw_only=True):
    """The use by one client: jobs that ended, and the seconds that they ran at a ComfyUI."""

    jobs: int
    run_s: float


# How far a hook is: jobs run once it is busy.
HookState = Literal["idle", "preparing", "busy", "releasing"]


class HookHealth(Struct, frozen=True, kw_only=True):
    """A hook's state, and the error of its last call."""

    state: HookState
    error: str | UnsetType = UNSET


class GpuFigures(Struct, frozen=True, kw_only=True):
    """Figures of a ComfyUI's graphics card, and their source; bytes, °C and watts.

    `source` is `unknown` where nobody does. A ComfyUI on the processor has no card: `cpu`.
    """

    source: Literal["comfyui", "nvidia-smi", "nvml", "unknown"]
    device: str | UnsetType = UNSET
    vram_total: int | UnsetType = UNSET
    vram_free: int | UnsetType = UNSET
    temperature_c: float | UnsetType = UNSET
    power_w: float | UnsetType = UNSET


class GpuRequest(Struct, frozen=True, kw_only=True):
    """A program that waits for a GPU."""

    holder: str
    priority: int


class GpuLease(Struct, frozen=True, kw_only=True):
    """The holder of a GPU, until when, and those who wait for it, the next one first.

    Without `holder` nobody has it. The holder `bridge` is the bridge itself, whose lease is renewed
    while it lives; `leaving`: it ends what runs, and hands the GPU over.
    """

    gpu: str
    holder: str | UnsetType = UNSET
    priority: int | UnsetType = UNSET
    since: float | UnsetType = UNSET
    until: float | UnsetType = UNSET
    leaving: bool | UnsetType = UNSET
    waiting: list[GpuRequest] = []


# Seconds, in which health is published four times: when that stops, nobody reads an old figure.
HEALTH_EXPIRY_S = 120


class BridgeHealth(Struct, frozen=True, kw_only=True):
    """The health of the bridge, and its counts since the start; `memory` is its own resident bytes.

    `clients` are those with the most seconds at a ComfyUI. `hooks` are by their names, `gpus` by
    the names of the ComfyUIs that they are of.
    While it is `paused`, by the operator, no job starts; `held` is why none does. `store` is what
    is wrong with the store of large outputs: until it works again, jobs that have such outputs wait
    for it.

    In a group each bridge publishes its own. That of the group has the queue, the counts, the
    clients and the GPUs of all bridges, and the rest of the one that takes requests.
    """

    at: float
    queued: int
    running: int
    accepted: int
    succeeded: int
    failed: int
    cancelled: int = 0
    expired: int = 0
    retried: int = 0
    clients: dict[str, Usage] = {}
    paused: bool = False
    memory: int | UnsetType = UNSET
    hooks: dict[str, HookHealth] = {}
    gpus: dict[str, GpuFigures] = {}
    store: str | UnsetType = UNSET
    held: str | UnsetType = UNSET


# How far the install of another release is: it is built beside the one in use, running jobs end,
# ComfyUI is started from it.
UpdateStep = Literal["installing", "draining", "starting"]


class ComfyUIRelease(Struct, frozen=True, kw_only=True):
    """The release that a managed ComfyUI runs, and the newest one, where the bridge looks for it.

    `latest` is `installed` if there is no newer one, and absent before the first look, which was
    `looked_at`. `url` is the page of the newest. `step` is there while another one is installed;
    `error` is what went wrong with the last look or install.
    """

    installed: str
    latest: str | UnsetType = UNSET
    url: str | UnsetType = UNSET
    looked_at: float | UnsetType = UNSET
    step: UpdateStep | UnsetType = UNSET
    error: str | UnsetType = UNSET


class ComfyUIState(Struct, frozen=True, kw_only=True):
    """One ComfyUI's state, since when, and what went wrong last.

    `reason` is the stable word for `last_error`; docs/operations.md explains each. `held` is why no
    job is given to one that is ready, such as "waits for GPU 'card'". With `unguarded`
    the bridge's own one answers anybody on its machine, a page in a browser there too. `release` is
    of one whose releases the bridge looks for: the setting `comfyui_updates`. One that is
    `yielding` gets no more jobs, and is `yielded` once it has ended its own and freed its memory.
    """

    state: StateName
    since: float
    restarts: int
    last_error: str | UnsetType = UNSET
    reason: str | UnsetType = UNSET
    version: str | UnsetType = UNSET
    unguarded: bool | UnsetType = UNSET
    release: ComfyUIRelease | UnsetType = UNSET
    yielding: bool | UnsetType = UNSET
    held: str | UnsetType = UNSET

    @property
    def takes_jobs(self) -> bool:
        """True if the bridge gives it jobs."""
        usable = self.state in ("ready", "busy") and self.yielding is not True
        return usable and self.held is UNSET


class BridgeEvent(Struct, frozen=True, kw_only=True):
    """Something notable: `type` is a stable word, `message` a sentence."""

    type: str
    message: str
    data: dict[str, Any] = {}
