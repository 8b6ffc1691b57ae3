"""What is told of one ComfyUI, and who waits for it to change."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, TypeAlias

import msgspec

from bridge.contract import retained

# The words are the contract's: what is told here is what is published.
StateName: TypeAlias = retained.InstanceState


class InstanceState(msgspec.Struct, frozen=True):
    """One ComfyUI at one moment.

    `since` is when `state` was entered, in Unix seconds. `restarts` counts the supervised process's
    restarts. `last_error` is the last thing that went wrong, kept when it is mended, and `reason`
    the stable word for it. `version` is ComfyUI's. `epoch` names its process: what only that
    process remembered is gone when it changes, and what it had loaded when `unloads` does. One
    that is `closed` gets no prompts though it may be there: it is to stop or to yield, or does not
    get on with what it has.
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

    @property
    def usable(self) -> bool:
        """Whether prompts can be submitted."""
        return self.state in ("ready", "busy") and not self.closed


class StateBoard:
    """The present state, and waiting for the next one."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._present = InstanceState(state="stopped", since=clock())
        self._changed: asyncio.Future[None] | None = None

    @property
    def present(self) -> InstanceState:
        """The state now."""
        return self._present

    def set(self, state: StateName | None = None, **changes: Any) -> None:
        """Enter a state, or change a detail of the present one; waiters wake on any difference."""
        if state is not None and state != self._present.state:
            changes |= {"state": state, "since": self._clock()}
        after = msgspec.structs.replace(self._present, **changes)
        if after == self._present:
            return
        self._present = after
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)
        self._changed = None

    async def changed(self, seen: InstanceState) -> InstanceState:
        """Wait until the state is not `seen`, and return it; states in between are skipped."""
        while self._present == seen:
            if self._changed is None:
                self._changed = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._changed)
        return self._present
