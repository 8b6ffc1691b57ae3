"""ComfyUI's WebSocket messages as typed frames.

Pure: a message in, a frame or None out. Nothing that arrives can make `decode` raise: unknown
types, missing fields and garbage are None, because any custom node may send whatever it likes on
this socket. Shapes are those of ComfyUI's `server.py`, `execution.py` and `protocol.py`, seen on
0.3.75 and 0.33.0; binary frames are big-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any, TypeAlias

import msgspec

from bridge.contract.reading import strict_json

PREVIEW = 1
PREVIEW_WITH_METADATA = 4
# "C2MQ": an output of our own nodes, see custom_nodes/comfy2mqtt.
OUTPUT = 0x43324D51

_PREVIEW_FORMATS = {1: "image/jpeg", 2: "image/png"}
_ANY_BYTES = "application/octet-stream"

_U32 = struct.Struct(">I")
_U32_PAIR = struct.Struct(">II")

# What ComfyUI's own announcement must look like for it to send previews with node ids.
FEATURE_FLAGS = '{"type":"feature_flags","data":{"supports_preview_metadata":true}}'


# In all of these unknown fields are ignored, and what older servers leave out has a value.


class ExecInfo(msgspec.Struct, frozen=True):
    """The number of prompts that run or wait, those of all clients."""

    queue_remaining: int = 0


class QueueStatus(msgspec.Struct, frozen=True):
    """The queue in a `status` message."""

    exec_info: ExecInfo = ExecInfo()


class StatusMessage(msgspec.Struct, frozen=True):
    """Sent to every client whenever the queue changes, and first on each connection."""

    status: QueueStatus = QueueStatus()


class ExecutionStart(msgspec.Struct, frozen=True):
    """The worker took the prompt."""

    prompt_id: str


class ExecutionCached(msgspec.Struct, frozen=True):
    """Nodes whose results are used again; often an empty list, which means nothing."""

    prompt_id: str
    nodes: tuple[str, ...] = ()


class Executing(msgspec.Struct, frozen=True):
    """A node runs; `node` is None when the prompt is over and its history is written."""

    node: str | None
    prompt_id: str | None = None
    display_node: str | None = None


class StepProgress(msgspec.Struct, frozen=True):
    """A node's step, in the older form."""

    value: float
    max: float
    prompt_id: str | None = None
    node: str | None = None


class NodeProgress(msgspec.Struct, frozen=True):
    """One node's state in `progress_state`."""

    value: float = 0
    max: float = 0
    state: str = ""


class ProgressState(msgspec.Struct, frozen=True):
    """All nodes' states, by node id; nodes of the newer API report here alone."""

    prompt_id: str
    nodes: dict[str, NodeProgress] = {}


class NodeExecuted(msgspec.Struct, frozen=True):
    """A node's `ui` output; None for a cached node that has none."""

    prompt_id: str
    node: str
    display_node: str | None = None
    output: dict[str, Any] | None = None


class ExecutionSuccess(msgspec.Struct, frozen=True):
    """All nodes ran; the history is not yet written."""

    prompt_id: str


class ExecutionFault(msgspec.Struct, frozen=True):
    """A node raised, or blocked its followers with a message (type `ExecutionBlocked`)."""

    prompt_id: str
    node_id: str | None = None
    node_type: str | None = None
    exception_type: str | None = None
    exception_message: str | None = None
    traceback: tuple[str, ...] = ()


class ExecutionInterrupted(msgspec.Struct, frozen=True):
    """The prompt was stopped."""

    prompt_id: str


class PreviewImage(msgspec.Struct, frozen=True):
    """An encoded picture; ids are None in the older form, which belongs to whatever node runs."""

    content_type: str
    data: memoryview
    prompt_id: str | None = None
    node: str | None = None


class OutputHeader(msgspec.Struct, frozen=True):
    """Our output node's description of its bytes.

    `size` is in bytes; `width` and `height` are pixels, 0 if there are none. `prompt_id` is left
    out in `ui` outputs.
    """

    node: str
    index: int
    name: str
    content_type: str
    size: int
    sha256: str
    width: int = 0
    height: int = 0
    prompt_id: str = ""


class OutputBytes(msgspec.Struct, frozen=True):
    """An output of our own nodes, whole."""

    header: OutputHeader
    data: memoryview


