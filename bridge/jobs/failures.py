"""Translates ComfyUI's failures into the contract's errors and the workflow's names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from bridge.comfyui.errors import ComfyUIError, OutputGone, PromptRejected
from bridge.comfyui.events import Failed
from bridge.contract.errors import (
    BridgeError,
    ComfyUIUnavailable,
    ExecutionError,
    InvalidInput,
    Lost,
    OutOfMemory,
)
from bridge.text import clip, without_colours, without_folders

# torch.cuda.OutOfMemoryError, torch.OutOfMemoryError, and ComfyUI's own OOM_EXCEPTION aliases.
_OUT_OF_MEMORY = ("OutOfMemoryError", "MemoryError")
# ENOSPC and EDQUOT, as Python and C libraries word them.
_FULL_DISK = re.compile(r"\[Errno (28|122)\]|No space left on device|Disk quota exceeded")
# ComfyUI lists a class with `OUTPUT_NODE = 1` as an output, and then runs nothing for it.
_NO_OUTPUTS = "prompt_no_outputs"
# A traceback can be long, and its end says most.
_TRACEBACK_LINES = 10
# A node may print a whole tensor or file into its error: the result has to fit into a packet.
_LONGEST = 2000


def rejected(error: PromptRejected, names: Mapping[str, str]) -> BridgeError:
    """Translate a refused prompt; `names` maps `node.input` to the workflow's input.

    The first problem at an input that has a name is reported, else the first at all.
    """
    unnamed: BridgeError | None = None
    for node, found in error.node_errors.items():
        for problem in found.errors:
            place = f"{node}.{problem.extra_info.get('input_name', '')}"
            text = short(": ".join(filter(None, (problem.message, problem.details))))
            details = {
                "node": node,
                "class_type": found.class_type,
                "problem": problem.type,
                "received": _plain(problem.extra_info.get("received_value")),
            }
            if place in names:
                name = names[place]
                return InvalidInput(f"input {name!r}: {text}", input=name, **details)
            unnamed = unnamed or ExecutionError(f"node {node}: {text}", input=place, **details)
    if unnamed is not None:
        return unnamed
    text = short(": ".join(filter(None, (error.error.message, error.error.details))))
    if error.error.type == _NO_OUTPUTS:
        text += ": a class counts as an output there only if its OUTPUT_NODE is True, and not 1"
    return ExecutionError(text or short(str(error)), problem=error.error.type)


def unavailable(error: ComfyUIError, instance: str) -> BridgeError:
    """Translate a ComfyUI that could not be asked, or whose answer could not be used."""
    kind = Lost if isinstance(error, OutputGone) else ComfyUIUnavailable
    return kind(short(str(error)), instance=instance)


def prompt_lost(reason: str) -> BridgeError:
    """Return the error of a job whose prompt is no longer at its ComfyUI."""
    return Lost(f"ComfyUI lost the job: {short(reason)}")


def execution_failed(event: Failed) -> BridgeError:
    """Return the error of a job one of whose nodes failed."""
    kind = OutOfMemory if event.exception_type.endswith(_OUT_OF_MEMORY) else ExecutionError
    where = f"node {event.node} ({event.class_type}): " if event.node else ""
    message = short(event.message.strip() or event.exception_type)
    return kind(
        f"{where}{message}",
        node=event.node or None,
        class_type=event.class_type or None,
        exception_type=event.exception_type,
        traceback=[short(line) for line in event.traceback[-_TRACEBACK_LINES:]] or None,
    )


def without(error: BridgeError, secret: str) -> BridgeError:
    """Return the error without a secret that others may have written into it."""

    def cleaned(value: Any) -> Any:
        match value:
            case str():
                return value.replace(secret, "***")
            case list():
                return [cleaned(each) for each in value]
            case dict():
                return {key: cleaned(each) for key, each in value.items()}
        return value

    return type(error)(cleaned(error.message), **cleaned(error.details))


def is_full_disk(event: Failed) -> bool:
    """True if a node failed because there is no room on ComfyUI's disk: not the job's fault."""
    return _FULL_DISK.search(event.message) is not None


def short(text: str) -> str:
    """Return ComfyUI's words as clients get them: nothing of its machine, nothing endless."""
    # No client learns the folders of ComfyUI's machine.
    return without_folders(clip(without_colours(text), _LONGEST))


def _plain(value: Any) -> Any:
    return short(value) if isinstance(value, str) else value
