"""Decides when a ComfyUI of ours counts as frozen or as idle. Pure: times are arguments."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from bridge.comfyui.state import InstanceState, StateName

# A ComfyUI that did not unload its models when it was asked to is asked again after this.
UNLOAD_RETRY_S = 10.0

Finding: TypeAlias = Literal["frozen", "idle"]


class HealthPolicy(msgspec.Struct, frozen=True):
    """The limits of every ComfyUI, in seconds.

    A prompt that runs and sends nothing for `silence_s` is taken to hang. One of the
    bridge's own that was idle for `idle_unload_s` unloads its models, at 0 never; one that does
    not answer for two minutes, or `silence_s` if that is less, is frozen.
    """

    silence_s: float = 600.0
    idle_unload_s: float = 300.0

    @property
    def answer_s(self) -> float:
        """After this long without an answer to anything it is frozen."""
        return min(self.silence_s, 120.0)


class Health:
    """The consequences of a ComfyUI's states over time, in seconds of a monotonic clock.

    Call `observe` with each new state, then act on `due`, again after `wait_s` if nothing changes.
    """

    def __init__(self, policy: HealthPolicy) -> None:
        self._policy = policy
        # A state, and when it was entered.
        self._period: tuple[StateName, float] | None = None
        self._frozen_at: float | None = None
        self._idle_at: float | None = None

    def observe(self, state: InstanceState, now: float) -> None:
        """Observe its state; a state's duration counts from its first observation."""
        period = (state.state, state.since)
        if period == self._period:
            return
        self._period = period
        limit_s = self._policy.idle_unload_s
        self._frozen_at = now + self._policy.answer_s if state.state == "unreachable" else None
        self._idle_at = now + limit_s if state.state == "ready" and limit_s else None

    def unloaded(self, now: float, *, succeeded: bool) -> None:
        """Note that its models were unloaded; if that failed, it is due again soon."""
        self._idle_at = None if succeeded else now + UNLOAD_RETRY_S

    def due(self, now: float) -> Finding | None:
        """Return its trouble, if it is not well."""
        if self._frozen_at is not None and now >= self._frozen_at:
            return "frozen"
        if self._idle_at is not None and now >= self._idle_at:
            return "idle"
        return None

    def wait_s(self, now: float) -> float | None:
        """Return after how long it may be due, None if not before its state changes."""
        times = [at for at in (self._frozen_at, self._idle_at) if at is not None]
        return max(0.0, min(times) - now) if times else None
