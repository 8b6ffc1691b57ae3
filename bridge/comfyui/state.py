"""The states of one ComfyUI, and what leads from one to the next. Pure.

`Lifecycle` takes what happens to a ComfyUI and returns its `InstanceState`, by the table below.

    stopped      no process, or not attached     starting     being started, or first connected to
    ready        connected, its queue is empty   busy         connected, its queue is not empty
    yielded      left to others by the operator  unreachable  there is no connection
    restarting   it ended and is started again   crash_loop   it ends each time: a long pause
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

import msgspec

from bridge.contract import retained

# The contract's words are used as they are: this is what is published.
StateName: TypeAlias = retained.StateName
# The one who wants a ComfyUI left to others: the operator, the lock of its GPU, or the install of
# another release.
Yielder: TypeAlias = Literal["operator", "gpu", "update"]


class InstanceState(msgspec.Struct, frozen=True):
    """One ComfyUI at one moment.

    `since` is when `state` was entered, in Unix seconds. `restarts` counts the deaths of its
    supervised processes. `last_error` is the last thing that went wrong, kept when it is over, and
    `reason` the stable word for it. `version` is ComfyUI's. `epoch` names its process: what only
    that process remembered is gone when it changes, and what it had loaded when `unloads` does.
    One that is `closed` gets no prompts though it may be connected: it is being stopped, is
    `yielding` (the operator lends it to other programs), or has a prompt that hangs. One that is
    `unguarded` is supervised, and answers without its secret. `release` is of one whose
    releases are looked for.
    """

    state: StateName
    since: float
    restarts: int = 0
    last_error: str | None = None
    reason: str | None = None
    version: str | None = None
    epoch: str | None = None
    unloads: int = 0
    closed: bool = False
    yielding: bool = False
    unguarded: bool = False
    release: retained.ComfyUIRelease | None = None

    @property
    def usable(self) -> bool:
        """True if prompts can be submitted."""
        return self.state in ("ready", "busy") and not self.closed


# -- what happens to a ComfyUI --------------------------------------------------------------------


class Starting(msgspec.Struct, frozen=True):
    """Its process is being started, or we begin to connect to it."""


class Unguarded(msgspec.Struct, frozen=True):
    """A supervised one was found to answer whoever does not know its secret."""


class Connected(msgspec.Struct, frozen=True):
    """A connection was made. `epoch` names the process at the other end, None if it is unknown."""

    version: str | None
    epoch: str | None


class Disconnected(msgspec.Struct, frozen=True):
    """The connection is gone; `text` and `reason` become `last_error` and `reason`."""

    text: str
    reason: str


class QueueLength(msgspec.Struct, frozen=True):
    """Its queue changed; `prompts` counts everybody's that run or wait."""

    prompts: int


class Unusable(msgspec.Struct, frozen=True):
    """An attached one is there and of no use: it gets no prompts until that is over."""

    text: str
    reason: str


class Closing(msgspec.Struct, frozen=True):
    """The operator wants its process stopped or restarted."""


class Yielding(msgspec.Struct, frozen=True):
    """Somebody wants it left to others."""

    by: Yielder = "operator"


class Vacated(msgspec.Struct, frozen=True):
    """A yielding ComfyUI has ended our prompts and freed its memory."""


class Resumed(msgspec.Struct, frozen=True):
    """The operator, or a lock, ends its yield; the other one may still hold it."""

    by: Yielder = "operator"


class Unloaded(msgspec.Struct, frozen=True):
    """Its models were unloaded."""


class ReleaseNoted(msgspec.Struct, frozen=True):
    """Something is new about its releases."""

    release: retained.ComfyUIRelease


class Died(msgspec.Struct, frozen=True):
    """Its process ended, or did not get ready; `crash_loop`: too often."""

    text: str
    reason: str
    crash_loop: bool


class Stopped(msgspec.Struct, frozen=True):
    """Its process was stopped by the operator, or we detach."""


LifecycleEvent: TypeAlias = (
    Starting
    | Unguarded
    | Connected
    | Disconnected
    | QueueLength
    | Unusable
    | Closing
    | Yielding
    | Vacated
    | Resumed
    | Unloaded
    | ReleaseNoted
    | Died
    | Stopped
)

# "connected" stands for yielded, busy or ready, by the operator's commands and the queue; "failed"
# for restarting or crash_loop.
Target: TypeAlias = StateName | Literal["connected", "failed"]
Row: TypeAlias = Mapping[type[LifecycleEvent], Target]

