"""An input of a workflow: what it is called, what it takes, and where in the graph it goes."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType


class Target(Struct, frozen=True):
    """A place in the graph: an input of a node."""

    node: str
    input: str

    def __str__(self) -> str:
        return f"{self.node}.{self.input}"


class Input(Struct, frozen=True, kw_only=True):
    """One input of a workflow.

    `kind` is a row of `bridge.workflows.kinds`. `default` is the value in the graph; without one
    the input is required. `maximum` and `minimum` are inclusive; `step` is a hint for sliders.
    """

    name: str
    kind: str
    target: Target
    title: str | None = None
    description: str | None = None
    default: Any | UnsetType = UNSET
    minimum: int | float | None = None
    maximum: int | float | None = None
    step: int | float | None = None
    max_length: int | None = None
    multiline: bool = False
    choices: tuple[Any, ...] | None = None
    # How media reaches ComfyUI: by our nodes' route, or by ComfyUI's upload.
    via: Literal["media", "upload"] = "media"

    @property
    def required(self) -> bool:
        """Whether a request must give it."""
        return self.default is UNSET
