"""Decides about other releases of ComfyUI: which one is newer, and whether one works. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

from bridge.comfyui.releases import Release, numbers
from bridge.comfyui.state import InstanceState

Outcome: TypeAlias = Literal["works", "fails"]

# Once a day, as others look for updates; after a look that failed somewhat sooner.
LOOK_S = 24 * 3600.0
LOOK_AGAIN_S = 3600.0

_CONNECTED = ("ready", "busy", "yielded")
# A process is there, and may have prompts.
_AT_WORK = ("ready", "busy", "unreachable")


def newer(installed: str, releases: Sequence[Release]) -> Release | None:
    """Return the newest of `releases`, the oldest of which is the first, if it is newer."""
    if not releases or numbers(releases[-1].version) <= numbers(installed):
        return None
    return releases[-1]


def look_after_s(*, failed: bool) -> float:
    """Return the seconds from one look to the next."""
    return LOOK_AGAIN_S if failed else LOOK_S


def is_drained(state: InstanceState) -> bool:
    """True if a ComfyUI that is left to others has no prompt of ours any more."""
    return state.state not in _AT_WORK


def runs(state: InstanceState) -> bool:
    """True if a ComfyUI runs or is to run: the operator has not stopped it."""
    return state.state != "stopped"


def outcome(before: InstanceState, now: InstanceState) -> Outcome | None:
    """Return what came of a start, by the states before it and now; None while it is not known."""
    if now.restarts > before.restarts:
        return "fails"
    is_another = now.epoch is not None and now.epoch != before.epoch
    return "works" if is_another and now.state in _CONNECTED else None