_NOT_CONNECTED: Row = {
    Connected: "connected",
    Disconnected: "unreachable",
    Died: "failed",
    Stopped: "stopped",
}
_CONNECTED: Row = {
    Connected: "connected",  # again: a cut that was over at once is not reported
    Disconnected: "unreachable",
    QueueLength: "connected",
    Vacated: "connected",
    Resumed: "connected",
    Died: "failed",
    Stopped: "stopped",
}

# The next state, by the present one and the event. An event that is not named here leaves the
# state as it is if it is in `_ANYWHERE`, and is a defect otherwise.
TABLE: Mapping[StateName, Row] = {
    "stopped": {Starting: "starting", Stopped: "stopped"},
    "starting": _NOT_CONNECTED,
    "unreachable": _NOT_CONNECTED,
    "ready": _CONNECTED,
    "busy": _CONNECTED,
    "yielded": _CONNECTED,
    "restarting": {Starting: "starting", Stopped: "stopped"},
    "crash_loop": {Starting: "starting", Stopped: "stopped"},
}
_ANYWHERE = (Unguarded, Unusable, Closing, Yielding, Vacated, Resumed, Unloaded, ReleaseNoted)


class Lifecycle:
    """The state of one ComfyUI and why it gets no prompts. Pure: `now` is in Unix seconds."""

    def __init__(self, now: float) -> None:
        self.state = InstanceState(state="stopped", since=now)
        # It yields, our prompts have ended and its memory is free.
        self.vacated = False
        self._yielding: frozenset[Yielder] = frozenset()
        self._closing = False
        self._unusable = False
        self._prompts = 0

    def handle(self, event: LifecycleEvent, now: float) -> InstanceState:
        """Return the state after an event; raises AssertionError for one that cannot happen."""
        before = self.state.state
        target = TABLE[before].get(type(event))
        if target is None:
            if not isinstance(event, _ANYWHERE):
                raise AssertionError(f"{type(event).__name__} while {before}")
            target = before
        changes = self._fields(event)
        self._note(event)
        name = self._resolved(target, event)
        if name != before:
            changes |= {"state": name, "since": now}
        yielding = bool(self._yielding)
        closed = yielding or self._closing or self._unusable
        self.state = msgspec.structs.replace(
            self.state, closed=closed, yielding=yielding, **changes
        )
        return self.state

    def _resolved(self, target: Target, event: LifecycleEvent) -> StateName:
        if target == "connected":
            if self.vacated:
                return "yielded"
            return "busy" if self._prompts else "ready"
        if target == "failed":
            return "crash_loop" if isinstance(event, Died) and event.crash_loop else "restarting"
        return target

    def _note(self, event: LifecycleEvent) -> None:
        """Keep what an event means for later ones."""
        match event:
            case Connected(epoch=epoch) if epoch is None or epoch != self.state.epoch:
                # What was wrong was wrong with the process before.
                self._closing = self._unusable = False
            case QueueLength(prompts):
                self._prompts = prompts
                # With an empty queue the prompt that did not get on is over.
                self._unusable &= prompts > 0
            case Unusable():
                self._unusable = True
            case Closing():
                self._closing = True
            case Yielding(by=by):
                self._yielding |= {by}
            case Vacated():
                self.vacated = bool(self._yielding)
            case Resumed(by=by):
                self._yielding -= {by}
                self.vacated &= bool(self._yielding)
            case Died() | Stopped():
                self.vacated = False
                self._prompts = 0

    def _fields(self, event: LifecycleEvent) -> dict[str, object]:
        """Return the fields of the state that an event changes by itself."""
        changes: dict[str, object] = {}
        match event:
            case Starting() | Unguarded():
                changes = {"unguarded": isinstance(event, Unguarded)}
            case Connected(version, epoch):
                changes = {"version": version, "epoch": epoch}
            case Disconnected(text, reason) | Unusable(text, reason):
                changes = {"last_error": text, "reason": reason}
            case Died(text, reason):
                restarts = self.state.restarts + 1
                changes = {"last_error": text, "reason": reason, "restarts": restarts}
            case ReleaseNoted(release):
                changes = {"release": release}
            case Unloaded():
                changes = {"unloads": self.state.unloads + 1}
        return changes
