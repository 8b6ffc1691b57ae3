"""Decides when a ComfyUI that died is started again. Times are arguments."""

from __future__ import annotations

import msgspec

from bridge.retry import Backoff


class PlannedRestart(msgspec.Struct, frozen=True):
    """Start it again after `delay_s` seconds. `crash_loop`: it died too often, or always will."""

    delay_s: float
    crash_loop: bool


class RestartPolicy:
    """A back-off between restarts, and a long pause after `limit` early deaths in a row.

    A death is early before `stable_after_s` seconds; the pause is `pause_s` seconds.
    """

    def __init__(
        self, *, limit: int, stable_after_s: float, pause_s: float, backoff: Backoff | None = None
    ) -> None:
        self._limit = limit
        self._stable_after_s = stable_after_s
        self._pause_s = pause_s
        self._early = 0
        self._backoff = backoff or Backoff(1.0, 30.0)

    def died(self, *, up_s: float, hopeless: bool = False) -> PlannedRestart:
        """Return the next start after a death `up_s` seconds after it got ready, 0 if it never did.

        `hopeless` says that another try would fail the same way, as with a missing file.
        """
        if up_s >= self._stable_after_s:
            self.reset()
        self._early += 1
        if hopeless or self._early >= self._limit:
            self.reset()
            return PlannedRestart(delay_s=self._pause_s, crash_loop=True)
        return PlannedRestart(delay_s=self._backoff.next(), crash_loop=False)

    def reset(self) -> None:
        """Reset the count: it ran for long, ran a prompt, or was started by a command."""
        self._early = 0
        self._backoff.reset()
