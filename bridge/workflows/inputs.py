"""An input of a workflow: what it is called, what it takes, and where in the graph it goes."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from msgspec import UNSET, Struct, UnsetType

from bridge.workflows.graph import Target

__all__ = ["Input", "Target", "Via"]

Via: TypeAlias = Literal["media", "upload"]


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
    # By which name the choices are published where they are many.
    choices_name: str | None = None
    # How media reaches ComfyUI: by our nodes' route, or by ComfyUI's upload.
    via: Via = "media"

    @property
    def required(self) -> bool:
        """Whether a request must give it."""
        return self.default is UNSET
