"""When a ComfyUI that died is started again. Pure: times are arguments."""

from __future__ import annotations

import random

import msgspec

from bridge.retry import Backoff

_FIRST_S = 1.0
_CAP_S = 30.0


class Restart(msgspec.Struct, frozen=True):
    """Wait this many seconds, as a crash loop or as an ordinary restart."""

    delay_s: float
    crash_loop: bool


class RestartPolicy:
    """Back-off between restarts, and a long pause after `limit` early deaths in a row."""

    def __init__(
        self,
        *,
        limit: int,
        stable_after_s: float,
        pause_s: float,
        rng: random.Random | None = None,
    ) -> None:
        self._limit = limit
        self._stable_after_s = stable_after_s
        self._pause_s = pause_s
        self._early = 0
        self._delays = Backoff(_FIRST_S, _CAP_S, draw=(rng or random).uniform)

    def died(self, *, up_s: float, hopeless: bool = False) -> Restart:
        """Tell what to do after a death `up_s` seconds after it got ready, 0 if it never did.

        `hopeless` says that another try would fail the same way, such as a missing file.
        """
        if up_s >= self._stable_after_s:
            self.forgive()
        self._early += 1
        if hopeless or self._early >= self._limit:
            self.forgive()
            return Restart(delay_s=self._pause_s, crash_loop=True)
        return Restart(delay_s=self._delays.next(), crash_loop=False)

    def forgive(self) -> None:
        """Count from the beginning: it was up for long, or somebody said so."""
        self._early = 0
        self._delays.reset()
