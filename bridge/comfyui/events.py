"""The events of one prompt, as the rest of the bridge sees them. Pure.

A prompt's events come in ComfyUI's order and end with exactly one `Terminal`. Outputs that were
missed while the socket was cut follow later; steps and previews may be left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import msgspec

from bridge.comfyui.frames import OutputHeader


class Queued(msgspec.Struct, frozen=True, tag=True):
    """ComfyUI has the prompt in its queue."""


class Started(msgspec.Struct, frozen=True, tag=True):
    """ComfyUI works on the prompt."""


class Cached(msgspec.Struct, frozen=True, tag=True):
    """These nodes' results are used again; never empty."""

    nodes: tuple[str, ...]


class NodeStarted(msgspec.Struct, frozen=True, tag=True):
    """A node runs. `display_node` is the node of the graph that it was expanded from, or itself."""

    node: str
    display_node: str


class Step(msgspec.Struct, frozen=True, tag=True):
    """A node's own progress: `value` of `maximum`."""

    node: str
    value: float
    maximum: float


class PromptPreview(msgspec.Struct, frozen=True, tag=True):
    """A picture of the work so far; only the newest matters. `node` is None if it is unknown."""

    node: str | None
    content_type: str
    data: bytes | memoryview


class NodeOutput(msgspec.Struct, frozen=True, tag=True):
    """An output of one of our output nodes: the bytes that the node encoded, never copied.

    Each (`node`, `index`) of a header comes once.
    """

    header: OutputHeader
    data: bytes | memoryview


class SocketImage(msgspec.Struct, frozen=True, tag=True):
    """A result of ComfyUI's SaveImageWebsocket, the `index`-th of its node, counted from 0."""

    node: str
    index: int
    content_type: str
    data: bytes | memoryview


class Executed(msgspec.Struct, frozen=True, tag=True):
    """An output node's `ui` output as ComfyUI keeps it in the history too."""

    node: str
    display_node: str
    output: Mapping[str, Any]


class Succeeded(msgspec.Struct, frozen=True, tag=True):
    """All of it ran; `outputs` holds the `ui` output by node id."""

    outputs: Mapping[str, Mapping[str, Any]]


class Failed(msgspec.Struct, frozen=True, tag=True):
    """A node raised. `exception_type` is the Python class's name with its module, if not built in.

    `node` and `class_type` are empty where ComfyUI does not say; `traceback` is its lines.
    """

    exception_type: str
    message: str
    node: str
    class_type: str
    traceback: tuple[str, ...]


class PromptInterrupted(msgspec.Struct, frozen=True, tag=True):
    """The prompt was stopped, or taken out of the queue, by the bridge or at ComfyUI."""


class PromptLost(msgspec.Struct, frozen=True, tag=True):
    """ComfyUI no longer knows the prompt, or its results are gone; `reason` is a sentence.

    `died`: its process, or the thread that runs prompts, ended by itself while it ran the prompt.
    """

    reason: str
    died: bool = False


Terminal: TypeAlias = Succeeded | Failed | PromptInterrupted | PromptLost

Event: TypeAlias = (
    Queued
    | Started
    | Cached
    | NodeStarted
    | Step
    | PromptPreview
    | NodeOutput
    | SocketImage
    | Executed
    | Terminal
)
