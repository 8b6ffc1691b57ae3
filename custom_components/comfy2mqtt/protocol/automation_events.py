"""Triggers and conditions of automations: a job's end, and whether a bridge is online or busy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from .messages import OUTCOMES, Result

# The triggers of a workflow's device.
OF_WORKFLOW = tuple(f"job_{outcome}" for outcome in OUTCOMES)
# The triggers of the bridge's device, by its condition that holds from then on.
OF_BRIDGE = {
    "bridge_online": "is_online",
    "bridge_offline": "is_offline",
    "bridge_busy": "is_busy",
    "bridge_idle": "is_idle",
}
CONDITIONS = tuple(OF_BRIDGE.values())


class BridgeStatus(NamedTuple):
    """A bridge's state: it can be reached or not, and a job runs at a ComfyUI of it or not."""

    is_online: bool
    is_busy: bool

    def holds(self, condition: str) -> bool:
        """Return True if one of `CONDITIONS` holds; offline it is neither busy nor idle."""
        return {
            "is_online": self.is_online,
            "is_offline": not self.is_online,
            "is_busy": self.is_online and self.is_busy,
            "is_idle": self.is_online and not self.is_busy,
        }[condition]


OFFLINE = BridgeStatus(is_online=False, is_busy=False)


def bridge_status(comfyui: Iterable[Mapping[str, Any]], *, is_online: bool) -> BridgeStatus:
    """Return a bridge's status, by the states of its ComfyUIs."""
    return BridgeStatus(is_online, any(each.get("state") == "busy" for each in comfyui))


def triggered(before: BridgeStatus, now: BridgeStatus) -> list[str]:
    """Return the triggers of the bridge's device for which a change is the cause."""
    return [
        trigger
        for trigger, condition in OF_BRIDGE.items()
        if now.holds(condition) and not before.holds(condition)
    ]


def ended(result: Result) -> str | None:
    """Return the trigger of a workflow's device for which a job's end is the cause, if any is."""
    return f"job_{result.state}" if result.state in OUTCOMES else None
