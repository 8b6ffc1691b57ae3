"""The choice of a ComfyUI for each job. Pure.

Each ComfyUI takes jobs one ahead, so that it never idles between two. It takes what it can run; a
job is left to one that is idle rather than put behind another job, also to one of another bridge,
and to one that has its model loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from msgspec import Struct

from bridge.contract.retained import StateName
from bridge.jobs.queue import Key, Placement, Queue
from bridge.workflows.catalogue import Needs

# One runs, one waits behind it.
JOBS_AT_COMFYUI = 2
# That our own last job is over is known a moment before ComfyUI says that nothing runs.
_SETTLES_S = 1.0

# A ComfyUI whose disk is full gets no jobs for a while: a run may take minutes, and be lost as it
# saves.
BACKOFF_FIRST_S = 5.0
BACKOFF_LONGEST_S = 600.0
NEVER = float("inf")

# Whether the ComfyUI of a name has what is needed.
CanRun = Callable[[str, Needs], bool]


class PinnedTo(Struct, frozen=True):
    """The placement of a job that one ComfyUI has already: only that one may run it."""

    name: str


class Availability(Struct, frozen=True):
    """The part of a ComfyUI's state that counts for scheduling.

    `memory` changes when what was loaded there is loaded no more: the process, and how often its
    models were unloaded.
    """

    usable: bool
    state: StateName
    memory: tuple[str | None, int] = (None, 0)


class PoolInstance:
    """A ComfyUI as the core sees it: its availability, its jobs, the models that it loaded."""

    def __init__(self, name: str, *, attached: bool) -> None:
        self.name = name
        self.attached = attached
        self.availability = Availability(usable=False, state="stopped")
        # Whether its queue was read since this process began, or is being read.
        self.asked = False
        self.asking = False
        # Until when it gets nothing, as its disk is full, by a steady clock; NEVER: it is not full.
        self.backs_off_until = NEVER
        # Why it is given nothing though it may be usable: its GPU is not free yet. `gated`: that
        # is looked after at all; `wanted`: whoever does so knows that jobs wait for it.
        self.held: str | None = None
        self.gated = False
        self.wanted = False
        # Why it is given no jobs, as that was reported last.
        self.blocked: str | None = None
        self._backoff_s = BACKOFF_FIRST_S
        # It ended under a job, and none has succeeded there since.
        self._one_at_a_time = False
        self._jobs = 0
        self._left_at = float("-inf")
        self._models: tuple[str, ...] = ()
        self._loaded_in: tuple[str | None, int] = (None, 0)

    @property
    def usable(self) -> bool:
        """True if it takes jobs at all."""
        return self.availability.usable and self.backs_off_until == NEVER

    @property
    def takes_jobs(self) -> bool:
        """True if it takes jobs, and its GPU is free for them."""
        return self.usable and self.held is None

    @property
    def why_blocked(self) -> str | None:
        """The reason for which it is given no jobs though it may be ready: it follows its name."""
        if self.held is not None:
            return f"waits for {self.held}"
        if self.backs_off_until != NEVER and self.availability.usable:
            return "has no room left on its disk"
        return None

    @property
    def jobs(self) -> int:
        """The number of jobs that were sent there and are not through."""
        return self._jobs

    def back_off(self, now: float) -> None:
        """Give it no jobs for a while, for longer each time until a job succeeds there."""
        if self.backs_off_until == NEVER:
            self.backs_off_until = now + self._backoff_s
            self._backoff_s = min(2 * self._backoff_s, BACKOFF_LONGEST_S)

    def died(self) -> None:
        """Note that it ended while it ran a job.

        Until one succeeds, it gets no job behind another: a prompt that ends ComfyUI at once does
        so before ComfyUI has reported the end of the one before, which would take the blame.
        """
        self._one_at_a_time = True

    def succeeded(self) -> None:
        """Note that a job succeeded there: it works, and has room on its disk."""
        self._backoff_s = BACKOFF_FIRST_S
        self._one_at_a_time = False

    @property
    def has_room(self) -> bool:
        """True if it can be given a job now; one that is held only what it has already."""
        most = 1 if self._one_at_a_time else JOBS_AT_COMFYUI
        return self.usable and not self.asking and self._jobs < most

    def is_free(self, now: float) -> bool:
        """True if it would start a job at once: what others run on a ComfyUI of theirs counts."""
        if self._jobs:
            return False
        lately = now - self._left_at < _SETTLES_S
        return self.availability.state == "ready" or (lately and self.availability.usable)

    @property
    def models(self) -> tuple[str, ...]:
        """The models that it has loaded, by what it ran last; none once they were unloaded."""
        return self._models if self._loaded_in == self.availability.memory else ()

    def enter(self) -> None:
        """Count a job that is sent there."""
        self._jobs += 1

    def leave(self, now: float) -> None:
        """Count a job no longer; `now` is in seconds by a steady clock."""
        self._jobs -= 1
        self._left_at = now

    def loaded(self, needs: Needs) -> None:
        """Note that a job runs there; one that needs no model leaves in place what is loaded."""
        self._models = needs.models or self.models
        self._loaded_in = self.availability.memory

    def fits(self, placement: Placement) -> bool:
        """True if a job of this placement would run with the models that are loaded."""
        return isinstance(placement, Needs) and placement.models in ((), self.models)


class Pool:
    """All ComfyUIs of this bridge. `alone`: no other bridge could run what this one cannot."""

    def __init__(self, names: Mapping[str, bool], can_run: CanRun, *, alone: bool) -> None:
        """`names` maps each ComfyUI's name to whether it is attached: not ours to start."""
        self._instances = {
            name: PoolInstance(name, attached=attached) for name, attached in names.items()
        }
        self._can_run = can_run
        # With one there is no choice: a job that it cannot run fails there, and says why.
        self._no_choice = alone and len(names) == 1

    def __iter__(self) -> Iterator[PoolInstance]:
        return iter(self._instances.values())

    def __len__(self) -> int:
        return len(self._instances)

    def __getitem__(self, name: str) -> PoolInstance:
        return self._instances[name]

    def get(self, name: str | None) -> PoolInstance | None:
        """Return the ComfyUI of that name, if there is one."""
        return None if name is None else self._instances.get(name)

    @property
    def usable(self) -> int:
        """The number of ComfyUIs that can be given jobs."""
        return sum(instance.usable for instance in self)

    def capable(self, needs: Needs) -> list[str]:
        """The names of the ComfyUIs that have what is needed."""
        return [name for name in self._instances if self._can_run(name, needs)]

    def take(
        self,
        instance: PoolInstance,
        queue: Queue,
        reorder_s: float,
        now: float,
        idle_elsewhere: int = 0,
    ) -> Key | None:
        """Take the next job for a ComfyUI out of the queue; None if it should have none now.

        `idle_elsewhere` ComfyUIs of other bridges would start a job at once: so many are left.
        """
        left = not instance.is_free(now) and len(queue) <= idle_elsewhere
        if instance.held is not None or left:
            return queue.take(may_take=lambda placement: placement == PinnedTo(instance.name))
        return queue.take(
            may_take=None
            if self._no_choice
            else lambda placement: self._may_take(instance, placement, now),
            prefer=instance.fits if instance.models else None,
            reorder_s=reorder_s,
            now=now,
        )

    def wanted(self, instance: PoolInstance, queue: Queue) -> bool:
        """True if jobs wait that could run there."""
        placements = queue.placements()
        if self._no_choice:
            return bool(placements)
        return any(
            placement.name == instance.name
            if isinstance(placement, PinnedTo)
            else isinstance(placement, Needs) and self._can_run(instance.name, placement)
            for placement in placements
        )

    def _may_take(self, instance: PoolInstance, placement: Placement, now: float) -> bool:
        if isinstance(placement, PinnedTo):
            return placement.name == instance.name
        if not (isinstance(placement, Needs) and self._can_run(instance.name, placement)):
            return False
        for other in self:
            if other is instance or other.held is not None:
                continue
            if not (other.has_room and other.is_free(now)):
                continue
            if not self._can_run(other.name, placement):
                continue
            loaded_there = placement.models and other.models == placement.models != instance.models
            if not instance.is_free(now) or loaded_there:
                return False
        return True
