"""One hook over time: idle, preparing, busy, releasing. Pure: times are arguments.

`before_busy` is called when jobs wait for its ComfyUIs, which get them once it is `busy`;
`after_idle` is called once nothing has waited for a while. One call runs at a time.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from msgspec import Struct

from bridge.contract.retained import HookState

# Pauses after a call that failed and is made again, in seconds.
RETRY_FIRST_S = 5.0
RETRY_CAP_S = 60.0

Work: TypeAlias = Literal["prepare", "release"]


class Rules(Struct, frozen=True):
    """One hook: whose it is, and what a call that fails means.

    `waits`: the jobs wait until the call succeeds; otherwise they go on without.
    """

    name: str
    instances: frozenset[str]
    idle_s: float = 60.0
    waits: bool = False


class Machine:
    """The state of one hook. Call `step` after each change, `ended` once after each work."""

    def __init__(self, rules: Rules, *, prepared: bool = False) -> None:
        """`prepared`: an earlier process had called `before_busy`, and not `after_idle`."""
        self.rules = rules
        # What was prepared earlier may be undone by now: it is prepared again, or released.
        self.state: HookState = "preparing" if prepared else "idle"
        # What went wrong last, until a call succeeds.
        self.error: str | None = None
        self._running: Work | None = None
        self._retry_at = float("-inf")
        self._pause_s = RETRY_FIRST_S
        self._idle_since: float | None = None

    @property
    def open(self) -> bool:
        """True if its ComfyUIs may run jobs, as far as this hook goes."""
        return self.state == "busy"

    @property
    def running(self) -> bool:
        """True while a call is made."""
        return self._running is not None

    @property
    def prepared(self) -> bool:
        """True if something may be there to be released."""
        return self.state != "idle"

    def step(self, now: float, *, wanted: bool, blocked: bool) -> Work | None:
        """Return what is to be done now; it has begun by that.

        `wanted`: jobs wait for one of its ComfyUIs, or are there. `blocked`: somebody else has
        their GPU, so that nothing may be called.
        """
        if self._running is not None:
            return None
        if blocked:
            self._idle_since = None
            if self.state == "busy":
                self.state = "preparing"
            return None
        if wanted:
            self._idle_since = None
            if self.state == "busy" or (self.state == "preparing" and now < self._retry_at):
                return None
            self.state = "preparing"
            return self._begin("prepare")
        return self._step_idle(now)

    def _step_idle(self, now: float) -> Work | None:
        if self.state == "idle":
            return None
        if self._idle_since is None:
            self._idle_since = now
        due = self._release_at
        if due is None or now < due:
            return None
        self.state = "releasing"
        return self._begin("release")

    @property
    def _release_at(self) -> float | None:
        if self._idle_since is None or self.state == "idle":
            return None
        due = self._idle_since + self.rules.idle_s
        return max(due, self._retry_at) if self.state == "releasing" else due

    def _begin(self, work: Work) -> Work:
        self._running = work
        return work

    def ended(self, error: str | None, now: float) -> None:
        """Note that the work has ended, and what went wrong."""
        work, self._running = self._running, None
        self.error = error
        if error is not None and self.rules.waits:
            self._retry_at = now + self._pause_s
            self._pause_s = min(2 * self._pause_s, RETRY_CAP_S)
            return
        self._retry_at, self._pause_s = float("-inf"), RETRY_FIRST_S
        self.state = "busy" if work == "prepare" else "idle"

    def released(self) -> None:
        """Note that it was released outside of this: the bridge stops."""
        self.state = "idle"

    def wakes_at(self, *, wanted: bool) -> float:
        """Return when `step` is due though nothing changes: infinity if never."""
        if self._running is not None:
            return float("inf")
        if wanted:
            return self._retry_at if self.state == "preparing" else float("inf")
        due = self._release_at
        return float("inf") if due is None else due