TextFrame: TypeAlias = (
    StatusMessage
    | ExecutionStart
    | ExecutionCached
    | Executing
    | StepProgress
    | ProgressState
    | NodeExecuted
    | ExecutionSuccess
    | ExecutionFault
    | ExecutionInterrupted
)
Frame: TypeAlias = TextFrame | PreviewImage | OutputBytes

_TEXT_TYPES: dict[str, msgspec.json.Decoder[TextFrame]] = {
    name: msgspec.json.Decoder(kind)
    for name, kind in (
        ("status", StatusMessage),
        ("execution_start", ExecutionStart),
        ("execution_cached", ExecutionCached),
        ("executing", Executing),
        ("progress", StepProgress),
        ("progress_state", ProgressState),
        ("executed", NodeExecuted),
        ("execution_success", ExecutionSuccess),
        ("execution_error", ExecutionFault),
        ("execution_interrupted", ExecutionInterrupted),
    )
}


class _Envelope(msgspec.Struct, frozen=True):
    type: str
    data: msgspec.Raw = msgspec.Raw(b"{}")


class _PreviewMetadata(msgspec.Struct, frozen=True):
    node_id: str | None = None
    prompt_id: str | None = None
    image_type: str = _ANY_BYTES


_envelope = msgspec.json.Decoder(_Envelope)
_preview_metadata = msgspec.json.Decoder(_PreviewMetadata)
_output_header = msgspec.json.Decoder(OutputHeader)

# What a decoder raises on bytes from outside: bad JSON or a wrong type, bad UTF-8, deep nesting,
# lengths that point outside the message.
_GARBAGE = (msgspec.DecodeError, UnicodeError, RecursionError, ValueError, struct.error)


def decode(message: str | bytes | bytearray) -> Frame | None:
    """Return the frame in one WebSocket message (text or binary), or None if it holds none."""
    try:
        return _text(message) if isinstance(message, str) else _binary(message)
    except _GARBAGE:
        return None


def _text(message: str) -> TextFrame | None:
    try:
        envelope = _envelope.decode(message)
    except msgspec.ValidationError:
        return None
    except msgspec.DecodeError:
        # Python's json writes what others do not read: a failing node's inputs may hold it, and
        # that error must not be lost.
        envelope = _envelope.decode(strict_json(message))
    decoder = _TEXT_TYPES.get(envelope.type)
    return decoder.decode(envelope.data) if decoder is not None else None


def _binary(message: bytes | bytearray) -> PreviewImage | OutputBytes | None:
    (kind,) = _U32.unpack_from(message)
    if kind == OUTPUT:
        header, data = _prefixed(message)
        described = _output_header.decode(header)
        # A size that does not fit is a torn message: it is fetched by route instead.
        return OutputBytes(described, data) if described.size == len(data) else None
    if kind == PREVIEW_WITH_METADATA:
        header, data = _prefixed(message)
        metadata = _preview_metadata.decode(header)
        return PreviewImage(metadata.image_type, data, metadata.prompt_id, metadata.node_id)
    if kind == PREVIEW:
        _, image_format = _U32_PAIR.unpack_from(message)
        content_type = _PREVIEW_FORMATS.get(image_format, _ANY_BYTES)
        return PreviewImage(content_type, memoryview(message)[8:])
    return None


def _prefixed(message: bytes | bytearray) -> tuple[memoryview, memoryview]:
    """Split what follows the type into JSON, whose length stands before it, and payload."""
    _, length = _U32_PAIR.unpack_from(message)
    end = 8 + length
    if end > len(message):
        raise ValueError(length)
    view = memoryview(message)
    return view[8:end], view[end:]


def output_headers(output: Mapping[str, Any]) -> tuple[OutputHeader, ...]:
    """Return the headers in a `ui` output of our nodes; empty for any other node's."""
    listed = output.get("comfy2mqtt", ())
    try:
        return msgspec.convert(listed, tuple[OutputHeader, ...])
    except msgspec.ValidationError:
        return ()


def prompt_of(frame: Frame) -> str | None:
    """Return the id of a frame's prompt; None if it names none."""
    match frame:
        case StatusMessage():
            return None
        case OutputBytes():
            return frame.header.prompt_id
        case _:
            return frame.prompt_id
