"""One process of the simulated world: its core and clock, and what it has yet to do."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from msgspec import Struct

from bridge.jobs.clock import Clock
from bridge.jobs.core import Core, JobLimits, Moment, effects, events
from bridge.jobs.database import LeaseLost
from bridge.jobs.queue import Key
from tests.jobs.world import ComfyUI, World

LIMITS = JobLimits(max_attempts=3, timeout_s=60.0, silence_s=60.0, reorder_s=5.0)


class Operation(Struct):
    """Something that a bridge has to do, later; `refuse`: what it does instead if it cannot."""

    name: str
    key: Key | None
    do: Callable[[], None]
    refuse: Callable[[], None] | None = None


class Process:
    """A core, and what it has yet to do."""

    def __init__(
        self, world: World, life: str, comfyuis: dict[str, ComfyUI], *, alone: bool
    ) -> None:
        self.life = life
        self.alone = alone
        self.comfyuis = comfyuis
        self.core = Core(dict.fromkeys(comfyuis, True), _can_run, LIMITS, alone=alone)
        self.world = world
        self.writes: deque[Operation] = deque()  # in order, as the journal answers
        self.errands: list[Operation] = []  # in any order
        self.dead = False
        # Whose numbers and results these are; a bridge alone has no name.
        self.owner = "" if alone else life
        self.clock = Clock(lambda: world.wall, lambda: world.now, "boot")
        self.clock.resume(world.journal.reading, None)
        world.journal.reading = self.clock.read()

    def handle(self, event: events.Event) -> None:
        if self.dead:
            return
        now = Moment(self.clock.now(), self.world.now, self.clock.ahead)
        done = self.core.handle(event, now)
        for effect in done:
            if isinstance(effect, effects.ReportDefect):
                raise effect.error
            if not isinstance(effect, effects.ReportBlocked):  # for other bridges alone
                self._carry_out(effect)
        if self.core.must_schedule:
            self.handle(events.Schedule())

    def tick(self) -> None:
        due = self.core.wakes_at()
        self.clock.check_jump()
        self.world.journal.reading = self.clock.read()
        if due.journal <= self.clock.now() or due.steady <= self.world.now:
            self.handle(events.Tick())

    def _carry_out(self, effect: effects.Effect) -> None:
        raise NotImplementedError

    def _check_fence(self) -> None:
        if not self.alone and self.life not in self.world.journal.members:
            raise LeaseLost

    def _draw(self, client: str) -> int:
        return self.world.journal.ledger.draw(client, self.owner)


def _can_run(_name: str, _needs: object) -> bool:
    return True
