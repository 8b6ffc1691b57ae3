"""The table of channels: every topic, who publishes there, which messages, and how.

The bridge publishes by this table (`bridge.adapters.mqtt.encoder`), and `bridge.contract.asyncapi`
draws its document from it. A topic that is not here, or a verb whose answer is not, fails a test.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, Literal

from msgspec import Struct

from bridge.contract import operator
from bridge.contract.messages import (
    Accepted,
    AckReport,
    BeginUpload,
    CancelReport,
    DryRun,
    ForgetReport,
    JobList,
    JobStatus,
    JobView,
    KeepReport,
    Part,
    Progress,
    RecipeReport,
    Response,
    Result,
    UploadReport,
)
from bridge.contract.operator import BridgeLog
from bridge.contract.requests import SET_VERBS, VERBS
from bridge.contract.retained import (
    BridgeEvent,
    BridgeHealth,
    BridgeInfo,
    Choices,
    ComfyUIState,
    Definition,
    GpuLease,
)
from bridge.contract.retained_pages import WorkflowsReport
from bridge.contract.sets import (
    ForgetSetReport,
    KeepSetReport,
    SetAccepted,
    SetResult,
    SetStatus,
    SetView,
)
from bridge.contract.topics import FIN, RUN, UPLOAD, Topics

# What a verb's answer carries as `data`.
ANSWERS: dict[str, tuple[type[Struct], ...]] = {
    RUN: (Accepted, SetAccepted, DryRun),
    "submit": (Accepted, SetAccepted, DryRun),
    "cancel": (CancelReport, SetView),
    "status": (JobView, SetView),
    "list": (JobList,),
    "ack": (AckReport,),
    "fetch": (Part,),
    "keep": (KeepReport, KeepSetReport),
    "forget": (ForgetReport, ForgetSetReport),
    "recipe": (RecipeReport,),
    "pause": (SetView,),
    "resume": (SetView,),
    "workflows": (WorkflowsReport,),
    UPLOAD: (UploadReport,),
}


# Above this many bytes of payload a channel's `large_qos` holds: brokers with images in their
# durable queues stall.
LARGE_BYTES = 64 * 1024
# With more than this many bytes waiting for the network a message is not added:
_CROWDED = 1024 * 1024  # one that the next one replaces
_FULL = 64 * 1024 * 1024  # one that can be asked for again

# The setting that says how long a broker may keep a message for a subscriber.
Expiry = Literal["keep_results_s", "keep_outputs_s"]


class Bytes(Struct, frozen=True):
    """A message that is no JSON: what it is for people, and the User Properties beside it."""

    name: str
    summary: str
    content_type: str = "application/octet-stream"
    properties: tuple[str, ...] = ()


class Channel(Struct, frozen=True):
    """One topic. `receive`: the bridge listens; `send`: it publishes.

    `large_qos`: the QoS of a payload above `LARGE_BYTES`. `drop_above`: not published while more
    than so many bytes wait for the network; None: always published. `expiry`: how long a broker may
    keep it for a subscriber; None: for ever. `limited`: the request's `output.max_packet` bounds
    its packets, as the broker's limit does. `verb` is what is asked, or answered, there; an
    operator's begins with `order`, as in documents of before, since programs may be made from them.
    """

    name: str
    address: str
    action: Literal["send", "receive"]
    summary: str
    messages: tuple[type[Struct] | Bytes, ...]
    qos: int = 1
    retain: bool = False
    verb: str | None = None
    large_qos: int | None = None
    drop_above: int | None = None
    expiry: Expiry | None = None
    limited: bool = False

    def topic(self, **levels: object) -> str:
        """Return the topic, given each parameter of the address."""
        return self.address.format(**levels)

    def qos_of(self, size: int) -> int:
        """Return the QoS for a payload of `size` bytes."""
        return self.qos if self.large_qos is None or size <= LARGE_BYTES else self.large_qos


PARAMETERS: dict[str, str] = {
    "base": "The first level of all topics: the setting base_topic, comfy2mqtt by default.",
    "client": "The client's name.",
    "workflow": "A workflow's name.",
    "job_id": "A job's id: the client's choice, else the bridge's.",
    "set_id": "A set's id: the client's choice, else the bridge's.",
    "instance": "A ComfyUI's name.",
    "member": "A bridge's name among several.",
    "gpu": "A GPU's name.",
    "name": "The name of a list of choices, of a display, or of a trial.",
    "what": "A word for what is tried.",
    "upload": "An upload's id: the client's choice.",
    "offset": "Where in the whole a part begins, in bytes.",
    "index": "An output's place among all of its job or set.",
    "reply": "Any levels: what a client names as its Response Topic.",
}

_ABOUT_JOB = ("job_id", "workflow", "set_id", "transaction", "meta", "traceparent", "tracestate")
_FACTS = ("name", "index", "sha256", "size", "width", "height", "filename")

_STATE = Bytes("State", "`online` or `offline`, plain text", "text/plain")
_SIMPLE = Bytes(
    "SimpleRun",
    "Empty, text, a JSON object of inputs with submit's fields behind $, or the bytes of a media "
    "input",
)
_UPLOADED = Bytes("UploadBytes", "The bytes of an upload, or of its next part")
_PROBE = Bytes("Probe", "Zeros")
_NOTHING = Bytes("Empty", "Nothing")
_PREVIEW = Bytes("Preview", "An image of the work so far", "image/jpeg", _ABOUT_JOB)
_OUTPUT = Bytes("OutputBytes", "An output's bytes", properties=(*_ABOUT_JOB, *_FACTS))
_PART = Bytes("PartBytes", "Bytes of an output that were asked for with `fetch`")
_PICTURE = Bytes("Picture", "The last picture for a display, in its form", "image/png")
_ADDRESS = Bytes("PictureUrl", "The URL of that picture, plain text", "text/plain")


def channels(topics: Topics | None = None) -> tuple[Channel, ...]:
    """Return all channels, their addresses with parameters in braces.

    Without `topics` the base is a parameter too.
    """
    topics = topics or Topics("{base}")
    client = "{client}"
    return (
        *_retained(topics),
        Channel("event", topics.event, "send", "Notable events", (BridgeEvent,)),
        Channel(
            "probe",
            topics.probe("{name}", "{what}"),
            "send",
            "What the bridge sends itself, to see what the broker does with it",
            (_PROBE,),
            qos=0,
        ),
        Channel("log", topics.log, "send", "Warnings and worse", (BridgeLog,)),
        *_simple_requests(topics),
        *(
            Channel(
                f"{verb}Request",
                topics.request(client, verb),
                "receive",
                _first_line(kind),
                (kind, *([SET_VERBS[verb]] if verb in SET_VERBS else [])),
                verb=verb,
            )
            for verb, kind in VERBS.items()
        ),
        *(
            Channel(
                f"{verb}Response",
                topics.response(client, verb),
                "send",
                f"Answers to {verb}",
                kinds,
                verb=verb,
                drop_above=_FULL,
            )
            for verb, kinds in ANSWERS.items()
        ),
        *_admin_channels(topics),
        *_jobs(topics),
        *_sets(topics),
        Channel(
            "reply",
            topics.reply(client) + "{reply}",
            "send",
            "A Response Topic gets the result, or the first output's bytes; else the answer",
            (Result, SetResult, Response, _OUTPUT),
        ),
    )


def _jobs(topics: Topics) -> Iterator[Channel]:
    def topic(*levels: str) -> str:
        return topics.job("{client}", "{job_id}", *levels)

    yield Channel("jobStatus", topic("status"), "send", "Its state", (JobStatus,), limited=True)
    yield Channel(
        "jobProgress",
        topic("progress"),
        "send",
        "How far",
        (Progress,),
        qos=0,
        drop_above=_CROWDED,
        limited=True,
    )
    yield Channel(
        "jobPreview",
        topic("preview"),
        "send",
        "A glance",
        (_PREVIEW,),
        qos=0,
        drop_above=_CROWDED,
        limited=True,
    )
    yield from _bytes("job", topic, "An output, before the result; above 64 KB at QoS 0")
    yield Channel(
        "jobResult",
        topic("result"),
        "send",
        "Its end",
        (Result,),
        expiry="keep_results_s",
        limited=True,
    )


def _sets(topics: Topics) -> Iterator[Channel]:
    def topic(*levels: str) -> str:
        return topics.job_set("{client}", "{set_id}", *levels)

    yield Channel(
        "setStatus", topic("status"), "send", "How far a set is", (SetStatus,), limited=True
    )
    yield from _bytes("set", topic, "What a set has collected, before its result")
    yield Channel(
        "setResult",
        topic("result"),
        "send",
        "A set's end",
        (SetResult,),
        expiry="keep_results_s",
        limited=True,
    )


def _bytes(of: str, topic: Callable[..., str], summary: str) -> Iterator[Channel]:
    """The bytes of outputs of a job or a set, and the parts that are fetched."""
    yield Channel(
        f"{of}Output",
        topic("output", "{index}"),
        "send",
        summary,
        (_OUTPUT,),
        large_qos=0,
        drop_above=_FULL,
        expiry="keep_outputs_s",
        limited=True,
    )
    yield Channel(
        f"{of}Part",
        topic("part", "{index}", "{offset}"),
        "send",
        "A part of an output; above 64 KB at QoS 0",
        (_PART,),
        large_qos=0,
        drop_above=_FULL,
        limited=True,
    )


def _retained(topics: Topics) -> tuple[Channel, ...]:
    def channel(
        name: str,
        address: str,
        summary: str,
        message: type[Struct] | Bytes,
        large_qos: int | None = None,
    ) -> Channel:
        return Channel(name, address, "send", summary, (message,), retain=True, large_qos=large_qos)

    return (
        channel("state", topics.state, "Availability; the last will", _STATE),
        channel(
            "member", topics.member("{member}"), "One of several bridges; the last will", _STATE
        ),
        channel("info", topics.info, "Who the bridge is", BridgeInfo),
        channel("health", topics.health, "The bridge's health", BridgeHealth),
        channel(
            "memberHealth",
            topics.member_health("{member}"),
            "One of several bridges'",
            BridgeHealth,
        ),
        channel("comfyui", topics.comfyui("{instance}"), "A ComfyUI", ComfyUIState),
        channel("gpu", topics.gpu("{gpu}"), "Who has a GPU", GpuLease),
        channel("choices", topics.choices("{name}"), "A long list", Choices),
        channel("workflow", topics.workflow("{workflow}"), "A definition", Definition),
        channel("displayImage", topics.display_image("{name}"), "A picture", _PICTURE, 0),
        channel("displayUrl", topics.display_url("{name}"), "Its address", _ADDRESS),
    )


def _simple_requests(topics: Topics) -> tuple[Channel, ...]:
    def channel(name: str, verb: str, summary: str, levels: tuple[str, ...], *messages: Any) -> Any:
        address = topics.request("{client}", verb, *levels)
        return Channel(name, address, "receive", summary, messages, verb=verb)

    return (
        channel("run", RUN, "The `run` topic", ("{workflow}",), _SIMPLE),
        channel("runAs", RUN, "The same, under an id", ("{workflow}", "{job_id}"), _SIMPLE),
        channel("upload", UPLOAD, "An upload", ("{upload}",), BeginUpload, _UPLOADED),
        channel("uploadPart", UPLOAD, "Its parts", ("{upload}", "{offset}"), _UPLOADED),
        channel("uploadEnd", UPLOAD, "Its end", ("{upload}", FIN), _NOTHING),
    )


def _admin_channels(topics: Topics) -> Iterator[Channel]:
    for verb, row in operator.VERBS.items():
        name = "order" + "".join(word.capitalize() for word in re.split("[/_]", verb))
        summary = _first_line(row.command)
        yield Channel(
            f"{name}Request", topics.command(verb), "receive", summary, (row.command,), verb=name
        )
        yield Channel(
            f"{name}Response",
            topics.command_response(verb),
            "send",
            f"Answers to {verb}",
            (row.report,),
            verb=name,
        )


def _first_line(kind: type[Struct]) -> str:
    return (kind.__doc__ or "").partition("\n")[0].rstrip(".")
