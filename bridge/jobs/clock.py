"""The journal's clock, which measures the age of results, outputs and ids: it never goes back.

A machine's wall clock is set right now and then, by days or by decades where the machine has no
clock of its own. Were ages differences of the wall clock's times, all that is kept would be too old
at that moment. So the journal's times are those of a clock that begins with the wall's time,
advances with the machine's steady clock, and is noted in the journal; it never follows a jump.

While the bridge does not run, the steady clock says how long that was, as long as the machine was
not started again. If it was, the wall clock says so, up to `MOST_AWAY_S` a time: what is kept too
long costs some room, what is deleted too early is lost.

What is shown to people and clients is the wall's time (`shown`), also of what is older than a jump.

`tests/test_clocks.py` lists every other place that reads the wall clock, and why it may.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

# A wall clock that is off by less was set a little, or the two clocks do not go alike.
JUMP_S = 60.0
# What is shown is brought in line with the wall clock at differences beyond this.
_SETTLE_S = 1.0
# How much time may have gone by while the machine was off.
MOST_AWAY_S = 86_400.0

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class ClockReading(Struct, frozen=True):
    """A reading of the journal's clock, with that of the other clocks at the same moment.

    `boot` names the machine's last start: only within one do readings of `steady` compare.
    """

    at: float
    wall: float
    steady: float
    boot: str


class Clock:
    """The journal's time, in seconds. For the event loop's thread."""

    def __init__(
        self,
        wall: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
        boot: str | None = None,
    ) -> None:
        """`wall` returns seconds since the epoch, `steady` seconds of a clock that is never set."""
        self._wall = wall
        self._steady = steady
        self._boot = _boot() if boot is None else boot
        self._base = wall() - steady()
        self._ahead = 0.0
        # `ahead` at the last `check_jump`.
        self._checked = 0.0

    def now(self) -> float:
        """The journal's time: about that of the wall clock, unless that was set."""
        return self._base + self._steady()

    @property
    def ahead(self) -> float:
        """Seconds by which the wall clock is ahead of the journal's."""
        off = self._wall() - self.now()
        if abs(off - self._ahead) > _SETTLE_S:
            self._ahead = off
        return self._ahead

    def shown(self, at: float) -> float:
        """Convert a time of the journal's clock to the present wall clock's."""
        return at + self.ahead

    def resume(self, before: ClockReading | None, latest: float | None) -> float:
        """Continue from an earlier reading; returns by how much the wall clock jumped since.

        Returns 0 for less than `JUMP_S`. Without a reading, `latest` is the newest time in the
        journal, if any: whether the clock has jumped since is unknown.
        """
        wall, steady = self._wall(), self._steady()
        if before is None and latest is None:
            return 0.0
        known = before is not None
        if before is None:
            before = ClockReading(latest or 0.0, latest or 0.0, 0.0, "")
        went = wall - before.wall
        if self._boot and before.boot == self._boot and steady >= before.steady:
            away = steady - before.steady
        else:
            away = min(max(went, 0.0), MOST_AWAY_S)
        self._base = before.at + away - steady
        self._ahead = self._checked = wall - self.now()
        return _jump(went - away) if known else 0.0

    def check_jump(self) -> float:
        """Return the seconds that the wall clock jumped since the last call; 0 up to `JUMP_S`."""
        before, self._checked = self._checked, self.ahead
        return _jump(self._checked - before)

    def read(self) -> ClockReading:
        """Return a reading, from which `resume` continues."""
        return ClockReading(self.now(), self._wall(), self._steady(), self._boot)


class JumpWatch:
    """Watches a clock that may be set, such as a database's, against the steady one."""

    def __init__(self, steady: Callable[[], float] = time.monotonic) -> None:
        """`steady` returns seconds of a clock that is never set."""
        self._steady = steady
        self._before: tuple[float, float] | None = None
        self._jumped_at = float("-inf")

    def since_jump_s(self, at: float) -> float:
        """Compare with the clock's time; return the seconds since it was set, infinite if never."""
        steady = self._steady()
        if self._before is not None:
            at_before, steady_before = self._before
            if _jump((at - at_before) - (steady - steady_before)):
                self._jumped_at = steady
        self._before = at, steady
        return steady - self._jumped_at


def _jump(off: float) -> float:
    return off if abs(off) > JUMP_S else 0.0


def _boot() -> str:
    """Return an id of the machine's last start; empty if the system has none."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""
