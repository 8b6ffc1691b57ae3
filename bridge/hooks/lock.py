"""The lock of a GPU between the bridge and other programs. Pure: times are arguments.

The bridge wants it while jobs wait or run, with priority 0. It leaves it to a request with a higher
priority at once; to one with the same once it has had it for `TURN_S`; to one with a lower one when
it has nothing to do. A lease of another program's ends with its time, and nothing takes it away
before. Of those who wait the highest priority is next, and of those the first.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import UNSET, Struct
from msgspec.structs import replace

from bridge.contract.errors import BadRequest, Busy
from bridge.contract.operator import RequestGpu
from bridge.contract.retained import GpuLease, GpuRequest

# The bridge's own name as a holder; no other program's.
BRIDGE = "bridge"
# The least time that the bridge has a GPU before it leaves it to somebody of its own priority.
TURN_S = 60.0
MAX_WAITING = 100


class Lease(Struct, frozen=True):
    """The holder of the GPU, and until when; None: as long as it wants."""

    holder: str
    since: float
    until: float | None = None
    priority: int = 0


class Waiting(Struct, frozen=True):
    """A request that waits until `until`, and then counts no more."""

    holder: str
    priority: int
    for_s: float
    until: float
    finish: bool
    place: int

    @property
    def order(self) -> tuple[int, int]:
        """Sorts first who is next."""
        return -self.priority, self.place


class SavedLock(Struct, frozen=True):
    """The state kept over a restart: the lease of another program, and those who wait."""

    lease: Lease | None = None
    waiting: list[Waiting] = []


class Lock:
    """One GPU. All times are seconds by a clock that never goes back, also across restarts."""

    def __init__(self, kept: SavedLock | None = None) -> None:
        kept = kept or SavedLock()
        self.lease = kept.lease
        self.waiting = kept.waiting[:MAX_WAITING]
        self._place = max((each.place for each in self.waiting), default=0)
        # The bridge's place among those who wait; None: it has nothing to do.
        self._own_place: int | None = None
        self._wanted = False

    def kept(self) -> SavedLock:
        """Return what outlives the process. What the bridge has itself does not."""
        lease = None if self.lease is None or self.lease.holder == BRIDGE else self.lease
        return SavedLock(lease, self.waiting)

    # -- for the bridge --

    @property
    def ours(self) -> bool:
        """True if the bridge has it, be it that it is to leave."""
        return self.lease is not None and self.lease.holder == BRIDGE

    @property
    def lent(self) -> bool:
        """True if another program has it."""
        return self.lease is not None and self.lease.holder != BRIDGE

    def claim(self, now: float) -> Waiting | None:
        """Return the request for which the bridge is to leave now, if there is one."""
        first = min(self.waiting, key=lambda each: each.order, default=None)
        if first is None or self.lease is None or not self.ours:
            return None
        if not self._wanted or first.priority > 0:
            return first
        has_had_its_turn = now >= self.lease.since + TURN_S
        return first if first.priority == 0 and has_had_its_turn else None

    def want(self, *, wanted: bool, now: float) -> None:
        """Note whether the bridge has anything to do there."""
        self._wanted = wanted
        if not wanted:
            self._own_place = None
        elif self._own_place is None:
            self._own_place = self._next_place()
        self.advance(now)

    def vacated(self, now: float) -> None:
        """Hand it over: what the bridge had there has ended, and its memory is free."""
        if self.claim(now) is not None:
            self.lease = None
            # Behind those who wait already: it had its turn.
            self._own_place = self._next_place() if self._wanted else None
            self.advance(now)

    def give_up(self, now: float) -> None:
        """Leave it to nobody: the bridge has nothing to do."""
        if self.ours and not self._wanted:
            self.lease = None
            self.advance(now)

    # -- for other programs --

    def request(self, asked: RequestGpu, now: float) -> bool:
        """Take a request; True if its holder has the GPU now.

        Who has it already has it for `for_s` from now; who waits already keeps its place, unless
        its priority rises. Raises BadRequest and Busy.
        """
        if asked.holder == BRIDGE:
            raise BadRequest(
                f"{BRIDGE!r} is the bridge itself: choose another holder", field="holder"
            )
        self.advance(now)
        if self.lease is not None and self.lease.holder == asked.holder:
            until = now + asked.for_s
            self.lease = replace(self.lease, until=until, priority=asked.priority)
            return True
        before = next((each for each in self.waiting if each.holder == asked.holder), None)
        place = self._next_place() if before is None else before.place
        others = [each for each in self.waiting if each is not before]
        if len(others) >= MAX_WAITING:
            raise Busy(
                f"{MAX_WAITING} programs wait for this GPU: ask again later", limit=MAX_WAITING
            )
        new = Waiting(
            asked.holder, asked.priority, asked.for_s, now + asked.wait_s, asked.finish, place
        )
        self.waiting = [*others, new]
        if self.lease is None:
            self._grant_next(now)
        if self.lease is not None and self.lease.holder == asked.holder:
            return True
        if not asked.wait_s:
            self.waiting = others
        return False

    def release(self, holder: str, now: float) -> bool:
        """End a program's lease, or its wait; False if it had neither."""
        self.advance(now)
        if holder == BRIDGE:
            return False
        if self.lease is not None and self.lease.holder == holder:
            self.lease = None
            self.advance(now)
            return True
        before = len(self.waiting)
        self.waiting = [each for each in self.waiting if each.holder != holder]
        return len(self.waiting) < before

    # -- time --

    def advance(self, now: float) -> None:
        """End what is over by now, and give the GPU to who is next."""
        self.waiting = [each for each in self.waiting if each.until > now]
        if self.lease is not None and self.lease.until is not None and self.lease.until <= now:
            self.lease = None
        if self.lease is None:
            self._grant_next(now)

    def _grant_next(self, now: float) -> None:
        first = min(self.waiting, key=lambda each: each.order, default=None)
        own = None if self._own_place is None else (0, self._own_place)
        if own is not None and (first is None or own < first.order):
            self.lease = Lease(BRIDGE, now)
        elif first is not None:
            self.waiting = [each for each in self.waiting if each is not first]
            self.lease = Lease(first.holder, now, now + first.for_s, first.priority)

    def wakes_at(self, now: float) -> float:
        """Return when `advance` is due though nothing changes: infinity if never."""
        times = [each.until for each in self.waiting]
        if self.lease is not None and self.lease.until is not None:
            times.append(self.lease.until)
        if self.ours and self.lease is not None and self.claim(now) is None:
            times += [self.lease.since + TURN_S for each in self.waiting if each.priority == 0]
        return min((each for each in times if each > now), default=float("inf"))

    def _next_place(self) -> int:
        self._place += 1
        return self._place

    def view(self, gpu: str, now: float, shown: Callable[[float], float], own_s: float) -> GpuLease:
        """Return it as it is published; `own_s` is how long the bridge's own lease lasts.

        `shown` returns the wall clock's time of one of this clock's.
        """
        waiting = [
            GpuRequest(holder=each.holder, priority=each.priority)
            for each in sorted(self.waiting, key=lambda each: each.order)
        ]
        if self._own_place is not None and not self.ours:
            waiting.append(GpuRequest(holder=BRIDGE, priority=0))
        if self.lease is None:
            return GpuLease(gpu=gpu, waiting=waiting)
        until = now + own_s if self.lease.until is None else self.lease.until
        return GpuLease(
            gpu=gpu,
            holder=self.lease.holder,
            priority=self.lease.priority,
            since=round(shown(self.lease.since), 3),
            until=round(shown(until), 3),
            leaving=True if self.claim(now) is not None else UNSET,
            waiting=waiting,
        )
