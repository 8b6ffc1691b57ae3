"""ComfyUI's queue and history as typed values.

Pure. Both live in ComfyUI's memory only: after its restart an id is unknown.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from bridge.comfyui import events, frames
from bridge.contract.reading import LenientDecoder


class QueueState(msgspec.Struct, frozen=True):
    """The ids of everybody's prompts at one moment, in the order in which they run."""

    running: tuple[str, ...]
    pending: tuple[str, ...]

    def __contains__(self, prompt_id: object) -> bool:
        return prompt_id in self.running or prompt_id in self.pending


class HistoryEntry(msgspec.Struct, frozen=True):
    """A prompt that ended: the graph that ran, the `ui` outputs by node id, and how it ended."""

    prompt: Mapping[str, Any]
    outputs: Mapping[str, Mapping[str, Any]]
    end: events.Succeeded | events.Failed | events.PromptInterrupted


class _QueueItem(msgspec.Struct, frozen=True, array_like=True):
    """`[number, id, graph, extra_data, outputs]`; the graph is not read here."""

    number: float
    prompt_id: str


class _Queue(msgspec.Struct, frozen=True):
    queue_running: tuple[_QueueItem, ...]
    queue_pending: tuple[_QueueItem, ...]


class _Entry(msgspec.Struct, frozen=True):
    """That there is one says that the prompt ended: of what it holds, odd parts are left out."""

    prompt: Any
    outputs: Any = None
    status: Any = None


_queue = LenientDecoder(_Queue)
_history = LenientDecoder(dict[str, _Entry])


def read_queue(body: bytes) -> QueueState:
    """Read `GET /queue`; raises msgspec.DecodeError.

    ComfyUI's list of pending prompts is a heap on (number, id), hence the sorting.
    """
    queue = _queue.decode(body)
    pending = sorted(queue.queue_pending, key=lambda item: (item.number, item.prompt_id))
    return QueueState(
        running=tuple(item.prompt_id for item in queue.queue_running),
        pending=tuple(item.prompt_id for item in pending),
    )


def read_history(body: bytes, prompt_id: str) -> HistoryEntry | None:
    """Read `GET /history/{prompt_id}`; None if it is unknown. Raises msgspec.DecodeError."""
    entry = _history.decode(body).get(prompt_id)
    if entry is None:
        return None
    found = entry.outputs if isinstance(entry.outputs, dict) else {}
    outputs = {node: each for node, each in found.items() if isinstance(each, dict)}
    return HistoryEntry(_graph(entry.prompt), outputs, _end(entry.status, outputs))


def _graph(prompt: Any) -> Mapping[str, Any]:
    """Return the graph of `[number, id, graph, ...]`."""
    match prompt:
        case [_, _, dict(graph), *_]:
            return graph
    return {}


def _end(
    status: Any, outputs: Mapping[str, Mapping[str, Any]]
) -> events.Succeeded | events.Failed | events.PromptInterrupted:
    if not isinstance(status, dict):  # of older servers
        return events.Succeeded(outputs)
    messages = status.get("messages")
    for message in messages if isinstance(messages, list) else ():
        match message:
            case ["execution_interrupted", *_]:
                return events.PromptInterrupted()
            case ["execution_error", *data]:
                return _error(data)
    if status.get("completed") is True or status.get("status_str") == "success":
        return events.Succeeded(outputs)
    return _UNKNOWN_ERROR


def _error(data: Any) -> events.Failed:
    try:
        (fault,) = msgspec.convert(data, tuple[frames.ExecutionFault], strict=False)
    except msgspec.ValidationError:
        return _UNKNOWN_ERROR
    return failure(fault)


_UNKNOWN_ERROR = events.Failed("unknown", "ComfyUI reports an error, not which", "", "", ())


def failure(fault: frames.ExecutionFault) -> events.Failed:
    """Return the event for ComfyUI's `execution_error`, from a frame or from the history."""
    return events.Failed(
        exception_type=fault.exception_type or "unknown",
        message=(fault.exception_message or "").strip(),
        node=fault.node_id or "",
        class_type=fault.node_type or "",
        traceback=fault.traceback,
    )
